"""Every change is a compare-and-set by the one who holds the lease."""

from collections.abc import Callable

import msgspec
import pytest

from autoscaler.act.holder import SAVE_ATTEMPTS, Holder, LostLease
from autoscaler.model import Lease, State
from autoscaler.ports import Conflict, StoreUnavailable
from autoscaler.state.notices import add_notices
from autoscaler.state.transitions import release_lease
from tests.act.fakes import LossyStore, Store
from tests.decide.builders import NOW_S, notice

MINE = State(fence=5, lease=Lease(owner="me", expires_at_s=NOW_S + 40))


def holder(store: Store) -> Holder:
    return Holder(store, "me", store.state, store.version)


def count(state: State) -> State:
    return msgspec.structs.replace(state, node_count=3)


def add_a_notice(store: Store) -> None:
    """What another invocation may do while we hold the lease."""
    store.put(add_notices(store.state, (notice(1),)))


def take_over(store: Store) -> None:
    """Our lease expired, and somebody else acts."""
    store.put(msgspec.structs.replace(store.state, fence=6, lease=Lease(owner="you", expires_at_s=NOW_S + 99)))


def let_go(store: Store) -> None:
    store.put(msgspec.structs.replace(store.state, lease=None))


def test_a_change_is_saved_and_kept() -> None:
    store = Store(MINE)
    mine = holder(store)
    mine.apply(count)
    mine.apply(lambda state: release_lease(state, "me"))
    assert [s.node_count for s in store.saves] == [3, 3]
    assert mine.state == store.state
    assert store.state.lease is None


def test_what_changes_nothing_is_not_written() -> None:
    store = Store(MINE)
    holder(store).apply(lambda state: state)
    assert store.saves == []


def test_after_a_conflict_the_change_is_applied_to_what_is_there_now() -> None:
    store = Store(MINE, before=[add_a_notice])
    mine = holder(store)
    mine.apply(count)
    assert store.state.node_count == 3
    assert len(store.state.notices) == 1
    assert mine.state == store.state


@pytest.mark.parametrize("meanwhile", [take_over, let_go])
def test_without_the_lease_we_stop_at_once(meanwhile: Callable[[Store], None]) -> None:
    store = Store(MINE, before=[meanwhile])
    with pytest.raises(LostLease, match="me"):
        holder(store).apply(count)
    assert store.saves == []
    assert store.state.node_count is None


def test_a_write_whose_response_was_lost_is_found_and_not_done_again() -> None:
    store = LossyStore(MINE)
    mine = holder(store)
    mine.apply(count)
    assert len(store.saves) == 1
    mine.apply(lambda state: release_lease(state, "me"))
    assert store.state.lease is None


def test_a_write_that_was_lost_itself_is_done_again() -> None:
    store = LossyStore(MINE, happens=False)
    holder(store).apply(count)
    assert len(store.saves) == 1
    assert store.state.node_count == 3


def test_a_lost_response_and_a_notice_right_after_it() -> None:
    store = LossyStore(MINE, then=add_a_notice)
    mine = holder(store)
    mine.apply(count)
    assert mine.state == store.state
    assert (store.state.node_count, len(store.state.notices), len(store.saves)) == (3, 1, 1)


def test_a_lost_response_and_a_lost_lease() -> None:
    with pytest.raises(LostLease):
        holder(LossyStore(MINE, then=take_over)).apply(count)


def test_a_store_that_refuses_is_told() -> None:
    def refuse(_: Store) -> None:
        raise StoreUnavailable("throttled", code="ThrottlingException")

    with pytest.raises(StoreUnavailable, match="throttled"):
        holder(Store(MINE, before=[refuse])).apply(count)


def test_a_state_that_never_holds_still_is_given_up() -> None:
    attempts: list[int] = []

    def interfere(store: Store) -> None:
        attempts.append(store.version)
        raise Conflict("again")

    with pytest.raises(StoreUnavailable, match=f"{SAVE_ATTEMPTS} times in a row"):
        holder(Store(MINE, before=[interfere] * (SAVE_ATTEMPTS + 1))).apply(count)
    assert len(attempts) == SAVE_ATTEMPTS

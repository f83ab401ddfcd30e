"""A lease that was taken over: its former owner can neither let it go nor write, on the real store."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec
import pytest

from autoscaler.act.holder import Holder, LostLease
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.model import LaunchOperation, LaunchRequest, State
from autoscaler.ports import Conflict
from autoscaler.state.transitions import launch_landed, lease_held_by_other, open_launch, release_lease, take_lease
from tests.aws.table import STATE
from tests.race.play import Ground
from tests.race.worker import store_of

pytestmark = pytest.mark.real_programs

NOW_S: Final = 1_800_000_000
LEASE_S: Final = 35
FORMER: Final = "former"
SUCCESSOR: Final = "successor"
TAKEN_OVER_S: Final = NOW_S + LEASE_S
REQUEST: Final = LaunchRequest(
    client_token="op-1", template_id="lt-1", template_version="1", count=1, overrides=(), tags=()
)
INTENT: Final = LaunchOperation(
    operation_id="op-1", created_at_s=NOW_S, reason="pods_unschedulable", request=REQUEST, unidentified=1
)
_clusters = itertools.count()

Transition = Callable[[State], State]


def let_go(state: State) -> State:
    return release_lease(state, FORMER)


def landed(state: State) -> State:
    return launch_landed(state, "op-1", ("i-1",))


def count_nodes(state: State) -> State:
    return msgspec.structs.replace(state, node_count=7)


class Table:
    """One cluster's item, and holders of its lease at any virtual time."""

    def __init__(self, ground: Ground) -> None:
        clients = ground.clients
        clients.begin()
        self._clients = clients
        self._cluster_id = f"lease-{next(_clusters)}"

    def store(self, now_s: int) -> DynamoStateStore:
        return store_of(self._clients, self._cluster_id, now_s)

    def acquire(self, owner: str, now_s: int, intend: Transition = lambda state: state) -> Holder:
        """What reconcile does, step by step."""
        store = self.store(now_s)
        state, version = store.load()
        assert not lease_held_by_other(state, owner, now_s)
        taken = take_lease(intend(state), owner, now_s + LEASE_S)
        return Holder(store, owner, taken, store.save(taken, version))

    @property
    def item(self) -> dict[str, Any]:
        """Every attribute, as stored."""
        key = {"cluster_id": {"S": self._cluster_id}, "record": {"S": "STATE"}}
        return dict(self._clients.dynamodb().get_item(TableName=STATE, Key=key, ConsistentRead=True)["Item"])


@pytest.fixture
def table(ground: Ground) -> Table:
    return Table(ground)


@pytest.fixture
def former(table: Table) -> Holder:
    """It saved an intent, and then nothing was heard of it."""
    return table.acquire(FORMER, NOW_S, lambda state: open_launch(state, INTENT))


def test_a_lease_lasts_to_its_last_second_and_no_longer(table: Table, former: Holder) -> None:
    del former
    state, _ = table.store(NOW_S).load()
    assert lease_held_by_other(state, SUCCESSOR, TAKEN_OVER_S - 1)
    assert not lease_held_by_other(state, SUCCESSOR, TAKEN_OVER_S)


@pytest.mark.parametrize("wish", [let_go, landed, count_nodes])
def test_the_former_owner_changes_nothing(table: Table, former: Holder, wish: Transition) -> None:
    successor = table.acquire(SUCCESSOR, TAKEN_OVER_S)
    assert successor.state.launches == (INTENT,), "the work is inherited"
    assert successor.state.fence == former.state.fence + 1
    before = table.item
    for _ in range(2):
        with pytest.raises(LostLease, match=FORMER):
            former.apply(wish)
    assert table.item == before
    assert before["scaling_in_progress"] == {"BOOL": True}


@pytest.mark.parametrize("wish", [let_go, landed, count_nodes])
def test_nor_once_the_successor_has_let_go(table: Table, former: Holder, wish: Transition) -> None:
    successor = table.acquire(SUCCESSOR, TAKEN_OVER_S)
    successor.apply(landed)
    successor.apply(lambda state: release_lease(state, SUCCESSOR))
    before = table.item
    with pytest.raises(LostLease):
        former.apply(wish)
    assert table.item == before
    assert before["scaling_in_progress"] == {"BOOL": False}


def test_a_write_of_the_former_owner_that_arrives_late_is_refused(table: Table, former: Holder) -> None:
    """It left before the lease was taken over, and was on its way all the while."""
    on_its_way, _ = landed(former.state), table.acquire(SUCCESSOR, TAKEN_OVER_S)
    before = table.item
    with pytest.raises(Conflict):
        table.store(NOW_S).save(on_its_way, int(before["version"]["N"]) - 1)
    assert table.item == before


def test_a_successor_that_was_overtaken_by_a_last_write_sees_it(table: Table, former: Holder) -> None:
    """The lease is over, and nobody has taken it: the owner's answer is still welcome, and is not lost."""
    store = table.store(TAKEN_OVER_S)
    state, version = store.load()
    former.apply(landed)
    with pytest.raises(Conflict):
        store.save(take_lease(state, SUCCESSOR, TAKEN_OVER_S + LEASE_S), version)
    successor = table.acquire(SUCCESSOR, TAKEN_OVER_S)
    assert successor.state.launches[0].instance_ids == ("i-1",)
    with pytest.raises(LostLease):
        former.apply(let_go)


def test_a_last_write_and_a_takeover_at_the_same_moment(ground: Ground) -> None:
    """One of the two wins; whichever it was, nothing is lost and only the successor goes on."""
    with ThreadPoolExecutor(max_workers=2) as threads:
        for _ in range(40):
            table = Table(ground)
            former = table.acquire(FORMER, NOW_S, lambda state: open_launch(state, INTENT))
            store = table.store(TAKEN_OVER_S)
            state, version = store.load()
            at_once = threading.Barrier(2, timeout=30)
            taken = take_lease(state, SUCCESSOR, TAKEN_OVER_S + LEASE_S)
            last = threads.submit(_met, at_once, partial(former.apply, landed), LostLease)
            takeover = threads.submit(_met, at_once, partial(store.save, taken, version), Conflict)
            assert sorted((last.result(), takeover.result())) == [False, True]
            if last.result():
                table.acquire(SUCCESSOR, TAKEN_OVER_S)
            found, _ = table.store(TAKEN_OVER_S).load()
            assert (found.lease is not None, found.fence) == (True, 2)
            assert found.launches[0].landed == last.result()
            with pytest.raises(LostLease):
                former.apply(let_go)


def _met(at_once: threading.Barrier, write: Callable[[], object], lost: type[Exception]) -> bool:
    """Whether the write was taken."""
    at_once.wait()
    try:
        write()
    except lost:
        return False
    return True

"""The pure functions that are the only way in which the state changes."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from autoscaler.model import (
    Backoff,
    CommandRef,
    HeldWorker,
    Mode,
    ModeSetting,
    Notice,
    OwnerLaunches,
    Pool,
    RemovalPhase,
    State,
)
from autoscaler.policy import Policy
from autoscaler.state import transitions
from autoscaler.state.memory import (
    MAX_HELD_WORKERS,
    MAX_REMOVED,
    METRICS_LAG_S,
    REFUSED_REASON,
    REMOVED_KEPT_S,
    forget_old,
    forget_removed,
    maybe_still_shown,
    remember_owner,
    remember_refusal,
    times_refused,
)
from autoscaler.state.modes import effective_mode, set_mode
from autoscaler.state.notices import MAX_NOTICES, add_notices, is_over, mark_handled, take_back_notices
from autoscaler.state.transitions import (
    began_to_go,
    command_sent,
    launch_landed,
    lease_held_by_other,
    open_launch,
    open_operations,
    open_removal,
    release_lease,
    removal_ended,
    take_lease,
    update_launch,
    update_removal,
)
from tests.decide.builders import NOW_S, iid, launch, notice, policy, removal

POOL = Pool(instance_type="t3.small", zone="us-east-1a")


def test_the_state_holds_nothing_at_first_and_refuses_fields_that_it_does_not_know() -> None:
    assert msgspec.json.decode(msgspec.json.encode(State()), type=State) == State()
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.json.decode(b'{"surprise": 1}', type=State)


# ---------------------------------------------------------------------------------------------------------------- mode


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        pytest.param(None, Mode.OBSERVE, id="the policy's"),
        pytest.param(ModeSetting(mode=Mode.PAUSED, set_at_s=0), Mode.PAUSED, id="the operator's, without an end"),
        pytest.param(ModeSetting(mode=Mode.ACTIVE, set_at_s=0, until_s=NOW_S + 1), Mode.ACTIVE, id="until its end"),
        pytest.param(ModeSetting(mode=Mode.ACTIVE, set_at_s=0, until_s=NOW_S), Mode.OBSERVE, id="not from then on"),
    ],
)
def test_the_mode_that_holds(setting: ModeSetting | None, expected: Mode) -> None:
    chosen = msgspec.structs.replace(policy(), mode=Mode.OBSERVE)
    assert effective_mode(set_mode(State(), setting), chosen, NOW_S) is expected


# --------------------------------------------------------------------------------------------------------------- lease


def test_the_lease() -> None:
    mine = take_lease(State(fence=4), "me", NOW_S + 40)
    assert mine.fence == 5
    assert not lease_held_by_other(mine, "me", NOW_S)
    assert lease_held_by_other(mine, "you", NOW_S + 39)
    assert not lease_held_by_other(mine, "you", NOW_S + 40), "it expires: a dead holder blocks nobody for ever"
    assert not lease_held_by_other(State(), "you", NOW_S)
    assert release_lease(mine, "you") == mine, "only its owner lets go"
    assert release_lease(mine, "me").lease is None
    assert release_lease(mine, "me").fence == 5, "the fence never falls"
    assert release_lease(State(), "me") == State()


# ------------------------------------------------------------------------------------------------------------- notices


def test_the_same_fact_twice_is_one_even_once_it_is_handled() -> None:
    handled = mark_handled(add_notices(State(), (notice(1),)), "interruption", iid(1))
    assert add_notices(handled, (notice(1),)) == handled
    assert len(add_notices(handled, (notice(1, "retirement"),)).notices) == 2


def test_the_same_fact_twice_in_one_event_is_one() -> None:
    assert len(add_notices(State(), (notice(1), notice(1))).notices) == 1


def test_what_ec2_announces_for_another_time_is_a_new_fact() -> None:
    first, later = notice(1, "retirement", due_at_s=NOW_S + 100), notice(1, "retirement", due_at_s=NOW_S + 9000)
    handled = mark_handled(add_notices(State(), (first,)), "retirement", iid(1))
    assert add_notices(handled, (first,)) == handled
    assert add_notices(handled, (notice(1, "retirement"),)) == handled, "it says no time: nothing new"
    assert add_notices(handled, (later,)).notices == (later,)


@pytest.mark.parametrize(
    ("notice_", "over_at_s"),
    [
        pytest.param(notice(1, received_at_s=NOW_S), NOW_S, id="an interruption is now"),
        pytest.param(notice(1, "retirement", due_at_s=NOW_S + 50, received_at_s=NOW_S), NOW_S + 50, id="dated"),
        pytest.param(notice(1, "retirement", received_at_s=NOW_S), NOW_S + 86_400, id="undated: within a day"),
    ],
)
def test_a_notice_is_out_of_date_half_an_hour_after_its_time(notice_: Notice, over_at_s: int) -> None:
    assert not is_over(notice_, over_at_s + 1800)
    assert is_over(notice_, over_at_s + 1801)


def test_only_so_many_notices_are_kept_and_the_newest_are() -> None:
    state = add_notices(State(), tuple(notice(n) for n in range(MAX_NOTICES + 5)))
    assert len(state.notices) == MAX_NOTICES
    assert state.notices[-1].subject == iid(MAX_NOTICES + 4)


def test_a_flood_of_notices_never_drops_one_that_nobody_answered_for_one_that_is_done() -> None:
    open_one = notice(0)
    done = tuple(notice(n, handled=True) for n in range(1, MAX_NOTICES + 1))
    state = add_notices(add_notices(State(), (open_one,)), done)
    assert open_one in state.notices
    assert len(state.notices) == MAX_NOTICES


def test_marking_touches_nothing_else() -> None:
    state = State(notices=(notice(1), notice(2), notice(1, "rebalance")))
    assert [n.handled for n in mark_handled(state, "interruption", iid(1)).notices] == [True, False, False]
    assert mark_handled(state, "interruption", "i-none") == state


def test_notices_that_nothing_followed_from_are_taken_back() -> None:
    blind = Notice(kind="blind_alert", subject="a", received_at_s=NOW_S)
    done = msgspec.structs.replace(blind, subject="b", handled=True)
    state = State(notices=(blind, done, notice(1)))
    before = State(notices=(done,))
    assert take_back_notices(state, "blind_alert", before).notices == (done, notice(1))


# ----------------------------------------------------------------------------------------------------------- forgetting


def owner(launched_s_ago: int, retry_in_s: int = 0) -> OwnerLaunches:
    return OwnerLaunches(owner="o", launched_at_s=NOW_S - launched_s_ago, zones=(), retry_at_s=NOW_S + retry_in_s)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        pytest.param("notices", notice(1, received_at_s=NOW_S - 3599), True, id="a notice for an hour"),
        pytest.param("notices", notice(1, received_at_s=NOW_S - 3600), False, id="then no more"),
        pytest.param(
            "backoffs",
            Backoff(pool=POOL, error_code="e", until_s=NOW_S - 3599, failures=3),
            True,
            id="a failed pool",
        ),
        pytest.param(
            "backoffs", Backoff(pool=POOL, error_code="e", until_s=NOW_S - 3600, failures=3), False, id="an hour later"
        ),
        pytest.param("held_workers", HeldWorker(node_name="n", reason="r", until_s=NOW_S - 3599), True, id="a refusal"),
        pytest.param(
            "held_workers", HeldWorker(node_name="n", reason="r", until_s=NOW_S - 3600), False, id="an old one"
        ),
        pytest.param("owners", owner(3599), True, id="a launch for an owner"),
        pytest.param("owners", owner(3600), False, id="an old one for an owner"),
        pytest.param("owners", owner(9999, retry_in_s=1), True, id="one that is still backed off"),
    ],
)
def test_what_is_forgotten(field: str, value: Any, kept: bool) -> None:
    state = msgspec.structs.replace(State(), **{field: (value,)})
    assert bool(getattr(forget_old(state, NOW_S), field)) is kept


@pytest.mark.parametrize("kept", [Mode.OBSERVE, Mode.PAUSED, Mode.ACTIVE])
def test_after_a_while_the_lasting_word_before_it_holds_again_however_many_whiles(kept: Mode) -> None:
    state = set_mode(State(), ModeSetting(mode=kept, set_at_s=0))
    for mode in (Mode.PAUSED, Mode.ACTIVE):
        state = set_mode(state, ModeSetting(mode=mode, set_at_s=1, until_s=NOW_S))
        assert effective_mode(state, policy(), NOW_S - 1) is mode
        assert effective_mode(forget_old(state, NOW_S), policy(), NOW_S) is kept
    lasting = set_mode(state, ModeSetting(mode=Mode.OBSERVE, set_at_s=2))
    assert effective_mode(lasting, policy(), NOW_S * 2) is Mode.OBSERVE


def test_an_ended_mode_is_forgotten_and_operations_never_are() -> None:
    ended = ModeSetting(mode=Mode.PAUSED, set_at_s=0, until_s=NOW_S)
    lasting = ModeSetting(mode=Mode.PAUSED, set_at_s=0)
    state = State(mode=ended, launches=(launch(age_s=99_999),), removals=(removal(1, age_s=99_999),), fence=3)
    after = forget_old(state, NOW_S)
    assert (after.mode, after.launches, after.removals, after.fence) == (None, state.launches, state.removals, 3)
    assert forget_old(State(mode=lasting), NOW_S).mode == lasting


# ---------------------------------------------------------------------------------------------------------- operations


def test_opening_notes_when_the_fleet_last_changed() -> None:
    grown = open_launch(State(), launch(age_s=0))
    assert (grown.last_scale_up_s, grown.last_scale_down_s, open_operations(grown)) == (NOW_S, None, 1)
    for counts in (True, False):
        opened = open_removal(grown, removal(1), counts_as_scale_down=counts)
        assert (opened.last_scale_down_s, open_operations(opened)) == (None, 2), "nothing went yet"
        [operation] = opened.removals
        assert began_to_go(opened, operation, now_s=NOW_S).last_scale_down_s == (NOW_S if counts else None)


def test_updates_of_what_is_closed_change_nothing() -> None:
    state = State(launches=(launch(),), removals=(removal(1),))
    assert update_launch(state, "other", lambda _: None) == state
    assert update_removal(state, "other", lambda _: None) == state
    assert update_launch(state, "l1", lambda _: None).launches == ()
    assert update_removal(state, "r1", lambda _: None).removals == ()


@pytest.mark.parametrize(
    ("before", "came", "after"),
    [
        pytest.param(launch(count=2), (iid(1), iid(2)), (iid(1), iid(2)), id="all came"),
        pytest.param(launch(count=2), (iid(1),), (iid(1),), id="some came: the rest is not expected any more"),
        pytest.param(launch(count=2, ids=[1]), (iid(1), iid(2)), (iid(1), iid(2)), id="ids only accumulate"),
        pytest.param(launch(count=2, ids=[1]), (), (iid(1),), id="one that was adopted stays"),
    ],
)
def test_an_answer_of_ec2(before: Any, came: tuple[str, ...], after: tuple[str, ...]) -> None:
    [left] = launch_landed(State(launches=(before,)), "l1", came).launches
    assert (left.instance_ids, left.landed, left.unidentified) == (after, True, 0)
    again = launch_landed(State(launches=(left,)), "l1", came)
    assert again.launches == (left,), "told twice, it is the same"


def test_an_answer_that_gave_nothing_closes_the_launch() -> None:
    assert launch_landed(State(launches=(launch(count=2),)), "l1", ()).launches == ()


def test_a_command_is_noted_only_in_the_phase_that_it_was_sent_for() -> None:
    sent = CommandRef(command_id="c9", server_id="s", sent_at_s=NOW_S)
    state = State(removals=(removal(1, sent=False),))
    assert command_sent(state, "r1", RemovalPhase.DRAINING, sent).removals[0].command == sent
    assert command_sent(state, "r1", RemovalPhase.UNCORDONING, sent) == state


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_worker_is_refused_twice_as_long_each_time_until_it_goes() -> None:
    state, waits = State(), []
    for _ in range(5):
        state = remember_refusal(state, "worker-i-001", "x" * 500, now_s=NOW_S, policy=Policy(version=1))
        waits.append(state.held_workers[0].until_s - NOW_S)
    assert waits == [1800, 3600, 7200, 7200, 7200]
    assert (times_refused(state, "worker-i-001"), times_refused(state, "other")) == (5, 0)
    assert len(state.held_workers[0].reason) == REFUSED_REASON
    assert removal_ended(state, removal(1), now_s=NOW_S).held_workers == ()


def test_only_so_many_refusals_are_kept_and_the_newest_are() -> None:
    state = State()
    for n in range(MAX_HELD_WORKERS + 5):
        state = remember_refusal(state, str(n), "x", now_s=NOW_S, policy=Policy(version=1))
    assert [r.node_name for r in state.held_workers] == [str(n) for n in range(5, MAX_HELD_WORKERS + 5)]


@pytest.mark.parametrize(
    ("metrics_age_s", "ended_s_ago", "shown", "may_be_shown", "kept"),
    [
        pytest.param(0, 0, True, True, True, id="it ended in this look"),
        pytest.param(0, METRICS_LAG_S - 1, False, True, True, id="the metrics may lag"),
        pytest.param(0, METRICS_LAG_S, False, False, False, id="they are newer, and show it no more"),
        pytest.param(0, METRICS_LAG_S, True, False, True, id="they are newer, and show it: its agent registered again"),
        pytest.param(None, REMOVED_KEPT_S - 1, False, True, True, id="no metrics"),
        pytest.param(None, REMOVED_KEPT_S, False, True, False, id="an hour at the latest"),
        pytest.param(0, REMOVED_KEPT_S, True, False, False, id="an hour, whatever is shown"),
    ],
)
def test_what_we_removed_is_remembered_until_the_metrics_are_newer(
    metrics_age_s: int | None, ended_s_ago: int, shown: bool, may_be_shown: bool, kept: bool
) -> None:
    at_s = None if metrics_age_s is None else NOW_S - metrics_age_s
    state = removal_ended(State(removals=(removal(1),)), removal(1), now_s=NOW_S - ended_s_ago)
    assert (state.removals, [r.instance_id for r in state.removed]) == ((), [iid(1)])
    assert maybe_still_shown(state, iid(1), at_s) is may_be_shown
    assert not maybe_still_shown(state, iid(2), at_s)
    after = forget_removed(state, {iid(1)} if shown else set(), metrics_at_s=at_s, now_s=NOW_S)
    assert bool(after.removed) is kept


def test_only_so_many_removals_are_remembered_each_once() -> None:
    state = State()
    for n in [*range(MAX_REMOVED + 5), MAX_REMOVED]:
        state = removal_ended(state, removal(n), now_s=NOW_S)
    assert len(state.removed) == MAX_REMOVED
    assert state.removed[-1].instance_id == iid(MAX_REMOVED)


def test_refusals_and_owners_are_replaced_not_piled_up() -> None:
    state = remember_refusal(State(), "n", "one", now_s=NOW_S, policy=Policy(version=1))
    state = remember_refusal(state, "n", "two", now_s=NOW_S + 5, policy=Policy(version=1))
    assert state.held_workers == (HeldWorker(node_name="n", reason="two", until_s=NOW_S + 3605, failures=2),)
    state = remember_owner(remember_owner(state, owner(10)), owner(5))
    assert state.owners == (owner(5),)


def test_nothing_here_changes_its_argument() -> None:
    """Every public name is a function of values; the state is frozen."""
    with pytest.raises(AttributeError):
        State().fence = 1  # type: ignore[misc]  # frozen, which is what is tried
    assert transitions.__doc__


# -------------------------------------------------------------------------------------------------------- what is kept


def _structs(of: type) -> set[type[msgspec.Struct]]:
    """The struct and all that it can hold."""
    found: set[type[msgspec.Struct]] = set()
    left: list[Any] = [of]
    while left:
        one = left.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and one not in found:
            found.add(one)
            left += get_type_hints(one).values()
        left += get_args(one)
    return found


def test_no_part_of_the_state_drops_what_it_does_not_know() -> None:
    """A field of a newer version is refused (docs/upgrade.md): dropped, it would be lost with the next write."""
    structs = _structs(State)
    assert {"LaunchOverride", "CommandRef", "JoinFailures", "ModeSetting"} <= {one.__name__ for one in structs}
    assert [one.__name__ for one in structs if not one.__struct_config__.forbid_unknown_fields] == []

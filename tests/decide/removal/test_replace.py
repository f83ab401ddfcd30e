"""One worker for another: every look between the launch and the end, and everything that may come in between."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import (
    Action,
    CommandOutcome,
    Decision,
    HeldWorker,
    InstanceState,
    JoinFailures,
    MetricsStatus,
    RemovalPhase,
    Removed,
    Replacement,
    ReplacementFailed,
    State,
    ZoneJoins,
)
from autoscaler.policy import Cost, Policy, Rotation, ScaleDown, Workers
from autoscaler.pools import WorkerPool
from autoscaler.windows import Blackout
from tests.decide.builders import (
    NOW_S,
    Machine,
    bare,
    full,
    launch,
    notice,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    told,
    use,
    waiting,
    worker,
)

HOUR_S = 3600
SMALL: dict[str, Any] = {"instance_types": ("t3.small",)}
ROTATION = Rotation(max_age_s=HOUR_S)
POLICY = policy(rotation=ROTATION)
BUSY = use(cpu=0.5)
ALWAYS = Blackout(name="always", time_zone="UTC")
YOUNG_S = NOW_S - 1200


def young(number: int, *, by: str = "d0", **of: Any) -> Machine:
    """Launched by that decision, for the one that goes; nothing runs on it."""
    return worker(number, of={"launched_at_s": YOUNG_S, "operation_id": f"{by}-l0", **of})


def begun(age_s: int = 120, **changes: Any) -> Replacement:
    """The replacement of the first worker, by what the decision d0 launched."""
    return msgspec.structs.replace(
        Replacement(
            instance_id="i-001",
            reason="rotation",
            cause="max_age",
            why="it is old",
            began_at_s=NOW_S - age_s,
            launched_by="d0",
        ),
        **changes,
    )


def failed(wait_s: int = 100, **changes: Any) -> ReplacementFailed:
    return msgspec.structs.replace(
        ReplacementFailed(
            failures=1, retry_at_s=NOW_S + wait_s, why="nobody came", reason="rotation", launched_by="d0"
        ),
        **changes,
    )


TWO = [full(1), worker(2, pods=[pod("b", cpu=1900)], of={"launched_at_s": YOUNG_S})]
"""The first one is too old; the other one is not."""


def look(machines: list[Machine], state: State | None = None, its_policy: Policy = POLICY, **seen: Any) -> Decision:
    return opened(snapshot(machines, **{"utilisation": BUSY, **seen}), state or State(fence=9), its_policy)


def draining(decision: Decision) -> list[str]:
    return [r.instance_id for r in decision.state.removals if r.phase is RemovalPhase.DRAINING]


def why_not(decision: Decision) -> str:
    return next((b.reason for b in decision.blocked if b.subject == "worker-i-001"), "")


# ------------------------------------------------------------------------------------------------------------ it begins


def test_a_launch_comes_first_and_says_for_whom() -> None:
    decision = look(TWO)
    assert (decision.action, decision.reason) == (Action.SCALE_UP, "rotation")
    assert [(o.operation_id, o.reason, o.request.count) for o in decision.state.launches] == [("d1-l0", "rotation", 1)]
    replacement = decision.state.replacement
    assert replacement is not None
    assert (replacement.instance_id, replacement.launched_by, replacement.drains) == ("i-001", "d1", False)
    assert (draining(decision), decision.state.last_scale_up_s) == ([], None), "it is no scale-up"


@pytest.mark.parametrize(
    ("state", "its_policy", "seen", "why"),
    [
        pytest.param({}, POLICY, {"status": MetricsStatus.PARTIAL, "known": True}, "metrics are not", id="metrics"),
        pytest.param({}, POLICY, {"pods": [waiting("w", for_s=1)]}, "1 pods wait", id="a pod waits"),
        pytest.param({"launches": (launch(),)}, POLICY, {}, "workers are joining", id="a worker joins"),
        pytest.param({"removals": (removal(2),)}, POLICY, {}, "a removal is under way", id="another one leaves"),
        pytest.param({}, POLICY, {"servers": ()}, "no running server", id="no server"),
        pytest.param(
            {}, policy(rotation=ROTATION, down=ScaleDown(budget=0)), {}, "scale_down.budget is 0", id="no budget"
        ),
        pytest.param(
            {}, policy(rotation=ROTATION, down=ScaleDown(blackouts=(ALWAYS,))), {}, "the blackout always", id="blackout"
        ),
        pytest.param({"replacement_failed": failed()}, POLICY, {}, "the next try is in 100 s", id="one failed"),
        pytest.param(
            {"join_failures": JoinFailures(failures=1, failed_at_s=NOW_S - 9, until_s=0)},
            POLICY,
            {},
            "a launch failed to join a while ago",
            id="joins fail",
        ),
    ],
)
def test_nothing_begins_and_what_it_waits_for_is_told(
    state: dict[str, Any], its_policy: Policy, seen: dict[str, Any], why: str
) -> None:
    decision = look([*TWO, full(3)], State(fence=9, **state), its_policy, **seen)
    assert decision.state.replacement is None
    assert len(decision.state.launches) == len(state.get("launches", ()))
    assert why_not(decision).startswith("max_age: it is replaced later")
    assert why in why_not(decision)


@pytest.mark.parametrize(
    ("machines", "its_policy", "why"),
    [
        pytest.param([full(1, local_volumes=1), TWO[1]], POLICY, "max_age: local_volume: 1", id="a local volume"),
        pytest.param(
            [worker(1, pods=[pod("a", owner_kind="")]), TWO[1]], POLICY, "max_age: bare_pod: shop/a", id="a bare pod"
        ),
        pytest.param(TWO, policy(high=2, rotation=ROTATION), "max_age: at_max: 2 workers exist", id="at max"),
        pytest.param(
            TWO,
            policy(rotation=ROTATION, workers=Workers(pools=(WorkerPool(name="general", max=2, **SMALL),))),
            "max_age: at_max: pool general has a max of 2 and 2 exist: its replacement has no place",
            id="at its pool's max",
        ),
        pytest.param(
            TWO, policy(rotation=ROTATION, cost=Cost(max_usd_per_hour=0.05)), "max_age: at_cost_cap: what", id="the cap"
        ),
    ],
)
def test_who_may_not_go_is_not_launched_for(machines: list[Machine], its_policy: Policy, why: str) -> None:
    decision = look(machines, None, its_policy)
    assert why_not(decision).startswith(why)
    assert (decision.state.replacement, decision.state.launches) == (None, ())


def test_the_next_one_is_tried_where_the_first_may_not_go() -> None:
    decision = look([full(1, local_volumes=1), full(2)])
    assert decision.state.replacement is not None
    assert decision.state.replacement.instance_id == "i-002"


@pytest.mark.parametrize("failures", [1, 2])
def test_where_launches_do_not_join_nobody_is_launched_for_and_the_next_zone_goes_on(failures: int) -> None:
    """After the wait of a zone that is left out, too: the try there is growth's."""
    until_s = NOW_S + 60 if failures == 1 else NOW_S - 60
    bad = ZoneJoins(zone="us-east-1b", failures=failures, since_s=NOW_S - 900, failed_at_s=NOW_S - 700, until_s=until_s)
    state = State(fence=9, zones=(bad, ZoneJoins(zone="us-east-1a", joined_at_s=NOW_S - 100)))
    decision = look([full(1), full(2)], state)
    assert why_not(decision) == "max_age: launches in us-east-1b do not join: its replacement would not either"
    assert decision.state.replacement is not None
    assert decision.state.replacement.instance_id == "i-002"


def test_a_worker_that_was_refused_lately_waits() -> None:
    refused = HeldWorker(node_name="worker-i-001", reason="budget", until_s=NOW_S + 60)
    decision = look(TWO, State(fence=9, held_workers=(refused,)))
    assert why_not(decision) == "max_age: held: budget; asked again in 60 s"


# --------------------------------------------------------------------------------------------------------- it goes on


def test_while_what_was_launched_joins_nobody_leaves_by_choice() -> None:
    joining = launch("d0-l0", ids=[9])
    machines = [full(1), worker(2), worker(3), bare(9, launched_at_s=NOW_S - 30, operation_id="d0-l0")]
    decision = look(machines, State(fence=9, replacement=begun(), launches=(joining,)), utilisation=use(cpu=0.1))
    assert (draining(decision), decision.state.replacement) == ([], begun())


def test_once_it_is_ready_the_old_one_is_drained_with_all_checks() -> None:
    decision = look([*TWO, young(9)], State(fence=9, replacement=begun()))
    assert (decision.action, decision.reason, draining(decision)) == (Action.REPAIR, "rotation", ["i-001"])
    [operation] = decision.state.removals
    assert (operation.reason, operation.reclaim, operation.scale_down) == ("rotation", False, True)
    assert decision.message == "worker-i-001 is drained, since it is old, and what replaces it is Ready."
    assert decision.state.replacement == begun(drains=True)


@pytest.mark.parametrize(
    ("machines", "its_policy", "seen", "why"),
    [
        pytest.param([*TWO, young(9)], POLICY, {"pods": [waiting("w", for_s=1)]}, "1 pods wait", id="a pod waits"),
        pytest.param(
            [*TWO, young(9)],
            policy(rotation=ROTATION, down=ScaleDown(blackouts=(ALWAYS,))),
            {},
            "the blackout always",
            id="a blackout",
        ),
        pytest.param(
            [*TWO, worker(9, pods=[pod("x", cpu=100)], of={"operation_id": "d0-l0"})],
            POLICY,
            {},
            "no_room: shop/full-1 fits on no other worker",
            id="others took the room",
        ),
        pytest.param([full(1, local_volumes=2), TWO[1], young(9)], POLICY, {}, "local_volume", id="a volume came"),
        pytest.param([full(1, ready=False), TWO[1], young(9)], POLICY, {}, "it is not Ready", id="it is NotReady"),
        pytest.param(
            [*TWO, young(9)],
            policy(low=3, rotation=ROTATION),
            {},
            "3 workers are Ready and workers.min is 3",
            id="what came stands in for one that was lost",
        ),
        pytest.param(
            [*TWO, young(9)],
            policy(rotation=ROTATION, workers=Workers(min=0, pools=(WorkerPool(name="general", min=3, **SMALL),))),
            {},
            "3 workers of pool general are Ready and its min is 3",
            id="its pool needs what came",
        ),
    ],
)
def test_the_drain_waits(machines: list[Machine], its_policy: Policy, seen: dict[str, Any], why: str) -> None:
    decision = look(machines, State(fence=9, replacement=begun()), its_policy, **seen)
    assert (draining(decision), decision.state.replacement) == ([], begun())
    assert why in why_not(decision)


def test_it_does_not_wait_for_ever_but_for_the_end_of_a_blackout() -> None:
    old = begun(HOUR_S + 1)
    busy = [*TWO, worker(9, pods=[pod("x", cpu=100)], of={"operation_id": "d0-l0"})]
    decision = look(busy, State(fence=9, replacement=old))
    assert decision.state.replacement is None
    assert decision.state.replacement_failed is not None
    assert decision.state.replacement_failed.why.startswith("it could not go: no_room")
    assert decision.news
    blackout = policy(rotation=ROTATION, down=ScaleDown(blackouts=(ALWAYS,)))
    assert look(busy, State(fence=9, replacement=old), blackout).state.replacement == old


def test_its_pods_are_looked_at_before_it_goes() -> None:
    seen = snapshot([*TWO, young(9)], utilisation=BUSY)
    seen = msgspec.structs.replace(seen, pods_of=seen.pods_of - {"worker-i-001"})
    decision = opened(seen, State(fence=9, replacement=begun()), POLICY)
    assert (decision.asks.pods_of, draining(decision)) == (("worker-i-001",), [])


# ------------------------------------------------------------------------------------------------------------- it ends


def test_it_is_over_with_the_worker_and_what_failed_before_is_forgotten() -> None:
    state = State(fence=9, replacement=begun(drains=True), replacement_failed=failed())
    ended = msgspec.structs.replace(state, removed=(Removed(instance_id="i-001", ended_at_s=NOW_S - 5),))
    for decision in (look([TWO[1], young(9)], state), look([*TWO, young(9)], ended)):
        assert (decision.state.replacement, decision.state.replacement_failed) == (None, None)


def test_while_it_leaves_nothing_else_is_done() -> None:
    state = State(fence=9, replacement=begun(drains=True), removals=(removal(1, reason="rotation"),))
    decision = look([*TWO, young(9)], state, utilisation=use(cpu=0.1))
    assert (draining(decision), decision.state.replacement) == (["i-001"], begun(drains=True))


def test_a_drain_that_was_given_up_is_a_failure() -> None:
    operation = removal(1, reason="rotation")
    state = State(fence=9, replacement=begun(drains=True), removals=(operation,))
    refused = told(CommandOutcome.REFUSED, rule="bare-pod")
    decision = look([*TWO, young(9)], state, commands=refused)
    assert decision.state.replacement is None
    assert decision.state.replacement_failed is not None
    assert decision.state.replacement_failed.why == "its drain was given up"
    assert "worker-i-001 is not replaced: its drain was given up; the next try is in 3600 s" in decision.done


def test_a_launch_that_brought_nobody_is_a_failure_once_ec2_has_settled() -> None:
    early = look(TWO, State(fence=9, replacement=begun(299)))
    assert early.state.replacement == begun(299)
    late = look(TWO, State(fence=9, replacement=begun(300)))
    assert late.state.replacement is None
    assert late.state.replacement_failed is not None
    assert late.state.replacement_failed.why == "0 of 1 that were launched for it are Ready"


@pytest.mark.parametrize(("failures", "wait_s"), [(0, 3600), (1, 7200), (3, 28_800), (9, 86_400), (900, 86_400)])
def test_each_failure_in_a_row_doubles_the_wait_up_to_a_day(failures: int, wait_s: int) -> None:
    before = failed(-1, failures=failures) if failures else None
    after = look(TWO, State(fence=9, replacement=begun(300), replacement_failed=before)).state.replacement_failed
    assert after is not None
    assert (after.failures, after.retry_at_s) == (failures + 1, NOW_S + wait_s)


def test_what_ec2_takes_meanwhile_needs_no_replacement_any_more() -> None:
    state = State(fence=9, replacement=begun(), notices=(notice(1),))
    decision = look([*TWO, young(9)], state)
    assert [(r.instance_id, r.reason) for r in decision.state.removals] == [("i-001", "interruption")]
    gone = msgspec.structs.replace(decision.state, removals=(), notices=())
    dead = full(1, of={"state": InstanceState.TERMINATED}, ready=False, unready_long=False)
    repaired = look([dead, TWO[1], young(9)], gone)
    over = look([dead, TWO[1], young(9)], repaired.state)
    assert (over.state.replacement, over.state.replacement_failed) == (None, None)


def test_without_the_cluster_in_sight_nothing_is_concluded() -> None:
    state = State(fence=9, replacement=begun(HOUR_S * 9))
    blind = look(TWO, state, status=MetricsStatus.UNAVAILABLE)
    assert blind.state.replacement == begun(HOUR_S * 9)


# ----------------------------------------------------------------------------------------------------------- stand-ins


def test_what_a_failure_left_behind_stands_in_while_it_is_empty() -> None:
    state = State(fence=9, replacement_failed=failed(0))
    here = young(9, zone="us-east-1b")
    decision = look([*TWO, here], state)
    assert (decision.growth, decision.state.launches) == (None, ())
    assert decision.state.replacement is not None
    assert decision.state.replacement.launched_by == "d0"
    assert look([*TWO, here], decision.state).reason == "rotation"


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(young(9, zone="us-east-1a"), id="in another zone"),
        pytest.param(young(9, zone="us-east-1b", instance_type="t3.micro"), id="of another type"),
        pytest.param(young(9, zone="us-east-1b", by="d7"), id="launched for something else"),
        pytest.param(
            worker(9, pods=[pod("x")], of={"zone": "us-east-1b", "operation_id": "d0-l0"}), id="in use by now"
        ),
    ],
)
def test_anything_else_does_not(left: Machine) -> None:
    decision = look([*TWO, left], State(fence=9, replacement_failed=failed(0)))
    assert len(decision.state.launches) == 1


def test_a_state_of_before_knows_of_no_replacement() -> None:
    old = msgspec.json.decode(b'{"schema":1,"fence":3}', type=State)
    assert (old.replacement, old.replacement_failed) == (None, None)

"""Node commands do what the node-command script does."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from autoscaler.model import CommandOutcome, Cordon, Verb
from autoscaler.simulator.commands import CommandStatus
from autoscaler.simulator.world.preflight import ResultLine
from autoscaler.simulator.world.workload import DO_NOT_DISRUPT, SAFE_TO_EVICT, Budget
from autoscaler.simulator.world.world import World
from tests.simulator.worlds import (
    SERVER_ID,
    bare,
    command,
    database,
    deployment,
    has_node,
    node,
    node_name,
    pods_of,
    row,
    world,
)


def line(status: CommandStatus | None) -> ResultLine:
    assert status is not None
    assert status.stdout.endswith("}\n")
    return msgspec.json.decode(status.stdout, type=ResultLine)


def run(made: World, *, seconds: float = 60, command_id: str = "c-1", **what: Any) -> ResultLine:
    """Start it, let time pass, return the result."""
    made.start_command(command(**what), command_id)
    made.advance(made.now_s + seconds)
    return line(made.command_status(command_id))


def test_a_drain_cordons_evicts_waits_and_leaves_daemons() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, stop_s=20.0))
    made.advance(made.now_s + 10)
    made.start_command(command(), "c-1")
    made.advance(made.now_s + 10)
    status = made.command_status("c-1")
    assert status is not None
    assert (status.status, status.exit_code) == ("InProgress", None)
    assert node(made, node_name(0)).cordoned
    made.advance(made.now_s + 15)
    status = made.command_status("c-1")
    assert status is not None
    assert (status.status, status.exit_code) == ("Success", 0)
    result = line(status)
    assert (result.operation, result.verb, result.outcome) == ("op-1", "drain", CommandOutcome.SUCCEEDED)
    assert result.evicted_pods == 2
    assert node(made, node_name(0)).pods == 2, "svclb and node-exporter"
    assert [pod.node for pod in pods_of(made, "shop/web")] == [node_name(1)] * 4
    assert node(made, node_name(0)).cordoned


def test_pods_that_have_ended_are_taken_along_and_are_no_eviction_of_the_world() -> None:
    made = world(workers=1)
    made.apply(deployment(replicas=2, cpu=300))
    made.apply(bare(run_for_s=5.0))
    made.advance(made.now_s + 20)
    assert run(made).evicted_pods == 3
    assert made.state.evictions == 2


def test_unknown_command() -> None:
    assert world().command_status("nobody") is None


def volume_there(made: World) -> None:
    made.apply(database())


def volume_not_mounted(made: World) -> None:
    made.apply(database())
    made.advance(made.now_s + 10)
    made.scale("shop/db", 0)


def bare_pod(made: World) -> None:
    made.apply(bare())


def not_safe(made: World) -> None:
    made.apply(deployment(annotations=((SAFE_TO_EVICT, "false"),)))


def not_to_disrupt(made: World) -> None:
    made.apply(deployment(annotations=((DO_NOT_DISRUPT, "true"),)))


def budget_at_zero(made: World) -> None:
    made.apply(deployment(budget=Budget(max_unavailable=0)))


def cordoned(made: World) -> None:
    made.cordon(node_name(0))


def nothing(_: World) -> None:
    pass


REFUSED, BLOCKED = CommandOutcome.REFUSED, CommandOutcome.BLOCKED_BY_BUDGET
RULES = [
    (volume_there, {}, REFUSED, "local-volume"),
    (volume_not_mounted, {}, REFUSED, "local-volume"),
    (bare_pod, {}, REFUSED, "bare-pod"),
    (not_safe, {}, REFUSED, "do-not-evict"),
    (not_to_disrupt, {}, REFUSED, "do-not-evict"),
    (budget_at_zero, {}, BLOCKED, "disruption-budget"),
    (cordoned, {}, REFUSED, "cordoned-by-others"),
    (nothing, {"provider_id": "aws:///us-east-1a/i-0ff"}, REFUSED, "identity"),
    (nothing, {"not_after_s": 1}, REFUSED, "late"),
    (nothing, {"node_name": "worker-i-0ff"}, CommandOutcome.NO_SUCH_NODE, ""),
    (
        nothing,
        {"node_name": "ip-10-0-1-10", "provider_id": f"aws:///us-east-1a/{SERVER_ID}"},
        REFUSED,
        "control-plane",
    ),
]


@pytest.mark.parametrize("verb", [Verb.PREFLIGHT, Verb.DRAIN])
@pytest.mark.parametrize(("given", "fields", "outcome", "rule"), RULES)
def test_a_rule_refuses_before_anything_is_touched(
    verb: Verb, given: Callable[[World], None], fields: dict[str, Any], outcome: CommandOutcome, rule: str
) -> None:
    made = world(workers=1)
    given(made)
    made.advance(made.now_s + 10)
    before = (node(made, node_name(0)).cordoned, [pod.name for pod in made.pods])
    result = run(made, verb=verb, **fields)
    assert (result.outcome, result.rule) == (outcome, rule)
    assert result.message
    assert (node(made, node_name(0)).cordoned, [pod.name for pod in made.pods]) == before


@pytest.mark.parametrize("given", [volume_there, bare_pod, not_safe, cordoned])
def test_a_reclaim_asks_only_who_it_is(given: Callable[[World], None]) -> None:
    made = world(workers=1)
    given(made)
    made.advance(made.now_s + 10)
    assert run(made, reclaim=True).outcome is CommandOutcome.SUCCEEDED
    assert run(made, reclaim=True, operation="op-2", provider_id="x", command_id="c-2").rule == "identity"


def test_a_reclaim_meets_budgets_and_keeps_its_cordon() -> None:
    made = world(workers=1)
    budget_at_zero(made)
    made.advance(made.now_s + 10)
    result = run(made, reclaim=True, timeout_s=60, seconds=70)
    assert result.outcome is CommandOutcome.BLOCKED_BY_BUDGET
    assert node(made, node_name(0)).cordoned, "the machine goes away: nobody shall start there"


def test_a_relaxed_budget_lets_one_go_at_a_time() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, budget=Budget(max_unavailable=1), start_s=8.0))
    made.advance(made.now_s + 20)
    made.start_command(command(), "c-1")
    least = 4
    while line_or_none(made, "c-1") is None:
        made.advance(made.now_s + 1)
        least = min(least, sum(1 for pod in pods_of(made, "shop/web") if pod.ready and not pod.terminating))
    assert least == 3
    assert line(made.command_status("c-1")).evicted_pods == 2


def line_or_none(made: World, command_id: str) -> ResultLine | None:
    status = made.command_status(command_id)
    return None if status is None or status.exit_code is None else line(status)


def held_by_budget(made: World) -> None:
    """The first pod may go; its replacement finds no room, so the second may not."""
    made.apply(deployment(replicas=2, cpu=900, budget=Budget(max_unavailable=1)))


def never_ends(made: World) -> None:
    made.apply(deployment(replicas=1, cpu=900, stop_s=1000.0))


@pytest.mark.parametrize(
    ("given", "outcome", "evicted"),
    [(held_by_budget, CommandOutcome.BLOCKED_BY_BUDGET, 1), (never_ends, CommandOutcome.TIMED_OUT, 0)],
)
@pytest.mark.parametrize("cordon_stays", [False, True])
def test_a_drain_that_fails_gives_the_node_back(
    given: Callable[[World], None], outcome: CommandOutcome, evicted: int, cordon_stays: bool
) -> None:
    made = world(workers=1)
    given(made)
    made.advance(made.now_s + 10)
    made.faults.cordon_stays = cordon_stays
    made.start_command(command(timeout_s=120), "c-1")
    made.advance(made.now_s + 119)
    assert line_or_none(made, "c-1") is None
    made.advance(made.now_s + 5)
    result = line(made.command_status("c-1"))
    assert (result.outcome, result.evicted_pods) == (outcome, evicted)
    assert node(made, node_name(0)).cordoned is cordon_stays


def test_a_grace_period_overrides_slow_pods() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2, stop_s=600.0))
    made.advance(made.now_s + 10)
    assert run(made, grace_s=15, seconds=20).outcome is CommandOutcome.SUCCEEDED


def test_a_machine_that_dies_lets_the_drain_time_out() -> None:
    made = world(workers=1)
    made.apply(deployment())
    made.advance(made.now_s + 10)
    made.see_instances([])
    assert run(made, seconds=310).outcome is CommandOutcome.TIMED_OUT


def test_a_higher_fence_stops_a_drain_and_a_lower_one_is_refused() -> None:
    made = world(workers=1)
    made.apply(deployment(stop_s=1000.0))
    made.advance(made.now_s + 10)
    made.start_command(command(fence=5), "drain")
    made.advance(made.now_s + 10)
    made.start_command(command(Verb.UNCORDON, fence=6), "uncordon")
    made.advance(made.now_s + 10)
    assert line(made.command_status("drain")).outcome is CommandOutcome.FENCED_OFF
    assert line(made.command_status("uncordon")).outcome is CommandOutcome.SUCCEEDED
    assert not node(made, node_name(0)).cordoned
    late = run(made, fence=5, operation="op-0", command_id="late")
    assert late.outcome is CommandOutcome.FENCED_OFF
    assert not node(made, node_name(0)).cordoned


def test_an_uncordon_leaves_a_persons_cordon_alone() -> None:
    made = world(workers=1)
    made.cordon(node_name(0))
    assert run(made, verb=Verb.UNCORDON).outcome is CommandOutcome.SUCCEEDED
    assert node(made, node_name(0)).cordoned


def test_a_repeat_returns_the_first_result_also_while_that_runs() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2, stop_s=30.0))
    made.advance(made.now_s + 10)
    made.start_command(command(), "first")
    made.advance(made.now_s + 5)
    made.start_command(command(), "second")
    made.advance(made.now_s + 20)
    assert line_or_none(made, "second") is None
    made.advance(made.now_s + 20)
    made.apply(deployment("more", replicas=4, cpu=100))
    made.start_command(command(not_after_s=1), "third")
    made.advance(made.now_s + 5)
    results = {line(made.command_status(name)) for name in ("first", "second", "third")}
    assert len(results) == 1
    assert results.pop().evicted_pods == 1


def test_an_unreachable_api_is_no_answer_and_may_be_asked_again() -> None:
    made = world(workers=1)
    made.faults.api_unreachable = True
    first = run(made)
    status = made.command_status("c-1")
    assert status is not None
    assert (first.outcome, status.exit_code) == (CommandOutcome.API_UNREACHABLE, 15)
    made.faults.api_unreachable = False
    assert run(made, command_id="c-2").outcome is CommandOutcome.SUCCEEDED
    assert line(made.command_status("c-1")).outcome is CommandOutcome.API_UNREACHABLE


def test_a_drain_that_loses_the_api_stops_and_cannot_give_back() -> None:
    made = world(workers=1)
    held_by_budget(made)
    made.advance(made.now_s + 10)
    made.start_command(command(), "c-1")
    made.advance(made.now_s + 5)
    made.faults.api_unreachable = True
    made.advance(made.now_s + 30)
    assert line(made.command_status("c-1")).outcome is CommandOutcome.API_UNREACHABLE
    assert node(made, node_name(0)).cordoned


def test_delete_node_takes_the_object_and_its_pods() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2, cpu=300))
    made.advance(made.now_s + 10)
    made.see_instances([row(1)])
    made.advance(made.now_s + 400)
    assert run(made, verb=Verb.DELETE_NODE, seconds=5).outcome is CommandOutcome.SUCCEEDED
    made.advance(made.now_s + 100)
    assert not has_node(made, node_name(0))
    assert [pod.node for pod in pods_of(made, "shop/web")] == [node_name(1)] * 2
    again = run(made, verb=Verb.DELETE_NODE, operation="op-2", command_id="c-2")
    assert again.outcome is CommandOutcome.SUCCEEDED, "not found is success"


def test_delete_node_of_a_living_machine_lets_it_register_again() -> None:
    made = world(workers=1)
    run(made, verb=Verb.DELETE_NODE, seconds=5)
    assert not has_node(made, node_name(0))
    made.advance(made.now_s + 20)
    assert node(made, node_name(0)).ready


def test_delete_node_checks_who_it_is() -> None:
    made = world(workers=1)
    assert run(made, verb=Verb.DELETE_NODE, provider_id="aws:///us-east-1a/i-0ff").rule == "identity"
    assert has_node(made, node_name(0))


def test_status() -> None:
    assert "cordoned=False" in run(world(workers=1), verb=Verb.STATUS).message


def test_a_persons_uncordon_during_a_drain_stands() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, stop_s=60.0))
    made.advance(made.now_s + 10)
    made.start_command(command(), "c-1")
    made.advance(made.now_s + 10)
    made.uncordon(node_name(0))
    made.advance(made.now_s + 3)  # the drain looks at its Node every two seconds
    result = line(made.command_status("c-1"))
    assert (result.outcome, result.rule) == (CommandOutcome.REFUSED, "uncordoned-by-others")
    assert not node(made, node_name(0)).cordoned
    left = run(made, verb=Verb.INSPECT, command_id="c-2").inspection
    assert left is not None
    assert left.operation == ""


def test_an_admission_policy_denies_a_drain_before_and_in_its_middle_and_is_asked_anew() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, budget=Budget(max_unavailable=1), start_s=30.0))
    made.advance(made.now_s + 60)
    made.faults.admission_denies = True
    first = run(made, seconds=2)
    assert (first.outcome, first.rule) == (CommandOutcome.REFUSED, "admission")
    made.faults.admission_denies = False
    made.start_command(command(), "c-2")
    made.advance(made.now_s + 10)
    made.faults.admission_denies = True
    made.advance(made.now_s + 10)
    refused = line(made.command_status("c-2"))
    assert (refused.rule, refused.evicted_pods, node(made, node_name(0)).cordoned) == ("admission", 1, False)
    made.faults.admission_denies = False
    made.advance(made.now_s + 60)
    assert run(made, command_id="c-3", seconds=200).outcome is CommandOutcome.SUCCEEDED


def test_a_pod_that_does_not_end_outlives_the_drain() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2))
    made.advance(made.now_s + 10)
    made.faults.pods_stay = True
    assert run(made, seconds=400).outcome is CommandOutcome.TIMED_OUT
    made.faults.pods_stay = False
    made.advance(made.now_s + 20)
    assert [pod.terminating for pod in pods_of(made, "shop/web")] == [False, False]


def test_a_server_that_vanishes_takes_its_drain_along_and_undoes_nothing() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, stop_s=60.0))
    made.advance(made.now_s + 10)
    made.start_command(command(), "lost")
    made.advance(made.now_s + 10)
    made.lose_command("lost")
    made.advance(made.now_s + 500)
    told = made.command_status("lost")
    assert told is not None
    assert (told.status, told.stdout) == ("InProgress", "")
    assert node(made, node_name(0)).cordoned
    assert run(made, command_id="elsewhere", seconds=90).outcome is CommandOutcome.SUCCEEDED


def test_a_copy_of_a_lost_command_runs_itself() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2, stop_s=60.0))
    made.advance(made.now_s + 10)
    made.start_command(command(), "lost")
    made.start_command(command(), "copy")
    made.advance(made.now_s + 10)
    made.lose_command("lost")
    made.advance(made.now_s + 90)
    assert line(made.command_status("copy")).outcome is CommandOutcome.SUCCEEDED


def test_a_reclaim_closes_the_node_again() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, stop_s=20.0))
    made.advance(made.now_s + 10)
    made.start_command(command(reclaim=True), "c-1")
    made.advance(made.now_s + 10)
    made.uncordon(node_name(0))
    made.advance(made.now_s + 90)
    assert line(made.command_status("c-1")).outcome is CommandOutcome.SUCCEEDED
    assert node(made, node_name(0)).cordoned


def test_an_inspection_finds_the_node_by_its_provider_id_and_judges_as_a_preflight() -> None:
    made = world(workers=1)
    made.apply(bare())
    made.apply(database())
    made.advance(made.now_s + 10)
    asked: dict[str, Any] = {"verb": Verb.INSPECT, "node_name": "another-name", "fence": 0, "seconds": 2}
    found = run(made, **asked).inspection
    assert found is not None
    assert (found.node, found.ready, found.cordon) == (node_name(0), True, Cordon.NONE)
    assert (found.local_volumes.count, found.bare_pods.count, found.movable_pods) == (1, 1, 2)
    assert run(made, command_id="c-2", seconds=2).rule == "local-volume"
    gone = run(made, **asked | {"command_id": "c-3"}, provider_id="aws:///us-east-1a/i-0ff")
    assert (gone.outcome, gone.inspection) == (CommandOutcome.NO_SUCH_NODE, None)


def test_an_inspection_of_a_server_is_refused() -> None:
    said = run(world(), verb=Verb.INSPECT, provider_id=f"aws:///us-east-1a/{SERVER_ID}")
    assert (said.outcome, said.rule, said.inspection) == (CommandOutcome.REFUSED, "control-plane", None)


def test_an_inspection_tells_whose_cordon_it_is() -> None:
    made = world(workers=1)
    run(made)
    ours = run(made, verb=Verb.INSPECT, command_id="c-2").inspection
    assert ours is not None
    assert (ours.cordon, ours.operation) == (Cordon.OURS, "op-1")
    assert ours.taints == ("node.kubernetes.io/unschedulable:NoSchedule",)

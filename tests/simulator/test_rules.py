"""A server of the simulated cluster tells what its scheduler asks, in the form that the script prints."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import CommandOutcome, CommandResult, SchedulingRules, Verb
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    BoundClaim,
    MissingClaim,
    NodeTerm,
    Operator,
    Requirement,
    WaitingClaim,
    equal_to,
)
from autoscaler.observe.rules import BadRules, parse_rules
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.rules_faults import RulesFault
from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.told import scheduling_rules
from autoscaler.simulator.world.workload import Ask, Budget, Kind, PodTemplate, Workload
from tests.simulator.worlds import SERVER_ID, bare, cluster, command, database, deployment, node_name, world

NO_NODE: dict[str, Any] = {"node_name": "", "provider_id": "", "fence": 0}


def asked(where: SimCluster, operation: str = "rules-1") -> CommandResult:
    """A question to the server, and what SSM says of it ten seconds later."""
    commands = where.ports().commands
    not_after_s = int(where.now_s) + 60
    sent = commands.send(command(Verb.RULES, operation=operation, not_after_s=not_after_s, **NO_NODE), SERVER_ID)
    where.run(10)
    return commands.result(sent, SERVER_ID)


def busy() -> SimCluster:
    """Something of every kind of owner."""
    where = cluster(workers=2)
    budget = Budget(max_unavailable=1)
    where.apply(deployment("web", replicas=3, cpu=300, constraints=one_per_host("web"), budget=budget))
    where.apply(deployment("even", replicas=2, cpu=100, constraints=even_over_zones("even")))
    where.apply(deployment("whole", cpu=0, pod_level=Ask(cpu_millicores=700)))
    where.apply(deployment("disk", cpu=100, constraints=with_volume(zone="us-east-1b")))
    where.apply(deployment("later", cpu=5000, constraints=with_volume("later")))
    where.apply(deployment("never", cpu=100, constraints=with_volume("never", missing=True)))
    where.apply(deployment("gated", cpu=100, gated=True))
    where.apply(msgspec.structs.replace(database(), replicas=2))
    where.apply(bare())
    nowhere = PodTemplate(node_selector=(("pool", "none"),), host_network=True)
    where.apply(Workload(namespace="ops", name="agent", kind=Kind.DAEMON_SET, template=nowhere))
    where.run(30)
    return where


def test_the_answer_reads_back_as_what_is_so() -> None:
    where = busy()
    told = asked(where)
    assert told.outcome is CommandOutcome.SUCCEEDED
    read = parse_rules(told.rules, answered_at_s=0)
    assert read.malformed == ()
    truth = scheduling_rules(where.world.state)
    undated = [msgspec.structs.replace(owner, seen_at_s=0) for owner in (*truth.owners, *truth.daemons)]
    assert [*read.owners, *read.daemons] == undated
    assert (read.nodes, read.namespaces, read.budgets, read.waiting) == (
        truth.nodes,
        truth.namespaces,
        truth.budgets,
        truth.waiting,
    )


def known(rules: SchedulingRules) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for owner in rules.owners:
        found.setdefault(owner.owner.rpartition("/")[2].partition("-")[0], []).append(owner.pods)
    return found


def test_owners_that_wait_stand_first_and_pods_are_named_where_they_differ() -> None:
    rules = scheduling_rules(busy().world.state)
    names = known(rules)
    assert [*names][:4] == ["gated", "later", "never", "web"]
    assert (names["web"], names["db"], names["job"]) == ([()], [("db-0",), ("db-1",)], [()])
    assert {daemon.owner for daemon in rules.daemons} >= {"ops/DaemonSet/agent", "monitoring/DaemonSet/node-exporter"}


def test_claims_are_told_as_they_are_now() -> None:
    state = busy().world.state
    claims = {owner.owner.rpartition("/")[2]: owner.rules.claims for owner in scheduling_rules(state).owners}
    here = {name.partition("-")[0]: found for name, found in claims.items() if found}
    zone = NodeTerm(labels=(Requirement("topology.kubernetes.io/zone", Operator.IN, ("us-east-1b",)),))
    assert here["disk"] == (BoundClaim(name="disk", node_affinity=(zone,)),)
    assert here["never"] == (MissingClaim(name="never"),)
    assert here["later"] == (WaitingClaim(name="later", provisioned=True),)
    bound = {claim for owner in scheduling_rules(state).owners for claim in owner.rules.claims}
    for volume in state.volumes.values():
        if volume.node_name:
            on_its_node = NodeTerm(labels=(Requirement(HOSTNAME_LABEL, Operator.IN, (volume.node_name,)),))
            assert BoundClaim(name=volume.claim, node_affinity=(on_its_node,)) in bound
    assert len(bound) == 3 + 2


def test_what_metrics_show_is_told_where_it_is_less() -> None:
    owners = {o.owner.rpartition("/")[2].partition("-")[0]: o for o in scheduling_rules(busy().world.state).owners}
    assert dict(owners["whole"].rules.requests)["cpu"] == 700
    assert dict(owners["whole"].shown)["cpu"] == 0
    assert owners["web"].shown == ()


def test_words_and_budgets_are_the_clusters_own() -> None:
    rules = scheduling_rules(busy().world.state)
    words = {word.pod.partition("/")[2].partition("-")[0]: word.message for word in rules.waiting}
    assert "didn't match pod anti-affinity rules" in words["web"]
    assert "Insufficient cpu" in words["later"]
    assert words["gated"] == "Scheduling is blocked due to non-empty scheduling gates"
    [budget] = rules.budgets
    assert (budget.selector, budget.allowed) == (equal_to({"app": "web"}), 0)


# -------------------------------------------------------------------------------------------------------------- faults


def test_an_answer_that_never_comes_stays_open() -> None:
    where = busy()
    where.ssm.rules_fault = RulesFault.NEVER
    assert asked(where).outcome is CommandOutcome.RUNNING
    where.ssm.rules_fault = None
    assert asked(where, "rules-2").outcome is CommandOutcome.SUCCEEDED


def test_an_answer_that_is_cut_off_is_none() -> None:
    where = busy()
    where.ssm.rules_fault = RulesFault.CUT_OFF
    with pytest.raises(BadRules):
        parse_rules(asked(where).rules, answered_at_s=0)


def test_what_does_not_fit_is_counted_and_one_that_is_nonsense_is_named() -> None:
    where = busy()
    whole = parse_rules(asked(where).rules, answered_at_s=0)
    where.ssm.rules_fault = RulesFault.LEFT_OUT
    part = parse_rules(asked(where, "rules-2").rules, answered_at_s=0)
    assert part.left_out == len(whole.owners) - len(part.owners) > 0
    where.ssm.rules_fault = RulesFault.MALFORMED
    odd = parse_rules(asked(where, "rules-3").rules, answered_at_s=0)
    assert [owner for owner, _ in odd.malformed] == [whole.owners[0].owner]
    assert odd.owners == whole.owners[1:]


def test_an_old_answer_does_not_know_what_came_since() -> None:
    where = busy()
    first = asked(where)
    where.apply(deployment("newcomer", cpu=100))
    where.ssm.rules_fault = RulesFault.OLD
    assert asked(where, "rules-2").rules == first.rules
    where.ssm.rules_fault = None
    assert "newcomer" in known(parse_rules(asked(where, "rules-3").rules, answered_at_s=0))


@pytest.mark.parametrize("late_s", [0, 70])
def test_a_question_that_starts_too_late_is_refused_like_any_command(late_s: int) -> None:
    made = world(workers=1)
    made.start_command(command(Verb.RULES, not_after_s=int(made.now_s) + 60 - late_s, **NO_NODE), "c-1")
    made.advance(made.now_s + 10)
    status = made.command_status("c-1")
    assert status is not None
    assert status.exit_code == (10 if late_s else 0)
    assert node_name(0) in {node.name for node in made.nodes}

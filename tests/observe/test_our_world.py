"""Metrics held against EC2: workers without Nodes, Nodes without workers, and another cluster's world."""

from typing import Any

import pytest

from autoscaler.model import CommandOutcome, CommandResult, MetricsStatus, Sample, State
from autoscaler.observe.series import FAMILY
from autoscaler.observe.snapshot import assemble
from tests.decide.builders import launch, removal
from tests.observe.answers import (
    CLUSTER_ID,
    NOW_S,
    POLICY,
    chain,
    fleet,
    healthy,
    node,
    plus,
    row,
    seen,
    valued,
)

HEALTHY = healthy()
OK, PARTIAL = MetricsStatus.OK, MetricsStatus.PARTIAL


@pytest.mark.parametrize(
    ("changes", "state", "status"),
    [
        pytest.param({}, State(), PARTIAL, id="ours, joined, and no Node of it is seen"),
        pytest.param({"State": {"Name": "terminated"}}, State(), OK, id="it has ended"),
        pytest.param({"Tags": {"k3s-autoscaler/cluster": CLUSTER_ID}}, State(), OK, id="not ours"),
        pytest.param({}, State(launches=(launch(ids=[1]),)), OK, id="it is joining"),
        pytest.param({}, State(removals=(removal(1),)), OK, id="it is leaving"),
        pytest.param(
            {
                "Tags": {
                    "ManagedBy": "autoscaler",
                    "k3s-autoscaler/cluster": CLUSTER_ID,
                    "k3s-autoscaler/operation": "l1",
                }
            },
            State(launches=(launch("l1"),)),
            OK,
            id="its launch does not know it yet",
        ),
    ],
)
def test_instances_without_a_node(changes: dict[str, Any], state: State, status: MetricsStatus) -> None:
    extra = {**row(1, **changes), "InstanceId": "i-001"}
    snapshot = seen(HEALTHY, [*fleet(), extra], state=state)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (status, True)


def test_two_nodes_that_claim_one_instance_are_told_apart_by_nobody() -> None:
    """A machine that was renamed leaves its old Node behind."""
    renamed = node("renamed", "aws:///us-east-1a/i-0001")
    facts = ("kube_node_status_condition", "kube_node_spec_unschedulable")
    spoil = chain(plus(renamed), valued("source_nodes", 5), *(valued("shown", 5, of=fact) for fact in facts))
    snapshot = seen(spoil(HEALTHY))
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, True)
    assert any("Nodes claim instance" in problem for problem in snapshot.metrics_problems)


FOREIGN = healthy()
"""Whole, fresh, consistent - and EC2 knows other instances."""


@pytest.mark.parametrize(
    ("rows", "state", "known"),
    [
        pytest.param([row(0x11), row(0x12)], State(), False, id="none of our settled workers has a Node: foreign"),
        pytest.param([row(0x11), row(0x01)], State(), True, id="one of them has: ours"),
        pytest.param(
            [row(0x11), row(0xAAA, InstanceId="i-0aaa", Tags={"k3s-autoscaler/cluster": CLUSTER_ID})],
            State(),
            True,
            id="a tagged static machine or server has: ours",
        ),
        pytest.param([], State(), False, id="we have nothing yet, and all that is shown is unknown"),
        pytest.param([row(0x11)], State(launches=(launch(ids=[]),)), False, id="settled, whatever is being launched"),
        pytest.param([{**row(0x11), "InstanceId": "i-001"}], State(launches=(launch(ids=[1]),)), False, id="it joins"),
        pytest.param([row(0x11, State={"Name": "terminated"})], State(), False, id="it has ended"),
    ],
)
def test_our_world_or_none(rows: list[dict[str, Any]], state: State, known: bool) -> None:
    snapshot = seen(FOREIGN, rows, state=state)
    assert snapshot.cluster_known is known
    told = any("may be another cluster's" in problem for problem in snapshot.metrics_problems)
    assert told is not known


def test_nodes_that_are_not_on_ec2_speak_against_nothing() -> None:
    """K3s' default provider-ids: a server and static workers whose instances nobody can name."""
    plain = [
        Sample({**s.metric, "provider_id": f"k3s://{s.metric['node']}"}, s.value) if s.metric[FAMILY] == "node" else s
        for s in healthy(workers=0)
    ]
    assert seen(plain, []).cluster_known


def test_results_of_commands_that_could_not_be_asked_are_unknown() -> None:
    answers = (("r1", CommandResult(outcome=CommandOutcome.RUNNING)), ("r2", None))
    snapshot = assemble(HEALTHY, fleet(), answers, state=State(), cluster_id=CLUSTER_ID, policy=POLICY, now_s=NOW_S)
    assert [operation_id for operation_id, _ in snapshot.commands] == ["r1"]

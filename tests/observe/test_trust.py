"""How far an answer can be trusted: every way in which it can be wrong, and what that makes unknown."""

from collections.abc import Iterable
from typing import Any

import pytest

from autoscaler.model import CommandOutcome, CommandResult, MetricsStatus, Sample, State
from autoscaler.observe.series import CLUSTER_FAMILIES, NEVER_EMPTY, UTILISATION_FAMILIES
from autoscaler.observe.snapshot import assemble
from autoscaler.ports import MetricsUnavailable
from tests.decide.builders import launch, removal
from tests.observe.samples import (
    CLUSTER_ID,
    NOW_S,
    POLICY,
    Spoil,
    family_of,
    healthy,
    row,
    sample,
    seen,
    valued,
    window,
    without,
)

HEALTHY, ROWS = healthy()
OK, PARTIAL = MetricsStatus.OK, MetricsStatus.PARTIAL


def doubled(family: str) -> Spoil:
    """One series too many arrived: what was recorded and what came differ."""

    def spoil(samples: list[Sample]) -> Iterable[Sample]:
        first = next(s for s in samples if family_of(s) == family)
        return [*samples, Sample({**first.metric, "replica": "2"}, first.value)]

    return spoil


def test_a_healthy_answer_is_ok() -> None:
    snapshot = seen(HEALTHY, ROWS)
    assert (snapshot.metrics_status, snapshot.metrics_problems, snapshot.cluster_known) == (OK, (), True)
    assert (snapshot.taken_at_s, snapshot.metrics_at_s) == (NOW_S, NOW_S)
    assert len(snapshot.nodes) == 4
    assert len(snapshot.instances) == len(ROWS)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(
            valued("evaluated_at", NOW_S - 31, group="cluster"),
            "the rule group cluster was last evaluated 31 s ago; at most 30 s are accepted",
            id="rules are stale",
        ),
        pytest.param(
            without("evaluated_at", group="cluster"),
            "the rule group cluster was not evaluated: evaluated_at is missing",
            id="rules never ran",
        ),
        pytest.param(
            valued("scraped_at", NOW_S - 31, source="kube-state-metrics"),
            "kube-state-metrics was last scraped 31 s ago; at most 30 s are accepted",
            id="scrapes are stale",
        ),
        pytest.param(
            without("scraped_at", source="kube-state-metrics"),
            "kube-state-metrics was not scraped: scraped_at is missing",
            id="never scraped",
        ),
        pytest.param(
            without("source_up", source="kube-state-metrics"),
            "whether kube-state-metrics is up is not known: source_up is missing",
            id="not known whether it is up",
        ),
        pytest.param(
            valued("node_allocatable", "NaN", node="static-1", resource="cpu"),
            "node_allocatable holds 'NaN', which is not a finite number",
            id="NaN",
        ),
        pytest.param(
            valued("node_ready", "+Inf", node="static-1"),
            "node_ready holds '+Inf', which is not a finite number",
            id="infinite",
        ),
        pytest.param(
            valued("pod_info", "<html>"), "pod_info holds '<html>', which is not a finite number", id="garbage"
        ),
        pytest.param(
            without("node_cordoned", node="static-1"), "node_cordoned has 3 series, 4 were recorded", id="one dropped"
        ),
        pytest.param(
            valued("expected", "NaN", family="pod_gated"),
            "pod_gated is missing: its source did not say how many series there are",
            id="the count is NaN",
        ),
    ],
)
def test_what_makes_the_cluster_unknown(spoil: Spoil, problem: str) -> None:
    snapshot = seen(spoil(HEALTHY), ROWS)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, False)
    assert problem in snapshot.metrics_problems


@pytest.mark.parametrize("family", CLUSTER_FAMILIES)
def test_a_family_that_is_not_counted_makes_the_cluster_unknown(family: str) -> None:
    snapshot = seen(without("expected", family=family)(HEALTHY), ROWS)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, False)


@pytest.mark.parametrize("family", [f for f in CLUSTER_FAMILIES if any(family_of(s) == f for s in HEALTHY)])
@pytest.mark.parametrize("spoil", [without, doubled], ids=["lost", "doubled"])
def test_a_family_that_is_not_as_it_was_counted_makes_the_cluster_unknown(family: str, spoil: Any) -> None:
    snapshot = seen(spoil(family)(HEALTHY), ROWS)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, False)


@pytest.mark.parametrize("family", sorted(NEVER_EMPTY))
def test_a_family_that_no_cluster_lacks_may_not_be_empty(family: str) -> None:
    none = valued("expected", 0, family=family)(list(without(family)(HEALTHY)))
    snapshot = seen(none, ROWS)
    assert not snapshot.cluster_known
    assert f"{family} is empty, which no K3s cluster can be" in snapshot.metrics_problems


@pytest.mark.parametrize("family", sorted({*CLUSTER_FAMILIES} - NEVER_EMPTY - {"node_taint", "node_labels"}))
def test_a_family_that_may_be_empty_is_known_to_be(family: str) -> None:
    """None and missing differ: the count says 0."""
    none = (
        valued("expected", 0, family=family)(list(without(family)(HEALTHY)))
        if family == "node_control_plane"
        else (list(without(family)(HEALTHY)))
    )
    assert seen(none, ROWS).cluster_known


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(valued("evaluated_at", NOW_S - 31, group="utilisation"), id="rules are stale"),
        pytest.param(without("evaluated_at", group="utilisation"), id="rules never ran"),
        pytest.param(valued("scraped_at", NOW_S - 31, source="node-exporter"), id="scrapes are stale"),
        pytest.param(without("scraped_at", source="node-exporter"), id="never scraped"),
        pytest.param(without("source_up", source="node-exporter"), id="not known whether it is up"),
        pytest.param(valued("source_up", 0, source="node-exporter"), id="one target is down"),
        pytest.param(valued("source_up", 0, source="kube-state-metrics"), id="one of two kube-state-metrics is down"),
        pytest.param(valued("source_restarted", 1), id="just restarted"),
        pytest.param(without("source_restarted"), id="not known whether it restarted"),
        pytest.param(valued("workers_utilisation", "NaN"), id="NaN"),
        *(pytest.param(without("expected", family=f), id=f"{f} not counted") for f in UTILISATION_FAMILIES),
        *(pytest.param(without(f), id=f"{f} lost") for f in UTILISATION_FAMILIES),
    ],
)
def test_what_makes_the_picture_partial_with_the_cluster_known(spoil: Spoil) -> None:
    snapshot = seen(spoil(HEALTHY), ROWS)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, True)
    assert snapshot.metrics_problems


@pytest.mark.parametrize("age_s", [0, 29, 30])
def test_what_is_fresh_enough(age_s: int) -> None:
    aged = valued("scraped_at", NOW_S - age_s, source="kube-state-metrics")(HEALTHY)
    assert seen(aged, ROWS).metrics_status is OK


def test_the_older_of_two_replicas_counts() -> None:
    stale = [*HEALTHY, sample("evaluated_at", NOW_S - 500, group="cluster", replica="b")]
    assert not seen(stale, ROWS).cluster_known


@pytest.mark.parametrize(("apart_s", "known"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_clocks_that_differ(apart_s: int, known: bool) -> None:
    """An answer that is minutes off is somebody's cache."""
    assert seen(HEALTHY, ROWS, now_s=NOW_S + apart_s).cluster_known is known


@pytest.mark.parametrize(
    "answer",
    [pytest.param([], id="an empty vector"), pytest.param(MetricsUnavailable("connection refused"), id="no answer")],
)
def test_no_answer_is_unavailable_and_nothing_is_made_up(answer: Any) -> None:
    snapshot = assemble(answer, ROWS, (), state=State(), cluster_id=CLUSTER_ID, policy=POLICY, now_s=NOW_S)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (MetricsStatus.UNAVAILABLE, False)
    assert (snapshot.metrics_at_s, snapshot.nodes, snapshot.pods, snapshot.utilisation) == (None, (), (), ())
    assert len(snapshot.instances) == len(ROWS)
    assert len(snapshot.metrics_problems) == 1


def test_every_other_series_alone_is_never_a_known_cluster() -> None:
    for spoiled in (HEALTHY[::2], HEALTHY[1::2], HEALTHY[:-40], HEALTHY[40:]):
        assert not seen(spoiled, ROWS).cluster_known


# ------------------------------------------------------------------------------------------------ metrics against EC2


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
    snapshot = seen(HEALTHY, [*ROWS, extra], state=state)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (status, True)


def test_two_nodes_that_claim_one_instance_are_told_apart_by_nobody() -> None:
    """A machine that was renamed leaves its old Node behind."""
    renamed = [
        Sample({**s.metric, "node": "renamed"}, s.value)
        for s in HEALTHY
        if s.metric.get("node", "").startswith("worker-") and "window" not in s.metric
    ]
    grown = [*HEALTHY, *renamed]
    counted = [
        Sample(s.metric, (s.value[0], str(sum(1 for g in grown if family_of(g) == s.metric["family"]))))
        if family_of(s) == "expected"
        else s
        for s in grown
    ]
    snapshot = seen(counted, ROWS)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, True)
    assert any("Nodes claim instance" in problem for problem in snapshot.metrics_problems)


def test_results_of_commands_that_could_not_be_asked_are_unknown() -> None:
    answers = (("r1", CommandResult(outcome=CommandOutcome.RUNNING)), ("r2", None))
    snapshot = assemble(HEALTHY, ROWS, answers, state=State(), cluster_id=CLUSTER_ID, policy=POLICY, now_s=NOW_S)
    assert [operation_id for operation_id, _ in snapshot.commands] == ["r1"]


def test_a_window_that_is_not_a_number_is_partial() -> None:
    assert seen([*HEALTHY, window("grow_min", "NaN", resource="cpu")], ROWS).metrics_status is PARTIAL

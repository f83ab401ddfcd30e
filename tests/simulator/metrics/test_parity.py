"""The recorder answers what a real Prometheus answers to the same queries over the same scrapes, on drawn clusters.

The soak, the property tests and the back-tests rest on the recorder's answers, whole ones and those that faults spoil.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Sample
from autoscaler.observe.query import moving_query, places_query, rooms_query, sight_query
from autoscaler.observe.series import (
    FAMILY,
    KUBE_STATE_METRICS,
    MOVING_FAMILIES,
    NODE_EXPORTER,
    PLACE_FAMILIES,
    ROOM_FAMILIES,
    SIGHT_FAMILIES,
    USE_FAMILIES,
)
from autoscaler.policy import Policy, Rotation
from autoscaler.simulator.metrics.elsewhere import ELSEWHERE
from autoscaler.simulator.metrics.faults import MetricFaults, spoil
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.world.world import World
from tests.simulator.metrics.drawn import draw_world
from tests.simulator.metrics.jobs import HISTORY_S, MOMENT_S, SCRAPE_S, START_S, Jobs
from tests.simulator.metrics.replay import Replay, Rows, replay

pytestmark = pytest.mark.real_programs

NOT_DRAWN = {
    "node_incomplete",  # the world shows every fact of a Node
    "node_twice",
    "volumes_unplaced",  # as kube-state-metrics without allow-lists shows them
    "overwritten",
}
"""Families that no world has."""
REQUESTED = {"requested_max", "requested_count", "requested_at_once", "used_at_once"}
REMEMBERED = set(USE_FAMILIES) - {"use"} | REQUESTED
"""Families that go on to hold what was recorded before a fault began, which a switch knows nothing of."""


class Case(NamedTuple):
    """A drawn world whose metrics have a fault."""

    seed: int
    faults: MetricFaults
    but: set[str]
    """Families that are not compared."""


WHOLE = [Case(seed, MetricFaults(), set()) for seed in range(6)]
SPOILT = {
    "two clusters": Case(6, MetricFaults(two_clusters=True), set()),
    "another cluster": Case(7, MetricFaults(foreign=True), set()),
    "no allow-lists": Case(8, MetricFaults(no_allow_lists=True), set()),
    # A machine's counters are reset three times; the recorder, asked at the end only, knows of the last.
    "a target gone": Case(9, MetricFaults(target_gone=True), {"used_at_once"}),
    "restarted": Case(10, MetricFaults(restarted=True), set()),
    # Who takes pods, and is therefore to be measured, is seen half a minute late by one side and by the other.
    "scraped seldom": Case(11, MetricFaults(scraped_every_s=30), {*USE_FAMILIES, *REQUESTED, "node_unmeasured"}),
    "nodes' source down": Case(12, MetricFaults(sources_down={KUBE_STATE_METRICS}), REMEMBERED),
    "machines' source down": Case(13, MetricFaults(sources_down={NODE_EXPORTER}), set()),
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    with replay(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def compare(prometheus: Replay, case: Case) -> Counter[str]:
    """Ask both all four queries; returns how many rows each family has."""
    cluster = f"c{case.seed}"
    metrics = MetricsPolicy(cluster_interval_s=SCRAPE_S, matchers={"cluster": cluster})
    rotation = Rotation(drift=("k3s_version",) if case.seed % 2 else ())
    policy = Policy(version=1, metrics=metrics, rotation=rotation)
    world = draw_world(case.seed, now_s=START_S, for_s=HISTORY_S)
    recorder = Recorder(world, policy)
    jobs = Jobs(world, prometheus, policy, case.faults)
    jobs.live()
    prometheus.push()
    jobs.record()
    names = sorted(world.state.nodes)
    nodes = [*names[1:], *(ELSEWHERE + name for name in names[::2])]
    flags = {"with_init": case.seed % 2 == 0, "with_overhead": case.seed % 3 != 0}
    families: Counter[str] = Counter()
    owners = owners_of(world)
    for query in (
        sight_query(policy, with_owners=True),
        rooms_query(policy, nodes, **flags),
        moving_query(policy, nodes),
        places_query(policy, owners[case.seed % 3 :: 2]),
        places_query(policy, [f"{owner.partition('/')[0]}/Job/j{n}" for owner in owners for n in range(40)]),
    ):
        ours = by_labels(spoil(case.faults, recorder, query, MOMENT_S))
        families += assert_same(prometheus.ask(query, MOMENT_S), ours, but=case.but)
    whole = by_labels(recorder.query(sight_query(policy), MOMENT_S))
    assert (by_labels(spoil(case.faults, recorder, sight_query(policy), MOMENT_S)) == whole) == (case in WHOLE)
    return families


def owners_of(world: World) -> list[str]:
    """Of every pod, elsewhere too, where a pod without an owner has another name."""
    bare = {f"{pod.namespace}/Pod/{name}" for pod in world.state.pods.values() if not pod.owner_kind
            for name in (pod.name, ELSEWHERE + pod.name)}  # fmt: skip
    return sorted(
        bare | {f"{p.namespace}/{p.owner_kind}/{p.owner_name}" for p in world.state.pods.values() if p.owner_kind}
    )


def by_labels(samples: list[Sample]) -> Rows:
    rows = {frozenset(sample.metric.items()): float(sample.value[1]) for sample in samples}
    assert len(rows) == len(samples), "one row twice"
    return rows


def assert_same(real: Rows, ours: Rows, *, but: set[str]) -> Counter[str]:
    """Family by family; returns how many rows each family has."""
    families: Counter[str] = Counter(dict(labels)[FAMILY] for labels in real)
    uncounted = {("of", family) for family in but}
    for family in sorted({*families, *(dict(labels)[FAMILY] for labels in ours)} - but):
        one = {labels: value for labels, value in real.items() if (FAMILY, family) in labels and not uncounted & labels}
        other = {
            labels: value for labels, value in ours.items() if (FAMILY, family) in labels and not uncounted & labels
        }
        if family.startswith("use"):
            one, other = (rounded(rows) for rows in (one, other))
        assert {key: one.get(key) for key in one.keys() ^ other.keys()} == {}, f"{family}: rows of one side only"
        assert other == pytest.approx(one, rel=1e-12, abs=1e-12), family
    return families


def rounded(rows: Rows) -> Rows:
    """Ratios: each side adds up in an order of its own."""
    return {labels: round(value, 6) for labels, value in rows.items()}


def test_the_recorder_answers_as_prometheus_does(prometheus: Replay) -> None:
    drawn: Counter[str] = Counter()
    for case in WHOLE:
        drawn += compare(prometheus, case)
    assert {*SIGHT_FAMILIES, *ROOM_FAMILIES, *MOVING_FAMILIES, *PLACE_FAMILIES} - drawn.keys() == NOT_DRAWN


@pytest.mark.parametrize("name", SPOILT)
def test_a_fault_spoils_the_answer_as_it_does_prometheus_own(prometheus: Replay, name: str) -> None:
    case = SPOILT[name]
    assert compare(prometheus, case)

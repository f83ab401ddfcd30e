"""The recorder answers what a real Prometheus answers to the same queries over the same scrapes, on drawn clusters.

The soak, the property tests and the back-tests rest on the recorder's answers.
"""

from collections import Counter
from pathlib import Path

import pytest

from autoscaler.model import Sample
from autoscaler.observe.promql import Raw
from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.observe.series import (
    FAMILY,
    KUBE_STATE_METRICS,
    MOVING_FAMILIES,
    NODE_EXPORTER,
    PREFIX,
    ROOM_FAMILIES,
    SIGHT_FAMILIES,
    UTILISATION_GROUP,
)
from autoscaler.policy import MetricsPolicy, Policy
from autoscaler.simulator.metrics.exposition import telemetry
from autoscaler.simulator.metrics.recorded import INSTANCE, Recorder
from autoscaler.simulator.world.world import World
from tests.simulator.metrics.drawn import draw_world
from tests.simulator.metrics.replay import Labels, Replay, Rows, read, replay

SEEDS = range(8)
START_S = 1_699_999_200.0
"""A multiple of every interval."""
HISTORY_S = 900.0
MOMENT_S = START_S + HISTORY_S + 7.25
"""Of the queries: no sample lies at the edge of a window, where versions of Prometheus differ."""
SCRAPE_S, EVALUATION_S = 5, 15
NOT_DRAWN = {
    "node_incomplete",  # the world shows every fact of a Node
    "node_twice",
    "volumes_unplaced",
    "overwritten",
}
"""Families that no world has: faults.py makes some of them."""


def policy_of(seed: int) -> Policy:
    return Policy(version=1, metrics=MetricsPolicy(cluster_interval_s=SCRAPE_S, matchers={"cluster": f"c{seed}"}))


def live(world: World, prometheus: Replay, policy: Policy) -> None:
    """Let the world live its story, scraped by both jobs."""
    matchers = policy.metrics.matchers
    target = {"job": KUBE_STATE_METRICS, "instance": INSTANCE, **matchers}
    up = frozenset({**target, "__name__": "up"}.items())
    version, series = -1, {}
    for scrape in range(int(HISTORY_S / SCRAPE_S) + 2):
        at_s = START_S + scrape * SCRAPE_S
        world.advance(at_s)
        if world.state.version != version:
            version, series = world.state.version, {**read(world.kube_state_metrics(), **target), up: 1.0}
        prometheus.see(str(target), series, at_s)
        if at_s % EVALUATION_S == 0:
            own = {"job": f"{KUBE_STATE_METRICS}-telemetry", "instance": INSTANCE, **matchers}
            prometheus.see(str(own), read(telemetry(), **own), at_s)
            scrape_machines(world, prometheus, matchers, at_s)
    world.advance(MOMENT_S)


def scrape_machines(world: World, prometheus: Replay, matchers: dict[str, str], at_s: float) -> None:
    pages = world.node_exporters()
    for node in world.state.nodes.values():
        target = {"job": NODE_EXPORTER, "instance": f"{node.machine.ip}:9100", **matchers}
        up = frozenset({**target, "__name__": "up"}.items())
        series: dict[Labels, float] = {}
        if node.ready:
            page = pages.get(node.name)
            series = {up: 0.0} if page is None else {**read(page, **target), up: 1.0}
        prometheus.see(str(target), series, at_s)


def record(prometheus: Replay, policy: Policy) -> None:
    """What the rules record."""
    raw, metrics = Raw(policy.metrics.matchers), policy.metrics
    moments = [START_S + EVALUATION_S * (n + 0.5) for n in range(int(HISTORY_S / EVALUATION_S) + 1)]
    assert moments[-1] < MOMENT_S + 1
    moments = [moment for moment in moments if moment <= MOMENT_S]
    matchers = metrics.matchers
    prometheus.record(f"{PREFIX}node_ready", raw.ready, moments, **matchers)
    busy = raw.node_utilisation(metrics.cpu_rate_window_s, EVALUATION_S)
    prometheus.record(f"{PREFIX}node_utilisation", busy, moments, **matchers)
    for bound, unmeasured in (("low", 0), ("high", 1)):
        used = raw.workers_utilisation(unmeasured=unmeasured)
        prometheus.record(f"{PREFIX}workers_utilisation", used, moments, bound=bound, **matchers)
    about = {"group": UTILISATION_GROUP, "interval_s": str(EVALUATION_S), **matchers}
    prometheus.record(f"{PREFIX}evaluated_at", "vector(time())", moments, **about)


def by_labels(samples: list[Sample]) -> Rows:
    rows = {frozenset(sample.metric.items()): float(sample.value[1]) for sample in samples}
    assert len(rows) == len(samples), "one row twice"
    return rows


def assert_same(real: Rows, ours: Rows) -> Counter[str]:
    """Family by family; returns how many rows each family has."""
    families: Counter[str] = Counter(dict(labels)[FAMILY] for labels in real)
    for family in sorted({*families, *(dict(labels)[FAMILY] for labels in ours)}):
        one = {labels: value for labels, value in real.items() if (FAMILY, family) in labels}
        other = {labels: value for labels, value in ours.items() if (FAMILY, family) in labels}
        if family.startswith("use"):
            one, other = (rounded(rows) for rows in (one, other))
        assert {key: one.get(key) for key in one.keys() ^ other.keys()} == {}, f"{family}: rows of one side only"
        assert other == pytest.approx(one, rel=1e-12, abs=1e-12), family
    return families


def rounded(rows: Rows) -> Rows:
    """Ratios: each side adds up in an order of its own."""
    return {labels: round(value, 6) for labels, value in rows.items()}


@pytest.mark.real_programs
def test_the_recorder_answers_as_prometheus_does(tmp_path: Path) -> None:
    worlds = {seed: draw_world(seed, now_s=START_S, for_s=HISTORY_S) for seed in SEEDS}
    recorders = {seed: Recorder(world, policy_of(seed)) for seed, world in worlds.items()}
    drawn: Counter[str] = Counter()
    with replay(tmp_path) as prometheus:
        for seed, world in worlds.items():
            live(world, prometheus, policy_of(seed))
        prometheus.push()
        for seed, world in worlds.items():
            policy, recorder = policy_of(seed), recorders[seed]
            record(prometheus, policy)
            nodes = sorted(world.state.nodes)
            flags = {"with_init": seed % 2 == 0, "with_overhead": seed % 3 != 0}
            for query in (
                sight_query(policy),
                rooms_query(policy, nodes[::2], **flags),
                moving_query(policy, nodes[1:]),
            ):
                drawn += assert_same(prometheus.ask(query, MOMENT_S), by_labels(recorder.query(query, MOMENT_S)))
    assert {*SIGHT_FAMILIES, *ROOM_FAMILIES, *MOVING_FAMILIES} - drawn.keys() == NOT_DRAWN

"""Prometheus' answers over the emulator's /metrics, with the rules as rendered, equal what the simulator reckons.

tests/simulator/metrics/test_parity.py holds the two against each other on drawn clusters and at exact times; this test
adds the configuration: jobs, discovery, rules and their intervals.
"""

import time

import pytest
import requests

from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.observe.series import FAMILY, KUBE_STATE_METRICS, NODE_EXPORTER
from tests.e2e.conftest import Played

pytestmark = pytest.mark.real_programs

Rows = dict[frozenset[tuple[str, str]], float]

QUIET_S = 15
"""Longer than every interval, the CPU rate's window and the shrink window of the demo policy: both sides show calm."""
TOLERANCE = 0.02
"""Of a utilisation ratio: Prometheus' rate() extrapolates from scrapes that fall where they fall."""
MOMENTS = {"scraped_at", "evaluated_at"}
"""When something last happened: each side has its own clock edges."""
UNSTEADY = {
    "restarted",  # a minute has passed for one side first
    "scrape_interval",  # Prometheus started after the simulator
    "use_grow_count",
    "use_grow_min",  # reaches back into the story
    "use_shrink_count",
}
"""Families of which only the rows are compared, but for the first, which is not."""


def prometheus_rows(played: Played, query: str) -> Rows:
    url = f"{played.stack.addresses.prometheus_url}/api/v1/query"
    answer = requests.post(url, data={"query": query}, timeout=10)
    answer.raise_for_status()
    return {key_of(row["metric"]): float(row["value"][1]) for row in answer.json()["data"]["result"]}


def simulated_rows(played: Played, query: str) -> Rows:
    return {key_of(sample.metric): float(sample.value[1]) for sample in played.stack.cluster.answer(query)}


def key_of(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    """Where the target answers is each side's own."""
    own = {"instance", "job"} if labels[FAMILY] == "source_nodes" else set()
    return frozenset((name, value) for name, value in labels.items() if name not in own)


def family_of(labels: frozenset[tuple[str, str]]) -> str:
    return dict(labels)[FAMILY]


def assert_same(played: Played, query: str) -> set[str]:
    """Compare row by row; returns the families that there are."""
    real, simulated = prometheus_rows(played, query), simulated_rows(played, query)
    now_s = time.time()
    rows = {labels for labels in real.keys() ^ simulated.keys() if family_of(labels) != "restarted"}
    assert rows == set(), "of one side only"
    for labels in real.keys() & simulated.keys():
        family, value = family_of(labels), real[labels]
        if family in MOMENTS:
            oldest_s = now_s - played.stack.policy.metrics.max_age_s
            assert min(value, simulated[labels]) > oldest_s, labels
        elif family not in UNSTEADY:
            tolerance = TOLERANCE if family.startswith("use") else 1e-9
            assert simulated[labels] == pytest.approx(value, abs=tolerance, rel=0.0), labels
    return {family_of(labels) for labels in real}


def test_prometheus_and_the_simulator_give_the_same_answers(played: Played) -> None:
    played.watch.look()
    nodes = sorted(node.name for node in played.watch.state.nodes)
    time.sleep(QUIET_S)
    policy = played.stack.policy
    # Not an agreement on nothing: Nodes, their use, their pods and both sources are in it.
    seen = assert_same(played, sight_query(policy))
    assert {"node", "use", "use_shrink_max", "source_nodes", "scraped_at", "evaluated_at", "version", "counted"} <= seen
    real = prometheus_rows(played, sight_query(policy))
    assert {dict(labels)["node"] for labels in real if (FAMILY, "node") in labels} == set(nodes)
    for source in (KUBE_STATE_METRICS, NODE_EXPORTER):
        assert any({("source", source), (FAMILY, "scraped_at")} <= labels for labels in real)
    for counted in (False, True):
        query = rooms_query(policy, nodes, with_init=counted, with_overhead=counted)
        assert {"requested", "daemon_requests", "node_labels"} <= assert_same(played, query)
    assert {"pod", "pod_requests", "pod_selector"} <= assert_same(played, moving_query(policy, nodes))

"""Prometheus' recorded series over the simulator's /metrics equal what the simulator reckons for virtual time.

The back-tests and property tests rest on the latter: this holds it against the rules as real Prometheus runs them.
"""

import time

import pytest
import requests

from autoscaler.observe.series import CLUSTER_FAMILIES, PREFIX, UTILISATION_FAMILIES
from tests.e2e.conftest import Played

pytestmark = pytest.mark.real_programs

Key = tuple[str, frozenset[tuple[str, str]]]

QUIET_S = 15
"""Longer than every interval and the CPU rate's window of the demo policy: all of both sides show the same calm."""
TOLERANCE = 0.02
"""Of a utilisation ratio: Prometheus' rate() extrapolates from scrapes that fall where they fall."""


def prometheus_series(played: Played) -> dict[Key, float]:
    families = "|".join((*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, "expected", "source_up"))
    answer = requests.get(
        f"{played.stack.addresses.prometheus_url}/api/v1/query",
        params={"query": f'{{__name__=~"{PREFIX}({families})"}}'},
        timeout=10,
    )
    answer.raise_for_status()
    return {key_of(row["metric"]): float(row["value"][1]) for row in answer.json()["data"]["result"]}


def simulated_series(played: Played) -> dict[Key, float]:
    wanted = {f"{PREFIX}{family}" for family in (*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, "expected", "source_up")}
    return {
        key_of(sample.metric): float(sample.value[1])
        for sample in played.stack.cluster.recorded()
        if sample.metric.get("__name__") in wanted
    }


def key_of(labels: dict[str, str]) -> Key:
    return labels["__name__"], frozenset((name, value) for name, value in labels.items() if name != "__name__")


def test_prometheus_and_the_simulator_record_the_same_series(played: Played) -> None:
    played.watch.look()
    names = {node.name for node in played.watch.state.nodes}
    time.sleep(QUIET_S)
    real, simulated = prometheus_series(played), simulated_series(played)
    assert set(real) == set(simulated)
    # Not an agreement on nothing: every node and its pods are in it.
    assert {dict(labels)["node"] for name, labels in real if name == f"{PREFIX}node_info"} == names
    assert any(name == f"{PREFIX}pod_requests" for name, _ in real)
    for key, value in real.items():
        tolerance = TOLERANCE if "utilisation" in key[0] else 0.0
        assert simulated[key] == pytest.approx(value, abs=tolerance, rel=0.0), key

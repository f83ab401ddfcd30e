"""The switches that no scrape shows by itself; test_parity.py holds the others against a real Prometheus."""

import pytest

from autoscaler.model import Sample
from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.observe.series import COUNTED, FAMILY
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.faults import spoil
from tests.simulator.worlds import POLICY, deployment

Labels = frozenset[tuple[str, str]]


def made() -> SimCluster:
    """A cluster in which each kind of row is."""
    cluster = SimCluster(POLICY, workers=3)
    cluster.apply(deployment(replicas=2))
    cluster.apply(deployment("huge", cpu=9000))
    cluster.world.cordon(cluster.ready_workers()[0])
    cluster.run(120)
    return cluster


def asked(cluster: SimCluster, query: str = "") -> dict[Labels, str]:
    samples = spoil(cluster.metric_faults, cluster.recorder, query or sight_query(POLICY), cluster.now_s)
    return {frozenset(sample.metric.items()): sample.value[1] for sample in samples}


def of(rows: dict[Labels, str], family: str) -> dict[Labels, str]:
    return {labels: text for labels, text in rows.items() if (FAMILY, family) in labels}


def test_slow_rules_leave_windows_thin_and_their_last_evaluation_old() -> None:
    cluster = made()
    before = asked(cluster)
    cluster.metric_faults.slow_rules = True
    after = asked(cluster)
    for family in ("use_grow_count", "use_shrink_count"):
        thin = {labels: str(int(text) // 4) for labels, text in of(before, family).items()}
        assert of(after, family) == thin
    oldest = 0.0
    for _ in range(8):
        cluster.run(7.5)
        (evaluated_s,) = of(asked(cluster), "evaluated_at").values()
        oldest = max(oldest, cluster.now_s - float(evaluated_s))
    assert 45 < oldest <= 60


def test_a_missing_family_is_counted_as_none_and_its_proof_is_gone() -> None:
    cluster = made()
    cluster.metric_faults.missing = {"node_cordoned"}
    rows = asked(cluster)
    assert of(rows, "node_cordoned") == {}
    assert rows[frozenset({(FAMILY, "counted"), ("of", "node_cordoned")})] == "0"
    assert frozenset({(FAMILY, "shown"), ("of", "kube_node_spec_unschedulable")}) not in rows


def test_a_dropped_family_is_still_counted() -> None:
    cluster = made()
    cluster.metric_faults.dropped = {"node_cordoned"}
    rows = asked(cluster)
    assert of(rows, "node_cordoned") == {}
    assert rows[frozenset({(FAMILY, "counted"), ("of", "node_cordoned")})] == "1"
    assert of(rows, "counted").keys() >= {frozenset({(FAMILY, "counted"), ("of", family)}) for family in COUNTED}


def test_nan_strikes_its_families_only() -> None:
    cluster = made()
    before = asked(cluster)
    cluster.metric_faults.nan = {"node"}
    rows = asked(cluster)
    assert set(of(rows, "node").values()) == {"NaN"}
    assert {labels: text for labels, text in rows.items() if text != "NaN"} == {
        labels: text for labels, text in before.items() if (FAMILY, "node") not in labels
    }


def test_a_frozen_prometheus_answers_all_three_queries_from_what_it_once_held() -> None:
    cluster = made()
    names = [node.name for node in cluster.world.nodes]
    queries = (
        sight_query(POLICY),
        rooms_query(POLICY, names, with_init=True, with_overhead=True),
        moving_query(POLICY, names),
    )
    before = [asked(cluster, query) for query in queries]
    cluster.freeze_metrics()
    cluster.world.delete("shop/web")
    cluster.run(4 * 3600)
    assert [asked(cluster, query) for query in queries] == before
    cluster.metric_faults.frozen = None
    assert all(asked(cluster, query) != once for query, once in zip(queries, before, strict=True))


def test_another_clusters_nodes_answer_to_their_own_names_only() -> None:
    cluster = made()
    names = [node.name for node in cluster.world.nodes]
    cluster.metric_faults.foreign = True
    assert asked(cluster, moving_query(POLICY, names)) == {}
    theirs = asked(cluster, moving_query(POLICY, [f"elsewhere-{name}" for name in names]))
    assert {dict(labels)["node"] for labels in of(theirs, "pod")} == {f"elsewhere-{name}" for name in names}


@pytest.mark.parametrize("name", ["down", "slow", "not_an_answer", "empty", "foreign"])
def test_no_fault_lets_an_unknown_query_pass(name: str) -> None:
    cluster = made()
    setattr(cluster.metric_faults, name, True)
    with pytest.raises(ValueError, match="knows the queries"):
        asked(cluster, "up")


def test_half_of_an_answer_is_every_second_row() -> None:
    cluster = made()
    whole: list[Sample] = cluster.samples()
    cluster.metric_faults.half = True
    assert spoil(cluster.metric_faults, cluster.recorder, sight_query(POLICY), cluster.now_s) == whole[::2]

"""The recorder's windows against a dense evaluation, its answers against the core's parser, and what it refuses.

That each answer is a real Prometheus' own is held by test_parity.py.
"""

import random
from collections import defaultdict

import pytest

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import MetricsStatus, Sample, State
from autoscaler.observe.query import moving_query, places_query, rooms_query, sight_query
from autoscaler.observe.series import FAMILY
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.promql import Moving, Places, Reader, Rooms, Sight
from autoscaler.simulator.metrics.rate import counter_rate
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.metrics.runs import Grid, Runs
from autoscaler.simulator.world.world import World, WorldSettings
from tests.simulator.worlds import POLICY, START_S, deployment

Key = tuple[str, frozenset[tuple[str, str]]]
NODES = ("worker-i-01", "ip-10-0-1-10.eu-central-1.compute.internal")


def by_key(samples: list[Sample]) -> dict[Key, float]:
    """Values by family and labels."""
    found: dict[Key, float] = {}
    for sample in samples:
        labels = {key: value for key, value in sample.metric.items() if key != FAMILY}
        key = (sample.metric[FAMILY], frozenset(labels.items()))
        assert key not in found, "one row twice"
        found[key] = float(sample.value[1])
    return found


def of(cluster: SimCluster, family: str) -> dict[frozenset[tuple[str, str]], float]:
    """The rows of one family."""
    return {labels: value for (name, labels), value in by_key(cluster.samples()).items() if name == family}


def one(cluster: SimCluster, family: str, **labels: str) -> float:
    return of(cluster, family)[frozenset(labels.items())]


def test_a_fresh_cluster_is_fully_known_to_the_core() -> None:
    cluster = SimCluster(POLICY, workers=3, static_workers=1)
    cluster.apply(deployment(replicas=3, burn=0.5))
    cluster.run(700)
    seen = assemble(
        cluster.samples(),
        cluster.ec2.describe(),
        (),
        state=State(),
        cluster_id="sim",
        policy=POLICY,
        now_s=int(cluster.now_s),
    )
    assert (seen.metrics_status, seen.metrics_problems) == (MetricsStatus.OK, ())
    assert seen.unshown == ()
    assert [node.ready for node in seen.nodes] == [True] * 5
    assert all(node.unready_long is False for node in seen.nodes)
    cpu, memory = seen.utilisation
    # Four workers of two CPUs, three pods of half a core, and 0.034 cores a machine of its own.
    assert cpu.now_low == pytest.approx((3 * 0.5 + 4 * 0.034) / 8)
    assert cpu.grow_min == cpu.shrink_max == pytest.approx(cpu.now_low)
    assert memory.now_low is not None
    assert 0 < memory.now_low < 1


def busy_story(cluster: SimCluster, dice: random.Random) -> None:
    """Something happens."""
    world = cluster.world
    choice = dice.randrange(7)
    names = [node.name for node in world.nodes if not node.server]
    if choice == 0:
        cluster.apply(deployment(replicas=dice.randrange(8), cpu=300, burn=dice.random()))
    elif choice == 1:
        cluster.add_worker(dice.randrange(2))
    elif choice == 2 and len(cluster.workers()) > 1:
        cluster.ec2.end(dice.choice(cluster.workers()))
    elif choice == 3:
        world.break_node(dice.choice(names))
    elif choice == 4:
        world.mend_node(dice.choice(names))
    elif choice == 5:
        world.cordon(dice.choice(names))
    else:
        unmeasured = world.faults.unmeasured
        unmeasured.symmetric_difference_update({dice.choice(names)})


@pytest.mark.parametrize("seed", range(5))
def test_a_sparse_look_sees_the_windows_that_a_dense_one_adds_up(seed: int) -> None:
    """Twins live the same story; one is asked at every evaluation and adds up by itself, the other once at the end."""
    dense, sparse = SimCluster(POLICY, seed=seed), SimCluster(POLICY, seed=seed)
    low: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = defaultdict(list)
    ready: dict[str, list[tuple[float, float]]] = defaultdict(list)
    dice = random.Random(seed)  # noqa: S311 - a story, no secret
    same_dice = random.Random(seed)  # noqa: S311 - the same story
    while dense.now_s < START_S + 800:
        busy_story(dense, dice)
        busy_story(sparse, same_dice)
        quiet_s = dice.choice((1, 7, 31, 120, 300))
        same_dice.choice((1, 7, 31, 120, 300))
        end_s = dense.now_s + quiet_s
        while dense.now_s < end_s:
            dense.run(0.5)
            if dense.now_s % 15 == 7.5:
                for labels, value in of(dense, "use").items():
                    low[labels].append((dense.now_s, value))
                away = {dict(labels)["node"] for labels in of(dense, "node_not_ready")}
                for labels in of(dense, "node"):
                    name = dict(labels)["node"]
                    ready[name].append((dense.now_s, float(name not in away)))
        sparse.run(quiet_s)
    now_s = sparse.now_s
    answer = by_key(sparse.samples())
    assert answer == by_key(dense.samples())
    for labels, points in low.items():
        inside = [value for at_s, value in points if now_s - POLICY.scale_up.window_s < at_s <= now_s]
        if inside:
            assert answer["use_grow_min", labels] == min(inside)
            assert answer["use_grow_count", labels] == len(inside)
    for labels in of(sparse, "node_not_ready"):
        window_s = POLICY.repair.not_ready_s
        inside = [value for at_s, value in ready[dict(labels)["node"]] if now_s - window_s < at_s <= now_s]
        if inside:
            assert answer["ready_max", labels] == max(inside)
            assert answer["ready_count", labels] == len(inside)


def test_raw_series_are_as_old_as_the_last_scrape() -> None:
    cluster = SimCluster(POLICY)
    cluster.run(2.5 - cluster.now_s % 2)  # half a second after a scrape
    cluster.apply(deployment(replicas=1, cpu=5000))
    cluster.run(1)
    assert of(cluster, "pod_unschedulable") == {}
    cluster.run(0.5)
    assert len(of(cluster, "pod_unschedulable")) == 1
    assert one(cluster, "scraped_at", source="kube-state-metrics") == cluster.now_s


def test_recorded_series_are_as_old_as_their_evaluation() -> None:
    cluster = SimCluster(POLICY)
    cluster.run(30 - cluster.now_s % 15)
    about = {"group": "utilisation", "interval_s": "15"}
    assert one(cluster, "evaluated_at", **about) == cluster.now_s - 7.5
    cluster.run(7.5)
    assert one(cluster, "evaluated_at", **about) == cluster.now_s


def test_a_pod_is_unbound_for_long_after_a_minute() -> None:
    cluster = SimCluster(POLICY)
    cluster.run(1)
    cluster.apply(deployment(replicas=1, cpu=5000))
    cluster.run(60)
    assert of(cluster, "pod_unbound_long") == {}
    cluster.run(2)
    assert len(of(cluster, "pod_unbound_long")) == 1


def test_windows_hold_nothing_from_before_a_restart_of_prometheus() -> None:
    cluster = SimCluster(POLICY)
    cluster.recorder.lose_history()
    cluster.run(50)
    assert one(cluster, "restarted", source="kube-state-metrics") == 1
    assert one(cluster, "use_shrink_max", resource="cpu") == 1, "no counter fills its window"
    cluster.run(70)
    assert of(cluster, "restarted") == {}
    assert one(cluster, "use_grow_count", resource="cpu") == 4
    assert one(cluster, "use_shrink_count", resource="cpu") == 8
    assert one(cluster, "scrape_interval", source="kube-state-metrics") == 300 / 61


def test_without_a_worker_that_takes_pods_there_is_no_use() -> None:
    cluster = SimCluster(POLICY, workers=1)
    name = cluster.ready_workers()[0]
    cluster.world.cordon(name)
    cluster.run(30)
    assert of(cluster, "use") == {}
    assert one(cluster, "node_cordoned", node=name) == 1


def test_an_unmeasured_worker_widens_the_bounds() -> None:
    cluster = SimCluster(POLICY, workers=2)
    idle = one(cluster, "use", resource="cpu")
    assert one(cluster, "use_shrink_max", resource="cpu") == idle
    name = cluster.ready_workers()[0]
    cluster.world.faults.unmeasured.add(name)
    cluster.run(120)
    assert one(cluster, "use", resource="cpu") == pytest.approx(idle / 2)
    assert one(cluster, "use_shrink_max", resource="cpu") == pytest.approx(idle / 2 + 0.5)
    assert one(cluster, "targets_down", source="node-exporter") == 1
    unmeasured = {frozenset({"node": name, "resource": resource}.items()) for resource in ("cpu", "memory")}
    assert of(cluster, "node_unmeasured").keys() == unmeasured


def test_a_counter_that_began_anew_looks_like_use_for_one_rate_window() -> None:
    cluster = SimCluster(POLICY, workers=1)
    before = one(cluster, "use", resource="cpu")
    cluster.world.reset_counters(cluster.ready_workers()[0])
    cluster.run(30)
    assert before + 0.05 < one(cluster, "use", resource="cpu") < 1
    cluster.run(POLICY.metrics.cpu_rate_window_s)
    assert one(cluster, "use", resource="cpu") == pytest.approx(before)


def test_a_world_that_forgets_too_soon_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise WorldSettings\.keep_s"):
        Recorder(World(WorldSettings(cluster_id="c", keep_s=60), now_s=START_S), POLICY)


# -------------------------------------------------------------------------------------------------------------- queries


def test_the_cores_queries_are_understood() -> None:
    reader = Reader(POLICY)
    assert reader.read(sight_query(POLICY)) == Sight()
    assert reader.read(sight_query(POLICY, with_owners=True)) == Sight(with_owners=True)
    assert reader.read(moving_query(POLICY, NODES)) == Moving(nodes=NODES)
    for with_init in (False, True):
        for nodes in (NODES, ()):
            query = rooms_query(POLICY, nodes, with_init=with_init, with_overhead=not with_init)
            rooms = Rooms(daemon_nodes=nodes, with_init=with_init, with_overhead=not with_init)
            assert reader.read(query) == rooms
    for owners, places in (
        (("a/Job/x", "b/Job/y.z", "a/Pod/p"), Places(namespaces=("a", "b"), owners=("x", "y.z"), pods=("p",))),
        (('a/Odd/(x|"y',), Places(namespaces=("a",), owners=('(x|"y',), pods=())),
        (("a/Pod/p",), Places(namespaces=("a",), owners=(), pods=("p",))),
        ([f"a/Job/{n}" for n in range(201)], Places(namespaces=("a",), owners=None, pods=())),
        ([f"{n}/Pod/{n}" for n in range(201)], Places(namespaces=None, owners=(), pods=None)),
    ):
        assert reader.read(places_query(POLICY, owners)) == places


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "up",
        sight_query(POLICY).replace("== 0", "== 1", 1),
        sight_query(POLICY) + " ",
        moving_query(POLICY, NODES).replace("Running", "Failed"),
        moving_query(POLICY, NODES).replace("worker-i-01", "worker-i-02", 1),
        sight_query(Policy(version=1, metrics=MetricsPolicy(matchers={"cluster": "other"}))),
    ],
)
def test_any_other_query_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="knows the queries of its policy"):
        Reader(POLICY).read(wrong)


# ---------------------------------------------------------------------------------------------------------------- parts


def test_counter_rate_is_exact_for_full_windows_and_extrapolates_by_half_a_step_at_most() -> None:
    full = counter_rate(first=(7.5, 100.0), last=(52.5, 145.0), samples=4, start_s=0, end_s=60)
    assert full == pytest.approx(1.0)
    young = counter_rate(first=(37.5, 100.0), last=(52.5, 115.0), samples=2, start_s=0, end_s=60)
    assert young == pytest.approx((15 + 7.5 + 7.5) / 60)
    zero_start = counter_rate(first=(37.5, 2.0), last=(52.5, 17.0), samples=2, start_s=0, end_s=60)
    assert zero_start == pytest.approx((15 + 2 + 7.5) / 60), "a counter was never below zero"


def test_a_counter_that_begins_anew_loses_what_was_counted_between_two_samples_only() -> None:
    reset = counter_rate(first=(7.5, 1000.0), last=(52.5, 10.0), samples=4, start_s=0, end_s=60, lost=1030.0)
    assert reset == pytest.approx((30 + 10) / 45)


def test_runs() -> None:
    runs: Runs[str] = Runs()
    for first, value in ((1, "a"), (3, "a"), (5, "b"), (9, "c"), (7, "d")):
        runs.set(first, value)
    assert [runs.get(index) for index in (0, 1, 4, 5, 6, 7, 99)] == [None, "a", "a", "b", "b", "d", "d"]
    assert list(runs.over(range(3, 9))) == [("a", 2), ("b", 2), ("d", 2)]
    assert list(runs.over(range(2))) == [("a", 1)]
    runs.forget(6)
    assert [runs.get(index) for index in (4, 6, 8)] == [None, "b", "d"]


def test_a_grid_has_a_first_and_a_last_moment() -> None:
    grid = Grid(15, 7.5)
    assert (grid.first(22.5), grid.first(22.6), grid.last(22.5), grid.last(22.4)) == (1, 2, 1, 0)
    assert list(grid.window(67.5, 30, 0)) == [3, 4]
    assert list(grid.window(67.5, 30, 60)) == [4]

"""The recorded series, against a dense evaluation, against the rules by promtool, and against the core's own parser."""

import random
from collections import defaultdict
from pathlib import Path

import pytest

from autoscaler.model import MetricsStatus, Sample, State
from autoscaler.observe.query import snapshot_query
from autoscaler.observe.series import CLUSTER_FAMILIES, PREFIX, UTILISATION_FAMILIES
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import MetricsPolicy, Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.promql import parse_query
from autoscaler.simulator.metrics.rate import counter_rate
from autoscaler.simulator.metrics.recorded import Recorder, Runs
from autoscaler.simulator.world.workload import MIB, SAFE_TO_EVICT, Ask, Budget
from autoscaler.simulator.world.world import World, WorldSettings
from tests.monitoring.promtool import Vector, assert_rules, recorded, rounded
from tests.monitoring.scrape import series_text
from tests.simulator.metrics.test_exposition import _LABEL, _LINE
from tests.simulator.worlds import POLICY, START_S, bare, database, deployment, row

Key = tuple[str, frozenset[tuple[str, str]]]


def by_key(samples: list[Sample]) -> dict[Key, float]:
    """Values by name (or window) and labels."""
    found: dict[Key, float] = {}
    for sample in samples:
        labels = {key: value for key, value in sample.metric.items() if key not in {"__name__", "window"}}
        name = sample.metric.get("__name__", "").removeprefix(PREFIX) or sample.metric["window"]
        key = (name, frozenset(labels.items()))
        assert key not in found, "one series twice"
        found[key] = float(sample.value[1])
    return found


def snapshot(cluster: SimCluster) -> object:
    return assemble(
        cluster.samples(),
        cluster.ec2.describe(),
        (),
        state=State(),
        cluster_id=cluster.cluster_id,
        policy=cluster.policy,
        now_s=int(cluster.now_s),
    )


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
    query = snapshot_query(POLICY)
    seen: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    dice = random.Random(seed)  # noqa: S311 - a story, no secret
    same_dice = random.Random(seed)  # noqa: S311 - the same story
    while dense.now_s < START_S + 800:
        busy_story(dense, dice)
        busy_story(sparse, same_dice)
        quiet_s = dice.choice((1, 7, 31, 120, 300))
        same_dice.choice((1, 7, 31, 120, 300))
        end_s = dense.now_s + quiet_s
        while dense.now_s < end_s:
            dense.run(1)
            # Evaluated at every odd second, and 7.5 s after every quarter of a minute.
            moments = {"node_ready": dense.now_s % 2 == 1, "workers_utilisation": dense.now_s % 15 == 8}
            if any(moments.values()):
                for (name, labels), value in by_key(dense.samples()).items():
                    if moments.get(name):
                        moment_s = dense.now_s if name == "node_ready" else dense.now_s - 0.5
                        seen[name, labels].append((moment_s, value))
        sparse.run(quiet_s)
    now_s = sparse.now_s
    answer = by_key(sparse.recorder.query(query, now_s))
    compared = 0
    for window, family, bound, seconds, count_name, best in (
        ("grow_min", "workers_utilisation", "low", 60, "grow_count", min),
        ("shrink_max", "workers_utilisation", "high", 600, "shrink_count", max),
        ("ready_max", "node_ready", "", 300, "ready_count", max),
    ):
        for (name, labels), points in seen.items():
            inside = [value for at_s, value in points if now_s - seconds < at_s <= now_s]
            if name == family and inside and (not bound or ("bound", bound) in labels):
                assert answer[window, labels] == pytest.approx(best(inside)), (window, labels)
                assert answer[count_name, labels] == len(inside), (count_name, labels)
                compared += 1
    assert compared >= 5
    assert by_key(dense.samples()) == pytest.approx(answer)


def test_the_answer_is_as_old_as_the_scrape() -> None:
    cluster = SimCluster(POLICY)
    cluster.run(1.5 - cluster.now_s % 2)  # the scrape is over, its evaluation too
    cluster.apply(deployment(replicas=1, cpu=5000))

    def waiting() -> int:
        return sum(1 for name, _ in by_key(cluster.samples()) if name == "pod_unschedulable_since")

    assert waiting() == 0
    cluster.run(1)
    assert waiting() == 0, "scraped and not yet evaluated"
    cluster.run(1)
    assert waiting() == 1


def test_windows_hold_nothing_from_before_a_restart_of_prometheus() -> None:
    cluster = SimCluster(POLICY)
    cluster.recorder.since_s = cluster.now_s
    cluster.run(120)
    answer = by_key(cluster.samples())
    counts = {name: value for (name, _), value in answer.items() if name.endswith("_count")}
    assert counts == {"grow_count": 4, "shrink_count": 8, "ready_count": 60}


def test_no_ready_worker_no_utilisation() -> None:
    cluster = SimCluster(POLICY, workers=0)
    names = {name for name, _ in by_key(cluster.samples())}
    assert "workers_utilisation" not in names
    assert "node_utilisation" in names


def test_an_unmeasured_worker_widens_the_bounds() -> None:
    cluster = SimCluster(POLICY, workers=2)
    before = by_key(cluster.samples())
    cluster.world.faults.unmeasured.add(cluster.ready_workers()[0])
    cluster.run(120)
    after = by_key(cluster.samples())

    def used(answer: dict[Key, float], bound: str) -> float:
        return answer["workers_utilisation", frozenset({"resource": "cpu", "bound": bound}.items())]

    assert used(before, "low") == used(before, "high")
    assert used(after, "low") == pytest.approx(used(before, "low") / 2)
    assert used(after, "high") == pytest.approx(used(before, "low") / 2 + 0.5)
    assert after["source_up", frozenset({("source", "node-exporter")})] == 0
    assert ("expected", frozenset({("family", "node_utilisation")})) not in after


def test_a_counter_that_began_anew_looks_like_use_for_one_rate_window() -> None:
    cluster = SimCluster(POLICY, workers=2)
    name = cluster.ready_workers()[0]
    key = ("node_utilisation", frozenset({"node": name, "resource": "cpu"}.items()))
    before = by_key(cluster.samples())[key]
    cluster.world.reset_counters(name)
    cluster.run(30)
    assert before + 0.05 < by_key(cluster.samples())[key] < 1
    cluster.run(POLICY.metrics.cpu_rate_window_s)
    assert by_key(cluster.samples())[key] == pytest.approx(before)


def test_a_world_that_forgets_too_soon_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise WorldSettings\.keep_s"):
        Recorder(World(WorldSettings(cluster_id="c", keep_s=60), now_s=START_S), POLICY)


# ----------------------------------------------------------------------------------------------------------- promtool


def scrapes(world: World, count: int, interval_s: int) -> dict[str, str]:
    """Scrape both sources from now on; values in promtool's notation."""
    columns: dict[str, list[str]] = {}

    def see(page: str, index: int, **target: str) -> None:
        columns.setdefault(series_text("up", target), ["_"] * count)[index] = "1"
        for line in page.splitlines():
            if not line.startswith("#"):
                match = _LINE.fullmatch(line)
                assert match
                labels = dict(_LABEL.findall(match[2] or ""))
                text = series_text(match[1], {**labels, **target})
                columns.setdefault(text, ["_"] * count)[index] = match[3]

    for index in range(count):
        see(world.kube_state_metrics(), index, job="kube-state-metrics", instance="10.0.1.20:8080")
        for name, page in world.node_exporters().items():
            address = world.state.nodes[name].machine.ip
            see(page, index, job="node-exporter", instance=f"{address}:9100")
        world.advance(world.now_s + interval_s)
    return {name: " ".join(_with_ends(values)) for name, values in columns.items()}


def _with_ends(values: list[str]) -> list[str]:
    """A series that is not scraped any more ends at once, as Prometheus marks it."""
    return [
        "stale" if value == "_" and index and values[index - 1] != "_" else value for index, value in enumerate(values)
    ]


@pytest.mark.real_programs
def test_the_rules_give_exactly_this(tmp_path: Path) -> None:
    """The committed rules on the world's own pages, evaluated by promtool, against the recorder."""
    interval_s, count = 15, 25
    policy = Policy(
        version=1,
        metrics=MetricsPolicy(cluster_interval_s=interval_s, utilisation_interval_s=interval_s),
    )
    world = World(WorldSettings(cluster_id="test", boot_s=(20.0, 20.0)), now_s=0.0)
    recorder = Recorder(world, policy)
    world.see_instances([row(number) for number in range(3)])
    some = Ask(cpu_millicores=150, memory_bytes=16 * MIB)
    world.apply(deployment(replicas=4, cpu=300, burn=0.3, init=some, sidecar=some, budget=Budget(max_unavailable=1)))
    world.apply(deployment("vm", overhead=some, annotations=((SAFE_TO_EVICT, "false"),)))
    world.apply(deployment("huge", cpu=9000, node_selector=(("k3s-autoscaler/pool", "gpu"),)))
    world.apply(deployment("gated", gated=True))
    world.apply(bare("finished", run_for_s=10.0))
    world.apply(database())
    world.at(100.0, lambda: world.cordon(world.nodes[1].name))
    world.at(130.0, lambda: world.see_instances([row(0), row(1)]))
    series = scrapes(world, count, interval_s)
    at_s = (count - 1) * interval_s
    answer = by_key(recorder.query(snapshot_query(policy), world.now_s - 1))
    expected: list[Vector] = []
    for family in (*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, "expected", "source_up"):
        values = {
            series_text("", dict(labels)): round(value, 4) if family in UTILISATION_FAMILIES else value
            for (name, labels), value in answer.items()
            if name == family
        }
        assert values, f"the story has no {family}"
        if family in UTILISATION_FAMILIES:
            expected.append(rounded(at_s, family, values))
        else:
            expected.append(recorded(at_s, family, values))
    assert_rules(tmp_path, series, *expected, interval_s=interval_s, policy=policy)


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


def test_the_cores_query_is_understood() -> None:
    query = parse_query(snapshot_query(POLICY))
    assert {(window.name, window.function, window.seconds) for window in query.windows} == {
        ("grow_min", "min_over_time", 60),
        ("grow_count", "count_over_time", 60),
        ("shrink_max", "max_over_time", 600),
        ("shrink_count", "count_over_time", 600),
        ("ready_max", "max_over_time", 300),
        ("ready_count", "count_over_time", 300),
    }
    assert query.selects("node_info")
    assert not query.selects("node_information")


@pytest.mark.parametrize("wrong", ["", "up", 'sum(k3s_autoscaler:node_ready) or {__name__=~"k3s_autoscaler:.+"}'])
def test_any_other_query_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="does not know this part"):
        parse_query(wrong)

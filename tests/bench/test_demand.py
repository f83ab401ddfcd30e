"""What is asked of every fleet: the pods that follow a load, and the bound that knows them beforehand."""

import msgspec
import pytest

from autoscaler.backtest.autoscaled import STABLE_S, SYNC_S, autoscaled, curve
from autoscaler.backtest.demand import first_workers
from autoscaler.backtest.plan import MIDNIGHT_S, Event, Jobs, Trouble
from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.policy import Policy, ScaleDown, ScaleUp, Workers
from autoscaler.simulator.world.shapes import one_per_host, with_volume
from bench.policy.bound import JOIN_S, Bound, TooSmall, launches, node_seconds
from tests.bench.plans import SHORT, job, plan, to, web

DEFAULT = Policy(version=1)


def replicas_of(loads: dict[float, float], *, hours: float = 0.5, most: int = 100) -> tuple[int, dict[float, int]]:
    """At first, and from each change on: of pods that shall use 0.4 cores each, under a load in steps."""

    def load(at_s: float) -> float:
        return [cores for from_s, cores in loads.items() if from_s <= at_s][-1]

    first, changes = autoscaled(web(1, cpu=500), load, hours=hours, least=2, most=most)
    seen: dict[float, int] = {}
    for change in changes:
        assert change.burn_cores == pytest.approx(load(change.at_s) / change.replicas, abs=1e-4)
        if not seen or list(seen.values())[-1] != change.replicas:
            seen[change.at_s] = change.replicas
    return first.replicas, seen


def test_replicas_follow_the_load_to_the_target() -> None:
    first, seen = replicas_of({0: 4.0, 600: 6.0})
    assert first == 10
    assert list(seen.values()) == [10, 15]
    assert 600 in seen


def test_a_load_within_the_tolerance_changes_nothing() -> None:
    assert replicas_of({0: 4.0, 600: 4.35}) == (10, {60: 10})


def test_replicas_double_at_most_and_are_capped() -> None:
    _, seen = replicas_of({0: 4.0, 600: 20.0}, most=45)
    assert seen == {60: 10, 600: 20, 600 + SYNC_S: 40, 600 + 2 * SYNC_S: 45}


def test_replicas_fall_once_the_load_was_low_for_the_stabilisation_window() -> None:
    _, seen = replicas_of({0: 4.0, 600: 2.0})
    assert list(seen.values()) == [10, 5]
    assert max(seen) == pytest.approx(600 + STABLE_S, abs=SYNC_S)
    assert replicas_of({0: 4.0, 600: 2.0, 840: 4.0})[1] == {60: 10}, "a dip that is shorter is waited out"


def test_a_curve_is_the_same_each_time_and_another_with_another_seed() -> None:
    points = [(0.0, 2.0), (1.0, 4.0)]
    loads = [curve(points, noise=0.05, seed=seed)(1800) for seed in (1, 1, 2)]
    assert loads[0] == loads[1] != loads[2]
    assert curve(points, noise=0.0, seed=1)(1800) == 3.0
    assert curve(points, noise=0.0, seed=1)(9999) == 4.0


# --------------------------------------------------------------------------------------------------------------- bound


def needed(*base: object, **more: object) -> list[tuple[float, int]]:
    return Bound(DEFAULT).needed(plan(*base, **more))  # type: ignore[arg-type] # keywords of several types


def test_the_bound_packs_by_requests() -> None:
    assert needed(web(12)) == [(0.0, 4)], "three pods of 500m go on 1.89 cores"
    assert needed(web(1)) == [(0.0, 2)], "workers.min"


def test_the_bound_keeps_to_the_target_use() -> None:
    # 7 cores at 70 % of two, of which each worker needs 0.034 for itself: 7 / 1.366 is more than five.
    assert needed(web(14, cpu=100, burn=0.5)) == [(0.0, 6)]
    assert needed(web(13, cpu=100, burn=0.5)) == [(0.0, 5)]


def test_the_bound_knows_the_rules() -> None:
    apart = msgspec.structs.replace(web(6, cpu=100).template, constraints=one_per_host("web"))
    assert needed(msgspec.structs.replace(web(6), template=apart)) == [(0.0, 6)]
    there = [
        msgspec.structs.replace(web(3, constraints=with_volume(f"disk-{zone}", zone=zone), cpu=600), name=f"db-{zone}")
        for zone in ("us-east-1a", "us-east-1b")
    ]
    assert needed(*there) == [(0.0, 2)]
    one_zone = [msgspec.structs.replace(there[0], name=f"db-{number}") for number in range(2)]
    assert needed(*one_zone, web(3, cpu=600)) == [(0.0, 3)], "the second zone has one of them only"


def test_jobs_count_while_they_run() -> None:
    steps = needed(web(1), jobs=(Jobs(at_s=600, workload=job(4, cpu=1500, run_for_s=300)),))
    assert steps == [(0.0, 2), (600.0, 5), (902.0, 2)], "one job on each worker, beside nothing of half a core"


def test_the_bound_asks_one_join_time_ahead_and_lets_go_at_once() -> None:
    rising = plan(web(4), changes=(to(600, 12), to(1200, 4)))
    paid = Bound(DEFAULT).paid(rising)
    assert paid == [(0.0, 2), (600 - JOIN_S, 4), (1200.0, 2)]
    assert node_seconds(paid, rising.length_s) == 2 * rising.length_s + 2 * (600 + JOIN_S)
    assert launches(paid) == 2


def test_a_dip_shorter_than_the_join_keeps_the_workers() -> None:
    dip = plan(web(12), changes=(to(600, 4), to(600 + JOIN_S / 2, 12)))
    assert Bound(DEFAULT).paid(dip) == [(0.0, 4)]


def test_what_the_maximum_does_not_hold_is_refused() -> None:
    small = Policy(version=1, workers=Workers(max=3))
    with pytest.raises(TooSmall, match=r"small needs 4 workers after 0 s, and the default's workers\.max is 3"):
        Bound(small).paid(plan(web(12)))


def test_targets_and_types_that_hold_nothing_are_refused() -> None:
    eager = Policy(version=1, scale_up=ScaleUp(cpu_above=0.015), scale_down=ScaleDown(cpu_below=0.001, target_margin=0))
    with pytest.raises(TooSmall, match=r"A t3\.small that runs no pods is above"):
        Bound(eager).paid(plan(web(1)))
    with pytest.raises(TooSmall, match=r"No number of t3\.small holds the pods that ask for .*3000"):
        Bound(DEFAULT).paid(plan(web(1, cpu=3000)))


# ------------------------------------------------------------------------------------------------------------ workloads


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_each_time_in_order_and_within_the_default_maximum(name: str) -> None:
    made = WORKLOADS[name]()
    assert made == WORKLOADS[name]()
    assert made.name == name
    for things in (made.changes, made.jobs, made.events):
        times = [thing.at_s for thing in things]
        assert times == sorted(times)
        assert all(0 < at_s < made.length_s for at_s in times)
    assert max(workers for _, workers in Bound(DEFAULT).needed(made)) <= DEFAULT.workers.max


def test_the_day_is_the_one_of_the_users_document() -> None:
    day = WORKLOADS["ecommerce-day"]()
    assert (day.begin_s, day.hours) == (MIDNIGHT_S, 24)
    cores = {round(c.at_s / 3600, 3): c.replicas * c.burn_cores for c in day.changes}
    five_workers = 5 * 2
    for hour in (1, 5, 23):
        assert 0.20 < cores[hour] / five_workers < 0.30
    for hour in (10, 15, 20):
        assert 0.65 < cores[hour] / five_workers < 0.85


def test_troubles_end() -> None:
    ends = {
        Trouble.ZONE_LOST: Trouble.ZONE_BACK,
        Trouble.DROUGHT: Trouble.PLENTY,
        Trouble.SPOT_TAKEN: Trouble.PLENTY,
    }
    troubled = [made.events for make in WORKLOADS.values() if (made := make()).events]
    assert len(troubled) == 3
    for *_, first, last in troubled:
        assert isinstance(first, Event)
        assert (ends[first.trouble], first.zone) == (last.trouble, last.zone)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_backtest_begins_as_the_bench_does_so_its_figures_are_the_same(name: str) -> None:
    plan = WORKLOADS[name]()
    assert first_workers(plan, DEFAULT) == Bound(DEFAULT).paid(plan)[0][1]


def test_a_job_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="shop/web is no job"):
        Jobs(at_s=0, workload=web(1))
    assert SHORT.jobs

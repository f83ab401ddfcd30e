"""Who keeps a fleet, and what the meter reads of it."""

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from autoscaler.backtest import service
from autoscaler.backtest.meter import Meter
from autoscaler.backtest.plan import Event, Jobs, Plan, Trouble
from autoscaler.backtest.play import play
from autoscaler.backtest.service import SWEEP_S, TICK_S, Service, Static, used
from autoscaler.model import Verb
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import SPOT_SHARE
from bench.policy import thresholds
from bench.policy.idle import seconds_to_minimum
from bench.policy.thresholds import COOL_DOWN_S, LOW_FOR_S, PENDING_FOR_S, Thresholds
from tests.bench.plans import SHORT, job, plan, to, web

ROOT = Path(__file__).resolve().parent.parent.parent
POLICY = Policy(version=1)


def growths(meter: Meter) -> list[float]:
    """When the paid workers became more."""
    pairs = zip(meter.workers, meter.workers[1:], strict=False)
    return [at_s for (_, before), (at_s, after) in pairs if after > before]


def most(meter: Meter) -> int:
    return max(count for _, count in meter.workers)


# --------------------------------------------------------------------------------------------------------------- meter


def test_nobody_keeps_a_static_fleet_and_its_pods_wait_in_the_sum() -> None:
    # Two workers hold six pods of half a core; eight are asked for during ten minutes.
    meter = play(plan(web(6), changes=(to(600, 8), to(1200, 6))), POLICY, Static, workers=2)
    measured = meter.measured()
    assert measured.waiting_pod_minutes == pytest.approx(2 * 10, abs=0.1)
    assert (measured.node_hours, measured.usd) == (1.0, round(0.0208, 3))
    assert (measured.evictions, measured.launches) == (0, 0)
    assert meter.workers == [(0.0, 2)]


def test_what_began_before_the_meter_counts_from_its_begin_only() -> None:
    cluster = SimCluster(POLICY, workers=2)
    cluster.apply(web(8))
    cluster.run(600)
    meter = Meter(cluster)
    cluster.run(60)
    measured = meter.measured()
    assert measured.waiting_pod_minutes == 2.0
    assert measured.node_hours == round(2 / 60, 2)


def on_spot(base: int) -> Policy:
    return Policy(version=1, workers=Workers(market="spot", on_demand_base=base))


@pytest.mark.parametrize(("base", "usd"), [(2, 2 * 0.0208), (0, 2 * 0.0208 * SPOT_SHARE)])
def test_a_fleet_on_spot_begins_as_its_policy_asks_and_pays_spots_price(base: int, usd: float) -> None:
    measured = play(plan(web(6), hours=1), on_spot(base), Static, workers=2).measured()
    assert (measured.node_hours, measured.usd) == (2.0, round(usd, 3))


@pytest.mark.parametrize(("base", "launches"), [(0, 1), (4, 0)])
def test_ec2_takes_spot_workers_only_and_the_service_hears_of_it(base: int, launches: int) -> None:
    taken = Event(at_s=600, trouble=Trouble.SPOT_TAKEN)
    meter = play(plan(web(12), hours=0.5, events=(taken,)), on_spot(base), Service, workers=4)
    measured = meter.measured()
    assert measured.launches == launches, "one of four is taken, and on demand comes in its place"
    assert meter.workers[-1][1] == 4
    assert (measured.usd > round(4 * 0.5 * 0.0208 * SPOT_SHARE, 3)) is (base == 4 or launches == 1)
    assert measured.waiting_pod_minutes < 3


def test_what_ended_and_was_forgotten_is_still_paid_and_evictions_are_those_of_drains() -> None:
    cluster = SimCluster(POLICY, workers=3)
    cluster.apply(web(3))
    cluster.run(60)
    meter, keeper = Meter(cluster), Thresholds(cluster)
    for _ in range(int(3 * 3600 / TICK_S)):
        cluster.run(TICK_S)
        keeper.tick()
        meter.look()
    cluster.ec2.describe()
    (drain,) = [command for command, _, _ in cluster.ssm.sent.values() if command.verb is Verb.DRAIN]
    ended_s = next(at_s for at_s, count in meter.workers if count == 2)
    measured = meter.measured()
    assert drain.node_name.removeprefix("worker-") not in cluster.ec2.instances
    assert measured.evictions == 1, "one pod on each worker"
    assert measured.node_hours == pytest.approx(2 * 3 + ended_s / 3600, abs=0.01)


# ---------------------------------------------------------------------------------------------------------- thresholds


def test_one_worker_a_cool_down_while_the_cpu_is_high() -> None:
    meter = play(plan(web(8, cpu=100, burn=0.6)), POLICY, Thresholds, workers=2)
    assert growths(meter) == [SWEEP_S]
    # Pods that run do not move: the two first stay full, and with the empty ones that is 67 % and less.
    assert most(meter) == 3
    assert meter.measured().launches == 1
    # More pods bring the use to the new workers as well.
    busy = play(plan(web(8, cpu=450, burn=0.6), changes=(to(300, 16, burn=0.6),)), POLICY, Thresholds, workers=2)
    grown = growths(busy)
    assert len(grown) >= 3
    assert all(after - before >= COOL_DOWN_S for before, after in itertools.pairwise(grown))


def test_it_grows_for_pods_that_wait_three_minutes_and_stops_at_ten() -> None:
    meter = play(plan(web(6), hours=1.0, changes=(to(300, 60),)), POLICY, Thresholds, workers=2)
    first = growths(meter)[0] - 300
    assert PENDING_FOR_S <= first <= PENDING_FOR_S + SWEEP_S
    assert most(meter) == 10


def test_it_shrinks_after_ten_low_minutes_by_the_oldest_down_to_two() -> None:
    cluster = SimCluster(POLICY, workers=4)
    cluster.apply(web(4, burn=0.1))
    cluster.run(900)
    first = sorted(cluster.workers(), key=lambda key: (cluster.ec2.instances[key].launched_at_s, key))
    keeper, left = Thresholds(cluster), []
    for _ in range(int(2400 / TICK_S)):
        cluster.run(TICK_S)
        keeper.tick()
        left.append(cluster.workers())
    assert [len(left[at]) for at in (int(LOW_FOR_S / TICK_S), -1)] == [4, 2]
    assert set(left[-1]) == set(first[2:])
    assert len(cluster.ready_workers()) == 2, "the Nodes of the others are deleted"
    assert not [pod for pod in cluster.world.pods if not pod.node]


def test_it_leaves_a_worker_that_the_drain_refuses() -> None:
    cluster = SimCluster(POLICY, workers=3)
    for name in ("a", "b", "c"):
        cluster.apply(msgspec.structs.replace(job(1, cpu=1500, run_for_s=100_000), name=name))
    cluster.run(900)
    keeper = Thresholds(cluster)
    for _ in range(int(2400 / TICK_S)):
        cluster.run(TICK_S)
        keeper.tick()
    assert len(cluster.workers()) == 3
    assert not [node for node in cluster.world.nodes if node.cordoned]


def test_it_takes_the_zone_that_has_one() -> None:
    events = (Event(at_s=1, trouble=Trouble.ZONE_LOST, zone="us-east-1b"),)
    meter = play(plan(web(12), events=events, hours=1.0), POLICY, Thresholds, workers=2)
    assert most(meter) > 2


def test_the_thresholds_are_the_documents() -> None:
    default = POLICY
    assert (default.scale_up.cpu_above, default.scale_down.cpu_below) == (thresholds.HIGH, thresholds.LOW)
    assert (default.workers.min, default.workers.max) == (thresholds.MIN, thresholds.MAX)
    assert (default.scale_down.window_s, default.drain.timeout_s) == (LOW_FOR_S, thresholds.DRAIN_S)
    assert (SWEEP_S, COOL_DOWN_S, PENDING_FOR_S) == (120, 300, 180)


# ------------------------------------------------------------------------------------------------------------- service


def test_our_service_grows_by_the_alert_path_and_not_by_the_sweep_alone() -> None:
    meter = play(plan(web(6), changes=(to(602, 12),)), POLICY, Service, workers=2)
    grown = growths(meter)
    assert len(grown) == 1
    assert 10 <= grown[0] - 602 <= 20, "docs/performance.md: 12.8 s in the median, 20 s promised"
    assert meter.measured().waiting_pod_minutes == pytest.approx(6 * 62 / 60, rel=0.3)


def test_high_use_is_told_as_well() -> None:
    meter = play(plan(web(6, cpu=100, burn=0.1), changes=(to(610, 6, burn=0.6),)), POLICY, Service, workers=2)
    assert growths(meter)[0] - 610 <= 60 + 60 + 30, "rate window, alert window, and two intervals"


def test_ends_of_machines_and_commands_wake_it() -> None:
    cluster = SimCluster(POLICY, workers=4)
    cluster.run(900)
    keeper, looks = Service(cluster), []
    sweep = cluster.sweep

    def counted(**more: Any) -> dict[str, Any]:
        looks.append((more["trigger"].kind, cluster.now_s))
        return sweep(**more)

    cluster.sweep = counted  # type: ignore[method-assign] # counts the sweeps of this one cluster
    for _ in range(int(600 / TICK_S)):
        cluster.run(TICK_S)
        keeper.tick()
    ended = [i for i in cluster.ec2.instances.values() if i.ended_at_s is not None]
    assert len(ended) == 2
    for instance in ended:
        for at_s in (instance.ended_at_s, instance.terminated_at_s):
            assert any(kind == "lifecycle" and 0 <= when_s - (at_s or 0) <= TICK_S for kind, when_s in looks)
    sweeps = [at_s for kind, at_s in looks if kind == "sweep"]
    assert len(sweeps) == 600 // SWEEP_S


def test_alerts_are_told_as_often_as_alertmanager_does() -> None:
    def seconds(text: str) -> int:
        return int(text[:-1]) * (60 if text.endswith("m") else 1)

    text = (ROOT / "monitoring" / "alertmanager.yml").read_text(encoding="utf-8")
    routes = yaml.safe_load(text)["route"]["routes"][0]["routes"]
    pods, high, low = (
        next(route for route in routes if matcher in route["matchers"][0])
        for matcher in ("K3sUnschedulablePods", '"up"', '"down"')
    )
    longest_s = seconds(pods["repeat_interval"]) + seconds(pods["group_interval"])
    assert seconds(pods["repeat_interval"]) <= service.PENDING_LOOKS_S <= longest_s
    assert seconds(high["repeat_interval"]) == service.HIGH_LOOKS_S
    assert seconds(low["repeat_interval"]) == service.LOW_LOOKS_S


def test_use_is_over_the_workers_that_take_pods() -> None:
    cluster = SimCluster(POLICY, workers=2)
    cluster.apply(web(2, burn=0.8))
    cluster.run(300)
    cpu, memory = used(cluster, over_s=60)
    assert cpu == pytest.approx((0.8 + 0.034) / 2, abs=0.01)
    assert 0.1 < memory < 0.3
    for node in cluster.ready_workers():
        cluster.world.cordon(node)
    assert used(cluster, over_s=60) == (1.0, 1.0)


# ------------------------------------------------------------------------------------------------------------ the rest


def trouble(what: Trouble, until: Trouble, **more: Any) -> Plan:
    events = (Event(at_s=300, trouble=what, **more), Event(at_s=900, trouble=until, **more))
    return plan(web(6), hours=1.0, changes=(to(330, 12),), events=events)


def test_a_drought_ends() -> None:
    meter = play(trouble(Trouble.DROUGHT, Trouble.PLENTY), POLICY, Service, workers=2)
    assert growths(meter)[0] >= 900
    assert meter.measured().waiting_pod_minutes > 6 * (900 - 330) / 60


def test_a_zone_is_lost_and_comes_back() -> None:
    events = (
        Event(at_s=300, trouble=Trouble.ZONE_LOST, zone="us-east-1b"),
        Event(at_s=1500, trouble=Trouble.ZONE_BACK, zone="us-east-1b"),
    )
    meter = play(plan(web(6), events=events, hours=1.0), POLICY, Static, workers=2)
    # The three pods of the lost worker are given up after 40 + 300 s, and wait until it is back.
    assert meter.measured().waiting_pod_minutes == pytest.approx(3 * (1500 - 640) / 60, rel=0.05)
    assert meter.measured().node_hours == 2.0, "EC2 bills a machine that nobody reaches"


def test_jobs_are_made_once_and_run_to_their_end() -> None:
    meter = play(SHORT, POLICY, Service, workers=2)
    assert most(meter) >= 5
    jobs = Jobs(at_s=60, workload=job(5, cpu=1500, run_for_s=600))
    waits = play(plan(web(1, cpu=100), jobs=(jobs,)), POLICY, Static, workers=2).measured().waiting_pod_minutes
    assert waits == pytest.approx((3 + 1) * 10, rel=0.05), "five jobs, two at a time"


def test_idle_workers_go_down_to_the_minimum() -> None:
    eager = msgspec.structs.replace(
        POLICY, scale_down=msgspec.structs.replace(POLICY.scale_down, cool_down_s=0, max_empty_step=15)
    )
    generous = msgspec.structs.replace(eager.scale_down, cpu_below=0.60)
    for policy in (eager, msgspec.structs.replace(eager, scale_down=generous)):
        quick = seconds_to_minimum(policy, hours=1.0)
        assert quick is not None
        assert 0 <= quick <= 180
    assert seconds_to_minimum(POLICY, hours=0.5) is None, "not within the ten minutes after the window"

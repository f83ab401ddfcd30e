"""Who goes, over hours: idle fleets quickly, swinging ones not at all, and with `fits` what nobody needs."""

from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.model import CommandOutcome
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.metrics.faults import MetricFaults
from tests.passed_over import why
from tests.reconcile.conftest import deployment

EVENT_S = 4
"""What a command's end and a change of EC2 take to arrive."""
FITS, LOW_USE = (Policy(version=1, scale_down=ScaleDown(when=when)) for when in ("fits", "low_use"))


def live(cluster: SimCluster, seconds: float) -> Iterator[dict[str, Any]]:
    """Looks every two minutes, the first at once, and soon after each end of a command and each change in EC2."""
    end_s = cluster.now_s + seconds
    ended: dict[str, CommandOutcome] = {}
    sweep_s, event_s, known = cluster.now_s, end_s, _events(cluster, ended)
    while cluster.now_s < end_s:
        seen = _events(cluster, ended)
        if seen != known:
            known, event_s = seen, min(event_s, cluster.now_s + EVENT_S)
        if cluster.now_s >= min(sweep_s, event_s):
            if cluster.now_s >= sweep_s:
                sweep_s += 120
            event_s = end_s
            yield cluster.sweep()
        cluster.run(1)


def _events(cluster: SimCluster, ended: dict[str, CommandOutcome]) -> tuple[object, ...]:
    """What would have come as an event, at each second of hours: a command that has `ended` is not asked for again."""
    for name, (_, server, _) in cluster.ssm.sent.items():
        if ended.get(name, CommandOutcome.RUNNING) in {CommandOutcome.RUNNING, CommandOutcome.UNDELIVERED}:
            ended[name] = cluster.ssm.result(name, server).outcome
    return (*ended.values(), *(instance.state(cluster.now_s) for instance in cluster.ec2.instances.values()))


def swing(cluster: SimCluster, *, hours: int, every_s: int) -> tuple[int, int]:
    """Between three replicas and eight, which ask for much and use little; returns how many came and how many went."""
    cluster.apply(deployment("web", 3))
    cluster.run(60)
    known, came, went = set(cluster.workers()), 0, 0
    for turn in range(hours * 3600 // every_s):
        cluster.world.scale("shop/web", (8, 3)[turn % 2])
        for _ in range(every_s // 60):
            cluster.run(60)
            cluster.sweep()
            now = set(cluster.workers())
            came, went, known = came + len(now - known), went + len(known - now), now
    return came, went


def test_fifteen_idle_workers_are_the_minimum_within_three_minutes_after_the_window() -> None:
    """EC2 takes 45 s to end a machine; five leave together, and nothing but their end is waited for."""
    chosen = Policy(version=1, workers=Workers(min=2, max=20))
    cluster = SimCluster(chosen, workers=15, ec2=Ec2Settings(shutdown_s=45))
    began_s = cluster.now_s
    documents = []
    for document in live(cluster, 600):
        documents.append(document)
        if len(cluster.workers()) == 2:
            break
    assert cluster.now_s - began_s <= 180
    removed = [sum(o["kind"] == "removal" and o["phase"] == "draining" for o in d["operations"]) for d in documents]
    assert [count for count in removed if count] == [5, 5, 3], "max_empty_step"
    assert {d["reason"] for d in documents if d["action"] == "scale_down"} == {"consolidation"}


def test_by_sweeps_alone_five_leave_each_four_minutes() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=20)), workers=15)
    actions = [document["action"] for document in cluster.sweep_for(1200)]
    assert [number for number, action in enumerate(actions) if action == "scale_down"] == [0, 2, 4]
    assert len(cluster.workers()) == 2


def test_an_idle_fleet_waits_for_its_window_first() -> None:
    """What left a minute ago may come back."""
    cluster = SimCluster(Policy(version=1), workers=4)
    cluster.apply(deployment("web", 8))
    cluster.run(900)
    cluster.world.scale("shop/web", 0)
    cluster.run(60)
    began_s = cluster.now_s
    for document in live(cluster, 1200):
        if document["action"] == "scale_down":
            break
    assert 500 < cluster.now_s - began_s < 720


def test_replicas_that_swing_every_six_minutes_keep_their_workers() -> None:
    cluster = SimCluster(LOW_USE)
    assert swing(cluster, hours=2, every_s=360) == (2, 0)
    cluster.world.scale("shop/web", 3)
    cluster.sweep_for(1800)
    assert len(cluster.workers()) == 2, "once they rest they need them no more"


def test_replicas_that_swing_every_six_minutes_keep_their_workers_with_fits_too() -> None:
    assert swing(SimCluster(FITS), hours=2, every_s=360) == (2, 0)


@pytest.mark.parametrize("budget", [1, 4])
def test_what_left_one_after_the_other_keeps_its_room_together(budget: int) -> None:
    """Eight of ten pods leave, one from each worker, and come back within the window: five workers hold them all."""
    chosen = Policy(version=1, workers=Workers(max=20), scale_down=ScaleDown(budget=budget))
    cluster = SimCluster(chosen, workers=10)
    cluster.apply(deployment("web", 10))
    cluster.run(1500)
    cluster.world.scale("shop/web", 2)
    documents = list(live(cluster, 590))
    assert [d["action"] for d in documents].count("scale_down") >= 2
    assert len(cluster.workers()) == 5
    cluster.world.scale("shop/web", 10)
    assert "scale_up" not in {d["action"] for d in live(cluster, 300)}


def test_a_peak_before_a_removal_counts_as_what_it_came_to() -> None:
    """5.2 workers' worth of CPU until just now: nine carry that at 57 %, eight would at 65 %, and 60 % is allowed."""
    cluster = SimCluster(Policy(version=1, workers=Workers(max=20)), workers=10)
    cluster.apply(deployment("web", 20, cpu_millicores=100, burn_cores=0.5))
    cluster.run(1500)
    documents = [cluster.sweep()]
    cluster.world.scale("shop/web", 2)
    documents += live(cluster, 540)
    assert [d["reason"] for d in documents if d["action"] == "scale_down"] == ["consolidation"]
    assert len(cluster.workers()) == 9
    assert "needed: cpu use would be 65% of the workers that stay" in why(documents[-1]["blocked"][0])
    assert any(d["action"] == "scale_down" for d in live(cluster, 240)), "until the window has passed"


def busy(policy: Policy) -> SimCluster:
    """Five workers at 37 % CPU, the day after a sale: their pods fit on three, and use allows four."""
    cluster = SimCluster(policy, workers=5)
    cluster.apply(deployment("web", 10, cpu_millicores=370, burn_cores=0.37))
    cluster.run(1500)
    return cluster


def test_a_fleet_that_is_never_idle_shrinks_with_fits_as_far_as_use_allows() -> None:
    cluster = busy(FITS)
    documents = list(live(cluster, 3600))
    assert {d["reason"] for d in documents if d["action"] == "scale_down"} == {"consolidation"}
    assert [d["action"] for d in documents].count("scale_up") == 0, "no swing"
    # 3.7 of 8 cores are 46 %, of 6 they are 62 %, and 60 % is allowed.
    assert len(cluster.workers()) == 4
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")
    assert "needed: cpu use would be" in why(documents[-1]["blocked"][0])


def test_a_fleet_that_is_never_idle_stays_with_low_use() -> None:
    cluster = busy(LOW_USE)
    assert {d["reason"] for d in live(cluster, 1800)} == {"steady"}
    assert len(cluster.workers()) == 5


def test_a_prometheus_without_history_lets_nobody_go_until_its_window_is_whole() -> None:
    cluster = busy(FITS)
    cluster.recorder.lose_history()
    began_s = cluster.now_s
    for document in live(cluster, 1200):
        if document["action"] == "scale_down":
            break
    assert 0.9 * FITS.scale_down.window_s - 60 < cluster.now_s - began_s < FITS.scale_down.window_s + 150


def test_rules_that_do_not_record_requests_are_named() -> None:
    """An older file in a Prometheus of somebody's own."""
    cluster = SimCluster(Policy(version=1), workers=4)
    cluster.metric_faults = MetricFaults(missing={"requested_max", "requested_count"})
    document = cluster.sweep()
    assert (document["action"], document["reason"], document["metrics_status"]) == ("none", "window_unknown", "ok")
    assert "load the present rules (make rules, docs/metrics.md)" in document["message"]


def test_a_drain_that_is_taken_back_has_a_cool_down() -> None:
    """The window of a minute is long over when the next one goes."""
    cluster = SimCluster(Policy(version=1, scale_down=ScaleDown(window_s=60)), workers=3)
    cluster.apply(deployment("web", 2, cpu_millicores=200))
    cluster.run(1500)
    assert cluster.sweep()["action"] == "scale_down"
    cluster.world.scale("shop/web", 20)
    cluster.run(30)
    assert "uncordoned" in " ".join(cluster.sweep()["done"])
    undone_s = cluster.now_s
    cluster.world.scale("shop/web", 2)
    for document in live(cluster, 1800):
        if document["action"] == "scale_down":
            break
    assert 600 <= cluster.now_s - undone_s <= 725
    assert cluster.wires.totals["ec2", "launch"] == 0

"""Headroom through the whole loop, on the simulated cluster with its own scheduler."""

from typing import Final

import pytest

from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.windows import Headroom, PodShape
from tests.passed_over import why
from tests.reconcile.conftest import deployment

CALM: Final = ScaleDown(window_s=300, cool_down_s=120, min_age_s=120)
SHAPE: Final = PodShape(cpu_millicores=900, memory_mib=100, count=2)
EACH: Final = [
    pytest.param(Headroom(workers=1), id="workers"),
    pytest.param(Headroom(percent=25), id="percent"),
    pytest.param(Headroom(pod=SHAPE), id="pod"),
]


def roomy(headroom: Headroom, *, replicas: int, high: int = 10) -> SimCluster:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=high), scale_down=CALM, headroom=headroom))
    cluster.apply(deployment("web", replicas))
    return cluster


def test_a_calm_look_makes_four_calls_and_no_write() -> None:
    cluster = roomy(Headroom(workers=1), replicas=1)
    cluster.sweep()
    version = cluster.item.version
    document = cluster.sweep()
    assert document["action"] == "none"
    assert document["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 2}
    assert cluster.item.version == version


@pytest.mark.parametrize("headroom", EACH)
def test_it_is_filled_kept_and_left_in_peace(headroom: Headroom) -> None:
    """Four pods fill two workers. Hours of calm bring no launch more and no removal."""
    cluster = roomy(headroom, replicas=4)
    documents = cluster.sweep_for(7200)
    assert [document["action"] for document in documents].count("scale_up") == 1
    assert [document["action"] for document in documents].count("scale_down") == 0
    assert len(cluster.ready_workers()) == 3
    (signal,) = [signal for signal in documents[-1]["signals"] if signal["name"] == "headroom"]
    assert signal["value"] == 0


@pytest.mark.parametrize("headroom", EACH)
def test_pods_that_come_find_it_and_it_is_filled_again(headroom: Headroom) -> None:
    cluster = roomy(headroom, replicas=4)
    cluster.sweep_for(600)
    cluster.world.scale("shop/web", 6)
    cluster.run(10)
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop"), "they run at once"
    cluster.sweep_for(600)
    assert len(cluster.ready_workers()) == 4


def test_the_scheduler_spreads_pods_and_no_launch_follows_for_that() -> None:
    """A new worker does not stay empty: headroom is room, not empty workers."""
    cluster = roomy(Headroom(workers=2), replicas=4)
    for replicas in (5, 6, 7, 6, 5, 4) * 3:
        cluster.world.scale("shop/web", replicas)
        cluster.sweep_for(360)
    assert len(cluster.workers()) <= 6


def test_at_max_it_is_told_and_nothing_is_refused() -> None:
    cluster = roomy(Headroom(workers=3), replicas=4, high=3)
    documents = cluster.sweep_for(1200)
    assert len(cluster.workers()) == 3
    assert documents[-1]["action"] == "none"
    assert [why(row) for row in documents[-1]["blocked"] if row["subject"] == "headroom"] == [
        "at_max: the room of 3 new workers does not stay free; 2 more workers are wanted and 0 may come"
    ]


def test_when_pods_go_what_is_more_than_headroom_goes_too() -> None:
    cluster = roomy(Headroom(workers=1), replicas=8)
    cluster.sweep_for(900)
    assert len(cluster.ready_workers()) == 5
    cluster.world.scale("shop/web", 4)
    documents = cluster.sweep_for(5400)
    assert len(cluster.ready_workers()) == 3
    assert [document["action"] for document in documents].count("scale_up") == 0

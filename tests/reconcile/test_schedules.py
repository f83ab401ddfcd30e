"""A schedule through the whole loop, on virtual time: min is there at the start of its window, and goes afterwards."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest

from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.signals import CustomSignal
from autoscaler.simulator.cluster import START_S, SimCluster
from autoscaler.simulator.metrics.signals import constant
from autoscaler.windows import Headroom, Window
from tests.reconcile.conftest import deployment

BEGINS_S: Final = int(START_S) + 3600
ENDS_S: Final = BEGINS_S + 3600
"""The simulator's clock begins on a Friday at 08:00 UTC: the window is from 09:00 to 10:00."""
CALM: Final = ScaleDown(window_s=300, cool_down_s=120, min_age_s=120)


def clock(at_s: int, zone_hours: int = 0) -> str:
    return (datetime.fromtimestamp(at_s, UTC) + timedelta(hours=zone_hours)).strftime("%H:%M")


def scheduled(*, zone: str = "UTC", zone_hours: int = 0, **limits: Any) -> Policy:
    window = Window(
        name="shop-hours",
        time_zone=zone,
        days=("fri",),
        from_time=clock(BEGINS_S, zone_hours),
        to_time=clock(ENDS_S, zone_hours),
        **limits,
    )
    return Policy(version=1, workers=Workers(min=2, max=10), scale_down=CALM, schedules=(window,))


def sweep_until(cluster: SimCluster, at_s: int) -> list[dict[str, Any]]:
    return cluster.sweep_for(at_s - cluster.now_s)


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("Europe/Berlin", 1), ("America/New_York", -5)])
@pytest.mark.parametrize("late_s", [0, 30, 60, 119])
def test_min_is_ready_at_the_start_of_its_window(zone: str, hours: int, late_s: int) -> None:
    """However the sweeps lie beside the hour, and whoever's clock it is."""
    cluster = SimCluster(scheduled(zone=zone, zone_hours=hours, min=5))
    cluster.run(late_s)
    cluster.sweep()
    sweep_until(cluster, BEGINS_S - 721)
    assert len(cluster.ready_workers()) == 2
    sweep_until(cluster, BEGINS_S)
    assert len(cluster.ready_workers()) == 5


def test_once_joins_were_seen_it_is_served_no_earlier_than_they_take() -> None:
    cluster = SimCluster(scheduled(min=5))
    cluster.apply(deployment("web", 6))
    cluster.run(15)
    cluster.sweep()
    cluster.sweep_for(120, every_s=15)
    assert len(cluster.ready_workers()) == 3
    longest_s = max(cluster.state.join_times_s)
    assert 0 < longest_s <= 120
    sweep_until(cluster, BEGINS_S - longest_s - 121)
    assert len(cluster.workers()) == 3
    documents = sweep_until(cluster, BEGINS_S)
    assert len(cluster.ready_workers()) == 5
    (launch,) = [document for document in documents if document["action"] == "scale_up"]
    assert launch["message"] == "Launching 2 workers: there are fewer than min of the schedule shop-hours (5)."
    assert list(launch["schedules"]) == [{"name": "shop-hours", "holds": False, "from_s": BEGINS_S, "until_s": ENDS_S}]
    assert (launch["nodes"]["min"], launch["nodes"]["max"]) == (5, 10)


def test_while_it_holds_nobody_leaves_and_afterwards_the_ordinary_rules_apply() -> None:
    cluster = SimCluster(scheduled(min=5))
    documents = sweep_until(cluster, ENDS_S - 60)
    assert [document["action"] for document in documents].count("scale_down") == 0
    assert documents[-1]["message"] == "Nothing to do: 5 workers are Ready and min of the schedule shop-hours is 5."
    assert list(documents[-1]["schedules"]) == [
        {"name": "shop-hours", "holds": True, "from_s": BEGINS_S, "until_s": ENDS_S}
    ]
    after = cluster.sweep_for(1800)
    assert [document["action"] for document in after].count("scale_down") >= 1
    assert not after[-1]["schedules"]
    assert len(cluster.ready_workers()) == 2


def test_a_busy_fleet_stays_after_the_window() -> None:
    cluster = SimCluster(scheduled(min=5))
    cluster.apply(deployment("web", 10, burn_cores=0.5))
    sweep_until(cluster, ENDS_S)
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 5


def test_max_of_a_window_holds_while_it_does() -> None:
    """Eight pods a worker each; three workers until the window raises max to six, and three again after it."""
    cluster = SimCluster(scheduled(max=6))
    cluster.policy = Policy(
        version=1, workers=Workers(min=2, max=3), scale_down=CALM, schedules=cluster.policy.schedules
    )
    cluster.apply(deployment("web", 8, cpu_millicores=1500))
    documents = sweep_until(cluster, BEGINS_S - 1)
    assert len(cluster.workers()) == 3
    assert "workers.max is 3 and 3 exist" in documents[-1]["message"]
    documents = sweep_until(cluster, BEGINS_S + 600)
    assert len(cluster.ready_workers()) == 6
    assert "max of the schedule shop-hours is 6 and 6 exist" in documents[-1]["message"]
    cluster.world.scale("shop/web", 2)
    cluster.sweep_for(ENDS_S - cluster.now_s + 1200)
    assert len(cluster.ready_workers()) <= 3


@pytest.mark.parametrize("wanting", [{"per_worker_target": 100}, {"above": 10}], ids=["a target", "a threshold"])
def test_who_is_above_a_max_that_falls_goes_whatever_wants_more(wanting: dict[str, Any]) -> None:
    """A demand that max has no place for held back every removal, and took back the first."""
    limited = scheduled(max=3)
    cluster = SimCluster(
        msgspec.structs.replace(
            limited,
            workers=Workers(min=2, max=8),
            signals=(CustomSignal(name="queue", query="sum(queued)", **wanting),),
            scale_down=msgspec.structs.replace(CALM, max_empty_step=2),
        )
    )
    cluster.recorder.signals["queue"] = constant(700.0)
    cluster.apply(deployment("web", 6, cpu_millicores=200))
    sweep_until(cluster, BEGINS_S - 1)
    assert len(cluster.ready_workers()) >= 7
    documents = sweep_until(cluster, BEGINS_S + 3000)
    assert len(cluster.ready_workers()) == 3
    assert [document["message"] for document in documents if "uncordoned" in document["message"]] == []
    assert documents[-1]["reason"] == "at_max", "it is told all the same"


def test_headroom_of_a_window_is_there_at_its_start_too() -> None:
    cluster = SimCluster(scheduled(headroom=Headroom(workers=2)))
    cluster.apply(deployment("web", 4))
    documents = sweep_until(cluster, BEGINS_S)
    assert len(cluster.ready_workers()) == 4
    assert [d["reason"] for d in documents if d["action"] == "scale_up"] == ["headroom"]
    cluster.sweep_for(ENDS_S - cluster.now_s + 1800)
    assert len(cluster.ready_workers()) == 2


def test_a_calm_look_of_a_schedule_makes_three_calls() -> None:
    cluster = SimCluster(scheduled(min=5))
    cluster.sweep()
    assert cluster.sweep()["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}

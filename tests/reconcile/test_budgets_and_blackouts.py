"""Several drains at once where the budget allows them, and none that begins in a blackout."""

from datetime import UTC, datetime, timedelta

import msgspec

from autoscaler.model import RemovalPhase
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import START_S, SimCluster
from autoscaler.simulator.world.workload import Budget
from autoscaler.windows import Blackout
from tests.reconcile.conftest import deployment
from tests.reconcile.test_consolidation import live

AN_HOUR = Blackout(
    name="sale",
    time_zone="UTC",
    from_time=f"{datetime.fromtimestamp(START_S, UTC):%H:%M}",
    to_time=f"{datetime.fromtimestamp(START_S, UTC) + timedelta(hours=1):%H:%M}",
)


def almost_idle(down: ScaleDown, *, budget: Budget | None = None) -> SimCluster:
    """Eight workers with two small pods each: none is empty."""
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=10), scale_down=down), workers=8)
    cluster.apply(msgspec.structs.replace(deployment("web", 16, cpu_millicores=100), budget=budget))
    cluster.run(1500)
    return cluster


def time_to_two_workers(cluster: SimCluster) -> tuple[float, int]:
    """How many seconds it takes, and how many drained at once at most."""
    began_s, most = cluster.now_s, 0
    for _ in live(cluster, 7200):
        most = max(most, sum(r.phase is RemovalPhase.DRAINING for r in cluster.state.removals))
        if len(cluster.workers()) == 2:
            break
    assert len(cluster.workers()) == 2
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")
    assert cluster.wires.totals["ec2", "launch"] == 0
    return cluster.now_s - began_s, most


def test_a_budget_of_three_drains_three_at_once_and_is_done_sooner() -> None:
    alone_s, alone = time_to_two_workers(almost_idle(ScaleDown()))
    together_s, together = time_to_two_workers(almost_idle(ScaleDown(budget=3)))
    assert (alone, together) == (1, 3)
    assert together_s < alone_s / 2


def test_workers_whose_pods_one_disruption_budget_covers_leave_one_after_the_other() -> None:
    """Together the second would be refused, and left alone for half an hour."""
    cluster = almost_idle(ScaleDown(budget="50%"), budget=Budget(max_unavailable=1))
    _, most = time_to_two_workers(cluster)
    assert (most, cluster.state.held_workers) == (1, ())


def test_in_a_blackout_nobody_begins_to_leave_and_the_first_look_after_it_lets_one_go() -> None:
    cluster = almost_idle(ScaleDown(blackouts=(AN_HOUR,)))
    # The hour began with the virtual clock, 25 minutes ago.
    documents = list(live(cluster, 35 * 60 - 1))
    assert {d["reason"] for d in documents} == {"blackout"}
    assert "the blackout sale holds until 2027-01-15 09:00 (UTC)" in documents[0]["message"]
    assert {d["calls"]["prometheus"] for d in documents} == {1}, "nothing is asked in vain"
    cluster.run(121)
    assert cluster.sweep()["action"] == "scale_down"


def test_what_was_begun_before_a_blackout_goes_to_its_end() -> None:
    tomorrow = msgspec.structs.replace(AN_HOUR, from_time="08:26", to_time="20:00")
    cluster = almost_idle(ScaleDown(blackouts=(tomorrow,)))
    assert cluster.sweep()["action"] == "scale_down"
    documents = list(live(cluster, 1800))
    assert len(cluster.workers()) == 7
    assert documents[-1]["reason"] == "blackout"

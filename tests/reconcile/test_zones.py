"""Workers that do not join in one zone, end to end: the other zone serves, and the bad one is tried rarely."""

from autoscaler.model import MANAGED_BY_TAG
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from tests.passed_over import why
from tests.reconcile.conftest import deployment

BAD, GOOD = "us-east-1a", "us-east-1b"


def in_zone(cluster: SimCluster, zone: str) -> list[str]:
    return [i for i in cluster.workers() if cluster.ec2.instances[i].zone == zone]


def launched_in(cluster: SimCluster, zone: str) -> int:
    ours = [i for i in cluster.ec2.instances.values() if MANAGED_BY_TAG in i.tags]
    return sum(1 for i in ours if i.zone == zone)


def test_growth_goes_where_workers_join_and_the_bad_zone_is_tried_one_at_a_time() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=1, max=20, join_timeout_s=240)), workers=2)
    cluster.world.faults.never_join_in = BAD
    before = launched_in(cluster, BAD)
    for size in range(3, 13):
        cluster.apply(deployment("web", 2 * size))
        cluster.sweep_for(600, every_s=30)
    assert len(cluster.ready_workers()) == 12
    assert all(pod.node for pod in cluster.world.pods), "the other zone serves them all"
    assert launched_in(cluster, BAD) - before <= 6, "in 100 minutes"
    assert any(row["subject"] == BAD and "did not join" in why(row) for d in cluster.decisions for row in d["blocked"])

    cluster.world.faults.never_join_in = ""
    cluster.run(3600)
    for size in range(13, 19):
        cluster.apply(deployment("web", 2 * size))
        cluster.sweep_for(900, every_s=30)
    assert len(cluster.ready_workers()) == 18
    assert len(in_zone(cluster, BAD)) >= 6, "and evens out again once it is cured"

"""What may end a machine, played through: hands, tags and listings that change in the middle."""

import pytest

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, RemovalPhase
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import make_one_superfluous


@pytest.mark.parametrize("tag", [MANAGED_BY_TAG, CLUSTER_TAG])
def test_a_tag_that_goes_between_drain_and_end_gives_the_worker_back(cluster: SimCluster, tag: str) -> None:
    make_one_superfluous(cluster)
    cluster.fail("ec2", "terminate", times=None, code="RequestLimitExceeded")
    while not any(r.phase is RemovalPhase.TERMINATING for r in cluster.state.removals):
        cluster.run(60)
        cluster.sweep()
    [removal] = cluster.state.removals
    del cluster.ec2.instances[removal.instance_id].tags[tag]
    cluster.heal()
    documents = cluster.sweep_for(900)
    node = cluster.world.state.nodes[removal.node_name]
    assert (node.cordoned, node.ready) == (False, True)
    assert all(r.instance_id != removal.instance_id for r in cluster.state.removals)
    events = [event for document in documents for event in document["done"]]
    assert f"instance {removal.instance_id} is terminated" not in events


def test_the_node_of_a_living_worker_stays_when_its_tag_goes_and_it_falls_silent(cluster: SimCluster) -> None:
    """Its volumes are on its disks: EC2 is asked by id, without the tag, before anything is concluded."""
    cluster.sweep()
    victim = cluster.workers()[0]
    name = next(n.name for n in cluster.world.state.nodes.values() if n.machine.instance_id == victim)
    del cluster.ec2.instances[victim].tags[CLUSTER_TAG]
    cluster.world.break_node(name)
    cluster.sweep_for(3600)
    assert name in cluster.world.state.nodes
    assert cluster.ec2.instances[victim].ended_at_s is None

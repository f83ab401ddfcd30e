"""The policy changed while a cluster runs: seen by the next look, told once, and no call dearer."""

from typing import Any

import pytest

from autoscaler.model import OfferedPolicy, Trigger
from autoscaler.policy import Policy, policy_hash
from autoscaler.ports import FleetUnavailable, StoreUnavailable
from autoscaler.reconcile import reconcile
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import need_two_workers

EVENT = Trigger(kind="lifecycle")
SMALL = OfferedPolicy(text="workers: {max: 3}", version=1, changed_at_s=100)
BAD = OfferedPolicy(text="workers: {max: 1}", version=2, changed_at_s=200)


def offered(cluster: SimCluster, offer: OfferedPolicy) -> dict[str, Any]:
    return reconcile(
        cluster.ports(), cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=EVENT, offered=lambda: offer
    )


def test_a_change_holds_from_the_look_that_brings_it_on(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    document = offered(cluster, SMALL)
    assert (document["action"], document["nodes"]["max"]) == ("scale_up", 3)
    assert (document["policy_version"], document["policy_problem"]) == (1, "")
    assert document["done"][0] == "version 1 of the policy's parameter holds"
    cluster.sweep_for(360)
    assert len(cluster.workers()) == 3
    later = cluster.sweep()
    assert (later["policy_version"], later["nodes"]["max"]) == (1, 3)
    assert later["policy_hash"] != policy_hash(cluster.policy)

    offered(cluster, OfferedPolicy(text="{}", version=2, changed_at_s=300))
    cluster.sweep_for(360)
    assert len(cluster.workers()) == 4
    assert cluster.sweep()["policy_hash"] == policy_hash(cluster.policy)


def test_a_bad_change_is_told_once_and_named_by_each_decision_and_the_last_good_one_stays(cluster: SimCluster) -> None:
    offered(cluster, SMALL)
    before = len(cluster.told)
    document = offered(cluster, BAD)
    assert (document["nodes"]["max"], document["policy_version"]) == (3, 1)
    assert len(document["failures"]) == 1
    assert "version 2 of the policy's parameter is refused, and version 1 stays" in document["failures"][0]
    assert len(cluster.told) == before + 1
    assert cluster.decisions[-1]["failures"] == document["failures"], "the history has it"
    for _ in range(3):
        later = cluster.sweep()
        assert later["policy_problem"] == document["failures"][0]
        assert (later["failures"], later["policy_version"]) == ([], 1)
        cluster.run(120)
    assert len(cluster.told) == before + 1


def test_who_is_killed_before_it_told_tells_it_with_the_event_that_comes_again(cluster: SimCluster) -> None:
    cluster.fail("ec2", "describe", times=1)
    with pytest.raises(FleetUnavailable):
        offered(cluster, BAD)
    assert cluster.state.policy_override is not None, "it is saved before anything is looked at"
    assert len(offered(cluster, BAD)["failures"]) == 1


def test_a_calm_look_under_changes_makes_three_calls_and_no_write(cluster: SimCluster) -> None:
    offered(cluster, OfferedPolicy(text="workers: {max: 12}", version=1, changed_at_s=100))
    cluster.sweep()
    version = cluster.item.version
    assert cluster.sweep()["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert cluster.item.version == version


def test_a_change_that_could_not_be_saved_is_not_half_done() -> None:
    cluster = SimCluster(Policy(version=1))
    cluster.fail("dynamodb", "save", times=1)
    with pytest.raises(StoreUnavailable):
        offered(cluster, SMALL)
    assert cluster.state.policy_override is None
    offered(cluster, SMALL)
    assert cluster.sweep()["nodes"]["max"] == 3


def test_what_was_read_before_somebody_wrote_something_later_is_read_again() -> None:
    """It was deleted, and written anew while the first one stood still between its reading and its save."""
    cluster = SimCluster(Policy(version=1))
    stands = [OfferedPolicy(text=None), SMALL]

    def read() -> OfferedPolicy:
        if len(stands) == 1:
            return stands[0]
        gone = stands.pop(0)
        assert offered(cluster, SMALL)["policy_version"] == 1
        return gone

    offered(cluster, OfferedPolicy(text="workers: {max: 9}", version=7, changed_at_s=50))
    document = reconcile(
        cluster.ports(), cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=EVENT, offered=read
    )
    assert document["policy_version"] == 1

"""The whole loop, up and down, against the simulated cluster."""

from collections.abc import Mapping
from typing import Any

from autoscaler.model import InstanceState, RemovalPhase, Verb
from autoscaler.policy import Capacity, Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import deployment, make_one_superfluous, need_two_workers


def test_waiting_pods_get_workers_and_run(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    document = cluster.sweep()
    assert (document["action"], document["reason"]) == ("scale_up", "pods_unschedulable")
    assert document["message"] == "Launching 2 workers: 4 pods fit on no worker."
    cluster.sweep_for(240, every_s=30)
    assert len(cluster.ready_workers()) == 4
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")
    assert cluster.state.launches == ()


def test_launches_even_the_zones(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.sweep()
    cluster.run(120)
    zones = [row["Placement"]["AvailabilityZone"] for row in cluster.ec2.describe() if _ours(row)]
    assert max(zones.count(z) for z in set(zones)) - min(zones.count(z) for z in set(zones)) <= 1


def test_a_worker_that_is_not_needed_is_drained_terminated_and_its_node_deleted(cluster: SimCluster) -> None:
    make_one_superfluous(cluster)
    oldest = cluster.workers()[0]
    documents = cluster.sweep_for(900)
    assert [d["action"] for d in documents].count("scale_down") == 1
    assert len(cluster.ready_workers()) == 2
    assert len([n for n in cluster.world.nodes if not n.server]) == 2
    assert cluster.state.removals == ()
    assert any(oldest in event for document in documents for event in document["done"])


def test_what_was_removed_is_not_lost_however_long_the_metrics_lag(cluster: SimCluster) -> None:
    """Two workers leave, and each time the next looks see the Node for 20 s more."""
    for _ in range(2):
        cluster.add_worker()
    cluster.run(1500)
    documents = []
    while cluster.state.removals or len(cluster.workers()) > 2:
        deleting = any(removal.phase is RemovalPhase.DELETING for removal in cluster.state.removals)
        documents.append(cluster.sweep())
        if deleting and not cluster.state.removals:
            documents += cluster.sweep_for(20, every_s=5)
            cluster.metric_faults.frozen = None
        elif any(removal.phase is RemovalPhase.DELETING for removal in cluster.state.removals):
            cluster.freeze_metrics()
            cluster.run(5)
        else:
            cluster.run(30)
    assert [d["action"] for d in documents].count("scale_down") == 1
    assert [d for d in documents if d["action"] == "repair" or "lost its instance" in d["message"]] == []
    assert cluster.state.join_failures is None
    deletions = [c for c, _, _ in cluster.ssm.sent.values() if c.verb is Verb.DELETE_NODE]
    assert len(deletions) == len({c.node_name for c in deletions}) == 2
    need_two_workers(cluster)
    assert cluster.sweep()["nodes"]["desired"] == 4, "nothing holds the launch up"
    assert cluster.state.removed


def test_pods_move_before_their_worker_ends() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=1)), workers=2)
    cluster.apply(deployment("web", 2, cpu_millicores=200))
    cluster.run(1500)
    documents = cluster.sweep_for(900)
    assert [d["action"] for d in documents].count("scale_down") == 1
    assert len(cluster.ready_workers()) == 1
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


def test_fifty_pods_are_asked_for_at_once_and_nothing_more_while_they_join() -> None:
    # Two pods of 0.9 CPU fit on a worker of 2 vCPU; the two workers that exist take four.
    cluster = SimCluster(Policy(version=1, workers=Workers(max=30)))
    cluster.apply(deployment("burst", 54))
    cluster.run(15)
    document = cluster.sweep()
    assert document["nodes"]["desired"] == 27
    assert sum(op["count"] for op in document["operations"]) == 25
    cluster.run(5)
    again = cluster.sweep()
    assert (again["action"], again["reason"]) == ("none", "waiting_for_nodes")
    cluster.sweep_for(600, every_s=60)
    assert len(cluster.ready_workers()) == 27
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


def test_growth_stops_at_max_and_says_so() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(max=3)))
    cluster.apply(deployment("burst", 20))
    cluster.run(15)
    assert cluster.sweep()["nodes"]["desired"] == 3
    cluster.run(300)
    cluster.sweep()
    document = cluster.sweep()
    assert (document["action"], document["reason"]) == ("held_back", "at_max")


def test_high_cpu_grows_without_waiting_pods() -> None:
    cluster = SimCluster(Policy(version=1))
    cluster.apply(deployment("hot", 4, cpu_millicores=500, burn_cores=1.0))
    cluster.run(400)
    document = cluster.sweep()
    assert (document["action"], document["reason"]) == ("scale_up", "cpu_high")


def test_a_fleet_below_min_is_filled() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=4)))
    document = cluster.sweep()
    assert (document["reason"], document["nodes"]["desired"]) == ("below_min", 4)


def test_a_min_of_zero_is_reached_when_only_daemons_are_left_and_left_when_a_pod_waits() -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=0)), workers=3)
    cluster.apply(deployment("web", 1))
    cluster.run(1500)
    cluster.sweep_for(2400)
    assert len(cluster.ready_workers()) == 1, "it has a pod, so what is used counts"
    cluster.world.scale("shop/web", 0)
    cluster.sweep_for(2400)
    assert cluster.workers() == []
    document = cluster.sweep()
    assert (document["action"], document["message"]) == ("none", "Nothing to do: no worker is Ready.")
    cluster.world.scale("shop/web", 3)
    cluster.sweep_for(300, every_s=30)
    assert len(cluster.ready_workers()) == 2
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


def test_static_workers_count_and_are_never_removed() -> None:
    policy = Policy(version=1, workers=Workers(min=1), scale_down=ScaleDown(cool_down_s=0))
    cluster = SimCluster(policy, workers=1, static_workers=2)
    cluster.run(1500)
    cluster.sweep_for(2400)
    assert cluster.workers() == []
    assert len([n for n in cluster.world.nodes if not n.server]) == 2


def test_a_worker_that_never_joins_is_replaced(cluster: SimCluster) -> None:
    cluster.world.faults.never_join = True
    need_two_workers(cluster)
    cluster.sweep()
    cluster.run(650)
    cluster.world.faults.never_join = False
    document = cluster.sweep()
    assert document["action"] in {"scale_up", "repair"}
    assert any("did not join within 600 s" in event for event in document["done"])
    cluster.sweep_for(600, every_s=60)
    assert len(cluster.ready_workers()) == 4
    assert not cluster.state.launches
    assert not cluster.state.removals


def test_ec2_has_nothing_left_then_has_again() -> None:
    cluster = SimCluster(Policy(version=1, capacity=Capacity(back_off_s=60, max_back_off_s=60)))
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone)
    need_two_workers(cluster)
    document = cluster.sweep()
    assert document["failures"]
    assert cluster.state.backoffs
    assert cluster.sweep()["reason"] == "capacity_backoff"
    assert len(cluster.workers()) == 2
    cluster.ec2.replenish()
    cluster.sweep_for(300, every_s=60)
    assert len(cluster.ready_workers()) == 4


def _ours(row: Mapping[str, Any]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
    return tags.get("ManagedBy") == "autoscaler" and row["State"]["Name"] == InstanceState.RUNNING


def test_when_nothing_joins_launches_become_rare_old_workers_stay_and_one_that_joins_ends_it(
    cluster: SimCluster,
) -> None:
    old = cluster.workers()
    cluster.world.faults.never_join = True
    need_two_workers(cluster)
    documents = cluster.sweep_for(4 * 3600)
    launched = sum(event.count("EC2 launched 1 of 1") for document in documents for event in document["done"])
    assert 3 <= launched <= 8, "without a back-off it would be 2 workers every 10 minutes: 48"
    assert {document["reason"] for document in documents} >= {"join_backoff"}
    assert set(old) <= set(cluster.workers())
    cluster.world.faults.never_join = False
    cluster.sweep_for(2 * 3600)
    assert len(cluster.ready_workers()) == 4
    assert cluster.state.join_failures is None

"""Pools through the whole loop, on the simulator: who is launched where, what its Nodes are, and who leaves."""

from collections import Counter
from typing import Any

import pytest

from autoscaler.model.rules import Effect, NodeTerm, Operator, Requirement, Toleration
from autoscaler.policy import Policy
from autoscaler.policy_text import parse_policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.world.workload import MIB, Ask, Constraints, PodTemplate, Workload
from autoscaler.simulator.world.world import WorldSettings
from tests.passed_over import why

GPU = "nvidia.com/gpu"
GENERAL = "{name: general, instance_types: [t3.small]}"
GPUS = (
    '{name: gpu, instance_types: [g4dn.xlarge], taints: ["nvidia.com/gpu=true:NoSchedule"], labels: {team: ml}, '
    "max: MOST}"
)
TOLERATES = Toleration(key=GPU, any_value=True, effect=Effect.NO_SCHEDULE)


def pools(*lines: str, more: str = "", low: int = 2, high: int = 10) -> Policy:
    listed = "".join(f"\n    - {line}" for line in lines)
    return parse_policy(f"version: 1\n{more}\nworkers:\n  min: {low}\n  max: {high}\n  pools:{listed}\n")


def with_gpus(most: int = 3, **limits: Any) -> Policy:
    return pools(GENERAL, GPUS.replace("MOST", str(most)), **limits)


def shop(name: str, replicas: int, *, cpu: int = 500, memory_mib: int = 100, **template: Any) -> Workload:
    request = Ask(cpu_millicores=cpu, memory_bytes=memory_mib * MIB)
    return Workload(namespace="shop", name=name, replicas=replicas, template=PodTemplate(request=request, **template))


def training(replicas: int, pieces: int = 1) -> Workload:
    return shop("train", replicas, extended=((GPU, pieces),), tolerations=(TOLERATES,))


def by_pool(cluster: SimCluster) -> Counter[str]:
    return Counter(cluster.ec2.instances[i].tags.get("k3s-autoscaler/pool", "") for i in cluster.workers())


def waiting(cluster: SimCluster) -> int:
    return sum(1 for pod in cluster.world.state.unbound.values() if pod.waits)


def settle(cluster: SimCluster, seconds: float = 300) -> list[dict[str, Any]]:
    """Sweeps, close enough for the alert path."""
    return cluster.sweep_for(seconds, every_s=20)


def told(documents: list[dict[str, Any]]) -> str:
    return " ".join(why(row) for document in documents for row in document["blocked"])


# ------------------------------------------------------------------------------------------------------------ GPU pools


def test_gpu_pods_grow_the_gpu_pool_and_no_other_pod_lands_there() -> None:
    cluster = SimCluster(with_gpus())
    cluster.apply(training(2))
    cluster.apply(shop("web", 8, cpu=900))
    settle(cluster)
    assert by_pool(cluster) == {"": 2, "general": 2, "gpu": 2}
    assert waiting(cluster) == 0
    on_gpus = [node for node in cluster.world.state.nodes.values() if node.machine.pool == "gpu"]
    assert {node.labels["team"] for node in on_gpus} == {"ml"}
    assert {node.labels["k3s-autoscaler/pool"] for node in on_gpus} == {"gpu"}
    owners = {pod.workload.name for node in on_gpus for pod in node.pods.values()}
    assert "web" not in owners
    assert "train" in owners


def test_a_gpu_pod_without_such_a_pool_still_costs_nothing() -> None:
    cluster = SimCluster(pools(GENERAL, "{name: large, instance_types: [m7i.xlarge]}"))
    cluster.apply(training(1))
    documents = settle(cluster)
    assert cluster.ec2.bill.launched == 2
    assert "unfittable: asks 1 nvidia.com/gpu; a new m7i.xlarge has 0" in told(documents)


def test_a_taken_gpu_is_no_room_for_a_second_pod() -> None:
    cluster = SimCluster(with_gpus())
    cluster.apply(training(1))
    settle(cluster)
    cluster.apply(training(2))
    settle(cluster)
    assert (by_pool(cluster)["gpu"], waiting(cluster)) == (2, 0)


def test_while_the_device_plugin_starts_nothing_more_is_launched() -> None:
    """A Node without its GPU yet is no reason for a second one."""
    cluster = SimCluster(with_gpus(), world=WorldSettings(cluster_id="sim", device_plugin_s=240.0))
    cluster.apply(training(1))
    settle(cluster, 500)
    assert (by_pool(cluster)["gpu"], waiting(cluster)) == (1, 0)


def test_without_a_device_plugin_one_worker_is_tried_and_then_the_pod_costs_no_more() -> None:
    cluster = SimCluster(with_gpus(), world=WorldSettings(cluster_id="sim", device_plugin_s=None))
    cluster.apply(training(1))
    documents = settle(cluster, 2400)
    assert by_pool(cluster)["gpu"] == 1
    assert "unfittable: asks 1 nvidia.com/gpu; a new g4dn.xlarge has 0" in told(documents)


def test_an_idle_gpu_worker_leaves_though_it_carries_its_pools_taint() -> None:
    kept = "{name: general, instance_types: [t3.small], min: 2}"
    cluster = SimCluster(pools(kept, GPUS.replace("MOST", "3")))
    cluster.apply(training(1))
    settle(cluster)
    assert by_pool(cluster)["gpu"] == 1
    cluster.world.delete("shop/train")
    cluster.sweep_for(2400)
    assert by_pool(cluster) == {"": 2}


def test_a_pool_at_its_max_is_left_out_and_told_and_what_it_lacks_holds_up_no_shrink() -> None:
    cluster = SimCluster(with_gpus(most=1), workers=4)
    cluster.apply(training(3))
    documents = settle(cluster)
    assert by_pool(cluster)["gpu"] == 1
    assert "pool_at_max: pool gpu has a max of 1 and 1 exist" in told(documents)
    assert waiting(cluster) == 2
    cluster.sweep_for(3600)
    assert by_pool(cluster) == {"": 1, "gpu": 1}, "two idle ones left, down to the fleet's min"


# -------------------------------------------------------------------------------------------------------------- choices


def test_the_cheap_pool_is_launched_and_the_dear_one_for_what_only_it_can_take() -> None:
    cluster = SimCluster(
        pools("{name: dear, instance_types: [m7i.xlarge]}", "{name: cheap, instance_types: [t3.small]}")
    )
    cluster.apply(shop("web", 12, cpu=800))
    settle(cluster)
    grown = by_pool(cluster)
    assert grown["dear"] == 0
    assert grown["cheap"] >= 2
    cluster.apply(shop("big", 1, cpu=3000, memory_mib=4096))
    settle(cluster)
    assert (by_pool(cluster)["dear"], waiting(cluster)) == (1, 0)


@pytest.mark.parametrize("arch", ["arm64", "amd64"])
def test_of_an_arm64_and_an_amd64_pool_each_pod_gets_what_its_image_runs_on(arch: str) -> None:
    both = pools("{name: intel, instance_types: [t3.small]}", "{name: graviton, instance_types: [t4g.small]}")
    cluster = SimCluster(both)
    cluster.apply(shop("web", 2, cpu=1200, node_selector=(("kubernetes.io/arch", arch),)))
    cluster.apply(shop("filler", 2, cpu=1200))
    settle(cluster)
    assert waiting(cluster) == 0
    on = {
        pod.node.labels["kubernetes.io/arch"]
        for pod in cluster.world.state.pods.values()
        if pod.node and pod.workload.name == "web"
    }
    assert on == {arch}


def test_a_pool_of_both_architectures_launches_each_from_a_template_of_its_own() -> None:
    both = pools('{name: general, requirements: {cpu: 2, memory: 2 GiB, arch: [arm64, amd64], exclude: ["c*"]}}')
    assert both.pools[0].instance_types == ("t4g.small", "t3a.small", "t3.small")
    cluster = SimCluster(both)
    cluster.apply(shop("web", 2, cpu=1500, node_selector=(("kubernetes.io/arch", "amd64"),)))
    cluster.apply(shop("api", 4, cpu=1500))
    settle(cluster)
    assert waiting(cluster) == 0
    kinds = Counter(cluster.ec2.instances[i].instance_type for i in cluster.workers())
    assert set(kinds) == {"t4g.small", "t3a.small"}, "the cheapest of each"


def test_a_selector_of_a_pools_label_picks_the_pool() -> None:
    cluster = SimCluster(pools(GENERAL, "{name: batch, instance_types: [t3.small], labels: {work: batch}}"))
    cluster.apply(shop("nightly", 1, node_selector=(("work", "batch"),)))
    cluster.apply(shop("by-name", 1, cpu=1500, node_selector=(("k3s-autoscaler/pool", "batch"),)))
    settle(cluster)
    assert (by_pool(cluster), waiting(cluster)) == ({"": 2, "batch": 2}, 0)


def test_workers_that_are_there_do_not_lend_their_pools_label_to_another_pool() -> None:
    """All that can be seen is of one pool: that all workers carry its label does not make it everybody's."""
    two = pools(
        "{name: general, instance_types: [t3.small], labels: {zone-of: shop}}",
        "{name: batch, instance_types: [t3.micro]}",
    )
    cluster = SimCluster(two)
    cluster.apply(shop("web", 1, cpu=1700, node_selector=(("zone-of", "shop"),)))
    cluster.apply(shop("web2", 1, cpu=1700, node_selector=(("zone-of", "shop"),)))
    cluster.apply(shop("web3", 1, cpu=1700, node_selector=(("zone-of", "shop"),)))
    settle(cluster)
    assert (by_pool(cluster)["batch"], waiting(cluster)) == (0, 0)


# --------------------------------------------------------------------------------------------------------------- minima


def test_a_pools_min_is_kept_whatever_the_fleet_has() -> None:
    cluster = SimCluster(pools(GENERAL, "{name: batch, instance_types: [t3.small], min: 1}"), workers=3)
    [document] = [d for d in settle(cluster) if d["action"] == "scale_up"]
    assert (document["reason"], document["message"]) == (
        "below_pool_min",
        "Launching 1 worker: pools with a min have 0 workers and are to have 1.",
    )
    cluster.sweep_for(7200)
    assert by_pool(cluster) == {"": 1, "batch": 1}, "the fleet's min is 2, and the pool's is one of them"


def test_a_pools_min_without_a_place_gets_that_of_whoever_nobody_needs() -> None:
    """The fleet is at its max, and none of its workers is of the pool: what is refused holds up no shrink."""
    cluster = SimCluster(pools(GENERAL, "{name: batch, instance_types: [t3.small], min: 1}", high=4), workers=4)
    documents = cluster.sweep_for(7200)
    assert documents[0]["nodes"]["ready"] == 4
    assert cluster.ec2.bill.launched == 4 + 1
    assert by_pool(cluster) == {"": 1, "batch": 1}


def test_use_grows_a_pool_that_takes_any_pod() -> None:
    first = GPUS.replace("MOST", "5")
    cluster = SimCluster(pools(first, GENERAL))
    for _ in range(2):
        cluster.apply(shop("hot", 2, cpu=100, burn_cores=1.9))
    settle(cluster)
    assert (by_pool(cluster)["gpu"], by_pool(cluster)["general"] > 0) == (0, True)


def test_where_every_pool_is_at_its_max_use_is_told_and_nothing_is_launched() -> None:
    cluster = SimCluster(pools("{name: general, instance_types: [t3.small], max: 2}"))
    cluster.apply(shop("hot", 2, cpu=100, burn_cores=1.9))
    documents = settle(cluster)
    refused = [d for d in documents if d["reason"] == "pools_at_max"]
    assert refused
    assert "every pool of workers.pools that would serve it is at its own max" in refused[0]["message"]
    assert cluster.ec2.bill.launched == 2


def test_a_policy_newer_than_the_deployment_is_told() -> None:
    cluster = SimCluster(pools(GENERAL))
    cluster.policy = with_gpus()
    cluster.apply(training(1))
    documents = settle(cluster)
    refused = [d for d in documents if d["action"] == "held_back"]
    assert refused
    assert "no launch template is deployed for this pool" in refused[0]["message"]
    assert cluster.ec2.bill.launched == 2


def test_a_pool_with_subnets_of_its_own_serves_no_pod_of_another_zone() -> None:
    """However cheap it is, a worker that cannot be launched where the pod has to be is no help."""
    where = Ec2Settings(subnet_zones=(("subnet-0a0a0a0a", "us-east-1a"), ("subnet-0b0b0b0b", "us-east-1b")))
    cheap = "{name: cheap, instance_types: [t3.micro], subnets: [subnet-0b0b0b0b]}"
    cluster = SimCluster(pools("{name: general, instance_types: [t3.medium]}", cheap), ec2=where)
    zone = (("topology.kubernetes.io/zone", "us-east-1a"),)
    cluster.apply(shop("web", 6, cpu=900, memory_mib=200, node_selector=zone))
    settle(cluster)
    assert (by_pool(cluster)["cheap"], waiting(cluster)) == (0, 0)
    other = (("topology.kubernetes.io/zone", "us-east-1b"),)
    cluster.apply(shop("api", 6, cpu=900, memory_mib=200, node_selector=other))
    settle(cluster)
    assert (by_pool(cluster)["cheap"] > 0, waiting(cluster)) == (True, 0)


def test_where_ec2_has_nothing_left_of_the_cheap_pool_the_dear_one_serves() -> None:
    cluster = SimCluster(
        pools("{name: cheap, instance_types: [t3.small]}", "{name: dear, instance_types: [m7i.large]}")
    )
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone)
    cluster.apply(shop("web", 12, cpu=800))
    settle(cluster)
    assert (by_pool(cluster)["cheap"], waiting(cluster)) == (0, 0)
    assert by_pool(cluster)["dear"] >= 3


TYPE = "node.kubernetes.io/instance-type"


@pytest.mark.parametrize("market", ["on-demand", "spot"])
def test_pods_that_select_a_type_get_it_or_nothing_while_others_get_what_there_is(market: str) -> None:
    """What holds as much is given in a worker's place: a pod that does not run there would ask again, up to max."""
    cluster = SimCluster(pools(f"{{name: general, instance_types: [t3.small, t3.medium], market: {market}}}"))
    for zone in ("us-east-1a", "us-east-1b"):
        for each in ("on-demand", "spot"):
            cluster.ec2.exhaust("t3.small", zone, market=each)
    cluster.apply(shop("picky", 3, cpu=1500, node_selector=((TYPE, "t3.small"),)))
    cluster.apply(shop("web", 2, cpu=1500))
    settle(cluster, 1200)
    kinds = Counter(cluster.ec2.instances[i].instance_type for i in cluster.workers())
    assert kinds["t3.medium"] + 2 == kinds.total() <= 4, "for web alone"
    assert waiting(cluster) > 0
    cluster.ec2.replenish()
    settle(cluster, 1800)
    assert waiting(cluster) == 0


def test_pods_that_run_on_some_of_the_types_get_any_of_them() -> None:
    cluster = SimCluster(pools("{name: general, instance_types: [t3.small, t3.medium, t3.large]}"))
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone)
    some = NodeTerm(labels=(Requirement(TYPE, Operator.IN, ("t3.small", "t3.large")),))
    cluster.apply(shop("picky", 4, cpu=1500, constraints=Constraints(node_affinity=(some,))))
    settle(cluster)
    kinds = Counter(cluster.ec2.instances[i].instance_type for i in cluster.workers())
    assert (kinds, waiting(cluster)) == ({"t3.small": 2, "t3.large": 2}, 0)


def test_where_ec2_has_nothing_left_of_the_cheap_pool_the_dear_one_serves_use_and_the_fleets_min() -> None:
    both = ("{name: cheap, instance_types: [t3.small]}", "{name: dear, instance_types: [m7i.large]}")
    cluster = SimCluster(pools(*both))
    cluster.policy = pools(*both, low=4)
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone)
    settle(cluster)
    assert (by_pool(cluster)["cheap"], by_pool(cluster)["dear"]) == (0, 2)
    for number in range(4):
        cluster.apply(shop(f"hot-{number}", 1, cpu=1000, burn_cores=1.9))
    settle(cluster, 600)
    assert (by_pool(cluster)["cheap"], by_pool(cluster)["dear"] > 2) == (0, True)


def test_what_is_left_of_a_pool_is_judged_where_it_is_launched() -> None:
    """That nobody asked EC2 for it in a zone in which it has no subnet does not mean that there is any."""
    where = Ec2Settings(subnet_zones=(("subnet-0a0a0a0a", "us-east-1a"), ("subnet-0b0b0b0b", "us-east-1b")))
    cheap = "{name: cheap, instance_types: [t3.small], subnets: [subnet-0b0b0b0b]}"
    cluster = SimCluster(pools("{name: dear, instance_types: [m7i.large]}", cheap), ec2=where)
    cluster.ec2.exhaust("t3.small", "us-east-1b")
    cluster.apply(shop("web", 12, cpu=800))
    settle(cluster)
    assert (by_pool(cluster)["cheap"], waiting(cluster)) == (0, 0)
    assert by_pool(cluster)["dear"] >= 3


def test_what_is_left_of_a_pool_is_judged_by_the_types_that_hold_the_pod() -> None:
    cheap = "{name: cheap, instance_types: [t3.small, t3.2xlarge]}"
    cluster = SimCluster(pools(cheap, "{name: dear, instance_types: [m7i.4xlarge]}"))
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.2xlarge", zone)
    cluster.apply(shop("big", 1, cpu=6000))
    settle(cluster)
    assert (by_pool(cluster)["dear"], waiting(cluster)) == (1, 0)


def test_where_nothing_else_would_do_the_exhausted_pool_is_asked_again_in_time() -> None:
    cluster = SimCluster(with_gpus())
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("g4dn.xlarge", zone)
    cluster.apply(training(1))
    documents = settle(cluster)
    assert any(d["reason"] == "capacity_backoff" for d in documents)
    cluster.ec2.replenish()
    settle(cluster, 900)
    assert (by_pool(cluster)["gpu"], waiting(cluster)) == (1, 0)

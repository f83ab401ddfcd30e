"""What no metric shows and a server tells: sized right the first time, and nothing removed that cannot run elsewhere.

Each case was played on a real control plane beside the real cluster-autoscaler, or is a public report of another one.
"""

from collections import Counter
from typing import Any

import msgspec
import pytest

from autoscaler.model import Verb
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.labels import ZONE_LABEL
from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.workload import MIB, Ask, Constraints, Kind, PodTemplate, Workload
from autoscaler.simulator.world.world import SERVER, FixedNode, WorldSettings

DAY_S = 86_400.0
ARCH = "kubernetes.io/arch"
PI = FixedNode(
    name="pi-1",
    instance_id="pi-1",
    instance_type="m5.xlarge",
    zone="",
    provider_id="k3s://pi-1",
    arch="arm64",
    ip="10.0.3.7",
)
UNHELPABLE: dict[str, dict[str, Any]] = {
    "GPU": {"extended": (("nvidia.com/gpu", 1),)},
    "missing claim": {"constraints": with_volume(missing=True)},
    "unknown zone": {"node_selector": ((ZONE_LABEL, "us-east-1z"),)},
}


def fleet(*, low: int = 2, high: int = 10, workers: int = 2, types: tuple[str, ...] = (), **more: Any) -> SimCluster:
    """Workers of ours, idle, with full windows."""
    policy = Policy(version=1, workers=Workers(min=low, max=high, instance_types=types or Workers().instance_types))
    return SimCluster(policy, workers=workers, **more)


def shop(name: str, replicas: int, *, cpu: int, memory_mib: int = 32, **template: Any) -> Workload:
    request = Ask(cpu_millicores=cpu, memory_bytes=memory_mib * MIB)
    return Workload(namespace="shop", name=name, replicas=replicas, template=PodTemplate(request=request, **template))


def filled(cluster: SimCluster) -> SimCluster:
    """One pod on each worker of ours that leaves no room for another of its size."""
    ours = (("k3s-autoscaler/managed", "true"),)
    constraints = one_per_host("filler")
    cluster.apply(shop("filler", len(cluster.workers()), cpu=1500, node_selector=ours, constraints=constraints))
    cluster.run(30)
    assert waiting(cluster) == 0
    return cluster


def waiting(cluster: SimCluster) -> int:
    return sum(not pod.node for pod in cluster.world.pods)


def zones(cluster: SimCluster, owner: str) -> Counter[str]:
    """Pods of an owner by zone."""
    zone = {node.name: node.zone for node in cluster.world.nodes}
    return Counter(zone[pod.node] for pod in cluster.world.pods if pod.owner == owner and pod.node)


def grown(cluster: SimCluster, workload: Workload) -> int:
    """How many workers the first look at its waiting pods launches. None more while they join; then all pods run."""
    before = cluster.ec2.bill.launched
    cluster.apply(workload)
    cluster.run(12)
    document = cluster.sweep()
    launched = cluster.ec2.bill.launched - before
    later = cluster.sweep_for(240, every_s=10)
    assert cluster.ec2.bill.launched - before == launched, [document["message"], *[d["message"] for d in later[:6]]]
    assert waiting(cluster) == 0, cluster.sweep()["message"]
    assert cluster.state.launches == ()
    return launched


def acted(cluster: SimCluster, *, for_s: float = DAY_S) -> list[str]:
    """What is done in this time, by sweeps."""
    documents = cluster.sweep_for(for_s)
    return [document["message"] for document in documents if document["action"] not in {"none", "held_back"}]


def drains(cluster: SimCluster) -> int:
    return sum(command.verb is Verb.DRAIN for command, _, _ in cluster.ssm.sent.values())


def given_back(cluster: SimCluster) -> int:
    return sum(command.verb is Verb.UNCORDON for command, _, _ in cluster.ssm.sent.values())


# --------------------------------------------------------------------------------------------------------------- growth


@pytest.mark.parametrize(("pods", "launched"), [(5, 3), (8, 6)])
def test_pods_that_want_a_host_each_get_one_each_at_once(pods: int, launched: int) -> None:
    assert grown(fleet(), shop("web", pods, cpu=10, constraints=one_per_host("web"))) == launched


def test_an_even_spread_gets_its_workers_in_the_right_zones() -> None:
    cluster = filled(fleet())
    assert grown(cluster, shop("web", 4, cpu=1500, constraints=even_over_zones("web"))) == 4
    assert zones(cluster, "shop/web") == {"us-east-1a": 2, "us-east-1b": 2}


def test_an_even_spread_grows_where_the_zone_is_full_and_nowhere_else() -> None:
    """Five small pods would all fit in the zone that has room; evenness sends two of them to the other."""
    cluster = fleet(low=1, workers=2)
    cluster.apply(shop("large", 1, cpu=1700, node_selector=((ZONE_LABEL, "us-east-1b"),)))
    cluster.run(30)
    assert grown(cluster, shop("web", 5, cpu=200, constraints=even_over_zones("web"))) == 1
    assert max(zones(cluster, "shop/web").values()) == 3


def test_requests_of_the_pod_level_count() -> None:
    whole = PodTemplate(request=Ask(), pod_level=Ask(cpu_millicores=900, memory_bytes=64 * MIB))
    assert grown(fleet(), Workload(namespace="shop", name="web", replicas=16, template=whole)) == 6


def test_eight_pods_of_a_workers_size_at_the_pod_level_get_eight_workers() -> None:
    whole = PodTemplate(request=Ask(), pod_level=Ask(cpu_millicores=1500, memory_bytes=64 * MIB))
    assert grown(filled(fleet()), Workload(namespace="shop", name="web", replicas=8, template=whole)) == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kubernetes.io/os", "linux"),
        (ARCH, "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", "amd64"),
        ("topology.kubernetes.io/region", "us-east-1"),
        ("k3s-autoscaler/capacity-type", "on-demand"),
        ("pool", "batch"),
    ],
)
def test_a_label_that_new_workers_will_carry_is_known(key: str, value: str) -> None:
    """The last one is the user's own: workers that are there show that new ones have it."""
    world = WorldSettings(cluster_id="sim", worker_labels=(("pool", "batch"),))
    cluster = filled(fleet(world=world))
    assert grown(cluster, shop("web", 1, cpu=1000, node_selector=((key, value),))) == 1


def test_a_machine_of_another_architecture_is_no_room() -> None:
    """K3s calls every machine that no cloud knows a `k3s`: a Raspberry Pi is no amd64 for that."""
    cluster = filled(fleet(world=WorldSettings(cluster_id="sim", fixed_nodes=(SERVER, PI))))
    assert grown(cluster, shop("web", 1, cpu=1000, node_selector=((ARCH, "amd64"),))) == 1


# ----------------------------------------------------------------------------------------------------------------- calm


@pytest.mark.parametrize("kind", UNHELPABLE)
def test_nothing_is_done_for_a_pod_that_no_worker_helps(kind: str) -> None:
    cluster = fleet()
    cluster.apply(shop("web", 1, cpu=100, **UNHELPABLE[kind]))
    cluster.run(60)
    assert acted(cluster) == []
    assert cluster.ec2.bill.launched == 2


def test_pods_that_no_worker_helps_do_not_keep_the_fleet_at_max() -> None:
    cluster = fleet(high=5, workers=5)
    for kind, template in UNHELPABLE.items():
        cluster.apply(shop(kind.lower().replace(" ", "-"), 1, cpu=100, **template))
    cluster.run(60)
    cluster.sweep_for(DAY_S)
    assert len(cluster.ready_workers()) == 2
    assert (drains(cluster), given_back(cluster), cluster.ec2.bill.launched) == (3, 0, 5)


def test_pods_of_a_job_that_no_worker_helps_are_known_by_their_owner() -> None:
    """Made anew again and again: by uid each is a stranger."""
    cluster = fleet(workers=3)
    template = PodTemplate(request=Ask(cpu_millicores=100), extended=(("nvidia.com/gpu", 1),))
    for _ in range(24):
        cluster.apply(Workload(namespace="shop", name="train", replicas=1, template=template))
        cluster.sweep_for(3600)
        cluster.world.delete("shop/train")
    assert (len(cluster.ready_workers()), cluster.ec2.bill.launched, given_back(cluster)) == (2, 3, 0)


def test_idle_workers_that_hold_a_pod_each_for_a_host_each_stay() -> None:
    cluster = fleet(workers=4)
    cluster.apply(shop("web", 4, cpu=10, constraints=one_per_host("web")))
    cluster.run(1500)
    assert acted(cluster) == []


def test_a_pod_that_launches_did_not_help_takes_no_drain_back() -> None:
    """Nobody knows why it waits: launches back off, each ends as an idle worker, and no drain is taken back."""
    cluster = fleet(workers=3)
    for node in cluster.world.state.nodes.values():
        node.useless = not node.machine.server
    cluster.world.faults.useless = True
    cluster.apply(shop("web", 1, cpu=100))
    cluster.run(60)
    cluster.sweep_for(2 * 3600)
    drained, launched = drains(cluster), cluster.ec2.bill.launched
    cluster.sweep_for(DAY_S)
    assert given_back(cluster) == 0
    assert cluster.ec2.bill.launched - launched <= 5, "after 2 h the waits are 160 min, 320 min, then six hours each"
    assert drains(cluster) - drained <= cluster.ec2.bill.launched - launched + 1


def test_idle_workers_are_not_kept_for_the_sake_of_even_zones() -> None:
    static = [FixedNode(name=f"static-{n}", instance_id=f"i-0bbbbbbbbbbbbbb0{n}", ip=f"10.0.2.1{n}") for n in (1, 2)]
    cluster = fleet(workers=4, world=WorldSettings(cluster_id="sim", fixed_nodes=(SERVER, *static)))
    cluster.sweep_for(DAY_S / 4)
    assert cluster.workers() == []
    assert acted(cluster, for_s=3600) == []


# -------------------------------------------------------------------------------------------- reports of other clusters


def test_a_pod_that_fits_the_type_and_not_beside_the_daemons_launches_once_at_most() -> None:
    cluster = fleet(low=0, high=5, workers=0)
    agent = PodTemplate(request=Ask(cpu_millicores=50, memory_bytes=500 * MIB))
    cluster.apply(Workload(namespace="logging", name="agent", kind=Kind.DAEMON_SET, template=agent))
    cluster.apply(shop("job", 1, cpu=500, memory_mib=1450))
    cluster.run(60)
    cluster.sweep_for(DAY_S)
    assert cluster.ec2.bill.launched <= 1


def test_a_worker_whose_pod_asks_all_of_it_at_the_pod_level_is_not_seen_as_free() -> None:
    cluster = fleet(low=1, workers=4)
    whole = PodTemplate(request=Ask(), pod_level=Ask(cpu_millicores=1500, memory_bytes=64 * MIB))
    cluster.apply(Workload(namespace="shop", name="web", replicas=4, template=whole))
    cluster.run(1500)
    assert acted(cluster) == []


def test_what_leaves_is_judged_with_its_own_size() -> None:
    """Use is low over all workers; without the large one the small ones would be full."""
    cluster = fleet(low=1, workers=0, types=("m5.2xlarge", "t3.small"))
    for number, instance_type in enumerate(("m5.2xlarge", "t3.small", "t3.small")):
        cluster.add_worker(number, instance_type=instance_type)
    cluster.run(120)
    large = PodTemplate(
        request=Ask(cpu_millicores=200, memory_bytes=64 * MIB),
        burn_cores=2.2,
        node_selector=(("node.kubernetes.io/instance-type", "m5.2xlarge"),),
    )
    cluster.apply(Workload(namespace="shop", name="large", template=large))
    cluster.apply(shop("small", 2, cpu=200, burn_cores=0.5, constraints=one_per_host("small")))
    cluster.run(30)
    free = msgspec.structs.replace(large, node_selector=())
    cluster.apply(Workload(namespace="shop", name="large", template=free))
    cluster.run(1500)
    cluster.sweep_for(DAY_S)
    assert cluster.ec2.bill.launched == 3


def test_a_worker_whose_pod_no_other_may_take_stays() -> None:
    """The Pi has room, and the wrong architecture."""
    world = WorldSettings(cluster_id="sim", fixed_nodes=(SERVER, PI))
    cluster = fleet(low=1, workers=1, world=world)
    cluster.apply(shop("web", 1, cpu=500, node_selector=((ARCH, "amd64"),)))
    cluster.run(1500)
    assert acted(cluster) == []


def test_a_pod_of_another_scheduler_is_not_launched_for() -> None:
    cluster = fleet()
    cluster.apply(shop("web", 1, cpu=100, constraints=Constraints(scheduler="volcano")))
    cluster.run(60)
    assert acted(cluster, for_s=3600) == []


def test_a_removal_that_is_followed_by_a_launch_is_not_repeated() -> None:
    """One pod a host, and a policy that would like to see them go: as long as they run, they keep their hosts."""
    policy = Policy(version=1, workers=Workers(min=1), scale_down=ScaleDown(cool_down_s=60, min_age_s=60))
    cluster = SimCluster(policy, workers=3)
    cluster.apply(shop("web", 3, cpu=10, constraints=one_per_host("web")))
    cluster.run(1500)
    assert acted(cluster) == []
    assert cluster.ec2.bill.launched == 3

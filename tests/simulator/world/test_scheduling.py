"""The simulated scheduler asks what the real one asks, and says why not in its words."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from autoscaler.model.rules import (
    Effect,
    HostPort,
    NodeTerm,
    Operator,
    PodTerm,
    Requirement,
    Taint,
    Toleration,
    equal_to,
)
from autoscaler.simulator.world.labels import ZONE_LABEL
from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.workload import Ask, Constraints, Kind, PodTemplate, Workload
from autoscaler.simulator.world.world import SERVER, FixedNode, World
from tests.simulator.worlds import deployment, instance_id, node_name, pods_of, row, world

PORTS = Constraints(host_ports=(HostPort(port=9000),))
NEAR_WEB = Constraints(affinity=(PodTerm(selector=equal_to({"app": "web"}), topology_key=ZONE_LABEL),))
ARM = FixedNode(name="pi-1", instance_id="pi-1", zone="", provider_id="k3s://pi-1", arch="arm64", ip="10.0.3.7")


def placed(made: World, owner: str = "shop/web") -> list[str]:
    """Nodes of the pods that have one."""
    made.advance(made.now_s + 10)
    return sorted(pod.node for pod in pods_of(made, owner) if pod.node)


def why_not(made: World, owner: str = "shop/web") -> set[str]:
    """What the scheduler says of those that have none."""
    made.advance(made.now_s + 10)
    return {p.unschedulable_message for p in made.state.pods.values() if p.workload.key == owner and p.node is None}


def wants(key: str, *values: str) -> Constraints:
    operator = Operator.IN if values else Operator.EXISTS
    return Constraints(node_affinity=(NodeTerm(labels=(Requirement(key, operator, values),)),))


def test_one_pod_a_host_goes_on_one_host_each_and_the_rest_waits() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=3, cpu=10, constraints=one_per_host("web")))
    assert placed(made) == [node_name(0), node_name(1)]
    assert why_not(made) == {
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match pod anti-affinity rules."
    }


def test_an_even_spread_waits_for_the_zone_that_is_full_and_goes_on_when_there_is_room() -> None:
    made = world(workers=2)
    made.apply(deployment("large", cpu=1700, node_selector=((ZONE_LABEL, "us-east-1b"),)))
    made.advance(made.now_s + 10)
    made.apply(deployment(replicas=4, cpu=200, constraints=even_over_zones("web")))
    assert placed(made) == [node_name(0)]
    made.see_instances([row(number) for number in (0, 1, 3)])
    made.advance(made.now_s + 60)
    assert placed(made) == [node_name(0)] * 2 + [node_name(3)] * 2


def test_company_that_is_placed_after_a_pod_lets_it_in_at_once() -> None:
    made = world()
    made.apply(deployment("tail", replicas=2, cpu=100, constraints=NEAR_WEB))
    made.advance(made.now_s + 5)
    made.apply(deployment("web", cpu=100, constraints=Constraints(priority=-1)))
    made.see_instances([row(0)])
    made.advance(made.now_s + 60)
    assert [len(placed(made, f"shop/{name}")) for name in ("web", "tail")] == [1, 2]


@pytest.mark.parametrize(
    ("template", "nodes", "words"),
    [
        pytest.param({"constraints": PORTS}, 2, "didn't have free ports for the requested pod ports", id="host port"),
        pytest.param({"pod_level": Ask(cpu_millicores=1200)}, 2, "2 Insufficient cpu", id="pod-level requests"),
        pytest.param({"extended": (("nvidia.com/gpu", 1),)}, 0, "2 Insufficient nvidia.com/gpu", id="GPU"),
        pytest.param({"constraints": wants("disk", "ssd")}, 0, "didn't match Pod's node affinity/selector", id="label"),
        pytest.param({"constraints": wants(ZONE_LABEL, "us-east-1b")}, 3, "", id="a zone by affinity"),
        pytest.param({"node_selector": (("kubernetes.io/arch", "amd64"),)}, 3, "", id="the architecture"),
        pytest.param({"node_selector": (("topology.kubernetes.io/region", "us-east-1"),)}, 3, "", id="the region"),
        pytest.param({"node_selector": (("k3s-autoscaler/capacity-type", "on-demand"),)}, 3, "", id="capacity type"),
    ],
)
def test_each_rule_holds(template: dict[str, Any], nodes: int, words: str) -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=3, cpu=100, **template))
    assert len(placed(made)) == nodes
    assert all(words in message for message in why_not(made))
    assert bool(why_not(made)) is (nodes < 3)


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(key="dedicated", value="x"), True),
        (Toleration(key="dedicated", value="y"), False),
        (Toleration(key="dedicated", any_value=True), True),
        (Toleration(key="dedicated", any_value=True, effect=Effect.NO_EXECUTE), False),
    ],
)
def test_a_toleration_has_an_operator_a_value_and_an_effect(toleration: Toleration, tolerated: bool) -> None:
    taint = Taint(key="dedicated", value="x", effect=Effect.NO_SCHEDULE)
    made = world(workers=1, worker_taints=(taint,))
    made.apply(deployment(cpu=100, tolerations=(toleration,)))
    assert bool(placed(made)) is tolerated


def test_the_machine_of_another_architecture_takes_only_its_own() -> None:
    made = world(fixed_nodes=(SERVER, ARM))
    for arch in ("arm64", "amd64"):
        made.apply(deployment(arch, cpu=100, node_selector=(("kubernetes.io/arch", arch),)))
    made.apply(deployment("k3s", cpu=100, node_selector=(("node.kubernetes.io/instance-type", "k3s"),)))
    assert [placed(made, f"shop/{name}") for name in ("arm64", "amd64", "k3s")] == [["pi-1"], [], ["pi-1"]]


def test_workers_may_have_labels_of_their_own() -> None:
    made = world(workers=1, worker_labels=(("disk", "ssd"),))
    made.apply(deployment(cpu=100, constraints=wants("disk", "ssd")))
    assert placed(made) == [node_name(0)]


def test_the_higher_priority_is_placed_first() -> None:
    made = world()
    made.apply(deployment("plain", cpu=1500))
    made.apply(deployment("dear", cpu=1500, constraints=Constraints(priority=1000)))
    made.see_instances([row(0)])
    made.advance(made.now_s + 60)
    assert (placed(made, "shop/dear"), placed(made, "shop/plain")) == ([node_name(0)], [])


def test_a_pod_of_another_scheduler_waits_and_nobody_calls_it_unschedulable() -> None:
    made = world(workers=1)
    made.apply(deployment(cpu=100, constraints=Constraints(scheduler="volcano")))
    assert placed(made) == []
    assert [pod.unschedulable_since_s for pod in pods_of(made, "shop/web")] == [None]


# -------------------------------------------------------------------------------------------------------------- volumes


def stateful(**claim: Any) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=100), constraints=with_volume(**claim))
    return Workload(namespace="shop", name="web", kind=Kind.STATEFUL_SET, replicas=1, template=template)


def test_a_missing_claim_is_said_of_the_pod_and_of_no_node() -> None:
    made = world(workers=2)
    made.apply(stateful(missing=True))
    assert why_not(made) == {'0/3 nodes are available: persistentvolumeclaim "disk-web-0" not found.'}


def test_a_volume_in_a_zone_keeps_its_pod_there() -> None:
    made = world(workers=2)
    made.apply(stateful(zone="us-east-1b"))
    assert placed(made) == [node_name(1)]


def test_the_first_pod_chooses_the_zone_of_a_volume_and_stays_in_it() -> None:
    made = world(workers=1)
    made.apply(stateful())
    assert placed(made) == [node_name(0)]
    made.see_instances([row(0), row(1)])
    made.advance(made.now_s + 60)
    made.cordon(node_name(0))
    made.delete("shop/web")
    made.advance(made.now_s + 10)
    made.apply(stateful())
    assert why_not(made) == {
        "0/3 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, "
        "1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    }


def test_the_pods_of_a_deployment_share_one_volume() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=300, constraints=with_volume()))
    assert len(set(placed(made))) == 1
    assert len(made.state.volumes) == 1


# ------------------------------------------------------------------------------------------------------------- daemons


@pytest.mark.parametrize(
    ("there", "change"),
    [
        (2, lambda template: template),
        (1, lambda template: msgspec.structs.replace(template, constraints=wants(ZONE_LABEL, "us-east-1b"))),
        (1, lambda template: msgspec.structs.replace(template, node_selector=((ZONE_LABEL, "us-east-1b"),))),
    ],
)
def test_a_daemon_set_has_a_pod_where_it_belongs(there: int, change: Callable[[PodTemplate], PodTemplate]) -> None:
    made = world(workers=2)
    template = change(PodTemplate(request=Ask(cpu_millicores=10)))
    made.apply(Workload(namespace="shop", name="web", kind=Kind.DAEMON_SET, template=template))
    assert placed(made) == [node_name(number) for number in range(2 - there, 2)]


def test_a_daemon_whose_node_is_full_waits_for_it() -> None:
    made = world(workers=2)
    made.apply(deployment("large", cpu=1750))
    made.advance(made.now_s + 10)
    template = PodTemplate(request=Ask(cpu_millicores=300))
    made.apply(Workload(namespace="shop", name="web", kind=Kind.DAEMON_SET, template=template))
    assert len(placed(made)) == 1
    assert why_not(made) == {
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    }


# ------------------------------------------------------------------------------------------------------------- metrics


def test_metrics_show_neither_requests_of_the_pod_level_nor_labels_off_the_list() -> None:
    made = world(workers=1, worker_labels=(("disk", "ssd"),))
    made.apply(deployment("whole", cpu=0, pod_level=Ask(cpu_millicores=900, memory_bytes=1 << 26)))
    made.apply(deployment("gpu", cpu=100, extended=(("nvidia.com/gpu", 2),)))
    made.advance(made.now_s + 10)
    page = made.kube_state_metrics().splitlines()
    requests = [line for line in page if line.startswith("kube_pod_container_resource_requests{")]
    assert [line.rpartition(" ")[0] for line in requests if 'pod="whole-' in line and '"cpu"' in line] == []
    assert any('pod="gpu-' in line and 'resource="nvidia_com_gpu"' in line and line.endswith(" 2") for line in requests)
    labels = [line for line in page if line.startswith("kube_node_labels{") and instance_id(0) in line]
    assert len(labels) == 1
    assert "disk" not in labels[0]
    assert "hostname" not in labels[0]
    assert 'label_topology_kubernetes_io_zone="us-east-1a"' in labels[0]

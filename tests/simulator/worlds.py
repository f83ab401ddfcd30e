"""Small worlds for tests, and short names for what goes into them."""

from typing import Any

from autoscaler.model import (
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    NodeCommand,
    Verb,
)
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import MIB, Ask, Budget, Kind, PodTemplate, Workload
from autoscaler.simulator.world.world import NodeView, PodView, World, WorldSettings

START_S = 1_800_000_000.0
POLICY = Policy(version=1)
SERVER_ID = "i-0aaaaaaaaaaaaaa10"


def world(*, workers: int = 0, **settings: Any) -> World:
    """A world whose workers are Ready."""
    made = World(WorldSettings(cluster_id="test", boot_s=(20.0, 30.0), **settings), now_s=START_S)
    if workers:
        made.see_instances([row(number) for number in range(workers)])
        made.advance(START_S + 60)
    return made


def cluster(*, workers: int = 2, **more: Any) -> SimCluster:
    return SimCluster(POLICY, workers=workers, **more)


def instance_id(number: int) -> str:
    return f"i-0{number:016x}"


def node_name(number: int) -> str:
    return f"worker-{instance_id(number)}"


def row(number: int, *, state: str = "running", instance_type: str = "t3.small", **tags: str) -> dict[str, Any]:
    """A raw DescribeInstances row of a worker of ours."""
    labels = {MANAGED_BY_TAG: MANAGED_BY_VALUE, CLUSTER_TAG: "test", **tags}
    return {
        "InstanceId": instance_id(number),
        "State": {"Code": 16, "Name": state},
        "InstanceType": instance_type,
        "Placement": {"AvailabilityZone": "us-east-1a" if number % 2 == 0 else "us-east-1b"},
        "PrivateIpAddress": f"10.0.9.{number + 1}",
        "Tags": [{"Key": key, "Value": value} for key, value in labels.items() if value],
    }


def deployment(
    name: str = "web",
    *,
    replicas: int = 1,
    cpu: int = 500,
    burn: float = 0.0,
    budget: Budget | None = None,
    **template: Any,
) -> Workload:
    request = Ask(cpu_millicores=cpu, memory_bytes=64 * MIB)
    return Workload(
        namespace="shop",
        name=name,
        replicas=replicas,
        budget=budget,
        template=PodTemplate(request=request, burn_cores=burn, **template),
    )


def database(*, replicas: int = 1) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=200, memory_bytes=64 * MIB))
    return Workload(
        namespace="shop", name="db", kind=Kind.STATEFUL_SET, replicas=replicas, template=template, local_volume=True
    )


def bare(name: str = "job", **template: Any) -> Workload:
    return Workload(namespace="batch", name=name, kind=Kind.POD, template=PodTemplate(**template))


def pods_of(where: World, owner: str) -> list[PodView]:
    return [pod for pod in where.pods if pod.owner == owner]


def node(where: World, name: str) -> NodeView:
    return next(one for one in where.nodes if one.name == name)


def has_node(where: World, name: str) -> bool:
    return any(one.name == name for one in where.nodes)


def command(
    verb: Verb = Verb.DRAIN, number: int = 0, *, operation: str = "op-1", fence: int = 1, **more: Any
) -> NodeCommand:
    """A command for worker `number`."""
    zone = "us-east-1a" if number % 2 == 0 else "us-east-1b"
    fields: dict[str, Any] = {
        "verb": verb,
        "node_name": node_name(number),
        "provider_id": f"aws:///{zone}/{instance_id(number)}",
        "operation_id": operation,
        "fence": fence,
        "not_after_s": int(START_S) + 100_000,
        "timeout_s": 300,
        **more,
    }
    return NodeCommand(**fields)

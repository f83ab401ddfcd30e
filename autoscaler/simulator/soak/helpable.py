"""Whom a new worker would help: the filters, asked of what such a worker really is in this world."""

from collections.abc import Container

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.instance_types import CATALOGUE
from autoscaler.model import CLUSTER_TAG, OPERATION_TAG
from autoscaler.model.rules import NodeSpec
from autoscaler.pools import WorkerPool
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.soak.pools import pool_of_instance
from autoscaler.simulator.world.labels import arch_of, managed_labels, node_labels
from autoscaler.simulator.world.objects import SimPod, sizes_of
from autoscaler.simulator.world.rules import allocatable_of, cluster_of, pod_rules, rules_of
from autoscaler.simulator.world.scheduler import belongs
from autoscaler.simulator.world.workload import Kind


def helpable(cluster: SimCluster, *, before: Container[str] = ()) -> list[SimPod]:
    """The waiting pods that would find a place on one more worker, of some type and in some zone.

    `before`: of launches that the workers are not counted of, as if they were still to come.
    """
    state = cluster.world.state
    waiting = [pod for pod in state.unbound.values() if pod.waits]
    if not waiting:
        return []
    helped: dict[str, SimPod] = {}
    for spec in _new_workers(cluster, before):
        there = cluster_of(state)
        node = _opened(there, spec, cluster)
        for pod in waiting:
            if pod.uid not in helped and first_refusal(pod_rules(state, pod), node, there) is None:
                helped[pod.uid] = pod
    return [*helped.values()]


def _new_workers(cluster: SimCluster, before: Container[str]) -> list[NodeSpec]:
    """One for each type and zone of pools that are not full, as it is once it takes pods."""
    settings, zones = cluster.world.settings, {zone for _, zone in cluster.ec2.settings.subnet_zones}
    taints = settings.worker_taints if settings.worker_taints_for_s is None else ()
    specs = []
    pools = [pool for pool in cluster.policy.pools if not _is_full(cluster, pool, before)]
    kinds = [(pool, kind) for pool in pools for kind in pool.instance_types]
    for pool, instance_type in kinds:
        _, allocatable = sizes_of(instance_type)
        for zone in sorted(zones):
            name = f"new-{pool.name}-{instance_type}-{zone}"
            labels = node_labels(name, arch=arch_of(instance_type), instance_type=instance_type, zone=zone)
            labels |= managed_labels(pool.name, pool.market) | dict(settings.worker_labels) | pool.labels
            specs.append(
                NodeSpec(
                    name=name,
                    labels=tuple(sorted(labels.items())),
                    taints=(*taints, *pool.parsed_taints),
                    allocatable=allocatable_of(allocatable, settings.max_pods, CATALOGUE[instance_type].extended),
                )
            )
    return specs


def _is_full(cluster: SimCluster, pool: WorkerPool, before: Container[str]) -> bool:
    """Whether the pool has its max."""
    living = [cluster.ec2.instances[instance_id] for instance_id in cluster.workers()]
    # Whose tag of the cluster somebody took off is counted by nobody.
    living = [one for one in living if CLUSTER_TAG in one.tags and one.tags.get(OPERATION_TAG) not in before]
    there = sum(pool_of_instance(cluster.policy, one).name == pool.name for one in living)
    return pool.max is not None and there >= pool.max


def _opened(there: Cluster, spec: NodeSpec, cluster: SimCluster) -> NodeInfo:
    """With its daemons on it."""
    node = there.add_node(spec)
    for workload in cluster.world.state.workloads.values():
        if workload.kind is Kind.DAEMON_SET and belongs(workload, spec):
            there.place(rules_of(workload), node)
    return node

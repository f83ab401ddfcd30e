"""Life of machines and Node objects: boot, join, get ready, break, die, be deleted."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from autoscaler.instance_types import CATALOGUE
from autoscaler.model import (
    ALIVE,
    ASG_TAG,
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    ON_DEMAND,
    POOL_TAG,
    ROLE_TAG,
    InstanceState,
)
from autoscaler.model.rules import Labels, Taint
from autoscaler.pools import GENERAL, WorkerPool, default_of
from autoscaler.simulator.world.controllers import give_up_pods, kubelet_returned, remove_pod
from autoscaler.simulator.world.labels import arch_of, managed_labels, node_labels
from autoscaler.simulator.world.objects import (
    SYSTEM_BURN_CORES,
    SYSTEM_MEMORY_BYTES,
    ClusterState,
    Machine,
    Meter,
    SimNode,
    sizes_of,
)
from autoscaler.simulator.world.workload import Kind

REREGISTER_S: Final = 10.0
"""An agent whose Node is deleted under it restarts and registers again."""


class NodeTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, in seconds, and what new Nodes are like."""

    boot_s: tuple[float, float]
    ready_s: float
    monitor_grace_s: float
    toleration_s: float
    max_pods: int
    dual_stack: bool
    with_node_id: bool = False
    worker_taints: tuple[Taint, ...] = ()
    worker_taints_for_s: float | None = None
    worker_labels: Labels = ()
    pools: tuple[WorkerPool, ...] = ()
    device_plugin_s: float | None = None

    def pool_of(self, machine: Machine) -> WorkerPool | None:
        """The pool of a machine that we launched; None where no pools are told."""
        if not machine.managed or not self.pools:
            return None
        return next((pool for pool in self.pools if pool.name == machine.pool), default_of(self.pools))


def is_worker_row(row: Mapping[str, Any], cluster_id: str) -> bool:
    """Whether a DescribeInstances row is one of our workers, by the tag contract."""
    tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}
    return (
        tags.get(MANAGED_BY_TAG) == MANAGED_BY_VALUE
        and tags.get(CLUSTER_TAG) == cluster_id
        and tags.get(ROLE_TAG) != "server"
        and ASG_TAG not in tags
    )


class Nodes:
    """Follows EC2: new machines boot and join, gone ones die."""

    def __init__(self, state: ClusterState, traits: NodeTraits, cluster_id: str) -> None:
        self._state = state
        self._traits = traits
        self._cluster_id = cluster_id

    def see_instances(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take DescribeInstances' rows as the truth about machines."""
        state = self._state
        seen: dict[str, str] = {}
        for row in rows:
            instance_id, machine_state = row["InstanceId"], row["State"]["Name"]
            seen[instance_id] = machine_state
            known = instance_id in state.machines
            if not known and machine_state == InstanceState.RUNNING and is_worker_row(row, self._cluster_id):
                self._boot(row)
        for machine in list(state.machines.values()):
            listed = seen.get(machine.instance_id)
            # The server and static workers may live outside the emulated EC2: only a row can end them.
            gone = (listed is None and machine.managed) or (listed is not None and listed not in ALIVE)
            if machine.alive and gone:
                self.kill(machine)
            elif not machine.alive and listed == InstanceState.RUNNING:
                self._start_again(machine)
            elif listed is None and not machine.alive and machine.node_name not in state.nodes:
                del state.machines[machine.instance_id]  # forgotten by everybody

    def add_fixed(self, machine: Machine, labels: Mapping[str, str], taints: tuple[Taint, ...]) -> None:
        """Register a node that is there from the start, Ready."""
        self._state.machines[machine.instance_id] = machine
        node = self._register(machine, labels, taints)
        node.ready = True

    def _boot(self, row: Mapping[str, Any]) -> None:
        state, faults = self._state, self._state.faults
        tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}
        machine = Machine(
            pool=tags.get(POOL_TAG, ""),
            market=row.get("InstanceLifecycle") or ON_DEMAND,
            instance_id=row["InstanceId"],
            instance_type=row["InstanceType"],
            zone=row["Placement"]["AvailabilityZone"],
            arch=arch_of(row["InstanceType"]),
            ip=row.get("PrivateIpAddress", ""),
            node_name=self._name(row["InstanceId"]),
            cpu=Meter(state.now_s, SYSTEM_BURN_CORES, state.keep_s),
            memory=Meter(state.now_s, float(SYSTEM_MEMORY_BYTES), state.keep_s),
            booted_at_s=state.now_s,
            dual_stack=self._traits.dual_stack,
            k3s_version=state.k3s_version,
        )
        sizes_of(machine.instance_type)  # an unknown type is refused before anything changes
        state.touch()
        state.machines[machine.instance_id] = machine
        state.tell("machine", machine.instance_id, f"boots ({machine.instance_type}, {machine.zone})")
        if faults.never_join or machine.zone == faults.never_join_in:
            return
        delay_s = state.rng.uniform(*self._traits.boot_s) + faults.join_delay_s
        state.at(state.now_s + delay_s, lambda: self.join(machine))

    def _name(self, instance_id: str) -> str:
        """As worker-bootstrap.sh sets it; K3s adds eight digits of its own where it is told to."""
        name = f"worker-{instance_id}"
        return f"{name}-{sha256(name.encode()).hexdigest()[:8]}" if self._traits.with_node_id else name

    def _start_again(self, machine: Machine) -> None:
        """A machine that was stopped boots once more; its Node, if nobody deleted it, gets Ready again."""
        state = self._state
        state.touch()
        machine.alive = True
        machine.counters_reset_at_s = state.now_s
        state.tell("machine", machine.instance_id, "boots again")

        def boot() -> None:
            node = state.nodes.get(machine.node_name)
            if node is None:
                self.join(machine)
            else:
                state.dirty_nodes.add(node.name)
                self.set_ready(node, ready=True)

        state.at(state.now_s + state.rng.uniform(*self._traits.boot_s), boot)

    def join(self, machine: Machine) -> None:
        """The agent registers its Node, which gets ready a little later."""
        state = self._state
        if not machine.alive or machine.node_name in state.nodes:
            return
        traits, pool = self._traits, self._traits.pool_of(machine)
        labels: dict[str, str] = {}
        if machine.managed:
            labels = managed_labels(machine.pool or (pool.name if pool is not None else GENERAL), machine.market)
            labels |= dict(traits.worker_labels) | (pool.labels if pool is not None else {})
        own = pool.parsed_taints if pool is not None else ()
        node = self._register(machine, labels, (*traits.worker_taints, *own) if machine.managed else ())
        self._await_device_plugin(node)
        if node.extra_taints and self._traits.worker_taints_for_s is not None:
            state.at(state.now_s + self._traits.worker_taints_for_s, lambda: self._untaint(node, own))
        node.broken = state.faults.broken_image
        node.useless = state.faults.useless
        state.tell("node", node.name, "joined")
        state.at(state.now_s + self._traits.ready_s, lambda: self.set_ready(node, ready=True))

    def _register(self, machine: Machine, labels: Mapping[str, str], taints: tuple[Taint, ...]) -> SimNode:
        state = self._state
        capacity, allocatable = sizes_of(machine.instance_type)
        node = SimNode(
            name=machine.node_name,
            uid=state.new_uid(),
            machine=machine,
            created_at_s=state.now_s,
            labels={**_labels_of(machine), **labels},
            capacity=capacity,
            allocatable=allocatable,
            max_pods=self._traits.max_pods,
            ready_since_s=state.now_s,
            extra_taints=taints,
        )
        state.nodes[node.name] = node
        self._offer_daemons()
        state.schedule_due = True
        return node

    def _await_device_plugin(self, node: SimNode) -> None:
        """It tells the kubelet of the machine's devices once it runs there."""
        state, after_s = self._state, self._traits.device_plugin_s
        extended = CATALOGUE[node.machine.instance_type].extended
        if not extended or after_s is None:
            return

        def tell() -> None:
            node.extended = extended
            state.schedule_due = True

        state.at(state.now_s + after_s, tell)

    def _untaint(self, node: SimNode, left: tuple[Taint, ...]) -> None:
        """The controller that waited for its agent on the node is content: the pool's own taints are left."""
        node.extra_taints = left
        self._state.schedule_due = True
        self._offer_daemons()

    def _offer_daemons(self) -> None:
        """Let every DaemonSet look whether it belongs on one more node."""
        state = self._state
        for key, workload in state.workloads.items():
            if workload.kind is Kind.DAEMON_SET:
                state.dirty_owners.add(key)

    def set_ready(self, node: SimNode, *, ready: bool) -> None:
        """The Ready condition turns, if the kubelet agrees and the Node object is still the same."""
        state = self._state
        if state.nodes.get(node.name) is not node or ready != node.kubelet_works:
            return
        if ready:
            node.silent_since_s = None
            kubelet_returned(state, node)
        if node.ready == ready:
            return
        node.ready = ready
        node.ready_since_s = state.now_s
        state.tell("node", node.name, "is Ready" if ready else "is NotReady")
        state.schedule_due = True
        if ready:
            self._offer_daemons()
        else:
            lost_at_s = state.now_s
            state.at(lost_at_s + self._traits.toleration_s, lambda: self._give_up(node, lost_at_s))

    def _give_up(self, node: SimNode, lost_at_s: float) -> None:
        if self._state.nodes.get(node.name) is node and not node.ready and node.ready_since_s == lost_at_s:
            give_up_pods(self._state, node)

    def kill(self, machine: Machine) -> None:
        """The machine is gone. Its Node object stays: K3s removes none."""
        state = self._state
        state.touch()
        machine.alive = False
        state.tell("machine", machine.instance_id, "is gone")
        self._lose(machine.node_name)

    def break_node(self, name: str) -> None:
        """Its kubelet stops working."""
        self._state.nodes[name].broken = True
        self._lose(name)

    def mend_node(self, name: str) -> None:
        """Its kubelet works again."""
        node = self._state.nodes[name]
        node.broken = False
        self._state.at(self._state.now_s + self._traits.ready_s, lambda: self.set_ready(node, ready=True))

    def _lose(self, name: str) -> None:
        state = self._state
        node = state.nodes.get(name)
        if node is None:
            return
        state.dirty_nodes.add(name)
        node.silent_since_s = silent_since_s = state.now_s

        def notice() -> None:
            if node.silent_since_s == silent_since_s:
                self.set_ready(node, ready=False)

        # The control plane notices when heartbeats have been missing for a while.
        state.at(silent_since_s + self._traits.monitor_grace_s, notice)

    def cordon(self, node: SimNode) -> None:
        """Close the node for new pods."""
        if not node.cordoned:
            node.cordoned = True
            self._state.tell("node", node.name, "is cordoned")

    def uncordon(self, node: SimNode) -> None:
        """Open the node again."""
        if node.cordoned:
            node.cordoned = False
            self._state.schedule_due = True
            self._state.tell("node", node.name, "is uncordoned")

    def delete(self, node: SimNode) -> None:
        """Delete the Node object; its pods go with it. A living agent registers again."""
        state = self._state
        del state.nodes[node.name]
        for pod in list(node.pods.values()):
            remove_pod(state, pod)
        state.tell("node", node.name, "is deleted")
        machine = node.machine
        machine.cpu.set(state.now_s, SYSTEM_BURN_CORES if machine.alive else 0.0)
        if machine.alive:
            state.at(state.now_s + REREGISTER_S, lambda: self.join(machine))


def _labels_of(machine: Machine) -> dict[str, str]:
    """A machine of EC2 knows its type and zone; bare metal does not."""
    of_ec2 = not machine.foreign_provider_id
    return node_labels(
        machine.node_name,
        arch=machine.arch,
        instance_type=machine.instance_type if of_ec2 else "",
        zone=machine.zone if of_ec2 else "",
    )

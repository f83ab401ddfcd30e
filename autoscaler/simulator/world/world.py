"""The simulated K3s cluster: no I/O and no clock, time is given.

`advance` is the only thing that lets time pass; everything else happens at the time that was reached last. Nothing is
done per second: the agenda knows what happens next.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.model import NodeCommand
from autoscaler.model.rules import Effect, Labels, Taint
from autoscaler.pools import WorkerPool
from autoscaler.simulator.commands import CommandRunner, CommandStatus
from autoscaler.simulator.metrics.exposition import kube_state_metrics
from autoscaler.simulator.metrics.node_exporter import node_exporter
from autoscaler.simulator.world.controllers import BudgetStatus, budget_status, create_bare_pods, live_pods, settle
from autoscaler.simulator.world.labels import control_plane_labels
from autoscaler.simulator.world.nodes import Nodes, NodeTraits
from autoscaler.simulator.world.objects import (
    SYSTEM_BURN_CORES,
    SYSTEM_MEMORY_BYTES,
    ClusterState,
    Faults,
    Machine,
    Meter,
    Phase,
    SimNode,
    TimelineEvent,
)
from autoscaler.simulator.world.workload import Kind, Workload, packaged_add_ons

CRITICAL_ADD_ONS_ONLY: Final = Taint(key="CriticalAddonsOnly", value="true", effect=Effect.NO_EXECUTE)
"""The taint that K3s' documentation gives a server that shall run no workloads."""


class FixedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is there from the start: a server, or a static worker that we never touch."""

    name: str
    instance_id: str
    instance_type: str = "t3.small"
    zone: str = "us-east-1a"
    arch: str = "amd64"
    ip: str = "10.0.1.20"
    server: bool = False
    tagged: bool = True
    """Carries the cluster's tag: else DescribeInstances does not list it, and only its Node shows it."""
    provider_id: str = ""
    """Of what is no EC2 instance, as K3s writes it: `k3s://<node>`. Such a machine is in no zone."""


SERVER: Final = FixedNode(
    name="ip-10-0-1-10", instance_id="i-0aaaaaaaaaaaaaa10", instance_type="t3.medium", ip="10.0.1.10", server=True
)


class WorldSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster is like. Times in seconds."""

    cluster_id: str
    boot_s: tuple[float, float] = (25.0, 45.0)
    """From a running instance to its Node object, NotReady at first."""
    ready_s: float = 5.0
    """From the Node object to Ready."""
    fixed_nodes: tuple[FixedNode, ...] = (SERVER,)
    server_tainted: bool = True
    """Servers run packaged add-ons only; False is K3s' own default."""
    add_ons: tuple[Workload, ...] = msgspec.field(default_factory=packaged_add_ons)
    max_pods: int = 110
    with_node_id: bool = False
    """K3s' `--with-node-id`: workers add digits to their Node's name."""
    worker_taints: tuple[Taint, ...] = ()
    """Taints with which workers register (`--node-taint`)."""
    worker_taints_for_s: float | None = None
    """A controller takes them off after this long; None: they stay."""
    worker_labels: Labels = ()
    """Labels that workers register with beside those of our bootstrap (`--node-label`)."""
    pools: tuple[WorkerPool, ...] = ()
    """Whose labels and taints workers register with, by their instance's tag (the policy's, in `SimCluster`)."""
    device_plugin_s: float | None = 10.0
    """From a Node's registration to its extended resources; None: nobody runs the device plugin."""
    dual_stack: bool = False
    """Each node has an IPv4 and an IPv6 address; node-exporter answers on the first."""
    monitor_grace_s: float = 40.0
    """From the last heartbeat to NotReady (kube-controller-manager's node-monitor-grace-period)."""
    toleration_s: float = 300.0
    """From NotReady to the deletion of the node's pods (Kubernetes' default tolerationSeconds)."""
    keep_s: float = 1800.0
    """How far back CPU counters can be asked."""
    max_events: int = 10_000
    seed: int = 1


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, for a display."""

    namespace: str
    name: str
    owner: str
    """`namespace/name` of its workload."""
    node: str
    phase: str
    ready: bool
    terminating: bool
    unschedulable_since_s: float | None
    cpu_millicores: int
    memory_bytes: int
    burn_cores: float


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node, for a display. `cpu_used` and `memory_used` are ratios of capacity."""

    name: str
    instance_id: str
    instance_type: str
    zone: str
    server: bool
    managed: bool
    alive: bool
    ready: bool
    cordoned: bool
    created_at_s: float
    pods: int
    cpu_used: float
    memory_used: float
    cpu_requested_millicores: int
    memory_requested_bytes: int


class World:
    """One K3s cluster and the machines under it."""

    def __init__(self, settings: WorldSettings, *, now_s: float) -> None:
        self.settings = settings
        self.state = ClusterState(
            now_s=now_s, seed=settings.seed, keep_s=settings.keep_s, max_events=settings.max_events
        )
        traits = NodeTraits(
            boot_s=settings.boot_s,
            ready_s=settings.ready_s,
            monitor_grace_s=settings.monitor_grace_s,
            toleration_s=settings.toleration_s,
            max_pods=settings.max_pods,
            dual_stack=settings.dual_stack,
            with_node_id=settings.with_node_id,
            worker_taints=settings.worker_taints,
            worker_taints_for_s=settings.worker_taints_for_s,
            worker_labels=settings.worker_labels,
            pools=settings.pools,
            device_plugin_s=settings.device_plugin_s,
        )
        self._nodes = Nodes(self.state, traits, settings.cluster_id)
        self._commands = CommandRunner(self.state, self._nodes)
        for fixed in settings.fixed_nodes:
            self._add_fixed(fixed)
        for workload in settings.add_ons:
            self.apply(workload)

    def _add_fixed(self, fixed: FixedNode) -> None:
        machine = Machine(
            instance_id=fixed.instance_id,
            instance_type=fixed.instance_type,
            zone=fixed.zone,
            arch=fixed.arch,
            ip=fixed.ip,
            node_name=fixed.name,
            server=fixed.server,
            managed=False,
            cpu=Meter(self.state.now_s, SYSTEM_BURN_CORES, self.state.keep_s),
            memory=Meter(self.state.now_s, float(SYSTEM_MEMORY_BYTES), self.state.keep_s),
            booted_at_s=self.state.now_s,
            foreign_provider_id=fixed.provider_id,
            dual_stack=self.settings.dual_stack,
        )
        labels = control_plane_labels() if fixed.server else {}
        taints = (CRITICAL_ADD_ONS_ONLY,) if fixed.server and self.settings.server_tainted else ()
        self._nodes.add_fixed(machine, labels, taints)

    # ------------------------------------------------------------------------------------------------------------ time

    @property
    def now_s(self) -> float:
        """The time that was reached."""
        return self.state.now_s

    @property
    def faults(self) -> Faults:
        """Switches for tests. Looking at them marks the present: what was seen until now was without the change."""
        self.state.touch()
        return self.state.faults

    def advance(self, now_s: float) -> None:
        """Let everything happen that is due until `now_s`. Raises ValueError for a time before the one reached."""
        state = self.state
        if now_s < state.now_s:
            raise ValueError(f"time runs forward only: {now_s} is before {state.now_s}")
        while (due_s := state.next_at_s()) is not None and due_s <= now_s:
            state.now_s = max(state.now_s, due_s)
            state.touch()
            while (action := state.pop_due(state.now_s)) is not None:
                action()
            settle(state)
        state.now_s = now_s

    def next_event_s(self) -> float | None:
        """When something happens next by itself; None when nothing will."""
        return self.state.next_at_s()

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        """Let `action` happen at `when_s` (now, when that is past)."""
        self.state.at(when_s, action)

    # -------------------------------------------------------------------------------------------------------- machines

    def see_instances(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take raw DescribeInstances rows as the truth: new running workers boot, gone ones die.

        A worker of ours that is not listed counts as gone; the server and static workers only when a row says so.
        """
        self._nodes.see_instances(rows)
        settle(self.state)

    def break_node(self, name: str) -> None:
        """Stop the node's kubelet: it turns NotReady after `monitor_grace_s`. Raises KeyError for an unknown name."""
        self.state.touch()
        self._nodes.break_node(name)
        settle(self.state)

    def mend_node(self, name: str) -> None:
        """Start the node's kubelet again. Raises KeyError for an unknown name."""
        self.state.touch()
        self._nodes.mend_node(name)
        settle(self.state)

    def upgrade_servers(self, version: str, *, new_workers: bool = True) -> None:
        """The servers run this K3s from now on; `new_workers`: and who joins from now on does."""
        self.state.touch()
        for machine in self.state.machines.values():
            if machine.server:
                machine.k3s_version = version
        if new_workers:
            self.state.k3s_version = version

    def reset_counters(self, name: str) -> None:
        """The counters of the node's exporter begin at zero again. Raises KeyError for an unknown name."""
        self.state.touch()
        self.state.nodes[name].machine.counters_reset_at_s = self.state.now_s

    def cordon(self, name: str) -> None:
        """Cordon the node as a person would: the commands leave such a cordon alone. Raises KeyError."""
        self.state.touch()
        self._nodes.cordon(self.state.nodes[name])

    def uncordon(self, name: str) -> None:
        """Uncordon the node as a person would. Raises KeyError for an unknown name."""
        self.state.touch()
        self._nodes.uncordon(self.state.nodes[name])
        self._commands.look_again(name)
        settle(self.state)

    # ------------------------------------------------------------------------------------------------------- workloads

    def apply(self, workload: Workload) -> None:
        """Create a workload, or change its replicas, budget and later pods. Pods that run keep their template."""
        state = self.state
        state.touch()
        known = state.workloads.get(workload.key)
        if known is not None and known.kind is not workload.kind:
            raise ValueError(f"{workload.key} is a {known.kind} already: delete it before it becomes a {workload.kind}")
        state.workloads[workload.key] = workload
        state.tell("workload", workload.key, f"applied: {workload.kind}, {workload.replicas} replicas")
        if workload.kind is not Kind.POD:
            state.dirty_owners.add(workload.key)
        elif known is None:
            create_bare_pods(state, workload)
        settle(state)

    def scale(self, owner: str, replicas: int) -> None:
        """Set the replicas of `namespace/name`. Raises KeyError for an unknown owner, ValueError for what has none."""
        kind = self.state.workloads[owner].kind
        if kind not in (Kind.DEPLOYMENT, Kind.STATEFUL_SET):
            raise ValueError(f"{owner} is a {kind}: only a Deployment or StatefulSet is scaled")
        self.state.touch()
        self.state.workloads[owner] = msgspec.structs.replace(self.state.workloads[owner], replicas=replicas)
        self.state.tell("workload", owner, f"scaled to {replicas}")
        self.state.dirty_owners.add(owner)
        settle(self.state)

    def burn(self, owner: str, cores: float) -> None:
        """Set the CPU that each pod of `namespace/name` wants, running ones too. Raises KeyError."""
        state = self.state
        state.touch()
        workload = state.workloads[owner]
        template = msgspec.structs.replace(workload.template, burn_cores=cores)
        state.workloads[owner] = msgspec.structs.replace(workload, template=template)
        for pod in live_pods(state, owner):
            pod.template = msgspec.structs.replace(pod.template, burn_cores=cores)
            if pod.node is not None:
                state.dirty_nodes.add(pod.node.name)
        state.tell("workload", owner, f"burns {cores:g} cores a pod")
        settle(state)

    def follow(self, changes: Sequence[tuple[str, int, float]]) -> None:
        """(owner, replicas, cores a pod) of many at one moment, as `scale` and `burn` do for one. Raises KeyError.

        All is settled once: the scheduler sees the pods of all of them together.
        """
        state = self.state
        state.touch()
        for owner, replicas, cores in changes:
            workload = state.workloads[owner]
            template = msgspec.structs.replace(workload.template, burn_cores=cores)
            state.workloads[owner] = msgspec.structs.replace(workload, replicas=replicas, template=template)
            if replicas != workload.replicas:
                state.dirty_owners.add(owner)
            if cores != workload.template.burn_cores:
                for pod in live_pods(state, owner):
                    alike = pod.template is workload.template
                    pod.template = template if alike else msgspec.structs.replace(pod.template, burn_cores=cores)
                    if pod.node is not None:
                        state.dirty_nodes.add(pod.node.name)
        settle(state)

    def delete(self, owner: str) -> None:
        """Delete a workload and its pods; its volumes stay. Raises KeyError for an unknown owner."""
        self.state.touch()
        del self.state.workloads[owner]
        self.state.tell("workload", owner, "deleted")
        self.state.dirty_owners.add(owner)
        settle(self.state)

    # --------------------------------------------------------------------------------------------------- node commands

    def start_command(self, command: NodeCommand, command_id: str) -> None:
        """Run a node command on the server, as SSM would. A known `command_id` is left alone."""
        self.state.touch()
        self._commands.start(command, command_id)
        settle(self.state)

    def drains(self, command: NodeCommand) -> bool:
        """Whether this drain runs now."""
        return self._commands.drains(command)

    def lose_command(self, command_id: str) -> None:
        """The server that runs the command is gone."""
        self.state.touch()
        self._commands.lose(command_id)
        settle(self.state)

    def command_status(self, command_id: str) -> CommandStatus | None:
        """What SSM would say of it; None for an unknown id."""
        return self._commands.status(command_id)

    # ----------------------------------------------------------------------------------------------------------- views

    def kube_state_metrics(self) -> str:
        """What kube-state-metrics exposes now."""
        return kube_state_metrics(self.state)

    def node_exporters(self) -> dict[str, str]:
        """What each node-exporter exposes now, by node name; nodes that are down have none."""
        state = self.state
        return {
            name: node_exporter(node, state.now_s)
            for name, node in state.nodes.items()
            if exporter_answers(state, node)
        }

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """All Node objects, oldest first."""
        return tuple(self._node_view(node) for node in self.state.nodes.values())

    def _node_view(self, node: SimNode) -> NodeView:
        now_s, machine = self.state.now_s, node.machine
        return NodeView(
            name=node.name,
            instance_id=machine.instance_id,
            instance_type=machine.instance_type,
            zone=machine.zone,
            server=machine.server,
            managed=machine.managed,
            alive=machine.alive,
            ready=node.ready,
            cordoned=node.cordoned,
            created_at_s=node.created_at_s,
            pods=len(node.pods),
            cpu_used=machine.cpu.rate(now_s) * 1000 / node.capacity.cpu_millicores,
            memory_used=machine.memory.rate(now_s) / node.capacity.memory_bytes,
            cpu_requested_millicores=node.asked_millicores,
            memory_requested_bytes=node.asked_bytes,
        )

    @property
    def pods(self) -> tuple[PodView, ...]:
        """All Pod objects, oldest first."""
        return tuple(
            PodView(
                namespace=pod.namespace,
                name=pod.name,
                owner=pod.workload.key,
                node=pod.node.name if pod.node is not None else "",
                phase=pod.phase.value,
                ready=pod.ready,
                terminating=pod.terminating,
                unschedulable_since_s=pod.unschedulable_since_s,
                cpu_millicores=pod.ask.cpu_millicores,
                memory_bytes=pod.ask.memory_bytes,
                burn_cores=pod.template.burn_cores if pod.phase is Phase.RUNNING else 0.0,
            )
            for pod in self.state.pods.values()
        )

    @property
    def events(self) -> Sequence[TimelineEvent]:
        """What happened, oldest first; only the newest `max_events` are kept."""
        return tuple(self.state.timeline)

    def budget(self, owner: str) -> BudgetStatus | None:
        """Status of the owner's PodDisruptionBudget; None where it has none. Raises KeyError for an unknown owner."""
        return budget_status(self.state, self.state.workloads[owner])


def exporter_answers(state: ClusterState, node: SimNode) -> bool:
    """Whether the node-exporter on the node can be scraped."""
    return node.machine.alive and node.name not in state.faults.unmeasured

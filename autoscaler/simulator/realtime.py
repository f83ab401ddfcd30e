"""The simulated cluster in real time, behind a lock: its machines are the instances that EC2 lists."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.model import NodeCommand, Sample, Verb
from autoscaler.policy import Policy
from autoscaler.simulator.emulator.events import EventBus, command_event, instance_event
from autoscaler.simulator.emulator.moto import ShellResult
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.world.objects import TimelineEvent
from autoscaler.simulator.world.workload import Workload
from autoscaler.simulator.world.world import FixedNode, NodeView, PodView, World, WorldSettings

TICK_S: Final = 0.25
RUNNING: Final = frozenset({"Pending", "InProgress"})


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """One node command that was sent to the server."""

    command_id: str
    sent_at_s: float
    verb: Verb
    node_name: str
    operation_id: str
    status: str
    output: str
    """The document's result line; empty while it runs."""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """What a display or a test sees of the cluster."""

    now_s: float
    nodes: tuple[NodeView, ...]
    pods: tuple[PodView, ...]
    instances: tuple[dict[str, Any], ...]
    """Id, state, type, zone and launch time of each EC2 instance of the cluster, dead ones too."""
    commands: tuple[CommandView, ...]
    """Every node command, oldest first."""
    events: tuple[TimelineEvent, ...]


class RealTimeCluster:
    """One `World` that follows the clock. Every method may be called from any thread."""

    def __init__(
        self,
        settings: WorldSettings,
        *,
        region: str,
        describe: Callable[[], Sequence[Mapping[str, Any]]],
        bus: EventBus,
        clock: Callable[[], float],
        policy: Policy | None = None,
    ) -> None:
        self._clock = clock
        self._world = World(settings, now_s=clock())
        self._recorder = Recorder(self._world, policy) if policy is not None else None
        self._region = region
        self._describe = describe
        self._bus = bus
        self._lock = threading.RLock()
        self._rows: tuple[Mapping[str, Any], ...] = ()
        self._states: dict[str, str] = {}
        self._commands: dict[str, tuple[float, NodeCommand]] = {}
        self._unfinished: dict[str, str] = {}
        """Document names of commands whose end was not announced yet, by command id."""

    def start(self) -> None:
        """Begin to follow the clock. A look that fails is told and tried again at the next tick."""
        self.tick()
        threading.Thread(target=self._follow, name="cluster", daemon=True).start()

    def _follow(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(TICK_S)
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to, and the next look may succeed
                sys.stderr.write(f"the cluster could not be brought up to date: {error!r}\n")

    def tick(self) -> None:
        """Look at the instances, let the time pass, announce what ended."""
        rows = tuple(self._describe())
        with self._lock:
            self._catch_up()
            self._rows = rows
            self._world.see_instances(rows)
            now_s = self._world.now_s
            events = [*self._machine_events(now_s), *self._command_events(now_s)]
        for event in events:
            self._bus.publish(event)

    def _catch_up(self) -> World:
        """Let the world reach the clock; one that was set back is waited for."""
        self._world.advance(max(self._clock(), self._world.now_s))
        return self._world

    def _machine_events(self, now_s: float) -> list[dict[str, Any]]:
        found = []
        for row in self._rows:
            instance_id, state = row["InstanceId"], row["State"]["Name"]
            if self._states.get(instance_id, state) != state:
                found.append(instance_event(instance_id, state, at_s=now_s, region=self._region))
            self._states[instance_id] = state
        return found

    def _command_events(self, now_s: float) -> list[dict[str, Any]]:
        ended = []
        for command_id, document in list(self._unfinished.items()):
            status = self._world.command_status(command_id)
            if status is not None and status.status not in RUNNING:
                del self._unfinished[command_id]
                ended.append(command_event(command_id, document, status.status, at_s=now_s, region=self._region))
        return ended

    # --------------------------------------------------------------------------------------------------- Run Command

    def start_command(
        self, *, command_id: str, document: str, instance_id: str, parameters: Mapping[str, list[str]]
    ) -> None:
        """Run the node-command document on a server. Raises KeyError unless that server is running."""
        command = _node_command(parameters)
        with self._lock:
            world = self._catch_up()
            if not any(node.instance_id == instance_id and node.server and node.alive for node in world.nodes):
                raise KeyError(instance_id)
            world.start_command(command, command_id)
            self._commands[command_id] = (world.now_s, command)
            self._unfinished[command_id] = document

    def command_result(self, command_id: str) -> ShellResult | None:
        """What SSM knows of the command; None for one that is not ours."""
        with self._lock:
            status = self._catch_up().command_status(command_id)
        if status is None:
            return None
        exit_code = -1 if status.exit_code is None else status.exit_code
        return ShellResult(status=status.status, exit_code=exit_code, output=status.stdout)

    # --------------------------------------------------------------------------------------------------------- metrics

    def kube_state_metrics(self) -> str:
        """The text that kube-state-metrics would give now."""
        with self._lock:
            return self._catch_up().kube_state_metrics()

    def node_exporters(self) -> dict[str, str]:
        """The text of each node-exporter that answers now, by node."""
        with self._lock:
            return self._catch_up().node_exporters()

    def node_addresses(self) -> dict[str, str]:
        """The internal address of each Node, by name."""
        with self._lock:
            return {node.name: node.machine.ip for node in self._catch_up().state.nodes.values()}

    def answer(self, promql: str) -> list[Sample]:
        """What the simulator reckons that Prometheus answers to one of the core's queries; a test compares the two.

        Raises KeyError where no policy was given, ValueError for any other query.
        """
        if self._recorder is None:
            raise KeyError("the emulator was started without --policy: it answers no queries itself")
        with self._lock:
            now_s = self._catch_up().now_s
            return self._recorder.query(promql, now_s)

    # --------------------------------------------------------------------------------------------------------- control

    def state(self, since_s: float) -> ClusterState:
        """What the cluster is now, and what happened from `since_s` on."""
        with self._lock:
            world = self._catch_up()
            return ClusterState(
                now_s=world.now_s,
                nodes=world.nodes,
                pods=world.pods,
                instances=tuple(_instance(row) for row in self._rows),
                commands=tuple(self._command_view(command_id) for command_id in self._commands),
                events=tuple(event for event in world.events if event.at_s >= since_s),
            )

    def _command_view(self, command_id: str) -> CommandView:
        sent_at_s, command = self._commands[command_id]
        status = self._world.command_status(command_id)
        return CommandView(
            command_id=command_id,
            sent_at_s=sent_at_s,
            verb=command.verb,
            node_name=command.node_name,
            operation_id=command.operation_id,
            status=status.status if status is not None else "Pending",
            output=status.stdout if status is not None else "",
        )

    def apply(self, workload: Workload) -> None:
        """Create or change a workload. Raises ValueError."""
        with self._lock:
            self._catch_up().apply(workload)

    def scale(self, owner: str, replicas: int) -> None:
        """Set a workload's replicas. Raises KeyError for an unknown owner, ValueError for a negative number."""
        if replicas < 0:
            raise ValueError(f"{owner} cannot have {replicas} replicas: 0 is the least")
        with self._lock:
            self._known(owner).scale(owner, replicas)

    def burn(self, owner: str, cores: float) -> None:
        """Set the CPU that each pod of a workload wants. Raises KeyError for an unknown owner."""
        with self._lock:
            self._known(owner).burn(owner, cores)

    def delete(self, owner: str) -> None:
        """Delete a workload and its pods. Raises KeyError for an unknown owner."""
        with self._lock:
            self._known(owner).delete(owner)

    def _known(self, owner: str) -> World:
        world = self._catch_up()
        if owner not in world.state.workloads:
            raise KeyError(f"there is no workload {owner}")
        return world


def fixed_node(row: Mapping[str, Any], *, server: bool) -> FixedNode:
    """The Node of an instance that is there from the start, named as K3s names it: after its host."""
    address = str(row["PrivateIpAddress"])
    return FixedNode(
        name=f"ip-{address.replace('.', '-')}",
        instance_id=row["InstanceId"],
        instance_type=row["InstanceType"],
        zone=row["Placement"]["AvailabilityZone"],
        ip=address,
        server=server,
    )


def _node_command(parameters: Mapping[str, list[str]]) -> NodeCommand:
    """The document's parameters (docs/node-commands.md) as a value; defaults are the document's."""
    given = {name: values[0] for name, values in parameters.items()}
    return NodeCommand(
        verb=Verb(given["verb"]),
        node_name=given.get("node", ""),
        provider_id=given.get("providerId", ""),
        operation_id=given["operationId"],
        fence=int(given["fence"]),
        not_after_s=int(given["notAfter"]),
        timeout_s=int(given.get("timeoutSeconds", "300")),
        grace_s=int(given.get("graceSeconds", "-1")),
        reclaim=given.get("reclaim", "false") == "true",
    )


def _instance(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "instance_id": row["InstanceId"],
        "state": row["State"]["Name"],
        "instance_type": row["InstanceType"],
        "zone": row["Placement"]["AvailabilityZone"],
        "launched_at_s": row["LaunchTime"].timestamp(),
        "tags": {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())},
    }

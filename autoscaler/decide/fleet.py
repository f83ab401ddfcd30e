"""The workers as they are: the union by instance id of open operations, DescribeInstances and Nodes.

Nothing that any of the three sources knows is forgotten, and nothing is counted twice.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property

import msgspec

from autoscaler.model import (
    ALIVE,
    Instance,
    Joined,
    LaunchOperation,
    LaunchOverride,
    Node,
    Pod,
    RemovalOperation,
    RemovalPhase,
    Resources,
    Snapshot,
    State,
)
from autoscaler.state.memory import joined_lately


class Standing(StrEnum):
    """Where a worker stands."""

    READY = "ready"
    JOINING = "joining"
    """Launched and not yet a schedulable Node, or on its way back from a drain."""
    UNHEALTHY = "unhealthy"
    """A Node that is not Ready although nothing of ours is joining or leaving there."""
    LEAVING = "leaving"
    DEAD = "dead"
    """The instance is gone or going; a Node object may be left of it."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker."""

    key: str
    """Instance id, or the Node's name where metrics show no instance id."""
    standing: Standing
    node: Node | None
    instance: Instance | None
    removal: RemovalOperation | None = None
    launch: LaunchOperation | None = None
    joined: Joined | None = None
    """What its launch, which is over, said of it: meant for as long as EC2 does not list the instance."""
    pods: tuple[Pod, ...] | None = None
    """Its single pods; None where they were not asked for."""

    @property
    def title(self) -> str:
        """The name that people know it by."""
        return self.node.name if self.node is not None else self.key

    @property
    def ours(self) -> bool:
        """Whether we may ever end it."""
        return self.instance is not None and self.instance.managed

    def launched_by_us_after(self, when_s: int) -> bool:
        """Whether it is a worker of ours that is younger than that moment."""
        return self.ours and self.instance is not None and self.instance.launched_at_s >= when_s

    @property
    def zone(self) -> str | None:
        """Its availability zone, as far as anybody knows: before EC2 lists it, the one that its launch is for."""
        if self.instance is not None:
            return self.instance.zone
        if self.node is not None and self.node.zone is not None:
            return self.node.zone
        return self._asked[0].zone if self._asked else None

    @property
    def instance_type(self) -> str:
        """Its type: before EC2 lists it, the first that its launch names; empty where nobody knows."""
        if self.instance is not None:
            return self.instance.instance_type
        return self._asked[0].instance_type if self._asked else ""

    @property
    def _asked(self) -> tuple[LaunchOverride, ...]:
        """Of its launch: all in one zone, as a request for each is sent."""
        return self.launch.request.overrides if self.launch is not None else ()

    @property
    def empty(self) -> bool:
        """Whether a drain would evict nobody."""
        return self.node is None or self.node.movable == 0

    @property
    def empty_long(self) -> bool:
        """Whether a drain would have evicted nobody at any time of the shrink window."""
        most = self.node.requested_most if self.node is not None else None
        return self.empty and (self.node is None or (most is not None and most.pods == 0))

    @property
    def schedulable(self) -> bool:
        """Whether the scheduler may place pods there now."""
        return (
            self.standing is Standing.READY
            and self.node is not None
            and self.node.cordoned is False
            and not self.node.tainted
        )


class FleetView(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All workers, and launches whose instances are not known by id yet. What is counted is counted once a view."""

    workers: tuple[Worker, ...]
    awaited: tuple[tuple[LaunchOperation, int], ...]
    """Launches, and how many of their workers have no id yet."""
    servers: tuple[Instance, ...]
    """Running server instances: where node commands can go."""

    def having(self, *standings: Standing) -> tuple[Worker, ...]:
        """Workers of these standings, oldest first."""
        known = self._having.get(standings)
        if known is None:
            known = self._having[standings] = tuple(w for w in self.workers if w.standing in standings)
        return known

    @cached_property
    def _having(self) -> dict[tuple[Standing, ...], tuple[Worker, ...]]:
        return {}

    @cached_property
    def offers(self) -> dict[str, Resources]:
        """What each worker offers that the scheduler may give pods to, by key: what the use is over."""
        takers = ((worker.key, worker.node) for worker in self.having(Standing.READY) if worker.schedulable)
        return {key: node.allocatable for key, node in takers if node is not None and node.allocatable is not None}

    @cached_property
    def offered(self) -> Resources:
        """That of all of them."""
        return total(self.offers.values())

    @cached_property
    def whole(self) -> Resources:
        """That of all that have a Node, whether they take pods or not."""
        return total(w.node.allocatable for w in self.workers if w.node is not None and w.node.allocatable is not None)

    @property
    def unidentified(self) -> int:
        """Workers that were asked for and have no id yet."""
        return sum(count for _, count in self.awaited)

    @property
    def ready(self) -> int:
        """Ready workers."""
        return len(self.having(Standing.READY))

    @property
    def joining(self) -> int:
        """Workers on their way in, unidentified ones included."""
        return len(self.having(Standing.JOINING)) + self.unidentified

    @property
    def unlisted(self) -> int:
        """Workers that only their Nodes show: nobody would count them without metrics."""
        alone = (w for w in self.having(Standing.READY, Standing.UNHEALTHY) if w.instance is None)
        return sum(1 for worker in alone if worker.launch is None and worker.removal is None)

    @property
    def existing(self) -> int:
        """What counts against max: every worker that lives, but those that EC2 takes away whatever we do."""
        living = self.having(Standing.READY, Standing.JOINING, Standing.UNHEALTHY, Standing.LEAVING)
        reclaimed = sum(1 for worker in living if worker.removal is not None and worker.removal.reclaim)
        return len(living) - reclaimed + self.unidentified


def some_zone(fleet: FleetView) -> str:
    """A zone of the cluster's region, in which prices do not differ; empty where no machine shows one."""
    zones = (*(worker.zone for worker in fleet.workers), *(server.zone for server in fleet.servers))
    return next((zone for zone in zones if zone), "")


def total(sizes: Iterable[Resources]) -> Resources:
    """The sum, without a value for each step of it."""
    cpu_millicores = memory_bytes = pods = 0
    for size in sizes:
        cpu_millicores += size.cpu_millicores
        memory_bytes += size.memory_bytes
        pods += size.pods
    return Resources(cpu_millicores=cpu_millicores, memory_bytes=memory_bytes, pods=pods)


def view_fleet(snapshot: Snapshot, state: State) -> FleetView:
    """Join the three sources."""
    instances = {instance.instance_id: instance for instance in snapshot.instances}
    servers = {i.instance_id for i in snapshot.instances if i.server}
    removals = {removal.instance_id: removal for removal in state.removals}
    removed = {removed.instance_id for removed in state.removed}
    joined = {one.instance_id: one for one in joined_lately(state, snapshot.taken_at_s)}
    launches = {instance_id: launch for launch in state.launches for instance_id in launch.instance_ids}
    open_launches = {launch.operation_id: launch for launch in state.launches}
    finished = {instance_id for launch in state.launches for instance_id in launch.finished_ids}
    pods: dict[str, list[Pod]] = {}
    for pod in snapshot.pods:
        if pod.node:
            pods.setdefault(pod.node, []).append(pod)
    nodes = {node.instance_id or node.name: node for node in snapshot.nodes}
    keys = dict.fromkeys((*nodes, *instances, *launches, *removals))
    workers = []
    for key in keys:
        node, instance = nodes.get(key), instances.get(key)
        if key in servers or (node is not None and node.control_plane):
            continue
        launch = launches.get(key)
        if launch is None and instance is not None and instance.operation_id is not None and key not in finished:
            launch = open_launches.get(instance.operation_id)
        if (
            node is None
            and instance is not None
            and not instance.managed
            and launch is None
            and key not in removals
            and snapshot.cluster_known
        ):
            continue  # tagged for the cluster, but neither a Node nor ours: not a worker that anybody sees
        removal = removals.get(key)
        gone = key in removed and instance is None  # EC2 has forgotten it, and the metrics lag
        workers.append(
            Worker(
                key=key,
                standing=Standing.DEAD if gone else _standing(node, instance, launch, removal),
                node=node,
                instance=instance,
                removal=removal,
                launch=launch,
                joined=joined.get(key),
                pods=tuple(pods.get(node.name, ())) if node is not None and node.name in snapshot.pods_of else None,
            )
        )
    return FleetView(
        workers=tuple(sorted(workers, key=_age_order)),
        awaited=tuple((launch, _unidentified(launch, snapshot)) for launch in state.launches),
        servers=tuple(i for i in snapshot.instances if i.server and i.state in ALIVE),
    )


def same_fleet(one: State, other: State) -> bool:
    """Whether both give one view: of a state it reads nothing but what is told here."""
    return all(getattr(one, read) == getattr(other, read) for read in ("launches", "removals", "removed", "joined"))


def _standing(
    node: Node | None, instance: Instance | None, launch: LaunchOperation | None, removal: RemovalOperation | None
) -> Standing:
    if instance is not None and instance.state not in ALIVE:
        return Standing.DEAD
    if removal is not None and removal.phase is not RemovalPhase.INSPECTING:
        if removal.phase is RemovalPhase.DELETING:
            return Standing.DEAD
        return Standing.JOINING if removal.phase is RemovalPhase.UNCORDONING else Standing.LEAVING
    if node is not None and node.ready is True and not (launch is not None and node.starting):
        return Standing.READY
    # An instance that joined once and has no Node now lives, gives nothing, and counts against max.
    return Standing.JOINING if launch is not None else Standing.UNHEALTHY


def _unidentified(launch: LaunchOperation, snapshot: Snapshot) -> int:
    """What the launch still expects, less what DescribeInstances already shows under its tag."""
    unseen = sum(
        1
        for instance in snapshot.instances
        if instance.operation_id == launch.operation_id
        and instance.instance_id not in launch.instance_ids
        and instance.instance_id not in launch.finished_ids
    )
    return max(0, launch.unidentified - unseen)


def _age_order(worker: Worker) -> tuple[int, str]:
    if worker.instance is not None:
        return worker.instance.launched_at_s, worker.key
    if worker.node is not None and worker.node.created_at_s is not None:
        return worker.node.created_at_s, worker.key
    return 0, worker.key

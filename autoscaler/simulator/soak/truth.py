"""What is really so, and what was so a little while ago: decisions rest on pictures that are seconds old."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from autoscaler.model import ALIVE, CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.world.objects import SimNode
from autoscaler.simulator.world.preflight import movable_pods

KEPT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The workers and what they are asked for, from `since_s` until the next moment."""

    since_s: float
    ours: frozenset[str]
    """Instance ids of workers of ours that live and are not stopped."""
    others: frozenset[str]
    """Instance ids of such workers that are not ours, and names of bare metal."""
    ready: frozenset[str]
    """Instance ids of workers whose Node is Ready."""
    nodes: frozenset[str]
    """Instance ids that have a Node."""
    closed: frozenset[str]
    """Instance ids whose Node is cordoned."""
    taking: frozenset[str]
    """Instance ids of Ready workers that take any pod: neither cordoned nor tainted."""
    busy: frozenset[str]
    """Instance ids with pods that a drain would move."""
    keeping: frozenset[str]
    """Instance ids with volumes that would be lost with them."""
    waiting: int
    """Unschedulable pods that nobody is deleting."""
    cpu: float | None
    memory: float | None
    """Use over the workers that take pods, as a ratio; None where there is none."""


class Truth:
    """Looks at the simulated cluster, never at anything that the core says of it."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.moments: deque[Moment] = deque()
        self.noticed: dict[str, float] = {}
        """Instances that EC2 takes at any moment, and since when that is known."""
        self.announced: Counter[str] = Counter()
        """Instances that EC2 said it would retire, days ahead perhaps, and how often it said so."""
        self.ever_ready: set[str] = set()
        """Instances that were Ready workers once."""
        self.hand_cordoned: set[str] = set()
        """Names of nodes that a person cordoned or uncordoned."""
        self.opened_s: dict[str, float] = {}
        """Names of nodes that a person uncordoned while we drained them, and when."""
        self.untagged_s: dict[str, float] = {}
        """Instances off which a person took one of our tags, and when."""
        self.stopped: set[str] = set()
        """Instances that a person stopped once."""
        self._seen: tuple[object, ...] = ()
        self.look()

    @property
    def now_s(self) -> float:
        """The present."""
        return self.cluster.now_s

    def is_ours(self, instance: SimInstance) -> bool:
        """By the tag contract."""
        tags = instance.tags
        in_cluster = tags.get(CLUSTER_TAG) == self.cluster.cluster_id
        return tags.get(MANAGED_BY_TAG) == MANAGED_BY_VALUE and in_cluster and "aws:autoscaling:groupName" not in tags

    def alive(self, instance_id: str) -> bool:
        """Whether the instance lives."""
        instance = self.cluster.ec2.instances.get(instance_id)
        return instance is not None and instance.ended_at_s is None

    def running(self, instance_id: str) -> bool:
        """Whether the instance runs, or is about to."""
        instance = self.cluster.ec2.instances.get(instance_id)
        return instance is not None and instance.state(self.now_s) in ALIVE

    def changed_hands(self, instance_id: str, within_s: float) -> bool:
        """Whether one of our tags was taken off the instance just now: nobody who looked before can know."""
        at_s = self.untagged_s.get(instance_id)
        return at_s is not None and self.now_s - at_s <= within_s

    def node_of(self, instance_id: str) -> SimNode | None:
        """Its Node object."""
        machine = self.cluster.world.state.machines.get(instance_id)
        if machine is None:
            return None
        node = self.cluster.world.state.nodes.get(machine.node_name)
        return node if node is not None and node.machine is machine else None

    def look(self) -> None:
        """Note the present, if anything changed."""
        state, bill = self.cluster.world.state, self.cluster.ec2.bill
        instances = self.cluster.ec2.instances.values()
        tags = sum(len(instance.tags) for instance in instances)  # taken off and given back by people
        key = (state.version, bill.launched, bill.terminated, len(instances), tags)
        if key == self._seen:
            return
        self._seen = key
        self.moments.append(self._moment())
        while len(self.moments) > 1 and self.moments[1].since_s < self.now_s - KEPT_S:
            self.moments.popleft()

    def lately(self, seconds: float) -> Iterator[Moment]:
        """The moments that any part of the last `seconds` belongs to, newest first."""
        for moment in reversed(self.moments):
            yield moment
            if moment.since_s <= self.now_s - seconds:
                return

    def _moment(self) -> Moment:
        state = self.cluster.world.state
        ours, others = set(), set()
        for instance in self.cluster.ec2.instances.values():
            if instance.ended_at_s is None and instance.stopping_at_s is None:
                if self.is_ours(instance):
                    ours.add(instance.instance_id)
                elif (node := self.node_of(instance.instance_id)) is not None and not node.machine.server:
                    others.add(instance.instance_id)
        machines = state.machines.values()
        others.update(m.instance_id for m in machines if m.foreign_provider_id and m.alive)
        workers = [node for node in state.nodes.values() if not node.machine.server]
        volumes = {volume.node_name for volume in state.volumes.values()}
        ready = [node for node in workers if node.ready]
        self.ever_ready.update(node.machine.instance_id for node in ready)
        takers = [node for node in ready if not (node.cordoned or node.extra_taints)]
        cores = sum(node.capacity.cpu_millicores for node in takers) / 1000
        memory = sum(node.capacity.memory_bytes for node in takers)
        return Moment(
            since_s=self.now_s,
            ours=frozenset(ours),
            others=frozenset(others),
            ready=frozenset(node.machine.instance_id for node in ready),
            nodes=frozenset(node.machine.instance_id for node in workers),
            closed=frozenset(node.machine.instance_id for node in workers if node.cordoned),
            taking=frozenset(node.machine.instance_id for node in takers),
            busy=frozenset(node.machine.instance_id for node in workers if movable_pods(node)),
            keeping=frozenset(node.machine.instance_id for node in workers if node.name in volumes),
            waiting=sum(pod.waits for pod in state.unbound.values()),
            cpu=sum(node.machine.cpu.rate(self.now_s) for node in takers) / cores if takers else None,
            memory=sum(node.machine.memory.rate(self.now_s) for node in takers) / memory if takers else None,
        )

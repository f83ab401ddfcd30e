"""What a played fleet cost, and what its pods had to bear."""

from typing import Final

import msgspec

from autoscaler.backtest.plan import Steps
from autoscaler.model import ROLE_TAG
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import listed_usd
from autoscaler.simulator.instances import SimInstance

SERVER: Final = "server"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one fleet under one workload."""

    node_hours: float
    """Of all workers, from their launch to the begin of their end; servers are no worker."""
    usd: float
    """By the built-in list of on-demand prices; on Spot by the share of them that the simulator asks."""
    waiting_pod_minutes: float
    """For which the scheduler found no node; pods that start or stop do not wait."""
    evictions: int
    """Pods that drains moved; those that had ended are none."""
    launches: int


class Meter:
    """Reads a cluster from the moment at which it is made. `look` at least once an hour: EC2 forgets its dead."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self.begin_s = cluster.now_s
        self._instances: dict[str, SimInstance] = {}
        self._others: set[str] = set()
        """Instances that are no workers."""
        self._launched_before = cluster.ec2.bill.launched
        self._waited_s = 0.0
        self.workers: Steps = []
        """How many were paid for from each moment on."""
        self.usd_per_hour: list[tuple[float, float]] = []
        """What they cost from each moment on."""
        self.waiting: Steps = []
        """Pods for which the scheduler found no node, from each moment on."""
        state = cluster.world.state
        self._evicted_before = state.evictions
        state.touch()  # what was until now is not ours
        state.before_change.append(self._add_waiting)

    @property
    def now_s(self) -> float:
        """How far its cluster has come."""
        return self._cluster.now_s

    def _add_waiting(self, since_s: float, until_s: float) -> None:
        """The state as it is now held from `since_s` to `until_s`."""
        waiting = sum(pod.waits for pod in self._cluster.world.state.unbound.values())
        if until_s > self.begin_s and (not self.waiting or self.waiting[-1][1] != waiting):
            self.waiting.append((max(since_s, self.begin_s) - self.begin_s, waiting))
        self._waited_s += waiting * max(0.0, until_s - max(since_s, self.begin_s))

    def look(self) -> None:
        """See what there is."""
        ec2, now_s = self._cluster.ec2, self._cluster.now_s
        alive, usd = 0, 0.0
        for instance_id, instance in ec2.instances.items():
            if instance_id in self._others:
                continue
            if instance_id not in self._instances:
                if instance.tags.get(ROLE_TAG) == SERVER:
                    self._others.add(instance_id)
                    continue
                self._instances[instance_id] = instance
            if instance.ended_at_s is None:
                alive += 1
                usd += listed_usd(instance.instance_type, instance.market)
        if not self.workers or self.workers[-1][1] != alive:
            self.workers.append((now_s - self.begin_s, alive))
        if not self.usd_per_hour or self.usd_per_hour[-1][1] != usd:
            self.usd_per_hour.append((now_s - self.begin_s, usd))

    def measured(self) -> Measured:
        """The figures until now."""
        self.look()
        world = self._cluster.world.state
        world.touch()
        hours = {instance.instance_id: self._hours(instance) for instance in self._instances.values()}
        prices = {i.instance_id: listed_usd(i.instance_type, i.market) for i in self._instances.values()}
        return Measured(
            node_hours=round(sum(hours.values()), 2),
            usd=round(sum(hours[key] * prices[key] for key in hours), 3),
            waiting_pod_minutes=round(self._waited_s / 60, 1),
            evictions=world.evictions - self._evicted_before,
            launches=self._cluster.ec2.bill.launched - self._launched_before,
        )

    def _hours(self, instance: SimInstance) -> float:
        end_s = self._cluster.now_s if instance.ended_at_s is None else instance.ended_at_s
        return max(0.0, end_s - max(instance.launched_at_s, self.begin_s)) / 3600

"""Who keeps the fleet: our service, or nobody. `bench.policy.thresholds` is a third."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from autoscaler.model import Notice, Trigger
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.objects import SimNode

TICK_S: Final = 2
"""How often keepers are asked; kube-state-metrics is scraped as often."""
SWEEP_S: Final = 120
PENDING_LOOKS_S: Final = 12
"""While pods wait: one webhook in so many seconds. Alertmanager repeats after 10 s, at its next group_interval of 5 s
(monitoring/alertmanager.yml); 12 s from the pod to the launch is what `bench.alert_latency` measures in the median."""
HIGH_LOOKS_S: Final = 60
LOW_LOOKS_S: Final = 300
"""Repeat intervals of the alerts for use (monitoring/alertmanager.yml)."""


class Keeper(Protocol):
    """Keeps a fleet; is asked every TICK_S."""

    def tick(self) -> None:
        """Look whether something is to be done now."""
        ...

    def due_s(self) -> float:
        """When it next has something to do where nothing happens before; a tick that comes earlier changes nothing."""
        ...


class Static:
    """Nobody: what is there stays."""

    def __init__(self, cluster: SimCluster) -> None:
        """Take the fleet as it is."""

    def tick(self) -> None:
        """Nothing."""

    def due_s(self) -> float:
        """Never."""
        return math.inf


class Service:
    """Our service: its sweep, its alerts as Prometheus and Alertmanager would send them, EC2's and SSM's events.

    `tell` gets the document of each look.
    """

    def __init__(self, cluster: SimCluster, tell: Callable[[dict[str, Any]], None] | None = None) -> None:
        cluster.wires.keep_log = False
        self._cluster = cluster
        self._tell = tell
        self._next_sweep_s = cluster.now_s + SWEEP_S
        self._pending = _Alert(cluster.policy.scale_up.pending_for_s, PENDING_LOOKS_S)
        self._high = _Alert(cluster.policy.scale_up.window_s, HIGH_LOOKS_S)
        self._low = _Alert(cluster.policy.scale_down.window_s, LOW_LOOKS_S)
        self._ended: set[str] = set()
        self._heard = len(cluster.ssm.sent)
        """So many of the commands were sent before, or wait in `_running`."""
        self._running: list[str] = []

    def tick(self) -> None:
        """Every look that is due, one after the other."""
        cluster, policy = self._cluster, self._cluster.policy
        now_s = cluster.now_s
        if self._pending.notifies(now_s, any(pod.waits for pod in cluster.world.state.unbound.values())):
            self._look("alert", f"pods@{self._pending.since_s:.0f}")
        if now_s % policy.metrics.utilisation_interval_s < TICK_S:
            cpu, memory = used(cluster, over_s=policy.metrics.cpu_rate_window_s)
            if self._high.notifies(now_s, cpu > policy.scale_up.cpu_above or memory > policy.scale_up.memory_above):
                self._look("alert", f"use@{self._high.since_s:.0f}")
            low = cpu < policy.scale_down.cpu_below and memory < policy.scale_down.memory_below
            if self._low.notifies(now_s, low):
                self._look("alert")
        for facts in self._news():
            self._look("lifecycle", facts=facts)
        if now_s >= self._next_sweep_s:
            self._next_sweep_s += SWEEP_S
            self._look("sweep")

    def due_s(self) -> float:
        """The next sweep, the next evaluation that may find something else, or the end of a machine."""
        now_s, interval_s = self._cluster.now_s, self._cluster.policy.metrics.utilisation_interval_s
        evaluation_s = (now_s // interval_s + 1) * interval_s
        if not self._use_settled():
            evaluated_s = evaluation_s
        else:
            evaluated_s = max(evaluation_s, min(self._high.due_s, self._low.due_s))
        ends = (
            at_s
            for instance in self._cluster.ec2.instances.values()
            for at_s in (instance.ended_at_s, instance.terminated_at_s)
            if at_s is not None and at_s > now_s
        )
        return min(self._next_sweep_s, self._pending.due_s, evaluated_s, min(ends, default=math.inf))

    def _use_settled(self) -> bool:
        """Whether the use that alerts look at stays as it is: nothing has changed for as long as they look back."""
        metrics, state = self._cluster.policy.metrics, self._cluster.world.state
        window_s = metrics.cpu_rate_window_s + 2 * metrics.utilisation_interval_s
        return self._cluster.now_s - state.changed_at_s > window_s

    def _news(self) -> Iterable[tuple[Notice, ...]]:
        """The facts of each event: of a machine that EC2 takes back, and none where a command or a machine ended.

        A machine ends twice: `shutting-down`, `terminated`.
        """
        cluster = self._cluster
        for instance in list(cluster.ec2.instances.values()):
            if instance.noticed_at_s is None and instance.ended_at_s is None:
                continue
            noticed = f"{instance.instance_id} noticed"
            if instance.noticed_at_s is not None and noticed not in self._ended:
                self._ended.add(noticed)
                yield (
                    Notice(
                        kind="interruption",
                        subject=instance.instance_id,
                        received_at_s=int(instance.noticed_at_s),
                    ),
                )
            for mark, at_s in (("shutting-down", instance.ended_at_s), ("terminated", instance.terminated_at_s)):
                key = f"{instance.instance_id} {mark}"
                if at_s is not None and at_s <= cluster.now_s and key not in self._ended:
                    self._ended.add(key)
                    yield ()
        sent = cluster.ssm.sent
        self._running += itertools.islice(sent, self._heard, None)
        self._heard = len(sent)
        for command_id in list(self._running):
            status = cluster.world.command_status(command_id)
            if status is not None and status.stdout:
                self._running.remove(command_id)
                yield ()

    def _look(self, kind: str, fact: str = "", *, facts: tuple[Notice, ...] = ()) -> None:
        if fact:
            facts = (Notice(kind="blind_alert", subject=fact, received_at_s=int(self._cluster.now_s)),)
        document = self._cluster.sweep(trigger=Trigger(kind=kind), facts=facts)
        if self._tell is not None:
            self._tell(document)
        self._cluster.world.advance(self._cluster.now_s)  # a look may wait for a server's answer


class _Alert:
    """One alert rule with its route: fires once the condition has held, and is told again while it does."""

    def __init__(self, for_s: float, every_s: float) -> None:
        self._for_s, self._every_s = for_s, every_s
        self.since_s: float | None = None
        self._next_s = 0.0

    @property
    def due_s(self) -> float:
        """When it is told next while its condition holds; infinite while that does not."""
        return math.inf if self.since_s is None else self._next_s

    def notifies(self, now_s: float, holds: bool) -> bool:  # noqa: FBT001 - reads as a sentence
        if not holds:
            self.since_s = None
            return False
        if self.since_s is None:
            self.since_s = now_s
            self._next_s = now_s + self._for_s + TICK_S
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True


def used(cluster: SimCluster, *, over_s: float) -> tuple[float, float]:
    """CPU in use over the last `over_s` and memory in use now, as ratios, over the Ready workers; 1 without any."""
    now_s = cluster.now_s
    before_s = now_s - over_s
    cores = memory_bytes = 0
    core_seconds = in_use = 0.0
    for node in cluster.world.state.nodes.values():
        if takes_pods(node):
            machine = node.machine
            cores += machine.cpus
            memory_bytes += machine.memory_bytes
            core_seconds += machine.cpu.total(now_s) - machine.cpu.total(before_s)
            in_use += machine.memory.rate(now_s)
    return (core_seconds / over_s / cores, in_use / memory_bytes) if cores else (1.0, 1.0)


def takes_pods(node: SimNode) -> bool:
    """Whether it is a worker that the scheduler gives pods to."""
    return not node.machine.server and node.ready and not node.cordoned

"""Looks at a running stack from outside and remembers what it saw: the cluster, AWS' calls, the functions' answers."""

from collections.abc import Callable
from typing import Any, Final

from autoscaler.model import MANAGED_BY_TAG, MANAGED_BY_VALUE, Verb
from autoscaler.simulator.emulator.moto import Call
from autoscaler.simulator.realtime import ClusterState, CommandView
from autoscaler.simulator.stack.journal import Invocation, Journal
from autoscaler.simulator.stack.local import LocalStack
from autoscaler.simulator.world.objects import TimelineEvent
from autoscaler.simulator.world.world import NodeView, PodView

ALIVE: Final = frozenset({"pending", "running"})


class Watch:
    """What was seen from `started_at_s` on. Only `look` asks; everything else answers from memory."""

    def __init__(self, stack: LocalStack, *, started_at_s: float) -> None:
        self.started_at_s = started_at_s
        self._cluster = stack.cluster
        self._journal = Journal(stack.functions.journal_path)
        self.state: ClusterState = stack.cluster.state(started_at_s)
        self.invocations: list[Invocation] = []
        self.calls: list[Call] = []
        self.ended_at_s: dict[str, float] = {}
        """When an instance was first seen dead, by id."""

    def look(self) -> None:
        """Bring everything up to date. Raises StackError when the emulator does not answer."""
        self.state = self._cluster.state(self.started_at_s)
        self.calls = self._cluster.calls(self.started_at_s)
        self.invocations += self._journal.news()
        for instance in self.state.instances:
            if instance["state"] not in ALIVE:
                self.ended_at_s.setdefault(instance["instance_id"], self.state.now_s)

    # --------------------------------------------------------------------------------------------------------- cluster

    @property
    def workers(self) -> list[NodeView]:
        """Worker Nodes, oldest first."""
        return [node for node in self.state.nodes if not node.server]

    @property
    def managed_instances(self) -> list[dict[str, Any]]:
        """EC2 instances that the service launched, dead ones too."""
        return [row for row in self.state.instances if row["tags"].get(MANAGED_BY_TAG) == MANAGED_BY_VALUE]

    @property
    def living_instances(self) -> list[dict[str, Any]]:
        """EC2 instances that the service launched and that live."""
        return [row for row in self.managed_instances if row["state"] in ALIVE]

    def pods_of(self, owner: str) -> list[PodView]:
        """Pods of `namespace/name`."""
        return [pod for pod in self.state.pods if pod.owner == owner]

    def running(self, owner: str) -> int:
        """How many pods of `namespace/name` run."""
        return sum(1 for pod in self.pods_of(owner) if pod.ready and not pod.terminating)

    # ------------------------------------------------------------------------------------------------------------ past

    def event(self, kind: str, wanted: Callable[[TimelineEvent], bool], *, after_s: float = 0.0) -> float | None:
        """When something of the kind first happened, at or after a moment."""
        times = (
            event.at_s for event in self.state.events if event.kind == kind and event.at_s >= after_s and wanted(event)
        )
        return next(times, None)

    def call(self, operation: str, *, after_s: float) -> float | None:
        """When an AWS call first arrived, at or after a moment."""
        return next((call.at_s for call in self.calls if call.operation == operation and call.at_s >= after_s), None)

    def commands(self, verb: Verb, *, after_s: float = 0.0) -> list[CommandView]:
        """Node commands of a verb that were sent at or after a moment."""
        return [command for command in self.state.commands if command.verb == verb and command.sent_at_s >= after_s]

    def webhook(self, alert: str, *, after_s: float) -> Invocation | None:
        """The first webhook with the alert that began at or after a moment."""
        return next(
            (
                invocation
                for invocation in sorted(self.invocations, key=lambda one: one.started_at_s)
                if alert in invocation.alert_names and invocation.started_at_s >= after_s
            ),
            None,
        )

    @property
    def last_decision(self) -> Invocation | None:
        """The last invocation that took a decision."""
        return next((one for one in reversed(self.invocations) if one.document is not None), None)

    @property
    def last_error(self) -> Invocation | None:
        """The last invocation that ended with an error."""
        return next((one for one in reversed(self.invocations) if one.status >= 500), None)

"""The demo's plot, and the end-to-end test's: a flash sale comes and goes.

Each step waits for something that was really observed - in EC2, in the cluster, in the functions' answers - and notes
when it happened. A step that does not come in time ends the story with its name.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from autoscaler.model import Verb
from autoscaler.simulator.realtime import CommandView
from autoscaler.simulator.stack.local import LocalStack, Sweeper
from autoscaler.simulator.stack.watch import Watch
from autoscaler.simulator.world.objects import TimelineEvent
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload

SWEEP_INTERVAL_S: Final = 5.0
"""The shipped schedule is two minutes; the demo has less than three altogether."""
LOOK_EVERY_S: Final = 0.25
PENDING_ALERT: Final = "K3sUnschedulablePods"

WEB: Final = Workload(
    namespace="shop",
    name="web",
    replicas=4,
    template=PodTemplate(request=Ask(cpu_millicores=600, memory_bytes=200 * MIB), burn_cores=0.1),
)
"""Two fit on a t3.small beside its DaemonSet pods; what is then left takes none of the pods below."""
CHECKOUT: Final = Workload(
    namespace="shop",
    name="checkout",
    replicas=2,
    template=PodTemplate(request=Ask(cpu_millicores=1100, memory_bytes=300 * MIB), burn_cores=0.8),
)
"""The sale's load: it comes and goes. One fits on a worker, beside one pod of mail."""
MAIL: Final = Workload(
    namespace="shop",
    name="mail",
    replicas=2,
    template=PodTemplate(request=Ask(cpu_millicores=700, memory_bytes=200 * MIB), burn_cores=0.1),
)
"""Comes with the sale and stays, so that no worker is empty afterwards: to shrink means to move pods."""
NIGHT_WEB_REPLICAS: Final = 2


class StepFailed(Exception):
    """A step did not happen in time; the message says which, and what was seen instead."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that must happen."""

    key: str
    title: str
    timeout_s: float


STEPS: Final = (
    Step(key="fleet_at_min", title="the sweep launches the minimum", timeout_s=60),
    Step(key="web_runs", title="the shop's pods run", timeout_s=30),
    Step(key="pending", title="a sale: pods that fit nowhere", timeout_s=15),
    Step(key="webhook", title="alert and webhook", timeout_s=40),
    Step(key="create_fleet", title="CreateFleet reaches EC2", timeout_s=20),
    Step(key="nodes_ready", title="the new workers are Ready", timeout_s=40),
    Step(key="pods_run", title="every pod runs", timeout_s=20),
    Step(key="load_gone", title="the sale is over", timeout_s=15),
    Step(key="drain", title="the sweep drains an idle worker", timeout_s=70),
    Step(key="drained", title="its pods were evicted", timeout_s=60),
    Step(key="terminated", title="its machine is terminated", timeout_s=20),
    Step(key="node_deleted", title="its Node is deleted", timeout_s=20),
    Step(key="back_at_min", title="back at the minimum, all pods run", timeout_s=60),
)


class Eviction(msgspec.Struct, frozen=True):
    """What the story needs of a drain's result line."""

    outcome: str
    evicted_pods: int


class Story:
    """Plays the steps in order; `times` holds when each happened, in epoch seconds."""

    def __init__(self, stack: LocalStack, watch: Watch, sweeper: Sweeper, *, after_look: Callable[[], None]) -> None:
        self._stack = stack
        self._watch = watch
        self._sweeper = sweeper
        self._after_look = after_look
        self.times: dict[str, float] = {}
        self.current: Step | None = None
        self._removed: CommandView | None = None

    def play(self) -> None:
        """Play all of it. Raises StepFailed, and StackError when a program of the stack fails."""
        cluster, watch = self._stack.cluster, self._watch
        self._step("fleet_at_min", self._fleet_at_min)
        cluster.apply(WEB)
        self._step("web_runs", lambda: self._now_if(watch.running(WEB.key) == WEB.replicas))
        # The shipped schedule would hardly ever fall into these seconds: the alert path is to be seen at work.
        self._sweeper.pause()
        cluster.apply(CHECKOUT)
        cluster.apply(MAIL)
        self._step("pending", self._pending_since)
        self._step("webhook", self._webhook_came)
        self._step("create_fleet", lambda: watch.call("CreateFleet", after_s=self.times["pending"]))
        self._sweeper.resume()
        self._step("nodes_ready", self._launched_are_ready)
        self._step("pods_run", self._all_run)
        cluster.delete(CHECKOUT.key)
        cluster.scale(WEB.key, NIGHT_WEB_REPLICAS)
        self._step("load_gone", lambda: self._now_if(not watch.pods_of(CHECKOUT.key)))
        self._step("drain", self._drain_sent)
        self._step("drained", self._drain_evicted)
        self._step("terminated", self._machine_ended)
        self._step("node_deleted", self._node_deleted)
        self._step("back_at_min", self._back_at_min)
        self.current = None

    @property
    def drains(self) -> list[tuple[CommandView, Eviction]]:
        """Drains that ended, with their results."""
        return [
            (command, msgspec.json.decode(command.output, type=Eviction))
            for command in self._watch.commands(Verb.DRAIN)
            if command.output
        ]

    # ------------------------------------------------------------------------------------------------------- observers

    def _now_if(self, fact: bool) -> float | None:  # noqa: FBT001 - reads as a sentence
        return self._watch.state.now_s if fact else None

    def _fleet_at_min(self) -> float | None:
        ready = [node for node in self._watch.workers if node.ready]
        return self._now_if(len(ready) >= self._stack.policy.workers.min)

    def _pending_since(self) -> float | None:
        waiting = [pod for pod in self._watch.pods_of(CHECKOUT.key) if pod.unschedulable_since_s is not None]
        times = [pod.unschedulable_since_s for pod in waiting if pod.unschedulable_since_s is not None]
        return min(times, default=None)

    def _webhook_came(self) -> float | None:
        webhook = self._watch.webhook(PENDING_ALERT, after_s=self.times["pending"])
        return webhook.started_at_s if webhook is not None else None

    def _launched_are_ready(self) -> float | None:
        ready_ids = {node.instance_id for node in self._watch.workers if node.ready}
        if not {row["instance_id"] for row in self._watch.living_instances} <= ready_ids:
            return None
        return max(
            (
                event.at_s
                for event in self._watch.state.events
                if event.kind == "node" and event.message == "is Ready" and event.at_s > self.times["create_fleet"]
            ),
            default=None,
        )

    def _all_run(self) -> float | None:
        wanted = (WEB, CHECKOUT, MAIL)
        return self._now_if(all(self._watch.running(workload.key) == workload.replicas for workload in wanted))

    def _drain_sent(self) -> float | None:
        sent = self._watch.commands(Verb.DRAIN, after_s=self.times["load_gone"])
        return sent[0].sent_at_s if sent else None

    def _drain_evicted(self) -> float | None:
        """The first drain that moved pods; empty workers may have gone before it."""
        moved = [
            command for command, result in self.drains if result.outcome == "succeeded" and result.evicted_pods > 0
        ]
        if not moved:
            return None
        self._removed = moved[0]
        self.times["drain"] = moved[0].sent_at_s  # this worker's, so that its times belong together
        done = f"{Verb.DRAIN}: succeeded"
        return self._watch.event("command", lambda event: self._of_removed(event) and event.message.startswith(done))

    def _of_removed(self, event: TimelineEvent) -> bool:
        return self._removed is not None and event.subject == self._removed.node_name

    def _machine_ended(self) -> float | None:
        removed = self._removed
        ended = self._watch.ended_at_s
        return next((at_s for key, at_s in ended.items() if removed and removed.node_name.endswith(key)), None)

    def _node_deleted(self) -> float | None:
        return self._watch.event("node", lambda event: self._of_removed(event) and event.message == "is deleted")

    def _back_at_min(self) -> float | None:
        watch, wanted = self._watch, self._stack.policy.workers.min
        settled = (
            len(watch.workers) == wanted
            and all(node.ready and not node.cordoned for node in watch.workers)
            and len(watch.living_instances) == wanted - self._stack.settings.static_workers
            and watch.running(WEB.key) == NIGHT_WEB_REPLICAS
            and watch.running(MAIL.key) == MAIL.replicas
        )
        return self._now_if(settled)

    # ----------------------------------------------------------------------------------------------------------- steps

    def _step(self, key: str, find: Callable[[], float | None]) -> None:
        step = next(step for step in STEPS if step.key == key)
        self.current = step
        deadline = time.monotonic() + step.timeout_s
        while True:
            self._stack.supervisor.check_alive()
            if self._sweeper.failure is not None:
                raise self._sweeper.failure
            self._watch.look()
            found = find()
            if found is not None:
                self.times[key] = found
            self._after_look()
            if found is not None:
                return
            if time.monotonic() > deadline:
                raise StepFailed(f"This did not happen within {step.timeout_s:.0f} s: {step.title}. {self._seen()}")
            time.sleep(LOOK_EVERY_S)

    def _seen(self) -> str:
        error, decision = self._watch.last_error, self._watch.last_decision
        words = []
        if error is not None:
            words.append(f"Last error, of {error.key}: {error.error}.")
        if decision is not None and decision.document is not None:
            words.append(f"Last decision, of {decision.key}: {decision.document['message']}")
        return " ".join(words) or "The functions took no decision at all."

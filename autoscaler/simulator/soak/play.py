"""One play of a story: its looks, calls that go wrong, or two looks in a given order; then on, to its end."""

import functools
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from autoscaler.model import Notice, Trigger
from autoscaler.reconcile import reconcile
from autoscaler.simulator.soak.assumptions import INVOCATION_S, LANDS_LATE_S
from autoscaler.simulator.soak.demand import not_yet
from autoscaler.simulator.soak.fates import Fate, FateKind
from autoscaler.simulator.soak.identity import RecordedIds
from autoscaler.simulator.soak.invariants import rules
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.soak.stepped import LAUNCH_TIMEOUT_S, TIMEOUT_S, SteppedInvocation
from autoscaler.simulator.soak.story import Change, Story
from autoscaler.simulator.soak.violation import Violation
from autoscaler.simulator.soak.watch import Watch

BEFORE_S: Final = 0.010
AFTER_S: Final = 0.005
NORMAL: Final = Fate(FateKind.NORMAL, BEFORE_S, AFTER_S)
FROZEN_S: Final = 75.0
"""How long a machine is frozen: past its lease, with at least one look of the story in between."""
LEASE_OVER_S: Final = INVOCATION_S + 15.0
"""After this long nobody respects the lease of an invocation that stands still."""
CHANGES_WITHIN_S: Final = 5.0
"""How often a change from outside looks whether its time has come."""
PATIENCE: Final = 40
"""Looks after which a story must have come to its end, whatever happened."""
QUIET_LOOKS: Final = 2
"""A story is over when nothing is missing and so many looks in a row found nothing to write."""
RETRY_S: Final = 60.0
RETRIES: Final = 2
"""Lambda tries an asynchronous event that failed twice more, the first time after a minute (Lambda Developer Guide)."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What becomes of one call of the play."""

    call: int
    """Counted over the whole play, from 0."""
    kind: FateKind
    looked_at: bool = False
    """Whether one more look is taken between the caller's end and an effect that comes late."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two invocations at one trigger: one runs `first` moments, the other `second`, the one to its end, the other.

    A call is two moments: its effect, and its answer with what follows up to the next request. So `first` = 2 is one
    whole call. In between the one stands still for `wait_s`.
    """

    trigger: int
    """Counted over the whole story, from 0."""
    first: int
    second: int
    wait_s: float = 0.0
    swapped: bool = False
    """Whether the second is the trigger's own invocation, and the first the sweep that comes with it."""


@dataclass(frozen=True, slots=True)
class FinalFleet:
    """What every play of a story must end with."""

    kept: frozenset[str]
    """Instance ids of the first workers that are still Ready."""
    ready: int
    launched: int
    """Workers that the story started, whatever became of them."""
    ended: int
    """Workers that ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a play ended."""

    violation: Violation | None
    missing: tuple[str, ...]
    fleet: FinalFleet
    calls: int
    """Port calls of the whole play."""
    kinds: tuple[str, ...]
    """What woke it: sweeps and notices, in their order."""
    writing: tuple[int, ...]
    """Triggers whose invocation wrote the state: where there was something to do."""
    checks: int
    """Invariants checked."""
    lines: tuple[str, ...]
    """The history."""

    def wrong(self, undisturbed: "Ending") -> str | None:
        """What is wrong with it, held against the undisturbed story."""
        if self.violation is not None:
            return str(self.violation)
        if self.missing:
            return f"after {PATIENCE} looks: {'; '.join(self.missing)}"
        if self.fleet != undisturbed.fleet:
            return f"it ended with {self.fleet} instead of {undisturbed.fleet}"
        return None


@dataclass(frozen=True, slots=True)
class _Wake:
    """Why an invocation runs."""

    number: int
    """Of the trigger."""
    name: str
    kind: str
    facts: tuple[Notice, ...]
    attempt: int
    version: int
    """Of the state when it began."""


class Play:
    """One play. `run` once."""

    def __init__(self, story: Story, *, troubles: Sequence[Trouble] = (), overlap: Overlap | None = None) -> None:
        self.cluster = story.begin()
        self.cluster.wires.keep_log = False
        self.first_ended = self.second_ended = False
        """Whether an overlapping invocation was over when its moments were used up: more of them add nothing."""
        self._story = story
        self._troubles = {trouble.call: trouble for trouble in troubles}
        self._overlap = overlap
        self._watch = Watch(self.cluster, rules())
        self._watch.listed_within_s = self.cluster.ec2.settings.visibility_s
        self._began_s = self.cluster.now_s
        self._first = frozenset(self.cluster.workers())
        self._calls = 0
        self._kinds: list[str] = []
        self._writing: list[int] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running: dict[str, tuple[SteppedInvocation, _Wake]] = {}

    def run(self) -> Ending:
        """Play until nothing is left to do and nothing is done any more, or for PATIENCE looks."""
        for change in self._story.changes:
            self.later(change.after_s, functools.partial(self._change, change))
        missing: list[str] = []
        quiet = 0
        for look in range(PATIENCE):
            version = self.cluster.item.version
            self._trigger("sweep", ())
            self._until(self._began_s + (look + 1) * self._story.every_s)
            missing = not_yet(self._watch)
            still = self.cluster.item.version == version and not self._agenda
            quiet = quiet + 1 if still and not missing else 0
            if self._watch.violation is not None or quiet == QUIET_LOOKS:
                break
        for invocation, _ in self._running.values():
            invocation.process.kill()
        return self._ending(missing)

    def _ending(self, missing: list[str]) -> Ending:
        ready = self._watch.truth.moments[-1].ready
        bill = self.cluster.ec2.bill
        launched = bill.launched - len(self._first)
        return Ending(
            violation=self._watch.violation,
            missing=tuple(missing),
            fleet=FinalFleet(kept=ready & self._first, ready=len(ready), launched=launched, ended=bill.terminated),
            calls=self._calls,
            kinds=tuple(self._kinds),
            writing=tuple(self._writing),
            checks=self._watch.checks.total(),
            lines=tuple(f"{at_s - self._began_s:9.3f}  {line}" for at_s, line in self._watch.lines),
        )

    # --------------------------------------------------------------------------------------------------------- outside

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._agenda, (self.cluster.now_s + seconds, next(self._order), action))

    def notice(self, fact: Notice) -> None:
        """EC2 gives notice."""
        self._watch.truth.noticed.setdefault(fact.subject, self.cluster.now_s)
        self._watch.tell(f"EC2 gives notice of {fact.subject}")
        self._trigger("lifecycle", (fact,))

    def _change(self, change: Change) -> None:
        if change.once(self.cluster):
            change.apply(self)
        else:
            self.later(CHANGES_WITHIN_S, functools.partial(self._change, change))

    def _until(self, until_s: float) -> None:
        """Let time pass, and happen what is due."""
        while self._agenda and self._agenda[0][0] <= until_s:
            at_s, _, action = heapq.heappop(self._agenda)
            self._advance(at_s)
            action()
            self._watch.stepped()
        self._advance(until_s)
        self._watch.stepped()

    def _advance(self, at_s: float) -> None:
        self.cluster.time.now_s = max(self.cluster.time.now_s, at_s)
        self.cluster.world.advance(self.cluster.time.now_s)

    # ----------------------------------------------------------------------------------------------------- invocations

    def _trigger(self, kind: str, facts: tuple[Notice, ...]) -> None:
        number = len(self._kinds)
        self._kinds.append(kind)
        wake = _Wake(number, f"{kind} {number}", kind, facts, 0, self.cluster.item.version)
        if self._overlap is not None and self._overlap.trigger == number:
            self._two(wake, self._overlap)
        else:
            self._go_on(self._start(wake))

    def _start(self, wake: _Wake) -> str:
        """Make an invocation that has not begun; returns its name."""
        cluster = self.cluster

        def body(_process: Process) -> object:
            ids = RecordedIds(cluster.ids, invocation.seen.ids)
            ports = msgspec.structs.replace(cluster.ports(invocation=invocation), ids=ids)
            trigger = Trigger(kind=wake.kind)
            return reconcile(
                ports, cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=trigger, facts=wake.facts
            )

        invocation = SteppedInvocation(cluster.wires, Process(wake.name, body), self._fate, self._watch, self.later)
        self._watch.tell(f"{wake.name} begins")
        self._running[wake.name] = invocation, wake
        return wake.name

    def _go_on(self, name: str) -> None:
        """Let it run by itself from here, each step at its time."""
        wish_s = self._step(name)
        if wish_s is not None:
            self.later(wish_s, lambda: self._go_on(name))

    def _step(self, name: str) -> float | None:
        """Resume it once; the seconds until it wants to go on, None when it is over."""
        invocation, wake = self._running[name]
        process = invocation.process
        wish_s = process.resume()
        if wish_s is not None:
            return wish_s
        del self._running[name]
        if process.ended:
            self._watch.ended(invocation)
        if self.cluster.item.version != wake.version:
            self._writing.append(wake.number)
        told = "is killed" if process.killed else f"ends: {process.error or _words(process.result)}"
        self._watch.tell(f"{name} {told}")
        if wake.facts and wake.attempt < RETRIES and (process.killed or process.error is not None):
            again = replace(wake, attempt=wake.attempt + 1, name=f"{wake.name} again")
            wait_s = RETRY_S + (INVOCATION_S if process.killed else 0.0)
            self.later(wait_s, lambda: self._go_on(self._start(again)))
        return None

    def _fate(self, _number: int, _service: str, name: str) -> Fate:
        trouble = self._troubles.get(self._calls)
        self._calls += 1
        if trouble is None:
            return NORMAL
        if trouble.looked_at:
            given_up_s = 0.0
            if trouble.kind is FateKind.LATE:
                given_up_s = LAUNCH_TIMEOUT_S if name == "launch" else TIMEOUT_S
            wake = _Wake(-1, "look in between", "sweep", (), 0, -1)
            self.later(given_up_s + LANDS_LATE_S / 2, lambda: self._go_on(self._start(wake)))
        before_s = FROZEN_S if trouble.kind is FateKind.FROZEN else BEFORE_S
        return Fate(trouble.kind, before_s, AFTER_S, LANDS_LATE_S, "InternalServerError")

    # --------------------------------------------------------------------------------------------------- two at a time

    def _two(self, wake: _Wake, overlap: Overlap) -> None:
        extra = replace(wake, name=f"{wake.name}, the other", kind="sweep", facts=())
        wakes = (extra, wake) if overlap.swapped else (wake, extra)
        one = self._start(wakes[0])
        self._step(one)
        self.first_ended = self._moments(one, overlap.first)
        self._until(self.cluster.now_s + overlap.wait_s)
        other = self._start(wakes[1])
        self._step(other)
        self.second_ended = self._moments(other, overlap.second)
        for name in (one, other):
            self._moments(name, None)

    def _moments(self, name: str, count: int | None) -> bool:
        """Let it run so many moments, or to its end; whether it is over."""
        for _ in itertools.count() if count is None else range(count):
            if name not in self._running:
                break
            wish_s = self._step(name)
            self._until(self.cluster.now_s + (wish_s or 0.0))
        return name not in self._running


def _words(result: object) -> str:
    if not isinstance(result, dict):
        return repr(result)
    return f"{result['action']} {result['reason']}: {result['message']}"

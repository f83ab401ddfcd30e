"""An invocation whose every port call is two steps of the scheduler, with a fate."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from autoscaler.model import Mode, OfferedPolicy
from autoscaler.ports import Conflict, PortError
from autoscaler.simulator.soak.assumptions import INVOCATION_S
from autoscaler.simulator.soak.fates import Fate, FateKind
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.wires import Invocation, SimClock, SimTime, Wires

Result = TypeVar("Result")
TIMEOUT_S: Final = 6.0
READS: Final = frozenset({"query", "describe", "launch_context", "result", "load", "rules"})
"""Calls without an effect: whether one that is not answered was carried out makes no difference."""
LAUNCH_TIMEOUT_S: Final = 14.0
"""How long a call waits for its answer: connect and read time-outs of `aws/clients.py`."""


class SkewedClock(SimClock):
    """A clock that is wrong by a constant. While its process waits, others run."""

    def __init__(self, time: SimTime, timeout_s: float, skew_s: float, process: Process) -> None:
        super().__init__(time, timeout_s)
        self._skewed = time
        self._skew_s = skew_s
        self._process = process

    def now_s(self) -> int:
        """Epoch seconds, as this machine believes."""
        return int(self._skewed.now_s + self._skew_s)

    def wait(self, seconds: float) -> None:
        """Stand still for this long."""
        self._process.pause(seconds)


@dataclass(slots=True)
class Seen:
    """What one invocation came to know."""

    ids: set[str] = field(default_factory=set)
    """Ids that it drew: a lease with one of them is its own."""
    mode: Mode = Mode.ACTIVE
    answers: list[bool | None] = field(default_factory=list)
    """Whether each answer of Prometheus to its last look was the whole truth; None: not to be judged."""
    looked_at_s: float = 0.0
    """When its last look began to ask Prometheus."""
    another_cluster: bool = False
    """Whether its last look was at another cluster too, or at nothing else."""
    thin_windows: bool = False
    """Whether in its last look the rules had been evaluated too seldom to know a window."""
    pods_hidden: bool = False
    """Whether its last look was not shown the pods of Nodes that may have to go."""
    present_in_sight: bool = False
    """Whether its last look was shown all that is there now: it lacked counts of a window's samples at most."""
    drains_in_sight: bool = False
    """Whether its last look lacked nothing that speaks for or against a drain: Nodes, cordons and pods were shown."""
    rules_read: bool = False
    """Whether it was given what is kept of the scheduler's rules."""
    alerted: bool = False
    """Whether a scale-up alert woke it."""
    offered: OfferedPolicy | None = None
    """What it read in the parameter of the policy's live changes."""
    late_effects: bool = False
    """Whether one of its calls took effect after it had given the call up."""

    def looks_anew(self, now_s: float) -> None:
        """What an earlier look was shown counts no more."""
        self.looked_at_s = now_s
        self.present_in_sight = False
        self.pods_hidden = False
        self.answers.clear()

    @property
    def metrics_complete(self) -> bool | None:
        """Whether its last look saw the whole truth; None: not asked, or not to be judged."""
        if False in self.answers:
            return False
        return True if self.answers and None not in self.answers else None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a port: `subject` is what it is about, for calls that change something."""

    service: str
    name: str
    subject: object = None

    def __str__(self) -> str:
        return f"{self.service} {self.name}"


class Watcher(Protocol):
    """Who sees every call: the invariants."""

    def call_begins(self, invocation: "SteppedInvocation", call: Call) -> None:
        """The request leaves the caller."""
        ...

    def effect_ended(self, invocation: "SteppedInvocation", call: Call, result: object, seen: Seen) -> None:
        """The effect has happened; an effect that was refused does not come here. `seen`: when it was asked for."""
        ...

    def fated(self, invocation: "SteppedInvocation", call: Call, fate: Fate) -> None:
        """A call's fate is not the normal one."""
        ...


class SteppedInvocation(Invocation):
    """The port calls of one process, watched, each with the fate that `draw` gives it."""

    def __init__(
        self,
        wires: Wires,
        process: Process,
        draw: Callable[[int, str, str], Fate],
        watcher: Watcher,
        later: Callable[[float, Callable[[], None]], None],
        *,
        skew_s: float = 0.0,
    ) -> None:
        super().__init__(wires, INVOCATION_S)
        self.clock = SkewedClock(wires.time, INVOCATION_S, skew_s, process)
        self.process = process
        self.began_s = wires.time.now_s
        self.number = 0
        self.seen = Seen()
        self.frozen_until_s = 0.0
        """When its machine thaws, if it is frozen: until then nobody can kill it either."""
        self.skew_s = skew_s
        self._draw = draw
        self._watcher = watcher
        self._later = later

    def call(
        self,
        service: str,
        name: str,
        error: type[PortError],
        effect: Callable[[], Result],
        subject: object = None,
    ) -> Result:
        """One call: a pause, its effect, a pause, and what its fate makes of it."""
        self.calls[service] += 1
        self.wires.totals[service, name] += 1
        call = Call(service, name, subject)
        fate = self._draw(self.number, service, name)
        self.number += 1
        if fate.kind is not FateKind.NORMAL:
            self._watcher.fated(self, call, fate)
        self._watcher.call_begins(self, call)
        timeout_s = LAUNCH_TIMEOUT_S if name == "launch" else TIMEOUT_S
        if fate.kind is FateKind.SLOW and fate.before_s > timeout_s:
            # Slower than the caller waits: the effect comes after the caller has given up.
            fate = Fate(FateKind.LATE, 0.0, 0.0, fate.before_s - timeout_s)
        if fate.kind is FateKind.FROZEN:
            self.frozen_until_s = self.wires.time.now_s + fate.before_s
        self.process.pause(fate.before_s)
        if fate.kind is FateKind.KILL_BEFORE:
            self.process.die()
        if fate.kind in (FateKind.LATE, FateKind.KILL_IN_FLIGHT):
            dies = fate.kind is FateKind.KILL_IN_FLIGHT
            if name not in READS:
                self._happen_later(call, effect, fate.late_s if dies else timeout_s + fate.late_s)
            if dies:
                self.process.die()
            self.process.pause(timeout_s)
            raise error(f"{call}: no answer in time", effect_unknown=True)
        if fate.kind is FateKind.LOST and name in READS:
            self.process.pause(fate.after_s)
            raise error(f"{call}: the connection was reset", effect_unknown=True)
        if fate.kind is FateKind.FAILS:
            raise error(f"{call}: refused ({fate.code or 'connection refused'})", code=fate.code)
        return self._happen(call, error, effect, fate)

    def _happen(self, call: Call, error: type[PortError], effect: Callable[[], Result], fate: Fate) -> Result:
        refused: Exception | None = None
        try:
            result = effect()
        except (PortError, Conflict) as why:
            refused = why
        else:
            self._watcher.effect_ended(self, call, result, self.seen)
        self.process.pause(fate.after_s)
        if fate.kind is FateKind.KILL_AFTER:
            self.process.die()
        if fate.kind is FateKind.LOST:
            raise error(f"{call}: the connection was reset", effect_unknown=True)
        if refused is not None:
            raise refused
        return result

    def _happen_later(self, call: Call, effect: Callable[[], object], late_s: float) -> None:
        self.seen.late_effects = True
        seen = replace(self.seen, answers=list(self.seen.answers))

        def land() -> None:
            try:
                result = effect()
            except (PortError, Conflict):
                return  # nobody waits for the answer
            self._watcher.effect_ended(self, call, result, seen)

        self._later(late_s, land)

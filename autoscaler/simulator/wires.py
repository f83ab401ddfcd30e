"""Every call of a port goes through `Invocation.call`, in virtual time: counted, delayed, failed, and told to a hook.

Ports belong to one invocation; what they talk to is shared.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from autoscaler.ports import PortError

Result = TypeVar("Result")
Hook = Callable[[str, str, str], None]
"""Called with (service, name, "before" | "after"); may raise to kill the invocation."""

PROMETHEUS: Final = "prometheus"
EC2: Final = "ec2"
SSM: Final = "ssm"
DYNAMODB: Final = "dynamodb"
SNS: Final = "sns"


class SimTime:
    """The virtual time that everything shares."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def spend(self, seconds: float) -> None:
        """Let time pass inside a call."""
        self.now_s += seconds


class SimClock:
    """One invocation's clock (port Clock)."""

    def __init__(self, time: SimTime, timeout_s: float = 30.0) -> None:
        self._time = time
        self._began_s = time.now_s
        self._timeout_s = timeout_s

    def now_s(self) -> int:
        """Epoch seconds."""
        return int(self._time.now_s)

    def elapsed_ms(self) -> int:
        """Milliseconds of virtual time."""
        return round(self._time.now_s * 1000)

    def remaining_s(self) -> float:
        """Seconds until this invocation is killed."""
        return self._began_s + self._timeout_s - self._time.now_s

    def wait(self, seconds: float) -> None:
        """Let virtual time pass; the world follows at the next call."""
        self._time.spend(seconds)


class SimIds:
    """Ids that sort by time and can be repeated from the seed (port Ids)."""

    def __init__(self, time: SimTime, seed: int) -> None:
        self._time = time
        self._rng = random.Random(seed)
        self._count = 0

    def new(self) -> str:
        """Return a fresh id of 24 hexadecimal digits."""
        self._count += 1
        return f"{int(self._time.now_s * 1000):012x}{self._count & 0xFFFF:04x}{self._rng.getrandbits(32):08x}"


@dataclass(slots=True)
class Failure:
    """How the next calls of one name fail."""

    after_effect: bool
    times: int | None
    """None: until healed."""
    code: str
    message: str
    effect_unknown: bool
    """The caller cannot know: a broken service answered, or nobody did."""


class Wires:
    """What all invocations share: time, the log of calls, the failures that are switched on."""

    def __init__(self, time: SimTime, advance: Callable[[float], None]) -> None:
        self.time = time
        self.advance = advance
        """Brings the world to the present before each call."""
        self.log: list[tuple[str, str]] = []
        """Every call since the log was last cleared."""
        self.totals: Counter[tuple[str, str]] = Counter()
        self.latency_s: dict[str, float] = {}
        """What a call of a service takes; 0 where it is not named."""
        self.hook: Hook | None = None
        self.keep_log = True
        self.lock = threading.RLock()
        self._failures: dict[tuple[str, str], deque[Failure]] = {}

    def fail(
        self,
        service: str,
        name: str,
        *,
        after_effect: bool = False,
        times: int | None = 1,
        code: str = "",
        message: str = "",
        effect_unknown: bool = False,
    ) -> None:
        """Let the next `times` calls of `name` fail, before or after their effect."""
        text = message or f"{service} {name} failed {'after' if after_effect else 'before'} its effect (switched on)."
        self._failures.setdefault((service, name), deque()).append(
            Failure(after_effect, times, code, text, effect_unknown)
        )

    def heal(self) -> None:
        """Switch every failure off."""
        self._failures.clear()

    def take_failure(self, service: str, name: str) -> Failure | None:
        """The failure that this call meets."""
        waiting = self._failures.get((service, name))
        if not waiting:
            return None
        failure = waiting[0]
        if failure.times is not None:
            failure.times -= 1
            if failure.times <= 0:
                waiting.popleft()
        return failure


class Invocation:
    """One run of a function: its clock and its count of calls."""

    def __init__(self, wires: Wires, timeout_s: float = 30.0) -> None:
        self.wires = wires
        self.clock = SimClock(wires.time, timeout_s)
        self.calls: Counter[str] = Counter()

    def call(
        self,
        service: str,
        name: str,
        error: type[PortError],
        effect: Callable[[], Result],
        subject: object = None,  # noqa: ARG002 - what the call is about: for those who watch calls
    ) -> Result:
        """Make one call. Raises `error` where a failure is switched on, `effect_unknown` when it came after."""
        wires = self.wires
        with wires.lock:
            self.calls[service] += 1
            wires.totals[service, name] += 1
            if wires.keep_log:
                wires.log.append((service, name))
        if wires.hook is not None:
            wires.hook(service, name, "before")
        with wires.lock:
            wires.time.spend(wires.latency_s.get(service, 0.0))
            wires.advance(wires.time.now_s)
            failure = wires.take_failure(service, name)
            if failure is not None and not failure.after_effect:
                raise error(failure.message, code=failure.code, effect_unknown=failure.effect_unknown)
            result = effect()
        if wires.hook is not None:
            wires.hook(service, name, "after")
        if failure is not None:
            raise error(failure.message, code=failure.code, effect_unknown=True)
        return result


class Inline:
    """Reads one after the other, the background one last (port Background): virtual time has no threads."""

    def start(self, read: Callable[[], Result]) -> Callable[[], Result]:
        """Keep the read until its result is asked for."""
        return read

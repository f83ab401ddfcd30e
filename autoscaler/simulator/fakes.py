"""The core's ports over the simulated cluster, in virtual time.

Every call goes through `Invocation.call`: it is counted, it may cost time, it may fail before or after its effect, and
a hook sees it begin and end. Ports belong to one invocation; what they talk to is shared.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    NodeCommand,
    Sample,
    State,
)
from autoscaler.ports import (
    CommandsUnavailable,
    Conflict,
    FleetUnavailable,
    MetricsUnavailable,
    PortError,
    StateMalformed,
    StoreUnavailable,
)
from autoscaler.simulator.commands import RunStatus
from autoscaler.simulator.ec2 import Ec2
from autoscaler.simulator.metrics.faults import MetricFaults, spoil
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.world.preflight import ResultLine
from autoscaler.simulator.world.world import World

Result = TypeVar("Result")
Hook = Callable[[str, str, str], None]
"""Called with (service, name, "before" | "after"); may raise to kill the invocation."""

PROMETHEUS: Final = "prometheus"
EC2: Final = "ec2"
SSM: Final = "ssm"
DYNAMODB: Final = "dynamodb"
SNS: Final = "sns"
DELIVERY_TIMEOUT_S: Final = 60.0
"""SSM gives up to hand a command to a server that is offline."""


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


class SimMetrics:
    """Prometheus (port Metrics)."""

    def __init__(self, recorder: Recorder, faults: MetricFaults, invocation: Invocation, timeout_s: float) -> None:
        self._recorder = recorder
        self._faults = faults
        self._invocation = invocation
        self._timeout_s = timeout_s

    def query(self, promql: str) -> Sequence[Sample]:
        """Answer one of the core's queries. Raises MetricsUnavailable."""

        def effect() -> Sequence[Sample]:
            time = self._invocation.wires.time
            if self._faults.slow:
                time.spend(self._timeout_s)
            return spoil(self._faults, self._recorder, promql, time.now_s)

        return self._invocation.call(PROMETHEUS, "query", MetricsUnavailable, effect, promql)


class SimFleet:
    """EC2 (port Fleet)."""

    def __init__(self, ec2: Ec2, invocation: Invocation) -> None:
        self._ec2 = ec2
        self._invocation = invocation

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """Raw DescribeInstances rows. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "describe", FleetUnavailable, self._ec2.describe)

    def launch_context(self) -> LaunchContext:
        """What a request freezes. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "launch_context", FleetUnavailable, self._ec2.launch_context)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """CreateFleet. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "launch", FleetUnavailable, lambda: self._ec2.create_fleet(request), request)

    def terminate(self, instance_id: str) -> None:
        """TerminateInstances of one. Raises FleetUnavailable."""
        self._invocation.call(EC2, "terminate", FleetUnavailable, lambda: self._ec2.terminate(instance_id), instance_id)


@dataclass(slots=True)
class Ssm:
    """Run Command: which server is online, what was sent."""

    world: World
    offline: set[str] = field(default_factory=set)
    """Servers whose agent does not answer: a command waits, and is given up after a minute."""
    sent: dict[str, tuple[NodeCommand, str, float]] = field(default_factory=dict)
    """By command id: the command, the server, when."""
    delay_s: float = 0.0
    """From SendCommand to the start on the server: below the delivery time-out."""
    refusing: bool = False
    """SSM hands commands to no server at all."""
    crashing: bool = False
    """Commands sent now end at once with an exit code that means nothing, having done nothing."""
    mute: bool = False
    """Commands sent now run, and their end is never reported."""
    _crashed: set[str] = field(default_factory=set)
    _muted: set[str] = field(default_factory=set)

    def send(self, command: NodeCommand, server_id: str) -> str:
        """SendCommand. Raises CommandsUnavailable with InvalidInstanceId for what is no living server."""
        machine = self.world.state.machines.get(server_id)
        if self.refusing or machine is None or not machine.server or not machine.alive:
            raise CommandsUnavailable(f"{server_id} is no instance that takes commands.", code="InvalidInstanceId")
        command_id = f"00000000-0000-4000-8000-{len(self.sent) + 1:012x}"
        self.sent[command_id] = (command, server_id, self.world.now_s)
        if self.mute:
            self._muted.add(command_id)
        if self.crashing:
            self._crashed.add(command_id)
        elif server_id not in self.offline:
            self._start(command, command_id)
        return command_id

    def _start(self, command: NodeCommand, command_id: str) -> None:
        if self.delay_s:
            self.world.at(self.world.now_s + self.delay_s, lambda: self.world.start_command(command, command_id))
        else:
            self.world.start_command(command, command_id)

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """GetCommandInvocation, as a CommandResult."""
        known = self.sent.get(command_id)
        if known is None or known[1] != server_id:
            return CommandResult(outcome=CommandOutcome.UNDELIVERED, message="SSM knows no such command.")
        if command_id in self._muted:
            return CommandResult(outcome=CommandOutcome.RUNNING)
        if command_id in self._crashed:
            return CommandResult(outcome=CommandOutcome.FAILED, message="The script broke.")
        status = self.world.command_status(command_id)
        if status is None:
            late = self.world.now_s - known[2] > DELIVERY_TIMEOUT_S
            return CommandResult(outcome=CommandOutcome.UNDELIVERED if late else CommandOutcome.RUNNING)
        if status.status in {RunStatus.PENDING, RunStatus.IN_PROGRESS}:
            return CommandResult(outcome=CommandOutcome.RUNNING)
        line = msgspec.json.decode(status.stdout, type=ResultLine)
        return CommandResult(
            outcome=line.outcome,
            rule=line.rule,
            message=line.message,
            evicted_pods=line.evicted_pods,
            inspection=line.inspection,
        )


class SimCommands:
    """SSM (port NodeCommands)."""

    def __init__(self, ssm: Ssm, invocation: Invocation) -> None:
        self._ssm = ssm
        self._invocation = invocation

    def send(self, command: NodeCommand, server_id: str) -> str:
        """Hand the command over. Raises CommandsUnavailable."""
        return self._invocation.call(
            SSM, "send", CommandsUnavailable, lambda: self._ssm.send(command, server_id), command
        )

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """Ask for the result. Raises CommandsUnavailable."""
        return self._invocation.call(
            SSM, "result", CommandsUnavailable, lambda: self._ssm.result(command_id, server_id)
        )


@dataclass(slots=True)
class StateItem:
    """The stored item: encoded bytes and a version, as DynamoDB would hold them."""

    data: bytes = b""
    version: int = 0
    largest_bytes: int = 0
    saves: int = 0
    decisions: deque[tuple[int, str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=10_000))


class MemoryStore:
    """The state with compare-and-set (port StateStore)."""

    def __init__(self, item: StateItem, invocation: Invocation) -> None:
        self._item = item
        self._invocation = invocation

    def load(self) -> tuple[State, int]:
        """Decode the item. Raises StoreUnavailable, StateMalformed."""

        def effect() -> tuple[State, int]:
            item = self._item
            if item.version == 0:
                return State(), 0
            try:
                return msgspec.json.decode(item.data, type=State), item.version
            except msgspec.DecodeError as error:
                raise StateMalformed(f"The stored state does not decode: {error}") from error

        return self._invocation.call(DYNAMODB, "load", StoreUnavailable, effect)

    def save(self, state: State, expected_version: int) -> int:
        """Write if nobody else did. Raises Conflict, StoreUnavailable."""

        def effect() -> int:
            item = self._item
            if item.version != expected_version:
                raise Conflict(f"the item has version {item.version}, not {expected_version}")
            item.data = msgspec.json.encode(state)
            item.version += 1
            item.saves += 1
            item.largest_bytes = max(item.largest_bytes, len(item.data))
            return item.version

        return self._invocation.call(DYNAMODB, "save", StoreUnavailable, effect, state)

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        """Append to the history; the document must be plain JSON. Raises StoreUnavailable."""

        def effect() -> None:
            plain = msgspec.json.decode(msgspec.json.encode(document))
            self._item.decisions.append((decided_at_s, decision_id, plain))

        self._invocation.call(DYNAMODB, "record", StoreUnavailable, effect)


class SimNotifier:
    """SNS (port Notifier): what was told, and what was lost on the way."""

    def __init__(self, told: deque[dict[str, Any]], lost: deque[dict[str, Any]], invocation: Invocation) -> None:
        self._told = told
        self._lost = lost
        self._invocation = invocation

    def notify(self, document: Mapping[str, Any]) -> None:
        """Tell; a failure is noted and never raised."""
        plain = msgspec.json.decode(msgspec.json.encode(document))
        try:
            self._invocation.call(SNS, "notify", PortError, lambda: self._told.append(plain))
        except PortError:
            self._lost.append(plain)

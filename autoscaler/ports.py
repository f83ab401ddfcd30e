"""The Protocols between the core and the world: what reconcile may ask, and how a failure is told.

Answers are raw on purpose (Prometheus samples, DescribeInstances rows): parsing them is the core's work, so the
simulator and AWS run the same parsers. Every method makes at most one remote call a page: one attempt, bounded in time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from autoscaler.model import (
    CommandResult,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    NodeCommand,
    Sample,
    SchedulingRules,
    State,
)

Result = TypeVar("Result")


_SDK_ENDING = "Error"
"""botocore's exceptions end like this, AWS' codes do not, but InternalError, whose effect is unknown, and these."""
_AWS_ALSO = frozenset({"ValidationError"})


class PortError(Exception):
    """A dependency did not do what it was asked. `effect_unknown` tells whether it may have happened all the same."""

    def __init__(self, message: str, *, code: str = "", effect_unknown: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.effect_unknown = effect_unknown

    @property
    def refused(self) -> bool:
        """Whether the service itself said no. Without a code, or with the SDK's own, it was never asked or heard."""
        by_the_sdk = self.code.endswith(_SDK_ENDING) and self.code not in _AWS_ALSO
        return bool(self.code) and not self.effect_unknown and not by_the_sdk


BAD_QUERY: Final = "bad_data"
"""Prometheus' `errorType` of what is no query ("HTTP API", "Format overview"), the `code` of MetricsUnavailable."""


class MetricsUnavailable(PortError):
    """Prometheus could not be asked, or its answer is not an answer."""


class FleetUnavailable(PortError):
    """EC2 could not be asked or refused the call; `code` is its error code."""


class CommandsUnavailable(PortError):
    """SSM could not be asked or refused the call."""


class StoreUnavailable(PortError):
    """The state could not be read or written; `effect_unknown` for a write whose response was lost."""


class StateMalformed(PortError):
    """The stored state does not decode. It is reported and left as it is: no default replaces it."""


class RulesMalformed(PortError):
    """The kept rules do not decode. The next answer of a server replaces them."""


class Conflict(Exception):
    """The item changed since it was loaded."""


class Metrics(Protocol):
    """Prometheus' instant query."""

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Return the vector, within `timeout_s` or what the policy allows, whichever is less.

        Raises MetricsUnavailable.
        """
        ...


class Fleet(Protocol):
    """EC2."""

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """Return the raw DescribeInstances rows with the cluster's tag, dead ones too. Raises FleetUnavailable."""
        ...

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return the raw rows of these instances, whatever tags they carry. Raises FleetUnavailable."""
        ...

    def launch_context(self) -> LaunchContext:
        """Return what a new request must freeze. Raises FleetUnavailable."""
        ...

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Send the request. Raises FleetUnavailable with EC2's code."""
        ...

    def terminate(self, instance_id: str) -> None:
        """Terminate one instance; an unknown id is success. Raises FleetUnavailable."""
        ...


class NodeCommands(Protocol):
    """SSM Run Command to one server."""

    def send(self, command: NodeCommand, server_id: str) -> str:
        """Hand the command to exactly this server; returns the command id. Raises CommandsUnavailable."""
        ...

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """Return what is known of it, never waiting. Raises CommandsUnavailable."""
        ...


class StateStore(Protocol):
    """One item with a version; compare-and-set only."""

    def load(self) -> tuple[State, int]:
        """Read consistently. (State(), 0) where no item exists. Raises StoreUnavailable, StateMalformed."""
        ...

    def save(self, state: State, expected_version: int) -> int:
        """Write if the version is still `expected_version`; returns the new one. Raises Conflict, StoreUnavailable."""
        ...

    def rules(self) -> SchedulingRules | None:
        """Read the kept rules consistently; None where none were ever kept. Raises StoreUnavailable, RulesMalformed."""
        ...

    def keep_rules(self, rules: SchedulingRules) -> None:
        """Keep these in the place of all that are older; younger ones stay. Raises StoreUnavailable."""
        ...

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        """Append one decision to the history. Raises StoreUnavailable."""
        ...


class Notifier(Protocol):
    """Where people hear of what happened."""

    def notify(self, document: Mapping[str, Any]) -> None:
        """Tell. A failure is logged by the implementation, never raised: news is not worth a stopped operation."""
        ...


class Background(Protocol):
    """How a second read runs beside the first."""

    def start(self, read: Callable[[], Result]) -> Callable[[], Result]:
        """Begin the read; calling what is returned waits for its result, or raises what it raised."""
        ...


class Clock(Protocol):
    """Time."""

    def now_s(self) -> int:
        """Epoch seconds."""
        ...

    def elapsed_ms(self) -> int:
        """Milliseconds on a clock that never steps back, from any start."""
        ...

    def remaining_s(self) -> float:
        """Seconds until this invocation is killed."""
        ...

    def wait(self, seconds: float) -> None:
        """Return once this much time has passed."""
        ...


class Ids(Protocol):
    """Names that nobody else uses."""

    def new(self) -> str:
        """Return a fresh id: lower-case letters and digits, sortable by time, at most 32."""
        ...


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside."""

    metrics: Metrics
    fleet: Fleet
    commands: NodeCommands
    store: StateStore
    notifier: Notifier
    background: Background
    clock: Clock
    ids: Ids
    calls: Callable[[], Mapping[str, int]]
    """Remote calls made so far in this invocation, by service."""

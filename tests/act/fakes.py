"""Small real ports: each keeps what it was told and answers what it was given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoscaler.model import (
    CommandResult,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    NodeCommand,
    SchedulingRules,
    State,
)
from autoscaler.ports import Conflict, StoreUnavailable


class Store:
    """One item in memory. `before` runs before each write, as another invocation would."""

    def __init__(self, state: State, *, before: Sequence[Callable[["Store"], None]] = ()) -> None:
        self.state = state
        self.version = 1
        self.saves: list[State] = []
        self._before = list(before)

    def load(self) -> tuple[State, int]:
        return self.state, self.version

    def save(self, state: State, expected_version: int) -> int:
        if self._before:
            self._before.pop(0)(self)
        if expected_version != self.version:
            raise Conflict("somebody else wrote")
        self.put(state)
        self.saves.append(state)
        return self.version

    def put(self, state: State) -> None:
        """Write without asking, as whoever owns the version."""
        self.state = state
        self.version += 1

    def rules(self) -> SchedulingRules | None:
        raise NotImplementedError

    def keep_rules(self, rules: SchedulingRules) -> None:
        raise NotImplementedError

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        raise NotImplementedError


class LossyStore(Store):
    """The next write happens, and its response is lost; `then` runs after it."""

    def __init__(self, state: State, *, happens: bool = True, then: Callable[["Store"], None] | None = None) -> None:
        super().__init__(state)
        self._happens = happens
        self._then = then
        self._lost = False

    def save(self, state: State, expected_version: int) -> int:
        if self._lost:
            return super().save(state, expected_version)
        self._lost = True
        if self._happens:
            super().save(state, expected_version)
        if self._then is not None:
            self._then(self)
        raise StoreUnavailable("the response was lost", effect_unknown=True)


class Fleet:
    """EC2: answers each launch with the next of `answers`, raising what is an exception."""

    def __init__(self, *answers: LaunchResult | Exception, refuse_terminate: Exception | None = None) -> None:
        self.requests: list[LaunchRequest] = []
        self.terminated: list[str] = []
        self._answers = list(answers)
        self.refuse_terminate = refuse_terminate

    def describe(self) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    def launch_context(self) -> LaunchContext:
        raise NotImplementedError

    def launch(self, request: LaunchRequest) -> LaunchResult:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def terminate(self, instance_id: str) -> None:
        self.terminated.append(instance_id)
        if self.refuse_terminate is not None:
            raise self.refuse_terminate


class Commands:
    """SSM: hands out command ids, or refuses."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.sent: list[tuple[NodeCommand, str]] = []
        self._refuse = refuse

    def send(self, command: NodeCommand, server_id: str) -> str:
        self.sent.append((command, server_id))
        if self._refuse is not None:
            raise self._refuse
        return f"c{len(self.sent)}"

    def result(self, command_id: str, server_id: str) -> CommandResult:
        raise NotImplementedError


class Clock:
    """Stands still; the time that is left goes down by `spends_s` with each look at it."""

    def __init__(self, now_s: int, *, remaining_s: float = 25.0, spends_s: float = 0.0) -> None:
        self._now_s = now_s
        self._remaining_s = remaining_s
        self._spends_s = spends_s

    def now_s(self) -> int:
        return self._now_s

    def elapsed_ms(self) -> int:
        return 0

    def remaining_s(self) -> float:
        left = self._remaining_s
        self._remaining_s -= self._spends_s
        return left

    def wait(self, seconds: float) -> None:
        self._now_s += int(seconds)
        self._remaining_s -= seconds

"""The processes of a race: kept alive from round to round, told to look, held, let go, killed and replaced."""

import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import TracebackType
from typing import Final, Self

from autoscaler.aws.dynamodb import DynamoStateStore
from tests.race.ports import Stop
from tests.race.worker import Held, Look, Looked, serve

PATIENCE_S: Final = 60.0
"""No step of a round takes a second; a machine that is busy with other things gets this long."""
SERVED_BY_SIGNAL: Final = 5.0


class Stuck(RuntimeError):
    """A process neither answered nor stopped, or ended by itself."""


@dataclass(frozen=True, kw_only=True)
class _Member:
    process: ForkServerProcess
    pipe: "Connection[Look | None, Held | Looked | None]"


class Arena:
    """Processes by number, from 0. Use it in a `with` statement."""

    def __init__(self, url: str, processes: int, kind: type[DynamoStateStore] = DynamoStateStore) -> None:
        self.processes = processes
        self.held: dict[int, Stop] = {}
        """Who stands where."""
        self.looked: dict[int, Looked] = {}
        """How each one's last look ended."""
        self._url = url
        self._kind = kind
        self._members: dict[int, _Member] = {}
        self._running: set[int] = set()
        # Processes of their own with nothing of this one in them, made quickly: the imports are done once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.race.worker"])

    def __enter__(self) -> Self:
        for number in range(self.processes):
            self._enlist(number)
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members.values():
            member.pipe.close()
        for member in self._members.values():
            member.process.join(SERVED_BY_SIGNAL)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()

    def pid(self, number: int) -> int:
        """Its pid."""
        pid = self._members[number].process.pid
        if pid is None:
            raise Stuck(f"process {number} was never started")
        return pid

    def begin(self, looks: Mapping[int, Look]) -> None:
        """Let these processes look."""
        for number, look in looks.items():
            self.looked.pop(number, None)
            self._members[number].pipe.send(look)
            self._running.add(number)

    def go(self) -> None:
        """Let everybody who is held go on."""
        for number in self.held:
            self._members[number].pipe.send(None)
        self._running.update(self.held)
        self.held.clear()

    def kill(self, number: int) -> None:
        """SIGKILL: no `finally` runs. Another process takes its place."""
        member = self._members[number]
        member.process.kill()
        member.process.join()
        if member.process.exitcode != -signal.SIGKILL:
            raise Stuck(f"process {number} ended with {member.process.exitcode} before it was killed")
        member.pipe.close()
        self.held.pop(number, None)
        self._running.discard(number)
        self._enlist(number)

    def wait(self) -> None:
        """Until everybody who runs has ended its look or is held. Raises Stuck."""
        while self._running:
            pipes = {self._members[number].pipe: number for number in self._running}
            ready = multiprocessing.connection.wait(list(pipes), PATIENCE_S)
            if not ready:
                raise Stuck(f"processes {sorted(self._running)} did nothing for {PATIENCE_S:.0f} s")
            for number in (pipes[pipe] for pipe in pipes if pipe in ready):
                self._hear(number)

    def _hear(self, number: int) -> None:
        member = self._members[number]
        try:
            told = member.pipe.recv()
        except EOFError as error:
            member.process.join(SERVED_BY_SIGNAL)
            raise Stuck(f"process {number} ended with {member.process.exitcode}: see what it wrote") from error
        self._running.discard(number)
        match told:
            case Held():
                self.held[number] = told.stop
            case Looked():
                self.looked[number] = told
            case None:
                pass  # it is there

    def _enlist(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, self._url, self._kind), name=f"race-{number}", daemon=True
        )
        process.start()
        theirs.close()
        self._members[number] = _Member(process=process, pipe=ours)
        self._running.add(number)

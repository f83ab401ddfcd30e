"""Processes that are started together and always ended together, in reverse order, whatever happens in between."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

import psutil
import requests

from autoscaler.simulator.stack.guardian import GRACE_S, end_groups

LOG_LINES_SHOWN: Final = 12
POLL_S: Final = 0.05


class StackError(RuntimeError):
    """The local stack cannot go on; the message is one sentence, followed by the last log lines where there are any."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """One started process, leader of its own process group."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        """Its pid, which is its process group's id too."""
        return self.process.pid

    def last_lines(self) -> str:
        """Return the end of its log, for an error message."""
        return last_lines(self.log_path)


class Supervisor:
    """Starts processes in groups of their own and ends them all when the `with` block is left.

    A guardian process does the same when this process is killed outright.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "autoscaler.simulator.stack.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd=repository_root(),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_all()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout_path: Path | None = None,
    ) -> Running:
        """Start a program. All it says goes to `<name>.log`, its standard output to `stdout_path` where one is given.

        Raises StackError when it cannot be started at all.
        """
        log_path = self.folder / f"{name}.log"
        with deferred_endings(), log_path.open("ab") as log, (stdout_path or log_path).open("ab") as out:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    env=dict(env) if env is not None else None,
                    cwd=cwd or repository_root(),
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{name} could not be started ({command[0]}): {error}.") from error
            running = Running(name=name, process=process, log_path=log_path)
            self._running.append(running)
            self._announce(f"+{process.pid} {_created(process.pid)}\n")
        return running

    def run(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> str:
        """Run a program to its end; returns its standard output. Raises StackError when it fails or takes too long."""
        stdout_path = self.folder / f"{name}.out"
        running = self.start(name, command, env=env, stdout_path=stdout_path)
        try:
            code = running.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise StackError(f"{name} took more than {timeout_s:.0f} s.\n{running.last_lines()}") from error
        finally:
            self.end(running)
        if code != 0:
            raise StackError(
                f"{name} failed with code {code}.\n{last_lines(stdout_path)}\n{running.last_lines()}".rstrip()
            )
        return stdout_path.read_text(errors="replace")

    def wait_ready(self, running: Running, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `is_ready`. Raises StackError when the program ends first or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            code = running.process.poll()
            if code is not None:
                raise StackError(f"{running.name} ended with code {code} before it was ready.\n{running.last_lines()}")
            if time.monotonic() > deadline:
                raise StackError(f"{running.name} was not ready within {timeout_s:.0f} s.\n{running.last_lines()}")
            time.sleep(POLL_S)

    def check_alive(self) -> None:
        """Raise StackError when a program that should run has ended."""
        for running in self._running:
            code = running.process.poll()
            if code is not None:
                raise StackError(f"{running.name} ended unexpectedly with code {code}.\n{running.last_lines()}")

    @property
    def pids(self) -> dict[str, int]:
        """The started processes by name."""
        return {running.name: running.pid for running in self._running}

    def end(self, running: Running) -> None:
        """End one process and its group."""
        end_groups([running.pid])
        running.process.wait(timeout=GRACE_S)
        self._running.remove(running)
        self._announce(f"-{running.pid}\n")

    def end_all(self) -> None:
        """End everything, last started first. Signals are ignored meanwhile: a second Ctrl-C must not leave a rest."""
        with deferred_endings():
            while self._running:
                self.end(self._running[-1])
            if self._guardian is not None and self._guardian.stdin is not None:
                self._guardian.stdin.close()
                self._guardian.wait(timeout=2 * GRACE_S)
                self._guardian = None

    def _announce(self, line: str) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            raise StackError("The supervisor is not running: use it in a `with` statement.")
        self._guardian.stdin.write(line.encode())
        self._guardian.stdin.flush()


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it ended at once: wait_ready tells why
        return 0.0


class Interrupted(BaseException):
    """The user or the system asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def endings_raise() -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP raise Interrupted, so that every `with` block on the way is left in order."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handlers(end):
        yield


@contextlib.contextmanager
def deferred_endings() -> Iterator[None]:
    """Within, an ending signal waits until the block is left: no process is started and not written down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    with _handlers(lambda number, _frame: arrived.append(number)):
        yield
    if arrived:
        signal.raise_signal(arrived[0])


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _ENDING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a GET on this address is answered with success."""
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def last_lines(path: Path, count: int = LOG_LINES_SHOWN) -> str:
    """Return the end of a log file, indented."""
    lines = path.read_text(errors="replace").splitlines()[-count:] if path.exists() else []
    return "\n".join(f"    {line}" for line in lines)


def repository_root() -> Path:
    """Where serverless.yml, scripts/ and monitoring/ are."""
    return Path(__file__).resolve().parents[3]

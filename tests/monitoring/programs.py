"""Prometheus, Alertmanager and their tools as real processes."""

import contextlib
import functools
import json
import os
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIND_PROGRAM = ROOT / "scripts" / "find-program"


@functools.cache
def _find(name: str) -> tuple[str, str]:
    done = subprocess.run([FIND_PROGRAM, name], capture_output=True, text=True, check=False)
    return done.stdout.strip(), done.stderr.strip()


def program(name: str) -> str:
    """Its path. Without it the test is skipped with the sentence that says how to install it; fails where CI=true."""
    path, why = _find(name)
    if path:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class QuietHandler(BaseHTTPRequestHandler, ABC):
    """Answers GET and POST by `reply`, without a line on the terminal for each request."""

    @abstractmethod
    def reply(self) -> None:
        """Call `answer` once."""

    def do_GET(self) -> None:
        self.reply()

    def do_POST(self) -> None:
        self.reply()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked has ended, or waits no longer
            self.wfile.write(body)


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve on a loopback port until the block ends; gives `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def daemon(name: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run it until the block ends; ended for good then, whatever happened in the block."""
    with (
        log.open("wb") as output,
        subprocess.Popen([program(name), *arguments], stdout=output, stderr=output) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def get_json(url: str) -> Any:
    with urlopen(url, timeout=10) as response:  # noqa: S310 - always a loopback address of this test
        return json.load(response)


def wait_until(true: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Ask again until it is true. An answer that does not come yet (a program that starts) is 'not yet'."""
    deadline = time.monotonic() + within_s
    last: object = "it stayed false"
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except (OSError, KeyError, AssertionError) as error:
            last = error
        time.sleep(0.2)
    pytest.fail(f"Not within {within_s} s: {what} ({last})")

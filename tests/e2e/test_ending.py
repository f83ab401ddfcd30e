"""However the demo ends, it leaves no process behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from autoscaler.simulator.stack.processes import repository_root

pytestmark = [pytest.mark.real_programs, pytest.mark.usefixtures("real_programs")]

START_S = 120
END_S = 30


@contextmanager
def running_demo(log: Path, until: str) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """Start it and wait for a word in its output; gives it and every process that it has started by then."""
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "autoscaler.simulator.stack.demo", "--plain"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=repository_root(),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while until not in log.read_text():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        time.sleep(1.0)  # in the middle of it
        yield demo, psutil.Process(demo.pid).children(recursive=True)
    finally:
        demo.kill()
        demo.wait(timeout=END_S)


def programs(processes: list[psutil.Process]) -> str:
    """Their command lines, for a look at what runs."""
    return "\n".join(" ".join(process.cmdline()) for process in processes if process.is_running())


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=END_S)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert left == []


def test_ctrl_c_in_the_middle_ends_everything(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo.log", "CreateFleet") as (demo, started):
        for name in ("prometheus", "alertmanager", "serverless-offline", "emulator", "guardian"):
            assert name in programs(started)
        demo.send_signal(signal.SIGINT)
        demo.send_signal(signal.SIGINT)  # impatient
        assert demo.wait(timeout=END_S) == 128 + signal.SIGINT
        assert_all_gone(started)
    assert "ended by SIGINT" in (tmp_path / "demo.log").read_text()


def test_a_killed_demo_leaves_nothing_behind_either(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo.log", "sls deploy") as (demo, started):
        assert "deploy" in programs(started)
        demo.kill()
        demo.wait(timeout=END_S)
        assert_all_gone(started)

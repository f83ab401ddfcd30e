"""However the demo ends, it leaves no process behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from autoscaler.simulator.stack.processes import repository_root

pytestmark = [pytest.mark.real_programs, pytest.mark.usefixtures("real_programs")]

START_S = 120
END_S = 30


def start_demo(log: Path, until: str) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """Start it, wait for a word in its output; returns it and every process that it has started by then."""
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "autoscaler.simulator.stack.demo", "--plain"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=repository_root(),
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while until not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return demo, psutil.Process(demo.pid).children(recursive=True)


def names(processes: list[psutil.Process]) -> set[str]:
    found = set()
    for process in processes:
        try:
            found.add(process.name())
        except psutil.NoSuchProcess:
            continue
    return found


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=END_S)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert left == []


def test_ctrl_c_in_the_middle_ends_everything(tmp_path: Path) -> None:
    demo, started = start_demo(tmp_path / "demo.log", "CreateFleet")
    assert names(started) >= {"node", "prometheus", "prometheus-aler"} or names(started) >= {
        "prometheus",
        "alertmanager",
    }
    demo.send_signal(signal.SIGINT)
    demo.send_signal(signal.SIGINT)  # impatient
    assert demo.wait(timeout=END_S) == 128 + signal.SIGINT
    assert_all_gone(started)
    assert "ended by SIGINT" in (tmp_path / "demo.log").read_text()


def test_a_killed_demo_leaves_nothing_behind_either(tmp_path: Path) -> None:
    demo, started = start_demo(tmp_path / "demo.log", "sls deploy")
    time.sleep(1.0)  # the deployment has begun
    started = [*started, *psutil.Process(demo.pid).children(recursive=True)]
    demo.kill()
    demo.wait(timeout=END_S)
    assert_all_gone(started)

"""Processes that are started together end together, and say why they could not start."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from autoscaler.simulator.stack.guardian import group_members
from autoscaler.simulator.stack.processes import StackError, Supervisor

STUBBORN = ["sh", "-c", "trap '' TERM; sleep 600 & while :; do sleep 1; done"]


def never() -> bool:
    return False


def test_the_whole_group_ends_even_one_that_ignores_sigterm(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        stubborn = supervisor.start("stubborn", STUBBORN)
        assert group_members(stubborn.pid)
    assert not group_members(stubborn.pid)


def test_processes_end_when_the_block_is_left_by_an_error(tmp_path: Path) -> None:
    pids = []

    def work() -> None:
        with Supervisor(tmp_path) as supervisor:
            pids.append(supervisor.start("one", ["sleep", "600"]).pid)
            raise ValueError("something else went wrong")

    with pytest.raises(ValueError, match="something else"):
        work()
    assert not group_members(pids[0])


def test_a_program_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        running = supervisor.start("broken", ["sh", "-c", "echo no such table >&2; exit 3"])
        with pytest.raises(StackError, match=r"broken ended with code 3 before it was ready\.\n    no such table"):
            supervisor.wait_ready(running, never, timeout_s=10)


def test_a_program_that_is_never_ready_is_given_up_in_time(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        running = supervisor.start("slow", ["sleep", "600"])
        with pytest.raises(StackError, match=r"slow was not ready within 0 s"):
            supervisor.wait_ready(running, never, timeout_s=0.2)


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor, pytest.raises(StackError, match="no-such-program"):
        supervisor.start("ghost", ["no-such-program"])


def test_a_program_that_ended_unexpectedly_is_noticed(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        running = supervisor.start("short", ["sh", "-c", "exit 4"])
        running.process.wait(timeout=10)
        with pytest.raises(StackError, match="short ended unexpectedly with code 4"):
            supervisor.check_alive()


def test_run_returns_standard_output_only_and_tells_a_failure(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        assert supervisor.run("good", ["sh", "-c", "echo out; echo err >&2"]) == "out\n"
        with pytest.raises(StackError, match=r"bad failed with code 2\.\n    out\n    err"):
            supervisor.run("bad", ["sh", "-c", "echo out; echo err >&2; exit 2"])
        with pytest.raises(StackError, match="long took more than 0 s"):
            supervisor.run("long", ["sleep", "600"], timeout_s=0.2)


def test_the_guardian_ends_the_groups_of_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from autoscaler.simulator.stack.processes import Supervisor\n"
        "with Supervisor(pathlib.Path(sys.argv[1])) as supervisor:\n"
        "    print(supervisor.start('sleeper', ['sh', '-c', 'sleep 600 & sleep 600']).pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    leader = int(parent.stdout.readline())
    members = group_members(leader)
    assert members
    parent.kill()
    parent.wait(timeout=10)
    _, alive = psutil.wait_procs(members, timeout=15)
    assert alive == []

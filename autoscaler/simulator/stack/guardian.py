"""Ends what its parent started and could not end itself: `kill -9` of the demo leaves nothing behind.

Run as a child, it reads lines from its standard input: `+<pid> <created>` for a process group that was started,
`-<pid>` for one that was ended. The pipe closes when the parent is gone, however it went; then the groups that are
left get SIGTERM and, after a grace, SIGKILL. A pid is trusted only while its process' creation time is the
announced one, so that a number that the system gave to somebody else is never signalled.
"""

import os
import signal
import sys
import time
from typing import Final

import psutil

GRACE_S: Final = 3.0


def is_same(pid: int, created: float) -> bool:
    """Whether this pid is still the process that was announced (a zombie of it counts: its group may live on)."""
    try:
        return abs(psutil.Process(pid).create_time() - created) < 1.0
    except psutil.NoSuchProcess:
        return False


def group_members(leader: int) -> list[psutil.Process]:
    """List the living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            continue
    return found


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal a group; one that is gone already is fine."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def end_groups(leaders: list[int], grace_s: float = GRACE_S) -> None:
    """SIGTERM to each group in turn, last started first; SIGKILL to those that outlive the grace."""
    for leader in leaders:
        signal_group(leader, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(group_members(leader) for leader in leaders):
        time.sleep(0.05)
    for leader in leaders:
        if group_members(leader):
            signal_group(leader, signal.SIGKILL)


def main() -> None:
    """Read announcements until the parent is gone, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the pipe ends, not before
    started: dict[int, float] = {}
    for line in sys.stdin:
        sign, fields = line[:1], line[1:].split()
        if sign == "+":
            started[int(fields[0])] = float(fields[1])
        else:
            started.pop(int(fields[0]), None)
    # A leader that ended by itself leaves no creation time to compare; its group keeps the number reserved while any
    # member lives, so a group with members and no leader is still ours.
    ours = [pid for pid, created in started.items() if is_same(pid, created) or not psutil.pid_exists(pid)]
    end_groups(ours[::-1])


if __name__ == "__main__":
    main()

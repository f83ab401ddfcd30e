"""`python -m bench.backtest_speed`: how long a backtest of a month takes, on a made-up recording."""

import argparse
import math
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from typing import Final

from autoscaler.backtest.recording import Group, Recording
from autoscaler.backtest.replay import plans_of
from autoscaler.backtest.run import backtest
from autoscaler.policy import Policy, Workers

BEGIN_S: Final = 1_799_971_200
STEP_S: Final = 300
OWNERS: Final = 20
MIB: Final = 1024**2


def month(days: int, nodes: int) -> Recording:
    """Twenty services that follow the sun from a quarter to all of what so many `t3.small` hold; use is never still."""
    rng = random.Random(12)  # noqa: S311 - no secret
    steps = days * 86_400 // STEP_S
    most = nodes * 7 / OWNERS  # pods of 250 millicores that a worker holds

    def share(step: int) -> float:
        hour = step * STEP_S / 3600 % 24
        return 0.25 + 0.75 * max(0.0, math.sin((hour - 6) / 12 * math.pi))

    groups = tuple(
        Group(
            namespace=f"team-{number}",
            kind="ReplicaSet",
            cpu_millicores=250,
            memory_bytes=128 * MIB,
            pods=tuple(max(1, round((most - 1) * share(step)) + number % 2) for step in range(steps)),
        )
        for number in range(OWNERS)
    )
    pods = [sum(group.pods[step] or 0 for group in groups) for step in range(steps)]
    return Recording(
        begin_s=BEGIN_S,
        step_s=STEP_S,
        groups=groups,
        used_cores=tuple(round(count * 0.17 * rng.uniform(1.0, 1.1), 3) for count in pods),
        used_bytes=tuple(float(count * 90 * MIB) for count in pods),
        workers=tuple(math.ceil(count / 7) for count in pods),
        waiting=(0,) * steps,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Play it once under one policy; the seconds of the clock, and of the processors."""
    parser = argparse.ArgumentParser(prog="python -m bench.backtest_speed", description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    recording = month(options.days, options.nodes)
    plans = plans_of(recording, "a month")
    policy = Policy(version=1, workers=Workers(max=options.nodes + 5))
    began_s = time.monotonic()
    report = backtest(
        plans, {"policy": policy}, source="a month", notes=(), processes=options.processes, recording=recording
    )
    wall_s = time.monotonic() - began_s
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = report.fleets[0].figures
    most = max(count for span in report.fleets[0].spans for _, count in span.workers)
    print(
        f"{options.days} days, at most {most} workers, {figures.node_hours / figures.hours:.0f} in the mean, "
        f"{figures.looks} looks, {figures.launches} launches: {wall_s:.0f} s on {options.processes} processes, "
        f"{used.ru_utime + used.ru_stime:.0f} s of CPU, {used.ru_maxrss / 1024:.0f} MiB in the largest"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

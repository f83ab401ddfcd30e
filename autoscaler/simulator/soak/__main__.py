"""`make soak SEEDS=100`: plays seeds and prints what was tried; a seed that fails is shortened and told."""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Final

from autoscaler.simulator.soak.report import Totals, failure_lines
from autoscaler.simulator.soak.run import Run, SeedResult
from autoscaler.simulator.soak.shorten import shorten

SHORTENED: Final = 3
"""Failing seeds that are shortened and told whole; further ones mostly fail for the same reason."""


def play(seed: int) -> SeedResult:
    """Play one seed; the history stays here unless it is wanted."""
    result = Run(seed).run()
    return result if result.violation is not None else result.without_history()


def play_all(seeds: range) -> Iterator[SeedResult]:
    """Play the seeds on every core."""
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(play, seeds, chunksize=4)


def soak(first: int, count: int) -> int:
    """Play many seeds; returns 1 when an invariant failed."""
    began = time.monotonic()
    totals, failed = Totals(), list[SeedResult]()
    for result in play_all(range(first, first + count)):
        totals.add(result)
        if result.violation is not None:
            failed.append(result)
        if sys.stderr.isatty():
            done = f"\r{totals.seeds}/{count} seeds, {totals.hours:,.0f} simulated hours, {len(failed)} failed "
            sys.stderr.write(done)
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    failed.sort(key=lambda result: result.seed)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(one.ru_utime + one.ru_stime for one in used)
    lines = totals.lines(seconds=time.monotonic() - began, cpu_seconds=cpu_seconds)
    verdict = f"{len(failed)} failed" if failed else "none failed"
    sys.stdout.write("\n".join([f"seeds                {totals.seeds:,} from {first} on, {verdict}", *lines]) + "\n")
    sys.stdout.writelines(f"seed {result.seed}: {result.violation}\n" for result in failed)
    sys.stdout.flush()  # to shorten takes minutes
    for result in failed[:SHORTENED]:
        tell(result)
    return 1 if failed else 0


def tell(result: SeedResult) -> None:
    """Shorten a failing seed and say how to see it again."""
    shorter = shorten(result)
    sys.stdout.write("\n".join(failure_lines(shorter, faults_before=len(result.faults))) + "\n")


def replay(seed: int) -> int:
    """One seed with its whole history, as it was played; returns 1 when an invariant failed."""
    result = Run(seed).run()
    sys.stdout.write("\n".join(result.lines) + "\n")
    if result.violation is not None:
        tell(result)
        return 1
    sys.stdout.write(f"seed {seed}: every invariant held, {result.hours:.1f} simulated hours\n")
    return 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many (default 100)")
    parser.add_argument("--first", type=int, default=1, metavar="K", help="the first of them (default 1)")
    parser.add_argument("--seed", type=int, metavar="K", help="only this one, with its history")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; it is a number from 1 on")
    try:
        return replay(options.seed) if options.seed is not None else soak(options.first, options.seeds)
    except KeyboardInterrupt:
        sys.stderr.write("\nended by Ctrl-C\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())

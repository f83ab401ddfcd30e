"""`make soak SEEDS=100`: plays seeds and prints what was tried; a seed that fails prints its history."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from autoscaler.simulator.soak.run import Run, SeedResult


def play(seed: int) -> SeedResult:
    """Play one seed."""
    return Run(seed).run()


def main() -> int:
    """Play seeds in two processes; returns 1 when an invariant failed."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, help="only this one, with its history")
    options = parser.parse_args()
    seeds = range(1, options.seeds + 1) if options.seed is None else (options.seed,)
    began = time.monotonic()
    results: list[SeedResult] = []
    with multiprocessing.Pool(2) as pool:
        for result in pool.imap_unordered(play, seeds):
            results.append(result)
            if result.violation is not None or options.seed is not None:
                sys.stdout.write("\n".join(result.lines) + "\n")
            if result.violation is not None:
                sys.stdout.write(f"seed {result.seed}: {result.violation}\nreplay: make soak SEED={result.seed}\n")
    _report(results, time.monotonic() - began)
    return 1 if any(result.violation is not None for result in results) else 0


def _report(results: list[SeedResult], seconds: float) -> None:
    injected: Counter[str] = Counter()
    crashes: Counter[tuple[str, str, str]] = Counter()
    checks: Counter[str] = Counter()
    for result in results:
        injected.update(result.injected)
        crashes.update(result.crash_points)
        checks.update(result.checks)
    failed = sum(1 for result in results if result.violation is not None)
    rows = (
        ("seeds", f"{len(results)}, {failed} failed"),
        ("simulated hours", f"{sum(result.hours for result in results):.0f}"),
        ("steps", f"{sum(result.steps for result in results)}"),
        ("invocations", f"{sum(result.invocations for result in results)}"),
        ("faults injected", f"{injected.total()}"),
        *((f"  {kind}", str(count)) for kind, count in injected.most_common()),
        ("crash points", f"{len(crashes)} places, {crashes.total()} kills"),
        ("invariants checked", f"{len(checks)}, {checks.total()} times"),
        ("seconds", f"{seconds:.0f}"),
    )
    sys.stdout.write("".join(f"{name:<28}{value}\n" for name, value in rows))


if __name__ == "__main__":
    sys.exit(main())

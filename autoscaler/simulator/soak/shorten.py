"""A failing history, made shorter: faults are left out, as long as the same invariant still fails."""

from collections.abc import Callable, Iterable
from typing import Final

from autoscaler.simulator.soak.run import Run, SeedResult

ATTEMPTS: Final = 80

Play = Callable[[frozenset[str]], SeedResult]


def shorten(failed: SeedResult, play: Play | None = None, *, attempts: int = ATTEMPTS) -> SeedResult:
    """Play the seed again with ever fewer of its faults; returns the shortest run that fails in the same way.

    Halves are left out first, then quarters, down to single faults: delta debugging (Zeller and Hildebrandt,
    "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 2002).
    """
    if failed.violation is None:
        raise ValueError(f"seed {failed.seed} did not fail: there is no history to shorten")
    again = play if play is not None else lambda left_out: Run(failed.seed, left_out=left_out).run()
    best, left_out = failed, frozenset[str]()
    size = max(1, len(best.faults) // 2)
    while attempts > 0:
        shorter = None
        for chunk in _chunks(best.faults, size):
            attempts -= 1
            candidate = again(left_out | chunk)
            if candidate.violation is not None and candidate.violation.invariant == failed.violation.invariant:
                shorter, left_out = candidate, left_out | chunk
                break
            if attempts <= 0:
                break
        if shorter is not None:
            best = shorter
            size = min(size, max(1, len(best.faults) // 2))
        elif size == 1:
            break
        else:
            size //= 2
    return best


def _chunks(keys: Iterable[str], size: int) -> list[frozenset[str]]:
    known = list(dict.fromkeys(keys))
    return [frozenset(known[i : i + size]) for i in range(0, len(known), size)]

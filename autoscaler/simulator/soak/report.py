"""What a soak came to, for people."""

from collections import Counter
from typing import Final

from autoscaler.simulator.soak.run import SeedResult

HISTORY_LINES: Final = 60
"""Of a failing seed: its end, where it went wrong."""


class Totals:
    """Sums over seeds."""

    def __init__(self) -> None:
        self.seeds = 0
        self.hours = 0.0
        self.steps = 0
        self.invocations = 0
        self.slowest_demand = 0
        self.slowest_rest = 0
        self.injected: Counter[str] = Counter()
        self.crash_points: Counter[tuple[str, str, str]] = Counter()
        self.checks: Counter[str] = Counter()

    def add(self, result: SeedResult) -> None:
        """Add one seed."""
        self.seeds += 1
        self.hours += result.hours
        self.steps += result.steps
        self.invocations += result.invocations
        self.slowest_demand = max(self.slowest_demand, result.sweeps_to_demand)
        self.slowest_rest = max(self.slowest_rest, result.sweeps_to_rest)
        self.injected.update(result.injected)
        self.crash_points.update(result.crash_points)
        self.checks.update(result.checks)

    def lines(self, *, seconds: float, cpu_seconds: float) -> list[str]:
        """The report; `seconds` of the clock, `cpu_seconds` of all processes."""
        return [
            f"simulated hours      {self.hours:,.0f} ({self.hours / max(seconds, 1e-9) * 60:,.0f} a minute)",
            f"invocations          {self.invocations:,}",
            f"steps                {self.steps:,}",
            f"faults injected      {self.injected.total():,} of {len(self.injected)} kinds",
            *_counted(self.injected),
            f"crash points         {len(self.crash_points)} (call and moment), {self.crash_points.total():,} kills",
            f"invariants checked   {len(self.checks)}, {self.checks.total():,} times",
            *_counted(self.checks),
            f"slowest to demand    {self.slowest_demand} sweeps after the last fault",
            f"slowest to rest      {self.slowest_rest} sweeps after the last pod",
            f"seconds              {seconds:.0f} ({cpu_seconds:.0f} of CPU)",
        ]


def failure_lines(result: SeedResult, *, faults_before: int) -> list[str]:
    """Why a seed failed: the violation, the faults that it takes, its history, and how to see it again."""
    history = result.lines[-HISTORY_LINES:]
    left_out = len(result.lines) - len(history)
    return [
        f"seed {result.seed}: {result.violation}",
        f"  shortened from {faults_before} faults to {len(result.faults)}: {', '.join(result.faults) or 'none'}",
        *([f"  ({left_out} earlier lines left out)"] if left_out else []),
        *(f"  {line}" for line in history),
        f"  replay, with every fault and the whole history: make soak SEED={result.seed}",
    ]


def _counted(counts: Counter[str]) -> list[str]:
    return [f"  {name:<38}{count:>10,}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

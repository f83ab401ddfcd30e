"""Prometheus' `rate()` of a counter."""

from typing import Final

TOLERANCE: Final = 1.1
"""A gap at a window's edge counts as one when it is wider than this many average intervals."""


def counter_rate(
    *,
    first: tuple[float, float],
    last: tuple[float, float],
    samples: int,
    start_s: float,
    end_s: float,
    lost: float = 0.0,
) -> float:
    """Return the increase per second, extrapolated to the window's edges as Prometheus does.

    `first` and `last` are (time, value) of the window's outer samples, `lost` the last value seen before the counter
    began at zero again: Prometheus adds it, and never hears of what was counted between the two samples. Source:
    `extrapolatedRate` in Prometheus' promql/functions.go: up to the edges where samples nearly reach them, else by
    half an average interval, and never below zero at the start.
    """
    (first_s, first_value), (last_s, last_value) = first, last
    increase, covered_s = last_value - first_value + lost, last_s - first_s
    average_s = covered_s / (samples - 1)
    before_s, after_s = first_s - start_s, end_s - last_s
    if before_s >= TOLERANCE * average_s:
        before_s = average_s / 2
    if increase > 0 and first_value >= 0:
        before_s = min(before_s, covered_s * first_value / increase)
    if after_s >= TOLERANCE * average_s:
        after_s = average_s / 2
    return increase * (covered_s + before_s + after_s) / covered_s / (end_s - start_s)

"""Median and percentile of a handful of runs."""

import math
import statistics
from collections.abc import Sequence


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed: no interpolation between few runs."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)

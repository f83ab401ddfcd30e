"""When jobs are scraped and rules evaluated, and values that hold from one such moment to another."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Grid:
    """Moments at `n * interval_s + offset_s`, told apart by n."""

    interval_s: int
    offset_s: float = 0.0

    def first(self, at_s: float) -> int:
        """The first one at or after `at_s`."""
        return math.ceil((at_s - self.offset_s) / self.interval_s)

    def last(self, at_s: float) -> int:
        """The last one at or before `at_s`."""
        return math.floor((at_s - self.offset_s) / self.interval_s)

    def at_s(self, index: int) -> float:
        """When it is."""
        return index * self.interval_s + self.offset_s

    def window(self, at_s: float, window_s: float, since_s: float) -> range:
        """Those in `(at_s - window_s, at_s]`, Prometheus 3's left-open window, and not before `since_s`."""
        return range(max(self.last(at_s - window_s) + 1, self.first(since_s)), self.last(at_s) + 1)


class Runs(Generic[Value]):
    """Values by index, kept as runs: each holds from its first index to the next run's."""

    __slots__ = ("_firsts", "_values")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._values: list[Value] = []

    def set(self, first: int, value: Value) -> None:
        """From `first` on it is `value`; what was said of later indices is forgotten."""
        while self._firsts and self._firsts[-1] >= first:
            self._firsts.pop()
            self._values.pop()
        if not self._values or self._values[-1] != value:
            self._firsts.append(first)
            self._values.append(value)

    def get(self, index: int) -> Value | None:
        """The value at `index`; None before the first run."""
        run = bisect_right(self._firsts, index) - 1
        return self._values[run] if run >= 0 else None

    def over(self, indices: range) -> Iterable[tuple[Value, int]]:
        """Each run's value in the range, with the number of indices that it holds there."""
        if not indices:
            return
        for run in range(max(0, bisect_right(self._firsts, indices.start) - 1), len(self._firsts)):
            start = max(indices.start, self._firsts[run])
            end = min(indices.stop, self._firsts[run + 1] if run + 1 < len(self._firsts) else indices.stop)
            if start >= indices.stop:
                return
            if end > start:
                yield self._values[run], end - start

    def forget(self, before: int) -> None:
        """Drop the runs that ended before the index."""
        keep = max(0, bisect_right(self._firsts, before) - 1)
        if keep:
            del self._firsts[:keep], self._values[:keep]

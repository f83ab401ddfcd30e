"""What the simulated Prometheus answers for custom signals: any function of time, and the ways in which one fails."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from autoscaler.observe.signals import step_s
from autoscaler.policy import Policy
from autoscaler.ports import BAD_QUERY, MetricsUnavailable
from autoscaler.simulator.metrics.recorded_cluster import Row, row
from autoscaler.simulator.metrics.text_format import number_text

Source = Callable[[float], Sequence[float]]
"""The values of the query's rows at a moment; it may raise what a query raises."""


class TooSlow(Exception):
    """The query takes longer than anybody waits."""


def constant(*values: float) -> Source:
    """These rows at any time."""
    return lambda _: values


def refused(at_s: float) -> Sequence[float]:
    """A query that Prometheus cannot parse."""
    del at_s
    raise MetricsUnavailable('refused the query: bad_data: parse error: unexpected "}"', code=BAD_QUERY)


def slow(at_s: float) -> Sequence[float]:
    """A query that does not come back in time."""
    del at_s
    raise TooSlow("Prometheus did not answer in time.")


def failing(at_s: float) -> Sequence[float]:
    """A query that parses and cannot be evaluated."""
    del at_s
    raise MetricsUnavailable("refused the query: execution: found duplicate series", code="execution")


def signal_rows(
    names: Sequence[str], sources: Mapping[str, Source], policy: Policy, *, since_s: float, now_s: float
) -> Iterable[Row]:
    """The rows for these signals. Prometheus holds nothing older than `since_s`."""
    for signal in policy.signals:
        source = sources.get(signal.name)
        if signal.name not in names or source is None:
            continue
        now = source(now_s)
        if not now:
            continue
        text = number_text(max(now)) if math.isfinite(max(now)) else "NaN"
        yield row("signal", text, name=signal.name)
        yield row("signal_rows", str(len(now)), name=signal.name)
        longer_s = signal.keeping_s(policy.scale_down.window_s)
        for family, best, span_s in (("signal_least", min, signal.window_s), ("signal_most", max, longer_s)):
            step = step_s(span_s, policy)
            # Prometheus evaluates subqueries at multiples of their step.
            last = int(now_s // step)
            times = (index * step for index in range(last, -1, -1))
            values = [
                values[0]
                for at_s in _within(times, max(since_s, now_s - span_s))
                if len(values := _then(source, at_s)) == 1 and math.isfinite(values[0])
            ]
            if values:
                yield row(family, number_text(best(values)), name=signal.name)
                yield row(f"{family}_count", str(len(values)), name=signal.name)


def _then(source: Source, at_s: float) -> Sequence[float]:
    """What it gave at an earlier moment: a query that failed then has a gap there."""
    try:
        return source(at_s)
    except (MetricsUnavailable, TooSlow):
        return ()


def _within(times: Iterable[int], after_s: float) -> Iterable[int]:
    for at_s in times:
        if at_s <= after_s:
            return
        yield at_s

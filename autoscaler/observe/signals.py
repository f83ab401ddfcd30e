"""What Prometheus says of the custom signals: all of them in one query, one by one only where that fails.

Each is looked at three times: now, over its own window (the smallest value: what held all the time is enough to grow
by) and over the shrink window (the largest: what was needed at any time of it stays). Windows are subqueries
(Prometheus' documentation, "Querying basics", "Subquery"), so that any expression has one and nothing is recorded.
The policy's `metrics.matchers` are not added: the query is taken as it is written.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from autoscaler.model import AsideSignal, Sample, SeenSignal, SignalFailure, Snapshot, State
from autoscaler.observe.history import NO_TIME, TIMEOUT_S, has_time
from autoscaler.observe.promql import labelled
from autoscaler.observe.query import OFTEN
from autoscaler.observe.series import FAMILY
from autoscaler.policy import Policy
from autoscaler.ports import BAD_QUERY, Metrics, MetricsUnavailable
from autoscaler.signals import CustomSignal

MAX_PROBLEM: Final = 200
"""Characters of a failure that are kept and told."""
_POINTS: Final = 20
"""A window is looked at in so many places at most: each evaluates the query once."""


def signals_query(policy: Policy, names: Sequence[str]) -> str:
    """One query for the signals of these names; each row carries `family` and `name`."""
    wanted = [signal for signal in policy.signals if signal.name in set(names)]
    return "\nor\n".join(
        labelled(expression, **{FAMILY: family, "name": signal.name})
        for signal in wanted
        for family, expression in _operands(signal, policy).items()
    )


def _operands(signal: CustomSignal, policy: Policy) -> dict[str, str]:
    # On lines of its own: the query may end in a comment. Aggregated: its labels, whatever they are, meet none of ours.
    query = f"(\n{signal.query}\n)"
    single = f"max({query}) and on () (count({query}) == 1)"
    # Neither NaN nor infinite: a comparison with NaN is false (Prometheus, "Operators"), so it leaves a gap.
    finite = f"(({single}) > -Inf) < Inf"
    window, longer = signal.window_s, signal.keeping_s(policy.scale_down.window_s)
    near, far = (f"({finite})[{span_s}s:{step_s(span_s, policy)}s]" for span_s in (window, longer))
    return {
        "signal": f"max({query})",
        "signal_rows": f"count({query})",
        "signal_least": f"min_over_time({near})",
        "signal_least_count": f"count_over_time({near})",
        "signal_most": f"max_over_time({far})",
        "signal_most_count": f"count_over_time({far})",
    }


def step_s(span_s: int, policy: Policy) -> int:
    """How far apart the evaluations in a window are, in seconds."""
    return max(policy.metrics.utilisation_interval_s, math.ceil(span_s / _POINTS))


def see_signals(
    metrics: Metrics, snapshot: Snapshot, state: State, policy: Policy, *, remaining_s: Callable[[], float]
) -> Snapshot:
    """The snapshot with the policy's signals: what cannot be had is unknown and says why, never a failed look.

    One that failed alone is left out until its time, then asked alone again: it never costs the others their answer.
    """
    aside = {one.name: one for one in state.signals_aside}
    seen: dict[str, SeenSignal] = {}
    together: list[CustomSignal] = []
    alone: list[CustomSignal] = []
    for signal in policy.signals:
        known = aside.get(signal.name)
        if known is None or known.fingerprint != signal.fingerprint:
            together.append(signal)
        elif snapshot.taken_at_s < known.until_s:
            seen[signal.name] = _still_aside(known)
        else:
            alone.append(signal)
    asker = _Asker(metrics, policy, remaining_s)
    found = asker.answers(together) if together else {}
    if found is None:
        found, alone = {}, [*together, *alone]
    seen |= found
    for signal in alone:
        seen[signal.name] = asker.alone(signal)
    return msgspec.structs.replace(snapshot, signals=tuple(seen[signal.name] for signal in policy.signals))


def unseen_signals(snapshot: Snapshot, policy: Policy, why: str) -> Snapshot:
    """The snapshot where none could be asked for."""
    unseen = tuple(SeenSignal(name=signal.name, problem=why, asked=False) for signal in policy.signals)
    return msgspec.structs.replace(snapshot, signals=unseen)


def _still_aside(known: AsideSignal) -> SeenSignal:
    return SeenSignal(name=known.name, problem=known.problem, failure=known.failure, asked=False)


class _Asker:
    def __init__(self, metrics: Metrics, policy: Policy, remaining_s: Callable[[], float]) -> None:
        self._metrics, self._policy, self._remaining_s = metrics, policy, remaining_s

    def answers(self, signals: Sequence[CustomSignal]) -> dict[str, SeenSignal] | None:
        """All of them by one query; None where they have to be asked one by one."""
        if not has_time(self._remaining_s):
            return {signal.name: SeenSignal(name=signal.name, problem=NO_TIME, asked=False) for signal in signals}
        try:
            samples = self._ask(signals)
        except MetricsUnavailable:
            return None
        return parse_signals(samples, signals, self._policy)

    def alone(self, signal: CustomSignal) -> SeenSignal:
        """The answer of one, or why it has none."""
        if not has_time(self._remaining_s):
            return SeenSignal(name=signal.name, problem=NO_TIME, asked=False)
        try:
            samples = self._ask([signal])
        except MetricsUnavailable as error:
            failure = SignalFailure.REFUSED if error.code == BAD_QUERY else SignalFailure.FAILED
            return SeenSignal(name=signal.name, problem=" ".join(str(error).split())[:MAX_PROBLEM], failure=failure)
        return parse_signals(samples, [signal], self._policy)[signal.name]

    def _ask(self, signals: Sequence[CustomSignal]) -> Sequence[Sample]:
        names = [signal.name for signal in signals]
        return self._metrics.query(signals_query(self._policy, names), timeout_s=TIMEOUT_S)


def parse_signals(samples: Iterable[Sample], signals: Sequence[CustomSignal], policy: Policy) -> dict[str, SeenSignal]:
    """What an answer says of these signals. Pure."""
    texts: dict[tuple[str, str], str] = {}
    for sample in samples:
        texts.setdefault((sample.metric.get("name", ""), sample.metric.get(FAMILY, "")), sample.value[1])
    return {signal.name: _parsed(signal, texts, policy) for signal in signals}


def _parsed(signal: CustomSignal, texts: dict[tuple[str, str], str], policy: Policy) -> SeenSignal:
    def number(family: str) -> float | None:
        return _finite(texts.get((signal.name, family), ""))

    def over(family: str, span_s: int) -> float | None:
        whole = number(f"{family}_count") or 0.0
        return number(family) if whole >= OFTEN * (span_s // step_s(span_s, policy)) else None

    text = texts.get((signal.name, "signal"))
    if text is None:
        return SeenSignal(name=signal.name, problem="the query has no answer now")
    rows, now = number("signal_rows"), number("signal")
    if rows is None or rows > 1:
        several = "its rows were not counted" if rows is None else f"the query gives {rows:.0f} rows and may give one"
        return SeenSignal(name=signal.name, problem=several)
    if now is None:
        return SeenSignal(name=signal.name, problem=f"the query gives {text[:20]}, which is no finite number")
    longer_s = signal.keeping_s(policy.scale_down.window_s)
    least, most = over("signal_least", signal.window_s), over("signal_most", longer_s)
    gap_s = signal.window_s if least is None else longer_s if most is None else 0
    problem = f"the query had no answer for all of the last {gap_s} s" if gap_s else ""
    return SeenSignal(name=signal.name, now=now, least=least, most=most, problem=problem)


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""Custom signals: how many workers the operator's own numbers ask for, and how many they keep.

What asks for more has to have held all through the signal's window; what keeps workers is the highest value of the
shrink window. Unknown asks for nothing and lets nobody go. A query that Prometheus refuses is no signal: it counts
neither way, and that is told.
"""

import math
from collections.abc import Iterator
from typing import Final

from autoscaler.decide.demand.keeping import Keeping, most_kept
from autoscaler.decide.fleet import FleetView, Standing
from autoscaler.decide.removal.repair import beside_recovering
from autoscaler.model import Blocked, SeenSignal, Signal, SignalFailure, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.signals import CustomSignal

SUBJECT: Final = "signals."
REASON: Final = "custom_signal"
"""Stable code of a growth that one of them asks for."""
_MOST_WORKERS: Final = 1_000_000
"""A value that is out of all proportion asks for so many; max is below it anyway."""
_ROUNDING: Final = 1e-9
_NOT_SEEN: Final = "it was not asked for yet"


def custom_signals(
    snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy, *, recovering: int
) -> Iterator[Signal]:
    """One a signal of the policy, once they were looked at. `recovering`: NotReady workers that are waited for."""
    stood_s = _stood_s(fleet, state, snapshot.taken_at_s)
    for rule, seen in _pairs(snapshot, policy):
        yield Signal(
            name=rule.name,
            value=seen.now,
            threshold=rule.per_worker_target if rule.per_worker_target is not None else rule.above,
            wants=_wants(rule, seen, fleet, stood_s, recovering),
        )


def kept_by_signals(snapshot: Snapshot, fleet: FleetView, policy: Policy) -> Keeping:
    """The most that any of them keeps; what is unknown keeps what there is."""
    if not policy.signals:
        return Keeping()
    if snapshot.signals is None:
        return Keeping(workers=fleet.ready, by=f"the signal {policy.signals[0].name} is unknown: {_NOT_SEEN}")
    return most_kept(*(_keeps(rule, seen, fleet, policy) for rule, seen in _pairs(snapshot, policy)))


def passed_over(snapshot: Snapshot, policy: Policy) -> Iterator[Blocked]:
    """Those that do not count now, and why."""
    for rule, seen in _pairs(snapshot, policy):
        if seen.problem:
            code = "signal_refused" if seen.failure is SignalFailure.REFUSED else "signal_unknown"
            yield Blocked(subject=f"{SUBJECT}{rule.name}", code=code, text=seen.problem)


def why_it_asks(snapshot: Snapshot, policy: Policy, signal: Signal) -> str:
    """The demand of a custom signal in words."""
    for rule, seen in _pairs(snapshot, policy):
        if rule.name == signal.name and seen.least is not None:
            if rule.per_worker_target is not None:
                wanted = _workers(seen.least, rule.per_worker_target)
                return f"{rule.name} asks for {wanted} workers: {_told(seen.least, rule.per_worker_target)}"
            return (
                f"{rule.name} is {_number(seen.least)} or more, above {_number(rule.above or 0.0)} for all of the last "
                f"{rule.window_s} s"
            )
    return f"{signal.name} asks for {signal.wants} workers"


def _pairs(snapshot: Snapshot, policy: Policy) -> Iterator[tuple[CustomSignal, SeenSignal]]:
    seen = {one.name: one for one in snapshot.signals or ()}
    yield from ((rule, seen[rule.name]) for rule in policy.signals if rule.name in seen)


def _wants(rule: CustomSignal, seen: SeenSignal, fleet: FleetView, stood_s: float, recovering: int) -> int | None:
    if seen.least is None:
        return None
    if rule.per_worker_target is not None:
        return beside_recovering(recovering, _workers(seen.least, rule.per_worker_target), fleet)
    if rule.above is None or seen.least <= rule.above or stood_s < rule.window_s:
        return None
    return fleet.ready + rule.step


def _stood_s(fleet: FleetView, state: State, now_s: int) -> float:
    """How long the workers of the last growth have been Ready, in seconds; infinite where none of it is there.

    What a threshold held before says nothing of the workers that came for it: one step would follow the other, a join
    apart, whatever the window. By the join that was seen last, as no Node tells when it became Ready.
    """
    if fleet.joining:
        return 0.0
    last_s = state.last_scale_up_s
    nodes = (worker.node for worker in fleet.having(Standing.READY))
    came = last_s is not None and any(node is not None and (node.created_at_s or 0) >= last_s for node in nodes)
    return now_s - last_s - state.join_times_s[-1] if came and last_s is not None and state.join_times_s else math.inf


def _keeps(rule: CustomSignal, seen: SeenSignal, fleet: FleetView, policy: Policy) -> Keeping:
    if seen.failure is SignalFailure.REFUSED:
        return Keeping()
    if seen.most is None:
        return Keeping(workers=fleet.ready, by=f"the signal {rule.name} is unknown: {seen.problem or _NOT_SEEN}")
    span = f"in the last {rule.keeping_s(policy.scale_down.window_s)} s"
    if rule.per_worker_target is not None:
        wanted = _workers(seen.most, rule.per_worker_target)
        return Keeping(workers=wanted, by=f"{rule.name}: up to {_told(seen.most, rule.per_worker_target)} {span}")
    low = seen.most < rule.below if rule.below is not None else seen.most <= (rule.above or 0.0)
    if low:
        return Keeping()
    limit = f"below {_number(rule.below)}" if rule.below is not None else f"at most {_number(rule.above or 0.0)}"
    return Keeping(workers=fleet.ready, by=f"{rule.name} reached {_number(seen.most)} {span}; {limit} is asked")


def _workers(value: float, target: float) -> int:
    needed = min(value / target, _MOST_WORKERS)
    return max(0, math.ceil(needed - _ROUNDING * abs(needed)))


def _told(value: float, target: float) -> str:
    return f"{_number(value)} / {_number(target)} each"


def _number(value: float) -> str:
    return f"{value:,.10g}"

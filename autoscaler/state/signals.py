"""Which custom signals are set aside: a query that failed alone waits, and people hear of it once. Pure."""

from typing import Final

from autoscaler.model import AsideSignal, SeenSignal, Snapshot, State
from autoscaler.policy import Policy

ASIDE_S: Final = 600
"""Until it is asked again. A query that Prometheus refuses stays wrong until somebody deploys another one, which is
asked at once; what failed for another reason costs a look at most one short query in this time."""


def set_aside(state: State, snapshot: Snapshot, policy: Policy) -> tuple[AsideSignal, ...]:
    """Those that are set aside after this look. One that answered, or has another query now, is set aside no more."""
    seen = {one.name: one for one in snapshot.signals or ()}
    before = {one.name: one for one in state.signals_aside}
    kept: list[AsideSignal] = []
    for signal in policy.signals:
        now, known = seen.get(signal.name), before.get(signal.name)
        if known is not None and known.fingerprint != signal.fingerprint:
            known = None
        if now is not None and now.asked:
            known = _failed(now, signal.fingerprint, snapshot.taken_at_s)
        if known is not None:
            kept.append(known)
    return tuple(kept)


def untold_failures(state: State, aside: tuple[AsideSignal, ...]) -> tuple[AsideSignal, ...]:
    """Those of them that people have not heard of: other words about the same failure are no news."""
    told = {(one.name, one.fingerprint, one.failure) for one in state.signals_aside}
    return tuple(one for one in aside if (one.name, one.fingerprint, one.failure) not in told)


def _failed(seen: SeenSignal, fingerprint: str, now_s: int) -> AsideSignal | None:
    if seen.failure is None:
        return None
    return AsideSignal(
        name=seen.name,
        fingerprint=fingerprint,
        failure=seen.failure,
        problem=seen.problem,
        until_s=now_s + ASIDE_S,
    )

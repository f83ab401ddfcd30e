"""Workers that EC2 will retire in days: a replacement first, then an ordinary removal with all its checks.

AWS Health announces retirements up to two weeks ahead. Near its start, what is still there is reclaimed (repair.py).
"""

import msgspec

from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.removal.reclaim import is_far
from autoscaler.decide.removal.shrink import cannot_lose
from autoscaler.model import Asks, Blocked, MetricsStatus, Notice, State


class Retirement(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for the worker that is retired first."""

    notice: Notice | None = None
    removes: Worker | None = None
    launches: bool = False
    blocked: tuple[Blocked, ...] = ()
    asks: Asks = Asks()


def plan_retirement(look: Look, state: State, fleet: FleetView) -> Retirement:
    """One worker at a time, the earliest first; nothing while anything else joins or leaves, or not all is known."""
    announced = sorted(
        (n for n in state.notices if n.kind == "retirement" and not n.handled and is_far(n, look.now_s)),
        key=lambda n: (n.due_at_s is None, n.due_at_s or 0, n.subject),
    )
    workers = {worker.key: worker for worker in fleet.having(Standing.READY) if worker.ours}
    notice = next((n for n in announced if n.subject in workers), None)
    if notice is None or look.snapshot.metrics_status is not MetricsStatus.OK:
        return Retirement()
    if fleet.joining or state.launches or state.removals:
        return Retirement()
    worker = workers[notice.subject]
    refusal = next((r for r in state.refusals if r.node_name == worker.title and look.now_s < r.until_s), None)
    if refusal is not None:
        reason = f"refused: {refusal.reason}; asked again in {refusal.until_s - look.now_s} s, EC2 retires it"
        return Retirement(blocked=(Blocked(subject=worker.title, reason=reason),))
    asks = Asks(rooms=not look.snapshot.rooms_known, pods_of=() if worker.pods is not None else (worker.title,))
    if asks:
        return Retirement(asks=asks)
    places = [w for w in fleet.having(Standing.READY) if w.schedulable]
    enough = fleet.ready - 1 >= look.policy.workers.min and cannot_lose(fleet, worker, (), places) is None
    if not enough and not notice.replaced and fleet.existing < look.policy.workers.max:
        return Retirement(notice=notice, launches=True)
    return Retirement(notice=notice, removes=worker)

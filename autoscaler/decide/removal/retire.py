"""Workers that EC2 will retire in days: a replacement first, then an ordinary removal with all its checks.

AWS Health announces retirements up to two weeks ahead. Near its start, what is still there is reclaimed (repair.py).
"""

import msgspec

from autoscaler.decide.capacity.cost import within_cap
from autoscaler.decide.capacity.market import in_markets
from autoscaler.decide.capacity.pools import is_open, pool_of, rooms
from autoscaler.decide.demand.keeping import NOBODY_KEPT, Keeping
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.removal.elsewhere import Elsewhere
from autoscaler.decide.removal.minimum import at_min
from autoscaler.decide.removal.reclaim import is_far
from autoscaler.decide.removal.rotation import one_like
from autoscaler.model import Asks, Blocked, MetricsStatus, NewWorkers, Notice, State
from autoscaler.state.memory import held_lately, was_removed
from autoscaler.state.notices import RETIREMENT


class Retirement(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for the worker that is retired first."""

    notice: Notice | None = None
    removes: Worker | None = None
    launches: tuple[NewWorkers, ...] = ()
    """The replacement; none at max, or where the cost cap has no room for it."""
    blocked: tuple[Blocked, ...] = ()
    asks: Asks = Asks()


def plan_retirement(look: Look, state: State, fleet: FleetView, *, kept: Keeping = NOBODY_KEPT) -> Retirement:
    """One worker at a time, the earliest first; nothing while anything else joins or leaves, or not all is known.

    `kept`: who stays although neither pods nor use ask for it.
    """
    # An older answer of EC2 may still show what has just been ended.
    there = [w for w in fleet.having(Standing.READY) if w.ours and not was_removed(state, w.key)]
    workers = {worker.key: worker for worker in there}
    announced = sorted(
        (n for n in state.notices if n.kind == RETIREMENT and not n.handled and is_far(n, look.now_s)),
        key=lambda n: (n.due_at_s is None, n.due_at_s or 0, n.subject),
    )
    if look.snapshot.metrics_status is not MetricsStatus.OK or fleet.joining or state.launches or state.removals:
        return Retirement()
    blocked: list[Blocked] = []
    for notice in announced:
        worker = workers.get(notice.subject)
        if worker is None:
            continue
        why = _stays(worker, state, look.now_s)
        if why is None:
            step = _next_step(look, state, fleet, worker, notice, kept=kept)
            return msgspec.structs.replace(step, blocked=tuple(blocked))
        blocked.append(Blocked(subject=worker.title, code="retirement", text=f"{why}; EC2 retires it"))
    return Retirement(blocked=tuple(blocked))


def _stays(worker: Worker, state: State, now_s: int) -> str | None:
    """Why its removal waits until EC2 takes it, or until a person has seen to it."""
    if worker.node is not None and worker.node.local_volumes:
        return f"{worker.node.local_volumes} node-local volumes live on it, so move them"
    held = held_lately(state, worker.title, now_s)
    return None if held is None else str(held)


def _next_step(
    look: Look, state: State, fleet: FleetView, worker: Worker, notice: Notice, *, kept: Keeping
) -> Retirement:
    asks = Asks(rooms=not look.snapshot.rooms_known, pods_of=() if worker.pods is not None else (worker.title,))
    elsewhere = Elsewhere(look.snapshot, fleet, state, look.policy, now_s=look.now_s)
    asks = asks or elsewhere.asks(worker)
    if asks:
        return Retirement(asks=asks)
    places = [w for w in fleet.having(Standing.READY) if is_open(w, look.policy)]
    pool = pool_of(worker, look.policy) or look.policy.default_pool
    free = (*look.limits.headroom, *look.limits.coming_headroom)
    enough = (
        at_min(worker, fleet, look) is None
        and fleet.ready > max(kept.workers, look.limits.coming_min)
        and elsewhere.cannot_lose(worker, (), places) is None
        and elsewhere.headroom_lost(worker, (), places, free) is None
    )
    may_grow = fleet.existing < look.policy.workers.max and rooms(fleet, look.policy).get(pool.name, 1) > 0
    if not enough and not notice.replaced and may_grow:
        one = msgspec.structs.replace(one_like(worker, look.policy), zone="")
        bought = in_markets((one,), fleet, state, look.policy, now_s=look.now_s, replacing=(worker.key,))
        workers, _ = within_cap(bought, fleet, look.policy)
        if workers:
            return Retirement(notice=notice, launches=workers)
    return Retirement(notice=notice, removes=worker)

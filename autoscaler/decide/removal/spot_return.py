"""Back to Spot: an on-demand worker that a Spot pool's base and share do not ask for makes way for one on Spot.

One at a time, launched before drained, and only while nothing speaks against Spot. What is under way, and what was in
vain, stands in `State.spot_return`.
"""

from typing import Final

import msgspec

from autoscaler.decide.capacity.cost import within_cap
from autoscaler.decide.capacity.market import in_storm, market_of, members, mix_of, needed_on_demand, on_demand_of
from autoscaler.decide.capacity.pools import at_max, in_its_place, is_open, pool_named, rooms
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.removal.elsewhere import Elsewhere
from autoscaler.decide.removal.holds import keeps
from autoscaler.decide.removal.minimum import at_min
from autoscaler.decide.removal.pace import nobody_goes
from autoscaler.decide.removal.shrink import SEEN_AT_ONCE
from autoscaler.model import ON_DEMAND, SPOT, Asks, Blocked, MetricsStatus, NewWorkers, SpotReturn, State
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.state.memory import times_refused
from autoscaler.state.notices import INTERRUPTION
from autoscaler.state.zones import is_doubtful, is_left_out

CODE: Final = "return_to_spot"
LEAST_WAIT_S: Final = 600
MAX_WAIT_S: Final = 21_600
"""After returns in vain: from `spot.return_after_s`, ten minutes at least, doubling up to six hours."""


class ReturnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The next step of the return."""

    record: SpotReturn | None
    """What is remembered from now on."""
    launches: tuple[NewWorkers, ...] = ()
    removes: Worker | None = None
    event: str = ""
    blocked: tuple[Blocked, ...] = ()
    asks: Asks = Asks()


def plan_return(look: Look, state: State, fleet: FleetView) -> ReturnPlan:
    """Begin a return, drain the worker whose replacement has come, or give up; nothing while anything is under way."""
    record = state.spot_return
    as_it_is = ReturnPlan(record=record)
    if look.snapshot.metrics_status is not MetricsStatus.OK or fleet.joining or state.launches or state.removals:
        return as_it_is
    if record is not None and record.instance_id:
        return _go_on(look, state, fleet, record)
    if record is not None and look.now_s < record.until_s:
        return as_it_is
    for pool in look.policy.pools:
        # The young ones are those that were launched in the place of Spot, or may be.
        if _spare(pool, fleet, look.policy) > _young(look, fleet, pool) and _may_begin(look, state, fleet, pool):
            return _begin(look, state, fleet, pool)
    spare = any(_spare(pool, fleet, look.policy) for pool in look.policy.pools)
    return ReturnPlan(record=record if spare else None)


def _spare(pool: WorkerPool, fleet: FleetView, policy: Policy) -> int:
    """On-demand workers of the pool beyond its base and share."""
    if pool.market != SPOT:
        return 0
    mix = mix_of(pool, fleet, policy)
    return max(0, mix.on_demand - on_demand_of(pool, mix.total))


def _may_begin(look: Look, state: State, fleet: FleetView, pool: WorkerPool) -> bool:
    """Whether nothing speaks against Spot: types enough, none left alone, no interruption lately; and one may leave."""
    spot, now_s = look.policy.spot, look.now_s
    if nobody_goes(look.policy, fleet.ready, now_s) is not None:
        return False
    if len(pool.instance_types) < spot.return_min_types or in_storm(pool, fleet, state, look.policy, now_s=now_s):
        return False
    if any(now_s - n.received_at_s < spot.return_after_s for n in state.notices if n.kind == INTERRUPTION):
        return False
    types = {*pool.instance_types, ""}  # empty: no launch at all is sent now
    return not any(
        now_s < b.until_s and b.pool.instance_type in types and (b.pool.market == SPOT or not b.pool.instance_type)
        for b in state.backoffs
    )


def _begin(look: Look, state: State, fleet: FleetView, pool: WorkerPool) -> ReturnPlan:
    policy = look.policy
    as_it_is = ReturnPlan(record=state.spot_return)
    candidates = _candidates(look, state, fleet, pool)
    if unseen := tuple(worker.title for worker in candidates if worker.pods is None)[:SEEN_AT_ONCE]:
        return msgspec.structs.replace(as_it_is, asks=Asks(pods_of=unseen, rooms=not look.snapshot.rooms_known))
    places = [w for w in fleet.having(Standing.READY) if is_open(w, policy)]
    elsewhere = Elsewhere(look.snapshot, fleet, state, policy, now_s=look.now_s)
    stays: tuple[Blocked, ...] = ()
    for worker in candidates:
        if keeps(worker, state, policy, look.now_s) is not None:
            continue
        if (full := _full(look, fleet, pool)) is not None:
            why = f"{full}, and that leaves no room to launch before draining"
            return msgspec.structs.replace(as_it_is, blocked=(Blocked(subject=worker.title, code=CODE, text=why),))
        if asks := elsewhere.asks(worker):
            return msgspec.structs.replace(as_it_is, asks=asks)
        if elsewhere.held(worker) is not None:
            continue  # else it would be the first one again, each time in vain, and hide who may go
        new = _on_spot(worker, pool)
        each = [msgspec.structs.replace(new, instance_type=t) for t in in_its_place(new.instance_type, pool, policy)]
        do = [one for one in each if elsewhere.new_needed(worker, places, one, at_most=1, markets=(SPOT,)) is not None]
        if do:
            types = tuple(one.instance_type for one in do) if len(do) < len(each) else ()
            return _begun(look, state, fleet, worker, msgspec.structs.replace(do[0], only_types=types))
        why = f"its pods would not fit with a new {new.instance_type} on Spot either"
        stays = stays or (Blocked(subject=worker.title, code=CODE, text=why),)
    return msgspec.structs.replace(as_it_is, blocked=stays)


def _on_spot(worker: Worker, pool: WorkerPool) -> NewWorkers:
    """What comes in its place."""
    kind = worker.instance.instance_type if worker.instance is not None else ""
    kind = kind if kind in pool.instance_types else pool.instance_types[0]
    return NewWorkers(kind, 1, worker.zone or "", pool=pool.name, market=SPOT)


def _begun(look: Look, state: State, fleet: FleetView, worker: Worker, new: NewWorkers) -> ReturnPlan:
    pool = pool_named(new.pool, look.policy) or look.policy.default_pool
    launches, because = within_cap((new,), fleet, look.policy)
    if not launches:
        blocked = Blocked(subject=worker.title, code=CODE, text=because)
        return ReturnPlan(record=state.spot_return, blocked=(blocked,))
    record = msgspec.structs.replace(
        state.spot_return or SpotReturn(), instance_id=worker.key, decision_id=look.decision_id, draining=False
    )
    spare = _spare(pool, fleet, look.policy)
    event = f"{worker.title} is one of {spare} beyond what is to be on demand: a Spot worker comes in its place"
    return ReturnPlan(record=record, launches=launches, event=event)


def _full(look: Look, fleet: FleetView, pool: WorkerPool) -> str | None:
    """Why there is no place for one more worker of the pool; None where there is."""
    most = look.policy.workers.max
    if fleet.existing >= most:
        return f"{fleet.existing} workers exist and {look.limits.max_by} is {most}"
    full = rooms(fleet, look.policy).get(pool.name, 1) == 0
    return at_max(pool.name, fleet, look.policy) if full else None


def _young(look: Look, fleet: FleetView, pool: WorkerPool) -> int:
    """On-demand workers of the pool that are younger than `spot.return_after_s`."""
    return sum(
        market_of(w) == ON_DEMAND and not _is_old(look, w) for w in members(pool, fleet, look.policy, Standing.READY)
    )


def _is_old(look: Look, worker: Worker) -> bool:
    instance = worker.instance
    return instance is not None and look.now_s - instance.launched_at_s >= look.policy.spot.return_after_s


def _candidates(look: Look, state: State, fleet: FleetView, pool: WorkerPool) -> list[Worker]:
    """On-demand workers that are old enough, in zones in which launches join: refused least, then the oldest."""

    def may_be(worker: Worker) -> bool:
        zone = worker.zone or ""
        joins = not (is_left_out(state, zone) or is_doubtful(state, zone, now_s=look.now_s))
        return joins and market_of(worker) == ON_DEMAND and _is_old(look, worker)

    found = filter(may_be, members(pool, fleet, look.policy, Standing.READY))
    return sorted(found, key=lambda worker: times_refused(state, worker.title))


def _go_on(look: Look, state: State, fleet: FleetView, record: SpotReturn) -> ReturnPlan:
    ready = {worker.key: worker for worker in fleet.having(Standing.READY)}
    worker = ready.get(record.instance_id)
    # Judged without it: beside the Spot worker that has come, the share may ask for one more on demand.
    if worker is None or needed_on_demand(worker, fleet, look.policy, gone=()) is not None:
        return ReturnPlan(record=None)  # it went, or need not go any more
    if at_min(worker, fleet, look) is not None:
        return ReturnPlan(record=record)
    if record.draining:
        return _in_vain(look, record, f"{worker.title} was not drained")
    operations = (w.instance.operation_id or "" for w in ready.values() if w.instance and market_of(w) == SPOT)
    if not any(operation.startswith(f"{record.decision_id}-") for operation in operations):
        return _in_vain(look, record, f"no Spot worker came in the place of {worker.title}")
    if (held := nobody_goes(look.policy, len(ready), look.now_s)) is not None:
        row = Blocked(subject=worker.title, code=CODE, text=f"its drain waits: {held}")
        return ReturnPlan(record=record, blocked=(row,))
    asks = Asks(rooms=not look.snapshot.rooms_known, pods_of=() if worker.pods is not None else (worker.title,))
    elsewhere = Elsewhere(look.snapshot, fleet, state, look.policy, now_s=look.now_s)
    asks = asks or elsewhere.asks(worker)
    if asks:
        return ReturnPlan(record=record, asks=asks)
    places = [w for w in ready.values() if is_open(w, look.policy)]
    why = keeps(worker, state, look.policy, look.now_s) or elsewhere.cannot_lose(worker, (), places)
    if why is not None:
        return _in_vain(look, record, f"{worker.title} stays on demand: {why}")
    event = f"{worker.title} is drained: a Spot worker has come in its place"
    return ReturnPlan(record=msgspec.structs.replace(record, draining=True), removes=worker, event=event)


def _in_vain(look: Look, record: SpotReturn, event: str) -> ReturnPlan:
    """The next one waits, twice as long each time; a worker that came stays, and leaves as any other."""
    first_s = max(look.policy.spot.return_after_s, LEAST_WAIT_S)
    wait_s = max(first_s, min(first_s << min(record.failures, 10), MAX_WAIT_S))
    failed = SpotReturn(failures=record.failures + 1, until_s=look.now_s + wait_s)
    return ReturnPlan(record=failed, event=f"return to Spot: {event}; tried again in {wait_s} s")

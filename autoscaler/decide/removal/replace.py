"""One worker for others: what is launched for it comes first; once that is Ready it is drained with a shrink's checks.

Whom to replace, and by what, is the question of those that wish it (rotation.py, cheaper.py). How far a replacement has
come is told by `State.replacement`, the launches of its decision and the tags of their instances: whoever looks next
goes on, wherever the one before was killed. One at a time; one that came to nothing holds back the next.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import msgspec

from autoscaler.decide.capacity.cost import within_cap
from autoscaler.decide.capacity.market import in_markets
from autoscaler.decide.capacity.pools import at_max, is_open, pool_of, rooms
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.decide.removal.elsewhere import Elsewhere
from autoscaler.decide.removal.holds import holds_up_others, keeps
from autoscaler.decide.removal.minimum import at_min
from autoscaler.decide.removal.pace import blackout_at, nobody_goes
from autoscaler.decide.removal.shrink import SEEN_AT_ONCE
from autoscaler.model import Asks, Blocked, MetricsStatus, NewWorkers, Replacement, ReplacementFailed, State
from autoscaler.state.memory import was_removed
from autoscaler.state.replacing import (
    CHEAPER,
    FIRST_WAIT_S,
    replacement_begins,
    replacement_drains,
    replacement_dropped,
    replacement_ended,
    replacement_failed,
)
from autoscaler.state.zones import is_doubtful, is_left_out

GIVEN_UP_AFTER_S: Final = 3_600
"""What was launched is an ordinary worker by then; that one of them has to go is the shrink's to find."""
TOLD: Final = 5
"""Workers that are due and stay are told by name up to so many."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to be replaced, and by what."""

    worker: Worker
    reason: str
    """Of `state.replacing.REPLACING`."""
    cause: str
    """Stable code."""
    why: str
    """For a person: `it is 31 days old (rotation.max_age_s)`."""
    launches: tuple[NewWorkers, ...]

    @property
    def count(self) -> int:
        """Workers that come for it."""
        return sum(new.count for new in self.launches)


class ReplacePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What follows for the replacement that is under way, or that begins."""

    state: State
    launches: tuple[NewWorkers, ...] = ()
    removes: Worker | None = None
    reason: str = ""
    why: str = ""
    moves: tuple[str, ...] = ()
    """Owners of the pods that would be moved, where that is to be remembered."""
    blocked: tuple[Blocked, ...] = ()
    asks: Asks = Asks()


def follow(
    look: Look,
    state: State,
    fleet: FleetView,
    *,
    waiting_pods: int,
    in_vain: Callable[[Replacement, Worker], str | None],
) -> ReplacePlan:
    """How far the replacement has come that is under way. `in_vain`: why a new worker is no better than the old."""
    replacement = state.replacement
    if replacement is None or not look.snapshot.cluster_known:
        return ReplacePlan(state=state)
    worker = next((w for w in fleet.workers if w.key == replacement.instance_id), None)
    removal = next((r for r in state.removals if r.instance_id == replacement.instance_id), None)
    if removal is not None and removal.reason == replacement.reason:
        return ReplacePlan(state=state)
    if worker is None or worker.standing is Standing.DEAD or was_removed(state, replacement.instance_id):
        # Its own drain, EC2, or somebody else ended it: what was launched stands in its place.
        return ReplacePlan(state=replacement_ended(state) if replacement.drains else replacement_dropped(state))
    if replacement.drains:
        return _failed(look, state, worker, "its drain was given up")
    if any(_launched_by(launch.operation_id) == replacement.launched_by for launch in state.launches):
        return ReplacePlan(state=state)
    new = launched_for(replacement.launched_by, fleet)
    if len(new) < replacement.count:
        if look.now_s - replacement.began_at_s < SETTLE_S:
            return ReplacePlan(state=state)
        return _failed(look, state, worker, f"{len(new)} of {replacement.count} that were launched for it are Ready")
    worse = next((why for one in new if (why := in_vain(replacement, one)) is not None), None)
    if worse is not None:
        return _failed(look, state, worker, worse)
    return _drained(look, state, fleet, worker, replacement, waiting_pods=waiting_pods)


def waits_for(look: Look, state: State, fleet: FleetView, *, waiting_pods: int) -> str | None:
    """Why no replacement begins in this look, whoever is wished; None where one may."""
    return _not_now(look, state, fleet, waiting_pods=waiting_pods) or _held_back(look, state)


def begin(
    look: Look,
    state: State,
    fleet: FleetView,
    wishes: Iterable[Wish],
    *,
    waiting_pods: int,
    unseen: Asks,
) -> ReplacePlan:
    """Launch for the first of the wished that may go, in their order; why the others stay is told.

    `unseen`: what has to be seen to know of more, where none of these may go.
    """
    wished = list(wishes)
    why = waits_for(look, state, fleet, waiting_pods=waiting_pods)
    if why is not None and not wished:
        return ReplacePlan(state=state)
    if why is not None:
        more = f" ({len(wished) - 1} more are due)" if len(wished) > 1 else ""
        row = Blocked(subject=wished[0].worker.title, code=wished[0].cause, text=f"it is replaced later{more}: {why}")
        return ReplacePlan(state=state, blocked=(row,))
    elsewhere = Elsewhere(look.snapshot, fleet, state, look.policy, now_s=look.now_s)
    blocked: list[Blocked] = []
    for number, wish in enumerate(wished):
        asks = what_to_see(look, state, elsewhere, [later.worker for later in wished[number:]])
        if asks:
            return ReplacePlan(state=state, blocked=tuple(blocked), asks=asks)
        why = stays(look, state, fleet, elsewhere, wish)
        if why is None:
            return msgspec.structs.replace(_begun(look, state, fleet, wish), blocked=tuple(blocked))
        if len(blocked) < TOLD:
            blocked.append(Blocked(subject=wish.worker.title, code=wish.cause, text=why))
    return ReplacePlan(state=state, blocked=tuple(blocked), asks=unseen)


def launched_for(launched_by: str, fleet: FleetView) -> list[Worker]:
    """Ready workers of ours that this decision launched."""
    return [
        worker
        for worker in fleet.having(Standing.READY)
        if worker.instance is not None
        and worker.instance.operation_id is not None
        and _launched_by(worker.instance.operation_id) == launched_by
    ]


def _launched_by(operation_id: str) -> str:
    return operation_id.rsplit("-l", 1)[0]


def _not_now(look: Look, state: State, fleet: FleetView, *, waiting_pods: int) -> str | None:
    """Why no drain, and no launch that is to end in one, begins in this look."""
    if look.snapshot.metrics_status is not MetricsStatus.OK:
        return "metrics are not complete"
    if waiting_pods:
        return f"{waiting_pods} pods wait for a node"
    if state.launches or fleet.joining:
        return "workers are joining"
    if any(holds_up_others(removal, look.policy, look.now_s) for removal in state.removals):
        return "a removal is under way"
    if not fleet.servers:
        return "no running server instance: nobody could drain"
    return nobody_goes(look.policy, fleet.ready, look.now_s)


def _held_back(look: Look, state: State) -> str | None:
    failed = state.replacement_failed
    if failed is not None and look.now_s < failed.retry_at_s:
        return f"the last one came to nothing ({failed.why}); the next try is in {failed.retry_at_s - look.now_s} s"
    unjoined = state.join_failures
    if unjoined is not None and look.now_s < max(unjoined.until_s, unjoined.failed_at_s + FIRST_WAIT_S):
        return "a launch failed to join a while ago"
    return None


def what_to_see(look: Look, state: State, elsewhere: Elsewhere, workers: Sequence[Worker]) -> Asks:
    """What has to be seen before it can be judged whether the pods of the first may move.

    The pods of the next ones are asked for with its own: a look has few questions, and what they run may keep many.
    """
    first, rooms = workers[0], not look.snapshot.rooms_known
    if first.pods is not None and not rooms:
        return elsewhere.asks(first) if keeps(first, state, look.policy, look.now_s) is None else Asks()
    unseen = (w.title for w in workers if w.pods is None and keeps(w, state, look.policy, look.now_s) is None)
    return Asks(rooms=rooms, pods_of=tuple(islice(unseen, SEEN_AT_ONCE)))


def stays(look: Look, state: State, fleet: FleetView, elsewhere: Elsewhere, wish: Wish) -> str | None:
    """Why nothing is launched for it."""
    why = keeps(wish.worker, state, look.policy, look.now_s) or elsewhere.held(wish.worker)
    if why is not None:
        return str(why)
    if _spares(look, state.replacement_failed, wish, fleet):
        return at_min(wish.worker, fleet, look)
    zone = wish.launches[0].zone
    if is_left_out(state, zone) or is_doubtful(state, zone, now_s=look.now_s):
        return f"launches in {zone} do not join: its replacement would not either"
    most = look.policy.workers.max
    if fleet.existing + wish.count > most:
        return (
            f"at_max: {fleet.existing} workers exist and {look.limits.max_by} is {most}: its replacement has no place"
        )
    pool = wish.launches[0].pool
    if rooms(fleet, look.policy).get(pool, wish.count) < wish.count:
        return f"at_max: {at_max(pool, fleet, look.policy)}: its replacement has no place"
    kept, because = _capped(look, state, fleet, wish)
    if sum(new.count for new in kept) < wish.count:
        return f"at_cost_cap: {because}"
    first, markets = wish.launches[0], {new.market for new in kept}
    needed = elsewhere.new_needed(wish.worker, _places(look, fleet), first, at_most=wish.count, markets=markets)
    if needed is None:
        return f"no_room: its pods would not fit with {wish.count} new {first.instance_type} either"
    return None


def _capped(look: Look, state: State, fleet: FleetView, wish: Wish) -> tuple[tuple[NewWorkers, ...], str]:
    """What the cost cap has room for, at no higher price than the wish allows, and why not all."""
    bought = in_markets(wish.launches, fleet, state, look.policy, now_s=look.now_s, replacing=(wish.worker.key,))
    kept, because = within_cap(bought, fleet, look.policy)
    allowed = {new.instance_type: new.usd_at_most for new in wish.launches}

    def at_most(new: NewWorkers) -> float | None:
        limits = [usd for usd in (new.usd_at_most, allowed[new.instance_type]) if usd is not None]
        return min(limits, default=None)

    return tuple(msgspec.structs.replace(new, usd_at_most=at_most(new)) for new in kept), because


def _begun(look: Look, state: State, fleet: FleetView, wish: Wish) -> ReplacePlan:
    spares = _spares(look, state.replacement_failed, wish, fleet)
    failed = state.replacement_failed
    launches = _capped(look, state, fleet, wish)[0]
    replacement = Replacement(
        instance_id=wish.worker.key,
        reason=wish.reason,
        cause=wish.cause,
        why=wish.why,
        began_at_s=look.now_s,
        launched_by=failed.launched_by if failed is not None and spares else look.decision_id,
        count=wish.count,
    )
    state = replacement_begins(state, replacement)
    if not spares:
        why = f"{wish.worker.title} is replaced, since {wish.why}, and what replaces it comes first"
        return ReplacePlan(state=state, launches=launches, reason=wish.reason, why=why)
    look.done.append(f"{wish.worker.title} is replaced, since {wish.why}: what was launched for another stands in")
    return ReplacePlan(state=state)


def _spares(look: Look, failed: ReplacementFailed | None, wish: Wish, fleet: FleetView) -> bool:
    """Whether what the last failure left behind stands in: as many of the kind, and nobody needs them yet."""
    if failed is None or failed.reason != wish.reason:
        return False
    kind, zone = wish.launches[0].instance_type, wish.launches[0].zone
    left = [
        worker
        for worker in launched_for(failed.launched_by, fleet)
        if worker.empty
        and is_open(worker, look.policy)
        and pool_of(worker, look.policy) == pool_of(wish.worker, look.policy)
        and worker.key != wish.worker.key
        and worker.instance is not None
        and (worker.instance.instance_type, worker.instance.zone) == (kind, zone or worker.instance.zone)
    ]
    return len(left) >= wish.count


def _drained(
    look: Look, state: State, fleet: FleetView, worker: Worker, replacement: Replacement, *, waiting_pods: int
) -> ReplacePlan:
    """What was launched is there: the worker goes, if it still may."""
    blackout = blackout_at(look.policy, look.now_s)
    if blackout is not None:
        row = Blocked(subject=worker.title, code=replacement.cause, text=f"its drain waits: {blackout}")
        return ReplacePlan(state=state, blocked=(row,))
    why = _not_now(look, state, fleet, waiting_pods=waiting_pods)
    if why is None and worker.standing is not Standing.READY:
        why = "it is not Ready"
    why = why or at_min(worker, fleet, look)
    if why is None:
        elsewhere = Elsewhere(look.snapshot, fleet, state, look.policy, now_s=look.now_s)
        asks = what_to_see(look, state, elsewhere, (worker,))
        if asks:
            return ReplacePlan(state=state, asks=asks)
        kept = keeps(worker, state, look.policy, look.now_s) or elsewhere.cannot_lose(worker, (), _places(look, fleet))
        why = None if kept is None else str(kept)
    if why is None:
        # A rotation moves pods whatever they need; a cheaper place that they do not do with is not tried again soon.
        return ReplacePlan(
            state=replacement_drains(state),
            removes=worker,
            reason=replacement.reason,
            why=replacement.why,
            moves=tuple(elsewhere.families(worker)) if replacement.reason == CHEAPER else (),
        )
    if look.now_s - replacement.began_at_s > GIVEN_UP_AFTER_S:
        return _failed(look, state, worker, f"it could not go: {why}")
    row = Blocked(subject=worker.title, code=replacement.cause, text=f"its drain waits: {why}")
    return ReplacePlan(state=state, blocked=(row,))


def _failed(look: Look, state: State, worker: Worker, why: str) -> ReplacePlan:
    state = replacement_failed(state, why, look.now_s)
    failed = state.replacement_failed
    if failed is not None:
        wait_s = failed.retry_at_s - look.now_s
        look.done.append(f"{worker.title} is not replaced: {why}; the next try is in {wait_s} s")
        look.news = True
    return ReplacePlan(state=state)


def _places(look: Look, fleet: FleetView) -> list[Worker]:
    return [worker for worker in fleet.having(Standing.READY) if is_open(worker, look.policy)]

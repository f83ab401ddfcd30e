"""A dearer worker for cheaper ones: where they carry what it carried at its fullest in the window, and cost less.

That the saving lasts is not waited for with a timer: requests and use count as they were at their highest in the shrink
window, and prices are those of a dated table. A worker without a price is never replaced, nor by one without.
"""

from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import is_open, pool_of
from autoscaler.decide.capacity.prices import price_of
from autoscaler.decide.demand.use import too_full_without
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.removal.elsewhere import Elsewhere
from autoscaler.decide.removal.holds import keeps
from autoscaler.decide.removal.replace import Wish, stays, what_to_see
from autoscaler.decide.removal.window import at_highest, lacks_room, left_with_others, not_known
from autoscaler.decide.scheduling.offered import offered
from autoscaler.model import ON_DEMAND, Asks, NewWorkers, Replacement, Resources, State
from autoscaler.policy import Policy
from autoscaler.state.memory import was_removed
from autoscaler.state.moved import moved_too_often
from autoscaler.state.replacing import CHEAPER

MOST_FOR_ONE: Final = 5
"""So many workers at most come for one: more of them would have more to run for themselves than they save."""
_HAIR: Final = 1e-9
"""Prices are decimals."""


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """The worker whose replacement saves, the dearest that may go, or what has to be seen to know."""

    wishes: tuple[Wish, ...] = ()
    asks: Asks = Asks()


def saving(look: Look, state: State, fleet: FleetView) -> Saving:
    """Find one worker that may leave and that cheaper ones can stand in for; asks only where prices promise it."""
    share = look.policy.scale_down.replace_when_saves
    promising = _promising(look, state, fleet, share) if share is not None else []
    if share is None or not promising:
        return Saving()
    if not look.snapshot.rooms_known:
        return Saving(asks=Asks(rooms=True))
    judged = _Judged(look, state, fleet, share)
    held: tuple[Wish, ...] = ()
    for number, (worker, usd) in enumerate(promising):
        if judged.window_unknown(worker):
            continue
        asks = what_to_see(look, state, judged.elsewhere, [later for later, _ in promising[number:]])
        if asks:
            return Saving(asks=asks)
        if keeps(worker, state, look.policy, look.now_s) is not None:
            continue
        wish = judged.wish(worker, usd)
        if wish is not None and stays(look, state, fleet, judged.elsewhere, wish) is None:
            return Saving(wishes=(wish,))
        held = held or ((wish,) if wish is not None else ())
    return Saving(wishes=held)


def saves_no_more(look: Look, fleet: FleetView, replacement: Replacement, new: Worker) -> str | None:
    """Why one that was launched for a dearer one is not cheaper enough: prices, or the share, may be others now."""
    if replacement.reason != CHEAPER:
        return None
    share = look.policy.scale_down.replace_when_saves
    if share is None:
        return "scale_down.replace_when_saves is not set any more"
    old = next((worker for worker in fleet.workers if worker.key == replacement.instance_id), None)
    before, after = (_usd(old, look.policy) if old is not None else None), _usd(new, look.policy)
    if before is None or after is None:
        return "what they cost is not known any more"
    most = before * (1 - share) / replacement.count
    if after <= most + _HAIR:
        return None
    return f"{new.title} costs ${after:.4f} an hour by now, and ${most:.4f} at most would save enough"


def _usd(worker: Worker, policy: Policy) -> float | None:
    instance = worker.instance
    return price_of(instance.instance_type, instance.zone, instance.market, policy) if instance is not None else None


def _promising(look: Look, state: State, fleet: FleetView, share: float) -> list[tuple[Worker, float]]:
    """Workers of ours, with their price, for which one of their pool's types alone would save enough."""
    found = []
    for worker in fleet.having(Standing.READY):
        if not worker.ours or worker.instance is None or was_removed(state, worker.key):
            continue
        instance, pool = worker.instance, pool_of(worker, look.policy)
        types = pool.instance_types if pool is not None else ()
        usd = price_of(instance.instance_type, instance.zone, instance.market, look.policy)
        others = [price_of(t, instance.zone, ON_DEMAND, look.policy) for t in types if t != instance.instance_type]
        cheapest = min((other for other in others if other is not None), default=None)
        if usd is not None and cheapest is not None and cheapest <= usd * (1 - share) + _HAIR:
            found.append((worker, usd))
    return sorted(found, key=lambda one: -one[1])


class _Judged:
    """One look's cluster as it was at its fullest."""

    def __init__(self, look: Look, state: State, fleet: FleetView, share: float) -> None:
        self._look, self._state, self._fleet, self._share = look, state, fleet, share
        self._places = [worker for worker in fleet.having(Standing.READY) if is_open(worker, look.policy)]
        self._left_with_others = left_with_others(look.snapshot)
        self.elsewhere = Elsewhere(at_highest(look.snapshot), fleet, state, look.policy, now_s=look.now_s)

    def window_unknown(self, worker: Worker) -> bool:
        """Whether what pods asked for in the window has a gap."""
        return not_known((worker, *self._places), self._look.policy.scale_down.window_s) is not None

    def wish(self, worker: Worker, usd: float) -> Wish | None:
        """The cheapest workers that would do for it; None where none save enough."""
        look = self._look
        moved = (moved_too_often(self._state, owner, look.now_s) for owner in self.elsewhere.families(worker))
        if any(why is not None for why in moved):
            return None
        budget_usd = usd * (1 - self._share)
        best: tuple[float, NewWorkers] | None = None
        pool = pool_of(worker, look.policy)
        for kind in pool.instance_types if pool is not None else ():
            each_usd = price_of(kind, worker.zone or "", ON_DEMAND, look.policy)
            if each_usd is None or kind == _type_of(worker):
                continue
            most = MOST_FOR_ONE if each_usd == 0 else min(MOST_FOR_ONE, int(budget_usd / each_usd + _HAIR))
            one = NewWorkers(kind, 1, worker.zone or "", pool=pool.name if pool is not None else "")
            count = self._enough(worker, one, most)
            if count is not None and (best is None or count * each_usd < best[0] - _HAIR):
                # Whatever EC2 launches in its place may cost no more: what was promised is saved.
                new = msgspec.structs.replace(one, count=count, usd_at_most=budget_usd / count)
                best = count * each_usd, new
        if best is None:
            return None
        cost_usd, new = best
        return Wish(
            worker=worker,
            reason=CHEAPER,
            cause=CHEAPER,
            why=f"{new.count} {new.instance_type} for ${cost_usd:.4f} an hour do for what it costs ${usd:.4f} for",
            launches=(new,),
        )

    def _enough(self, worker: Worker, one: NewWorkers, most: int) -> int | None:
        """How many such workers carry what it carried, beside the others; None where `most` do not."""
        if most < 1:
            return None
        needed = self.elsewhere.new_needed(worker, self._places, one, at_most=most)
        counts = range(max(1, needed), most + 1) if needed is not None else ()
        return next((count for count in counts if self._carries(worker, one.instance_type, count)), None)

    def _carries(self, worker: Worker, kind: str, count: int) -> bool:
        look, policy = self._look, self._look.policy
        each = offered(kind, self._fleet, self._state, policy)
        whole = sum((each,) * count, start=Resources())
        if too_full_without(look.snapshot, self._fleet, {worker.key}, policy, new=(each,) * count) is not None:
            return False
        daemons = sum((daemon.requests for daemon in look.snapshot.daemons), start=Resources())
        room = sum((each - daemons,) * count, start=Resources())
        gone, window_s = self._left_with_others, policy.scale_down.window_s
        if lacks_room((worker,), self._places, window_s, elsewhere=gone, new=room) is not None:
            return False
        # What is to stay free is asked for again in a moment: they have to bring as much as leaves.
        leaves = worker.node.allocatable if worker.node is not None else None
        asked = look.limits.headroom or look.limits.coming_headroom
        return not asked or (leaves is not None and leaves.fits_in(whole))


def _type_of(worker: Worker) -> str:
    return worker.instance.instance_type if worker.instance is not None else ""

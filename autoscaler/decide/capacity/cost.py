"""What the workers cost an hour, and how many more the policy's cap has room for.

Unknown is not zero: a worker without a price is told apart, and nothing grows under a cap that cannot be kept.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import pool_named
from autoscaler.decide.capacity.prices import counted_price, price_of
from autoscaler.decide.fleet import FleetView, Standing, Worker, some_zone
from autoscaler.model import HAIR_USD, ON_DEMAND, SPOT, FleetCost, LaunchRequest, NewWorkers, State, fitting
from autoscaler.policy import Policy

_PAID: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY, Standing.LEAVING)
"""EC2 bills no instance that stops or ends (EC2 user guide, "Instance lifecycle")."""


class _Bill(msgspec.Struct, frozen=True):
    """What some workers cost an hour."""

    usd: float
    known: int
    unknown: tuple[str, ...]
    """Titles of the workers whose price nobody knows."""


def fleet_cost(fleet: FleetView, state: State, policy: Policy, *, all_shown: bool) -> FleetCost:
    """What all living workers cost. `all_shown`: whether metrics show those that EC2's list of ours lacks."""
    bill = _bill_of(fleet, fleet.having(*_PAID), policy)
    unseen = 0 if all_shown else state.unlisted_workers
    unknown = None if unseen is None else len(bill.unknown) + unseen
    baseline = _baseline(fleet, policy)
    whole = unknown == 0 and baseline is not None
    return FleetCost(
        usd_per_hour=round(bill.usd, 6),
        known_workers=bill.known,
        unknown_workers=unknown,
        baseline_usd_per_hour=baseline,
        saved_usd_per_hour=round(baseline - bill.usd, 6) if whole and baseline is not None else None,
    )


def within_cap(
    wanted: Iterable[NewWorkers], fleet: FleetView, policy: Policy, *, unlisted: int = 0
) -> tuple[tuple[NewWorkers, ...], str]:
    """Those of the wanted workers that `cost.max_usd_per_hour` has room for, in their order, and why not all.

    A type that is too dear does not keep back a cheaper one behind it. What is left of the cap is shared evenly: no
    worker may cost more than its `usd_at_most`, also where EC2 has only a larger type left. As with max, a worker that
    EC2 takes away does not count. `unlisted`: workers that exist and are not in this view of the fleet.
    """
    wanted, cap = tuple(wanted), policy.cost.max_usd_per_hour
    if cap is None:
        return wanted, ""
    staying = [w for w in fleet.having(*_PAID) if w.removal is None or not w.removal.reclaim]
    bill = _bill_of(fleet, staying, policy)
    others = policy.cost.other_usd_per_hour
    if bill.unknown or (unlisted and others is None):
        return (), _nobody_knows(bill.unknown, unlisted)
    spent = bill.usd + unlisted * (others or 0.0)
    left = cap - spent
    kept: list[tuple[NewWorkers, float]] = []
    because = ""
    for new in wanted:
        usd = counted_price(new.instance_type, new.zone or some_zone(fleet), new.market, policy)
        if usd is None:
            because = because or _no_price_of(new)
            continue
        fits = fitting(new.count, left, usd)
        if fits < new.count:
            because = because or f"what there is costs ${spent:.4f} an hour, one more {new.instance_type} ${usd:.4f}"
        if fits:
            left -= fits * usd
            kept.append((msgspec.structs.replace(new, count=fits), usd))
    spare = max(0.0, left) / max(1, sum(new.count for new, _ in kept))
    return tuple(msgspec.structs.replace(new, usd_at_most=usd + spare) for new, usd in kept), because


def not_dearer(instance_type: str, zone: str, new: NewWorkers, policy: Policy) -> bool:
    """Whether a worker may be of this type instead and stay within what it may cost; without a limit it may.

    What has no price stands in for nothing that has one.
    """
    if new.usd_at_most is None:
        return True
    known = price_of(instance_type, zone, new.market, policy)
    if known is None and price_of(new.instance_type, zone, new.market, policy) is not None:
        return False
    usd = known if known is not None else policy.cost.other_usd_per_hour
    return usd is not None and usd <= new.usd_at_most + HAIR_USD


def _bill_of(fleet: FleetView, workers: Iterable[Worker], policy: Policy) -> _Bill:
    each = [(worker.title, 1, _worker_usd(worker, policy)) for worker in workers]
    each += [
        (f"launch {launch.operation_id}", count, dearest(launch.request, policy)) for launch, count in fleet.awaited
    ]
    return _Bill(
        usd=sum(count * usd for _, count, usd in each if usd is not None),
        known=sum(count for _, count, usd in each if usd is not None),
        unknown=tuple(title for title, count, usd in each if usd is None for _ in range(count)),
    )


def _worker_usd(worker: Worker, policy: Policy) -> float | None:
    if worker.instance is not None:
        return counted_price(worker.instance.instance_type, worker.instance.zone, worker.instance.market, policy)
    if worker.launch is not None:
        return dearest(worker.launch.request, policy)
    if worker.joined is not None:
        pool = pool_named(worker.joined.pool, policy)
        types = pool.instance_types if pool is not None else ()
        return _highest(counted_price(kind, worker.zone or "", worker.joined.market, policy) for kind in types)
    return policy.cost.other_usd_per_hour


def dearest(request: LaunchRequest, policy: Policy) -> float | None:
    """What one worker of the request may cost at most: nobody knows yet which of the types it is."""
    return _highest(counted_price(row.instance_type, row.zone, request.market, policy) for row in request.overrides)


def _highest(prices: Iterable[float | None]) -> float | None:
    """None unless each is known."""
    each = tuple(prices)
    known = [usd for usd in each if usd is not None]
    return max(known) if known and len(known) == len(each) else None


def _baseline(fleet: FleetView, policy: Policy) -> float | None:
    cost = policy.cost
    if cost.baseline_workers is None:
        return None
    usd = counted_price(
        cost.baseline_type or policy.default_pool.instance_types[0], some_zone(fleet), ON_DEMAND, policy
    )
    return round(cost.baseline_workers * usd, 6) if usd is not None else None


def _no_price_of(new: NewWorkers) -> str:
    what, field = ("Spot price", "spot_usd_per_hour") if new.market == SPOT else ("price", "usd_per_hour")
    mend = f"fetch it (`k3s-autoscaler prices refresh`) and deploy, or give it under cost.{field}"
    return f"the {what} of {new.instance_type} is not known: {mend}"


def _nobody_knows(unknown: tuple[str, ...], unlisted: int) -> str:
    if not unknown:
        return f"nobody knows what {unlisted} workers cost that EC2's list does not show: give cost.other_usd_per_hour"
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    verb = "cost" if more else "costs"
    return f"nobody knows what {unknown[0]}{more} {verb}: give cost.other_usd_per_hour, or the price of its type"

"""Growth -> launch operations: which zone, which pools, and the complete request, frozen."""

from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Final

import msgspec

from autoscaler.decide.capacity.cost import dearest, not_dearer
from autoscaler.decide.capacity.pools import in_its_place, pool_named, template_of
from autoscaler.decide.capacity.prices import counted_price, price_of
from autoscaler.decide.capacity.zones import Zones
from autoscaler.decide.fleet import Standing, view_fleet
from autoscaler.instance_types import arch_of
from autoscaler.model import (
    ALIVE,
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    ON_DEMAND,
    OPERATION_TAG,
    POOL_TAG,
    SPOT,
    Blocked,
    Fallback,
    Growth,
    LaunchContext,
    LaunchOperation,
    LaunchOverride,
    LaunchRequest,
    NewWorkers,
    Pool,
    PoolTemplate,
    Snapshot,
    State,
    fitting,
)
from autoscaler.policy import Policy
from autoscaler.state.backoffs import left_alone
from autoscaler.state.memory import launched_for, remember_owner
from autoscaler.state.replacing import REPLACING
from autoscaler.state.size import workers_that_fit
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_launch, open_operations

MAX_ROWS: Final = 10
"""Types of one request, the preferred ones: what has nothing left makes room for the next ones at the next look."""
FALLBACK: Final = "-od"
"""Ends the id of a launch on demand that takes the place of one on Spot."""
NO_TEMPLATE: Final = "NoLaunchTemplate"
"""Ours, beside EC2's codes: no template is deployed for the pool, or for one of its architectures."""
SUBNET_FULL: Final = "InsufficientFreeAddressesInSubnet"
_LIVING: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY)


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is opened, and what could not be."""

    state: State
    opened: tuple[LaunchOperation, ...]
    unplaced: int
    """Workers that are not launched now."""
    codes: tuple[str, ...] = ()
    """EC2's error codes for which they are not: none where no subnet lies in the zone, or the state is full."""
    unpaid: tuple[str, ...] = ()
    """What the cap has no room for, and what is left alone meanwhile."""
    state_full: bool = False
    """Whether some wait because as many operations are open as the state holds."""
    fallbacks: tuple[Fallback, ...] = ()
    """For each launch on Spot, what is launched in the place of workers that it does not give."""
    blocked: tuple[Blocked, ...] = ()
    """What was passed over although something is launched."""
    left_out: tuple[Blocked, ...] = ()
    """Zones in which launches do not join."""


class _Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What launches of one pool and type may name."""

    template: PoolTemplate
    types: tuple[str, ...]
    subnets: dict[str, str]
    """By zone."""


_NOTHING: Final = _Rows(
    template=PoolTemplate(pool="", arch="", template_id="", template_version="", subnet_zones=()), types=(), subnets={}
)


class _Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Where some wanted workers can be had."""

    market: str
    rows: _Rows
    zones: tuple[str, ...]
    """In which at least one of the types is not left alone."""
    codes: tuple[str, ...]
    """For which the other zones are left alone."""


class _Share(msgspec.Struct, frozen=True, order=True):
    """What becomes one request: CreateFleet is sent for each zone, type and market by itself."""

    pool: str
    instance_type: str
    zone: str
    market: str
    only_market: bool
    """Whether nothing is bought in its place."""
    only_types: tuple[str, ...]


class _Bought(msgspec.Struct, frozen=True, kw_only=True):
    """What a share is made of; one that was wanted for several reasons keeps the last, they are alike."""

    new: NewWorkers
    offer: _Offer
    instead: _Offer | None
    """What is on demand in place of Spot; None where nothing may be."""


def plan_launch(
    growth: Growth,
    context: LaunchContext,
    snapshot: Snapshot,
    state: State,
    policy: Policy,
    *,
    cluster_id: str,
    now_s: int,
    decision_id: str,
) -> LaunchPlan:
    """Open one launch for each (pool, instance type, zone, market), the emptiest zones first. Pure.

    Where Spot is left alone in every zone that may be, the workers are on demand from the start, as far as what they
    may cost goes.
    """
    exhausted = left_alone(state, now_s)
    every = tuple(sorted({zone for _, zone in _all_subnets(context)}))
    in_zone = _workers_by_zone(snapshot, state, every)
    zones_to_take = Zones(every, in_zone, state, now_s=now_s)
    sharing = _Sharing(zones_to_take, exhausted, policy, lambda new: _rows(new, context, snapshot, state, policy))
    for new in growth.workers:
        sharing.take(new, growth)
    opened: list[LaunchOperation] = []
    fallbacks: list[Fallback] = []
    unplaced, state_full = sharing.unplaced, False
    writer = _Writer(growth, exhausted, cluster_id=cluster_id, now_s=now_s)
    for share, count in sorted(sharing.shares.items()):
        bought = sharing.bought[share]
        operation = writer.operation(f"{decision_id}-l{len(opened)}", share, bought.offer.rows, count)
        fits = workers_that_fit(state, operation) if open_operations(state) < MAX_OPEN_OPERATIONS else 0
        if fits < count:
            unplaced, state_full = unplaced + count - fits, True
        if not fits:
            continue
        operation = operation.asking_for(fits)
        state = open_launch(state, operation)
        opened.append(operation)
        if bought.instead is not None and (zone := sharing.zones.instead(bought.instead.zones, share.zone)):
            there = msgspec.structs.replace(share, zone=zone, market=ON_DEMAND)
            replacing = writer.operation(f"{operation.operation_id}{FALLBACK}", there, bought.instead.rows, fits)
            fallbacks.append(
                Fallback(
                    of=operation.operation_id,
                    operation=replacing,
                    usd_each=dearest(replacing.request, policy),
                    usd_at_most=bought.new.usd_at_most,
                )
            )
    if opened:
        zones = tuple(sorted({share.zone for share in sharing.shares}))
        for record in growth.unhelped:
            merged = tuple(dict.fromkeys((*record.zones, *zones)))
            state = remember_owner(state, msgspec.structs.replace(record, zones=merged))
        state = launched_for(state, growth.for_owners, decision_id)
    return LaunchPlan(
        state=state,
        opened=tuple(opened),
        unplaced=unplaced,
        codes=tuple(sharing.codes),
        unpaid=tuple(sharing.unpaid),
        state_full=state_full,
        fallbacks=tuple(fallbacks),
        blocked=(*sharing.blocked, *sharing.left_out.values()),
        left_out=tuple(sharing.left_out.values()),
    )


class _Sharing:
    """Shares wanted workers out to zones and markets, one kind after the other."""

    def __init__(
        self,
        zones: Zones,
        exhausted: Mapping[Pool, str],
        policy: Policy,
        rows: Callable[[NewWorkers], _Rows | None],
    ) -> None:
        self.zones, self._exhausted, self._policy, self._rows = zones, exhausted, policy, rows
        self.shares: Counter[_Share] = Counter()
        self.bought: dict[_Share, _Bought] = {}
        self.unplaced = 0
        self.codes: dict[str, None] = {}
        self.unpaid: list[str] = []
        self.blocked: list[Blocked] = []
        self.left_out: dict[str, Blocked] = {}
        """By zone: where launches do not join."""

    def take(self, new: NewWorkers, growth: Growth) -> None:
        """Give them zones, the emptiest first; where what is wanted is left alone everywhere, something else.

        That is on demand in the place of Spot, else fewer workers of a dearer type, as far as is paid for.
        """
        wanted = new.count
        offer, count, instead = self._offer(new), wanted, None
        if new.market == SPOT and growth.may_fall_back and not new.only_market:
            instead = self._offer(msgspec.structs.replace(new, market=ON_DEMAND))
        if not offer.zones and instead is not None:
            if new.usd_at_most is not None and instead.zones:
                usd = _dearest(instead, self._policy)
                count = fitting(count, count * new.usd_at_most, usd)
                self._cannot_pay(new, new.count - count, usd)
            if instead.zones and count:
                why = f"Spot is left alone ({', '.join(offer.codes)}): {count} of {new.instance_type} on demand instead"
                self.blocked.append(Blocked(subject="spot", code="spot_left_alone", text=why))
            codes = tuple(dict.fromkeys((*offer.codes, *instead.codes)))
            offer, instead = msgspec.structs.replace(instead, codes=codes), None
        elif not offer.zones and growth.reason not in REPLACING:
            new, offer = self._fewer(new, offer)
            count = new.count
        count = count if offer.zones else 0
        if count < wanted:
            self.unplaced += wanted - count
            self.codes |= dict.fromkeys(offer.codes)
        self.left_out |= {told.subject: told for told in self.zones.told(offer.zones)}
        tried = {zone for record in growth.unhelped if record.unhelped for zone in record.zones}
        for number in range(count):
            zone = self.zones.take(offer.zones, tried=tried, pinned=bool(new.zone))
            if zone is None:
                self.unplaced += count - number
                break
            share = _Share(new.pool, new.instance_type, zone, offer.market, new.only_market, new.only_types)
            self.shares[share] += 1
            self.bought[share] = _Bought(new=new, offer=offer, instead=instead)

    def _cannot_pay(self, new: NewWorkers, count: int, usd: float | None) -> None:
        if count:
            at = f"at ${usd:.4f} an hour" if usd is not None else "at a price that nobody knows"
            self.unpaid.append(f"{count} {new.instance_type} on demand {at}, while Spot is left alone")

    def _fewer(self, new: NewWorkers, offer: _Offer) -> tuple[NewWorkers, _Offer]:
        """As many of a dearer type as may cost what all the wanted ones may; what was offered where that is none."""
        if new.usd_at_most is None:
            return new, offer
        dearer = self._offer(msgspec.structs.replace(new, usd_at_most=None))
        there = {
            kind
            for kind in dearer.rows.types
            for zone in dearer.zones
            if Pool(instance_type=kind, zone=zone, market=new.market) not in self._exhausted
        }
        prices = [price_of(t, next(iter(dearer.zones), ""), new.market, self._policy) for t in there]
        usd = min((price for price in prices if price is not None), default=None)
        if usd is None:
            return new, offer
        whole = new.count * new.usd_at_most
        count = fitting(new.count, whole, usd)
        self.unpaid.append(f"{new.count - count} of a dearer type, while {new.instance_type} is left alone")
        if not count:
            return new, offer
        new = msgspec.structs.replace(new, count=count, usd_at_most=whole / count)
        return new, self._offer(new)

    def _offer(self, new: NewWorkers) -> _Offer:
        """Where the workers can be had on their market."""
        rows = self._rows(new)
        if rows is None:
            return _Offer(market=new.market, rows=_NOTHING, zones=(), codes=(NO_TEMPLATE,))
        allowed = [zone for zone in rows.subnets if new.zone in {"", zone}]
        pools = {z: [Pool(instance_type=t, zone=z, market=new.market) for t in rows.types] for z in allowed}
        return _Offer(
            market=new.market,
            rows=rows,
            zones=tuple(z for z in allowed if any(pool not in self._exhausted for pool in pools[z])),
            codes=tuple(dict.fromkeys(self._exhausted[p] for z in allowed for p in pools[z] if p in self._exhausted)),
        )


class _Writer:
    """Freezes requests: what each of one decision's has in common."""

    def __init__(
        self,
        growth: Growth,
        exhausted: Container[Pool],
        *,
        cluster_id: str,
        now_s: int,
    ) -> None:
        self._growth, self._exhausted = growth, exhausted
        self._cluster_id, self._now_s = cluster_id, now_s

    def operation(self, operation_id: str, share: _Share, rows: _Rows, count: int) -> LaunchOperation:
        """One launch: of these types, as far as they are not left alone there."""
        zone, market = share.zone, share.market
        overrides = tuple(
            LaunchOverride(instance_type=t, subnet_id=rows.subnets[zone], zone=zone)
            for t in rows.types
            if Pool(instance_type=t, zone=zone, market=market) not in self._exhausted
        )[:MAX_ROWS]
        return LaunchOperation(
            operation_id=operation_id,
            created_at_s=self._now_s,
            reason=self._growth.reason,
            request=LaunchRequest(
                client_token=operation_id,
                template_id=rows.template.template_id,
                template_version=rows.template.template_version,
                count=count,
                overrides=overrides,
                tags=(
                    ("Name", f"k3s-worker-{self._cluster_id}"),
                    (MANAGED_BY_TAG, MANAGED_BY_VALUE),
                    (CLUSTER_TAG, self._cluster_id),
                    (OPERATION_TAG, operation_id),
                    (POOL_TAG, share.pool),
                ),
                market=market,
                pool=share.pool,
            ),
            unidentified=count,
            sent_at_s=self._now_s,
        )


def _dearest(offer: _Offer, policy: Policy) -> float | None:
    """What one worker of an offer may cost at most; None where a price is not known."""
    prices = [counted_price(t, next(iter(offer.zones), ""), offer.market, policy) for t in offer.rows.types]
    known = [usd for usd in prices if usd is not None]
    return max(known) if known and len(known) == len(prices) else None


def _rows(new: NewWorkers, context: LaunchContext, snapshot: Snapshot, state: State, policy: Policy) -> _Rows | None:
    """None where nothing is deployed that would launch such workers: the policy is newer than the deployment."""
    pool = pool_named(new.pool, policy)
    arch = arch_of(new.instance_type)
    template = template_of(context, pool, arch, policy) if pool is not None else None
    if pool is None or template is None:
        return None
    subnets = _subnet_of_each_zone(template.subnet_zones, snapshot, state)
    zone, kind = next(iter(subnets), ""), new.instance_type
    types = tuple(
        t
        for t in in_its_place(kind, pool, policy)
        if t == kind or (t in (new.only_types or (t,)) and not_dearer(t, zone, new, policy))
    )
    return _Rows(template=template, types=types, subnets=subnets)


def _all_subnets(context: LaunchContext) -> tuple[tuple[str, str], ...]:
    return (*context.subnet_zones, *(pair for template in context.templates for pair in template.subnet_zones))


def _subnet_of_each_zone(subnet_zones: tuple[tuple[str, str], ...], snapshot: Snapshot, state: State) -> dict[str, str]:
    """One subnet for each zone: EC2 refuses a fleet that names a (type, zone) twice as "duplicate instance pools".

    The emptiest of our workers, then the first by its id; each time in a row that EC2 found too few free addresses in
    the zone, the one after it. More subnets than one are worth having for their addresses only.
    """
    in_subnet = Counter(i.subnet_id for i in snapshot.instances if i.managed and i.state in ALIVE)
    by_zone: dict[str, set[str]] = {}
    for subnet, zone in subnet_zones:
        by_zone.setdefault(zone, set()).add(subnet)
    full = {b.pool.zone: b.failures for b in state.backoffs if b.error_code == SUBNET_FULL}
    chosen = {}
    for zone, subnets in sorted(by_zone.items()):
        order = sorted(subnets, key=lambda subnet: (in_subnet[subnet], subnet))
        chosen[zone] = order[full.get(zone, 0) % len(order)]
    return chosen


def _workers_by_zone(snapshot: Snapshot, state: State, zones: tuple[str, ...]) -> Counter[str]:
    counts: Counter[str] = Counter(dict.fromkeys(zones, 0))
    for worker in view_fleet(snapshot, state).having(*_LIVING):
        if worker.zone is not None:
            counts[worker.zone] += 1
    for launch in state.launches:
        if launch.unidentified and launch.request.overrides:
            counts[launch.request.overrides[0].zone] += launch.unidentified
    return counts

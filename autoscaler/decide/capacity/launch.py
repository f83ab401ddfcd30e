"""Growth -> launch operations: which zone, which pools, and the complete request, frozen."""

from collections import Counter
from typing import Final

import msgspec

from autoscaler.decide.capacity.catalogue import extended_of, nominal_resources
from autoscaler.decide.capacity.cost import not_dearer
from autoscaler.decide.capacity.pools import pool_named, template_of
from autoscaler.decide.fleet import Standing, view_fleet
from autoscaler.instance_types import arch_of
from autoscaler.model import (
    ALIVE,
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    OPERATION_TAG,
    POOL_TAG,
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
)
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.state.backoffs import left_alone
from autoscaler.state.memory import launched_for, remember_owner
from autoscaler.state.size import workers_that_fit
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_launch, open_operations

MAX_ROWS: Final = 10
"""Types of one request, the preferred ones: what has nothing left makes room for the next ones at the next look."""
NO_TEMPLATE: Final = "NoLaunchTemplate"
"""Ours, beside EC2's codes: no template is deployed for the pool, or for one of its architectures."""
SUBNET_FULL: Final = "InsufficientFreeAddressesInSubnet"
_LIVING: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY)


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is opened, and what could not be."""

    state: State
    opened: tuple[LaunchOperation, ...]
    refused: int
    """Workers that are not launched now."""
    codes: tuple[str, ...] = ()
    """EC2's error codes for which they are not: none where no subnet lies in the zone, or the state is full."""
    state_full: bool = False
    """Whether some wait because as many operations are open as the state holds."""


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
    """Open one launch for each (pool, instance type, zone), the emptiest zones first. Pure."""
    in_zone = _workers_by_zone(snapshot, state, tuple(zone for _, zone in _all_subnets(context)))
    exhausted = left_alone(state, now_s)
    tried = {zone for record in growth.unhelped if record.unhelped for zone in record.zones}
    shares: Counter[tuple[str, str, str]] = Counter()
    plans: dict[tuple[str, str], _Rows] = {}
    refused, state_full = 0, False
    codes: dict[str, None] = {}
    for new in growth.workers:
        rows = _rows(new, context, snapshot, state, policy)
        if rows is None:
            refused += new.count
            codes[NO_TEMPLATE] = None
            continue
        plans[new.pool, new.instance_type] = rows
        allowed = [zone for zone in rows.subnets if new.zone in {"", zone}]
        open_zones = [z for z in allowed if any(Pool(instance_type=t, zone=z) not in exhausted for t in rows.types)]
        if not open_zones:
            refused += new.count
            codes |= {
                exhausted[pool]: None
                for zone in allowed
                for pool in (Pool(instance_type=t, zone=zone) for t in rows.types)
                if pool in exhausted
            }
            continue
        for _ in range(new.count):
            zone = min(open_zones, key=lambda z: (z in tried, in_zone[z], z))
            in_zone[zone] += 1
            shares[new.pool, new.instance_type, zone] += 1
    opened: list[LaunchOperation] = []
    for (pool_name, instance_type, zone), count in sorted(shares.items()):
        rows = plans[pool_name, instance_type]
        operation_id = f"{decision_id}-l{len(opened)}"
        overrides = tuple(
            LaunchOverride(instance_type=t, subnet_id=rows.subnets[zone], zone=zone)
            for t in rows.types
            if Pool(instance_type=t, zone=zone) not in exhausted
        )[:MAX_ROWS]
        operation = LaunchOperation(
            operation_id=operation_id,
            created_at_s=now_s,
            reason=growth.reason,
            request=LaunchRequest(
                client_token=operation_id,
                template_id=rows.template.template_id,
                template_version=rows.template.template_version,
                count=count,
                overrides=overrides,
                tags=(
                    ("Name", f"k3s-worker-{cluster_id}"),
                    (MANAGED_BY_TAG, MANAGED_BY_VALUE),
                    (CLUSTER_TAG, cluster_id),
                    (OPERATION_TAG, operation_id),
                    (POOL_TAG, pool_name),
                ),
                pool=pool_name,
            ),
            unidentified=count,
            sent_at_s=now_s,
        )
        fits = workers_that_fit(state, operation) if open_operations(state) < MAX_OPEN_OPERATIONS else 0
        if fits < count:
            refused, state_full = refused + count - fits, True
        if not fits:
            continue
        operation = msgspec.structs.replace(
            operation, request=msgspec.structs.replace(operation.request, count=fits), unidentified=fits
        )
        state = open_launch(state, operation)
        opened.append(operation)
    if opened:
        zones = tuple(sorted({zone for _, _, zone in shares}))
        for record in growth.unhelped:
            merged = tuple(dict.fromkeys((*record.zones, *zones)))
            state = remember_owner(state, msgspec.structs.replace(record, zones=merged))
        state = launched_for(state, growth.for_owners, decision_id)
    return LaunchPlan(state=state, opened=tuple(opened), refused=refused, codes=tuple(codes), state_full=state_full)


class _Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What launches of one pool and type may name."""

    template: PoolTemplate
    types: tuple[str, ...]
    subnets: dict[str, str]
    """By zone."""


def _rows(new: NewWorkers, context: LaunchContext, snapshot: Snapshot, state: State, policy: Policy) -> _Rows | None:
    """None where nothing is deployed that would launch such workers: the policy is newer than the deployment."""
    pool = pool_named(new.pool, policy)
    arch = arch_of(new.instance_type)
    template = template_of(context, pool, arch, policy) if pool is not None else None
    if pool is None or template is None:
        return None
    subnets = _subnet_of_each_zone(template.subnet_zones, snapshot, state)
    zone = next(iter(subnets), "")
    types = tuple(kind for kind in _at_least(new, pool, policy, zone=zone) if arch_of(kind) == arch)
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


def _at_least(new: NewWorkers, pool: WorkerPool, policy: Policy, *, zone: str) -> tuple[str, ...]:
    """The type itself, then the pool's others that hold at least as much and are not too dear, in its order."""
    floor, pieces = nominal_resources(new.instance_type, policy), extended_of(new.instance_type, policy)
    others = (
        t
        for t in pool.instance_types
        if t != new.instance_type
        and floor.fits_in(nominal_resources(t, policy))
        and all(extended_of(t, policy).get(name, 0) >= count for name, count in pieces.items())
        and not_dearer(t, zone, new.usd_at_most, policy)
    )
    return new.instance_type, *others

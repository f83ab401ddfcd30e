"""Growth -> launch operations: which zone, which pools, and the complete request, frozen."""

from collections import Counter
from typing import Final

import msgspec

from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.decide.fleet import Standing, view_fleet
from autoscaler.model import (
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    OPERATION_TAG,
    Growth,
    LaunchContext,
    LaunchOperation,
    LaunchOverride,
    LaunchRequest,
    Pool,
    Snapshot,
    State,
)
from autoscaler.policy import Policy
from autoscaler.state.memory import remember_owner
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_launch, open_operations

_LIVING: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY)


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is opened, and what could not be."""

    state: State
    opened: tuple[LaunchOperation, ...]
    refused: int
    """Workers for which every pool is left alone for now."""


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
    """Open one launch for each (instance type, zone), the emptiest zones first. Pure."""
    subnets: dict[str, list[str]] = {}
    for subnet, zone in sorted(context.subnet_zones):
        subnets.setdefault(zone, []).append(subnet)
    in_zone = _workers_by_zone(snapshot, state, tuple(subnets))
    exhausted = {b.pool for b in state.backoffs if now_s < b.until_s}
    tried = {zone for record in growth.unhelped if record.unhelped for zone in record.zones}
    shares: Counter[tuple[str, str]] = Counter()
    refused = 0
    for new in growth.workers:
        instance_type, count = new.instance_type, new.count
        types = _at_least(instance_type, policy)
        allowed = [zone for zone in subnets if new.zone in {"", zone}]
        open_zones = [z for z in allowed if any(Pool(instance_type=t, zone=z) not in exhausted for t in types)]
        if not open_zones:
            refused += count
            continue
        for _ in range(count):
            zone = min(open_zones, key=lambda z: (z in tried, in_zone[z], z))
            in_zone[zone] += 1
            shares[instance_type, zone] += 1
    opened: list[LaunchOperation] = []
    for (instance_type, zone), count in sorted(shares.items()):
        if open_operations(state) >= MAX_OPEN_OPERATIONS:
            refused += count
            continue
        operation_id = f"{decision_id}-l{len(opened)}"
        overrides = tuple(
            LaunchOverride(instance_type=t, subnet_id=subnet, zone=zone)
            for t in _at_least(instance_type, policy)
            if Pool(instance_type=t, zone=zone) not in exhausted
            for subnet in subnets[zone]
        )
        operation = LaunchOperation(
            operation_id=operation_id,
            created_at_s=now_s,
            reason=growth.reason,
            request=LaunchRequest(
                client_token=operation_id,
                template_id=context.template_id,
                template_version=context.template_version,
                count=count,
                overrides=overrides,
                tags=(
                    ("Name", f"k3s-worker-{cluster_id}"),
                    (MANAGED_BY_TAG, MANAGED_BY_VALUE),
                    (CLUSTER_TAG, cluster_id),
                    (OPERATION_TAG, operation_id),
                ),
            ),
            unidentified=count,
            for_owners=growth.for_owners,
            sent_at_s=now_s,
        )
        state = open_launch(state, operation)
        opened.append(operation)
    if opened:
        zones = tuple(sorted({zone for _, zone in shares}))
        for record in growth.unhelped:
            merged = tuple(dict.fromkeys((*record.zones, *zones)))
            state = remember_owner(state, msgspec.structs.replace(record, zones=merged))
    return LaunchPlan(state=state, opened=tuple(opened), refused=refused)


def _workers_by_zone(snapshot: Snapshot, state: State, zones: tuple[str, ...]) -> Counter[str]:
    counts: Counter[str] = Counter(dict.fromkeys(zones, 0))
    for worker in view_fleet(snapshot, state).having(*_LIVING):
        if worker.zone is not None:
            counts[worker.zone] += 1
    for launch in state.launches:
        if launch.unidentified and launch.request.overrides:
            counts[launch.request.overrides[0].zone] += launch.unidentified
    return counts


def _at_least(instance_type: str, policy: Policy) -> tuple[str, ...]:
    """The type itself, then the policy's others that hold at least as much, in its order."""
    floor = nominal_resources(instance_type, policy)
    others = (
        t for t in policy.workers.instance_types if t != instance_type and floor.fits_in(nominal_resources(t, policy))
    )
    return instance_type, *others

"""Pools at one moment: whose workers are whose, how many more each may have, and which serves what names none."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.decide.capacity.catalogue import extended_of, nominal_resources
from autoscaler.decide.capacity.prices import price_of
from autoscaler.decide.fleet import FleetView, Standing, Worker, some_zone
from autoscaler.decide.scheduling.matching import HARD
from autoscaler.instance_types import arch_of
from autoscaler.model import ON_DEMAND, LaunchContext, NewWorkers, PoolTemplate
from autoscaler.model.rules import Taint
from autoscaler.policy import Policy
from autoscaler.pools import GENERAL, WorkerPool

_LIVING: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY, Standing.LEAVING)


def pool_named(name: str, policy: Policy) -> WorkerPool | None:
    """The pool so called; workers of no name, and of `general` where no pool is so called, are the default one's."""
    for pool in policy.pools:
        if pool.name == name:
            return pool
    return policy.default_pool if name in {"", GENERAL} else None


def pool_of(worker: Worker, policy: Policy) -> WorkerPool | None:
    """None for a worker that is not ours, or whose pool the policy does not name any more."""
    if worker.instance is not None:
        return pool_named(worker.instance.pool, policy) if worker.instance.managed else None
    if worker.launch is not None:
        return pool_named(worker.launch.request.pool, policy)
    return pool_named(worker.joined.pool, policy) if worker.joined is not None else None


def counted(fleet: FleetView, policy: Policy, *standings: Standing) -> Counter[str]:
    """Workers of these standings by pool."""
    pools = (pool_of(worker, policy) for worker in fleet.having(*standings))
    return Counter(pool.name for pool in pools if pool is not None)


def existing(fleet: FleetView, policy: Policy) -> Counter[str]:
    """What counts against each pool's max: as `FleetView.existing`, by pool."""
    counts = counted(fleet, policy, *_LIVING)
    for worker in fleet.having(*_LIVING):
        pool = pool_of(worker, policy)
        if pool is not None and worker.removal is not None and worker.removal.reclaim:
            counts[pool.name] -= 1
    return counts + _awaited(fleet, policy)


def coming(fleet: FleetView, policy: Policy) -> Counter[str]:
    """What counts for each pool's min: as growth counts the fleet's, by pool."""
    return counted(fleet, policy, Standing.READY, Standing.JOINING) + _awaited(fleet, policy)


def _awaited(fleet: FleetView, policy: Policy) -> Counter[str]:
    counts: Counter[str] = Counter()
    for launch, count in fleet.awaited:
        pool = pool_named(launch.request.pool, policy)
        if pool is not None:
            counts[pool.name] += count
    return counts


def is_open(worker: Worker, policy: Policy) -> bool:
    """Whether the scheduler may place pods of its pool there now: it has no taints beside the pool's own."""
    node, pool = worker.node, pool_of(worker, policy)
    if worker.standing is not Standing.READY or node is None or node.cordoned is not False:
        return False
    own = {taint.key for taint in hard_taints(pool)} if pool is not None else set()
    return not node.tainted or (bool(node.taint_keys) and own.issuperset(node.taint_keys))


def hard_taints(pool: WorkerPool) -> tuple[Taint, ...]:
    """Those of a pool that keep pods away."""
    return tuple(taint for taint in pool.parsed_taints if taint.effect in HARD)


def rooms(fleet: FleetView, policy: Policy) -> dict[str, int]:
    """How many more workers each pool with a max may have; others are held by the fleet's alone."""
    there = existing(fleet, policy)
    return {pool.name: max(0, pool.max - there[pool.name]) for pool in policy.pools if pool.max is not None}


def at_max(name: str, fleet: FleetView, policy: Policy) -> str:
    """Why a pool gets no more, in one clause."""
    pool = pool_named(name, policy)
    most = pool.max if pool is not None else 0
    return f"pool {name} has a max of {most} and {existing(fleet, policy)[name]} exist"


def usd_of(market: str, instance_type: str, zone: str, policy: Policy) -> float | None:
    """What one worker costs an hour; None where nobody knows.

    A Spot price that is not known is at most the on-demand one (EC2 user guide, "Spot Instance pricing": the maximum
    price is the on-demand price unless another is given).
    """
    usd = price_of(instance_type, zone, market, policy)
    return usd if usd is not None else price_of(instance_type, zone, ON_DEMAND, policy)


def in_its_place(instance_type: str, pool: WorkerPool, policy: Policy) -> tuple[str, ...]:
    """What a launch of the type may give: itself, then the pool's others that hold at least as much, in its order.

    Of the same architecture, as each has an image of its own.
    """
    floor, pieces = nominal_resources(instance_type, policy), extended_of(instance_type, policy)
    others = (
        t
        for t in pool.instance_types
        if t != instance_type
        and arch_of(t) == arch_of(instance_type)
        and floor.fits_in(nominal_resources(t, policy))
        and all(extended_of(t, policy).get(name, 0) >= count for name, count in pieces.items())
    )
    return instance_type, *others


def price_rank(worker: Worker, policy: Policy) -> float:
    """The dearer, the lower; the same for all where there is one pool, or where nobody knows the price."""
    pool, instance = pool_of(worker, policy), worker.instance
    if len(policy.pools) == 1 or pool is None or instance is None:
        return 0.0
    return -(price_of(instance.instance_type, instance.zone, instance.market, policy) or 0.0)


def fillers(fleet: FleetView, policy: Policy) -> tuple[WorkerPool, ...]:
    """The pools that serve what names no pod, such as use and minima, in turn: what takes any pod, the cheapest first.

    Cheap is the price of a vCPU of the pool's first type; a pool behind a taint that keeps pods away is none of them.
    """
    pools = policy.pools
    if len(pools) == 1:
        return pools
    open_ones = [pool for pool in pools if not hard_taints(pool)]
    zone = some_zone(fleet)

    def order(pool: WorkerPool) -> tuple[bool, float, int]:
        first = pool.instance_types[0]
        usd = usd_of(pool.market, first, zone, policy)
        size = policy.known_types.get(first)
        each = usd / size.cpu_millicores if usd is not None and size is not None else None
        return each is None, round(each or 0.0, 12), -pool.weight

    return tuple(sorted(open_ones or pools, key=order))


def fillers_room(fleet: FleetView, policy: Policy, asked: Iterable[NewWorkers]) -> int | None:
    """How many more the fillers may have beside what is asked for; None where one of them has no max of its own."""
    room, pools, taken = rooms(fleet, policy), fillers(fleet, policy), Counter[str]()
    if any(pool.name not in room for pool in pools):
        return None
    for new in asked:
        taken[new.pool] += new.count
    return sum(max(0, room[pool.name] - taken[pool.name]) for pool in pools)


def in_turn(fleet: FleetView, policy: Policy) -> tuple[WorkerPool, ...]:
    """All pools, the fillers first."""
    first = fillers(fleet, policy)
    return first + tuple(pool for pool in policy.pools if pool not in first)


def template_of(context: LaunchContext, pool: WorkerPool, arch: str, policy: Policy) -> PoolTemplate | None:
    """What a launch of this pool and architecture freezes; None where nothing of the kind is deployed."""
    for template in context.templates:
        if (template.pool, template.arch) == (pool.name, arch):
            return template
    # The first template is of the architecture that no other is for: by now another one's types may be the cheapest.
    others = {template.arch for template in context.templates if template.pool == pool.name}
    default = policy.default_pool
    if pool.name != default.name or not (others or arch == default.archs[0]):
        return None
    return PoolTemplate(
        pool=pool.name,
        arch=arch,
        template_id=context.template_id,
        template_version=context.template_version,
        subnet_zones=context.subnet_zones,
    )


def full_pools(room: Mapping[str, int], wanted: Iterable[NewWorkers]) -> frozenset[str]:
    """The pools that are at their max once these have come."""
    taken: Counter[str] = Counter()
    for new in wanted:
        taken[new.pool] += new.count
    return frozenset(name for name, most in room.items() if taken[name] >= most)

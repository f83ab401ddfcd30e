"""Which market each new worker of a Spot pool is bought on: the base and the share on demand, the rest on Spot."""

import math
from collections.abc import Container, Iterable
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import pool_named, pool_of
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.model import ON_DEMAND, SPOT, Blocked, NewWorkers, State, Why
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.state.notices import INTERRUPTION

_LIVING: Final = (Standing.READY, Standing.JOINING, Standing.UNHEALTHY)
_HAIR: Final = 1e-9
"""A share of a count is this exact: 0.1 of 30 are 3."""
_LEAST_STORM: Final = 2
"""One interruption is none, however few workers there are."""


class Mix(msgspec.Struct, frozen=True):
    """Workers of one pool, living and coming, by how they are paid for."""

    on_demand: int
    spot: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.on_demand + self.spot


def market_of(worker: Worker) -> str:
    """How a worker is paid for, as EC2 shows it or as its launch asked."""
    if worker.instance is not None:
        return worker.instance.market
    if worker.launch is not None:
        return worker.launch.request.market
    return worker.joined.market if worker.joined is not None else ON_DEMAND


def members(pool: WorkerPool, fleet: FleetView, policy: Policy, *standings: Standing) -> list[Worker]:
    """Workers of this pool, oldest first: a static worker is of no pool."""
    return [worker for worker in fleet.having(*standings) if _is_of(pool, worker, policy)]


def mix_of(pool: WorkerPool, fleet: FleetView, policy: Policy, *, without: Container[str] = ()) -> Mix:
    """Who lives or comes; who leaves does not count, nor do workers of the keys in `without`."""
    markets = [market_of(worker) for worker in members(pool, fleet, policy, *_LIVING) if worker.key not in without]
    awaited = ((launch.request, count) for launch, count in fleet.awaited)
    requests = [(request, count) for request, count in awaited if pool_named(request.pool, policy) == pool]
    spot = markets.count(SPOT) + sum(count for request, count in requests if request.market == SPOT)
    return Mix(len(markets) + sum(count for _, count in requests) - spot, spot)


def _is_of(pool: WorkerPool, worker: Worker, policy: Policy) -> bool:
    return pool_of(worker, policy) == pool


def on_demand_of(pool: WorkerPool, total: int) -> int:
    """How many of so many workers are on demand: the base, and the share of what is beyond it, rounded up."""
    if pool.market != SPOT:
        return total
    base = min(total, pool.on_demand_base)
    return base + math.ceil((total - base) * pool.on_demand_share - _HAIR)


def beyond_base(fleet: FleetView, policy: Policy) -> frozenset[str]:
    """Keys of the on-demand workers of Spot pools that have more of them than base and share ask for."""
    keys: list[str] = []
    for pool in policy.pools:
        mix = mix_of(pool, fleet, policy)
        if pool.market == SPOT and mix.on_demand > on_demand_of(pool, mix.total):
            keys += [worker.key for worker in members(pool, fleet, policy, *_LIVING) if market_of(worker) == ON_DEMAND]
    return frozenset(keys)


def needed_on_demand(worker: Worker, fleet: FleetView, policy: Policy, *, gone: Container[str]) -> Why | None:
    """Why an on-demand worker of a Spot pool stays, with those in `gone` away too; None where it need not.

    Of whom a server is asked whether it may be ended is nobody to count on.
    """
    pool = pool_of(worker, policy)
    if pool is None or pool.market != SPOT or market_of(worker) == SPOT:
        return None
    asked_about = {one.key for one in fleet.having(Standing.UNHEALTHY) if one.removal is not None}
    away = asked_about.union(one.key for one in fleet.workers if one.key in gone)
    mix = mix_of(pool, fleet, policy, without=away)
    least = on_demand_of(pool, mix.total - 1)
    told = f"{least} of {mix.total - 1} workers are to be on demand"
    return None if mix.on_demand > least else Why("on_demand", told)


def in_markets(
    wanted: Iterable[NewWorkers],
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    now_s: int,
    replacing: Container[str] = (),
) -> tuple[NewWorkers, ...]:
    """The wanted workers with the market of each: on demand as far as base and share lack some, the rest on Spot.

    All are on demand while the pool is in a storm, but for those whose pods run on Spot only. `replacing`: keys of
    workers that are about to leave.
    """
    wanted = tuple(wanted)
    mixes: dict[str, Mix] = {}
    for new in wanted:
        if new.only_market and (pool := pool_named(new.pool, policy)) is not None:
            mix = mixes[pool.name] if pool.name in mixes else mix_of(pool, fleet, policy, without=replacing)
            on_spot = new.count if new.market == SPOT else 0
            mixes[pool.name] = Mix(mix.on_demand + new.count - on_spot, mix.spot + on_spot)
    bought: list[NewWorkers] = []
    for new in wanted:
        pool = pool_named(new.pool, policy)
        if new.only_market:
            bought.append(new)
            continue
        if pool is None or pool.market != SPOT or in_storm(pool, fleet, state, policy, now_s=now_s):
            bought.append(msgspec.structs.replace(new, market=ON_DEMAND))
            continue
        mix = mixes[pool.name] if pool.name in mixes else mix_of(pool, fleet, policy, without=replacing)
        lacking = on_demand_of(pool, mix.total + new.count) - mix.on_demand
        on_demand = max(0, min(new.count, lacking))
        mixes[pool.name] = Mix(mix.on_demand + on_demand, mix.spot + new.count - on_demand)
        for market, count in ((ON_DEMAND, on_demand), (SPOT, new.count - on_demand)):
            if count:
                bought.append(msgspec.structs.replace(new, market=market, count=count))
    return tuple(bought)


def in_storm(pool: WorkerPool, fleet: FleetView, state: State, policy: Policy, *, now_s: int) -> bool:
    """Whether EC2 took so much of the pool's Spot that growth stays on demand now."""
    return _storm_until(pool, fleet, state, policy, now_s=now_s) is not None


def storms_told(fleet: FleetView, state: State, policy: Policy, *, now_s: int) -> tuple[Blocked, ...]:
    """Of each Spot pool in a storm, how long it is left alone."""
    until = {
        pool.name: _storm_until(pool, fleet, state, policy, now_s=now_s) for pool in policy.pools if pool.market == SPOT
    }
    return tuple(
        Blocked(
            subject="spot",
            code="spot_storm",
            text=f"pool {name}: EC2 takes Spot back, growth is on demand for {until_s - now_s} s",
        )
        for name, until_s in until.items()
        if until_s is not None
    )


def _storm_until(pool: WorkerPool, fleet: FleetView, state: State, policy: Policy, *, now_s: int) -> int | None:
    """When the pause after the last storm ends: EC2 took `storm_share` of the pool's Spot within the window.

    What `state.notices` remembers is enough to tell. A notice of a machine that nobody lists any more counts for every
    pool.
    """
    spot = policy.spot
    of_pool = {worker.key: pool_of(worker, policy) for worker in fleet.workers}
    times = sorted(
        notice.received_at_s
        for notice in state.notices
        if notice.kind == INTERRUPTION and of_pool.get(notice.subject, pool) == pool
    )
    there = mix_of(pool, fleet, policy).spot if times else 0
    until_s = None
    for last, last_s in enumerate(times):
        taken = sum(last_s - at_s <= spot.storm_window_s for at_s in times[: last + 1])
        storm = taken >= max(_LEAST_STORM, math.ceil((there + taken) * spot.storm_share - _HAIR))
        if storm and 0 <= now_s - last_s < spot.storm_pause_s:
            until_s = last_s + spot.storm_pause_s
    return until_s

"""What a fresh worker costs now, and whether EC2 has any left: asked where there is more than one choice."""

from functools import cached_property

from autoscaler.decide.capacity.market import in_storm
from autoscaler.decide.capacity.pools import in_its_place, usd_of
from autoscaler.decide.fleet import FleetView, some_zone
from autoscaler.model import ON_DEMAND, SPOT, Pool, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.state.backoffs import left_alone


class Costs:
    """By one look's knowledge. `only_market` is where a worker is bought or not at all; empty: as its pool buys."""

    def __init__(self, snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> None:
        self._fleet, self._state, self._policy = fleet, state, policy
        self._now_s = snapshot.taken_at_s
        self._left_alone = left_alone(state, snapshot.taken_at_s)
        self._compares = len(policy.pools) > 1 or policy.pools[0].requirements is not None
        types = {kind for pool in policy.pools for kind in pool.instance_types}
        self.passes_over = self._compares and any(place.instance_type in types for place in self._left_alone)
        """Whether EC2 had nothing left lately of what is compared: then it matters where each is launched."""
        self._in_its_place: dict[tuple[str, str], tuple[str, ...]] = {}
        self._some_zone = some_zone(fleet)
        self._launched_in, self._zones_of = snapshot.zones, dict(snapshot.pool_zones)
        workers_in = {worker.zone for worker in fleet.workers if worker.zone}
        self._seen_in = workers_in or {server.zone for server in fleet.servers}

    def usd_per_hour(self, pool: WorkerPool, instance_type: str, zone: str, only_market: str) -> float | None:
        """None where nobody knows, or nothing is compared. What Spot does not give now costs what it does on demand."""
        if not self._compares:
            return None
        market = only_market or pool.market
        if market == SPOT and not only_market:
            none_left = self._none_left(pool, instance_type, zone, {SPOT})
            market = ON_DEMAND if none_left or pool.name in self._in_storm else SPOT
        return usd_of(market, instance_type, zone or self._some_zone, self._policy)

    def is_exhausted(self, pool: WorkerPool, instance_type: str, zone: str, only_market: str) -> bool:
        """Whether each way to launch it is left alone by now."""
        return self._none_left(pool, instance_type, zone, {only_market or pool.market, only_market or ON_DEMAND})

    def in_its_place(self, instance_type: str, pool: WorkerPool) -> tuple[str, ...]:
        """The types that a launch of this one may give."""
        key = pool.name, instance_type
        if key not in self._in_its_place:
            self._in_its_place[key] = in_its_place(instance_type, pool, self._policy)
        return self._in_its_place[key]

    @cached_property
    def _in_storm(self) -> frozenset[str]:
        fleet, state, policy = self._fleet, self._state, self._policy
        pools = (pool for pool in policy.pools if in_storm(pool, fleet, state, policy, now_s=self._now_s))
        return frozenset(pool.name for pool in pools)

    def _none_left(self, pool: WorkerPool, instance_type: str, zone: str, markets: set[str]) -> bool:
        """On these markets, in its zones; where nobody told them, in those of the workers that there are.

        A zone without workers is the first that a launch tries, so that what EC2 says of it is known as well.
        """
        if not self.passes_over:
            return False
        one_of = pool.requirements is None
        types = self.in_its_place(instance_type, pool) if one_of else (instance_type,)
        zones = {zone} if zone else self._zones_of.get(pool.name) or self._launched_in or self._seen_in
        ways = [Pool(instance_type=t, zone=z, market=m) for t in types for z in zones for m in markets]
        return bool(ways) and all(way in self._left_alone for way in ways)

"""One workload on one fleet, from its first second to its last."""

from collections import deque
from collections.abc import Callable
from itertools import product
from typing import Final

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.market import on_demand_of
from autoscaler.model import ON_DEMAND, SPOT
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2
from autoscaler.simulator.world.world import World
from bench.policy.fleets import TICK_S, Keeper
from bench.policy.meter import Meter
from bench.policy.past import days_alike
from bench.policy.plan import ZONES, Change, Event, Plan, Trouble

WARM_S: Final = 900.0
"""What runs at the begin has run so long, with nobody keeping the fleet: windows are full of it."""
SEED: Final = 12
DROUGHT_TYPE: Final = "t3.small"


def play(plan: Plan, policy: Policy, make: Callable[[SimCluster], Keeper], *, workers: int) -> Meter:
    """Play the plan with so many workers at first; returns its meter at the end. The same call gives the same."""
    pool = policy.pools[0]
    spot = workers - on_demand_of(pool, workers)
    cluster = SimCluster(policy, workers=workers, spot_workers=spot, now_s=plan.begin_s - WARM_S, seed=SEED)
    if policy.forecast.mode != "off":
        cluster.recorder.past = days_alike(plan)
    for workload in plan.base:
        cluster.apply(workload)
    cluster.run(WARM_S)
    meter, keeper, stage = Meter(cluster), make(cluster), _Stage(plan, cluster)
    end_s = plan.begin_s + plan.length_s
    while True:
        stage.bring_up_to_date()
        keeper.tick()
        meter.look()
        if cluster.now_s + TICK_S > end_s:
            break
        cluster.run(TICK_S)
    cluster.run(max(0.0, end_s - cluster.now_s))
    return meter


class _Stage:
    """Brings what the plan holds, each at its time."""

    def __init__(self, plan: Plan, cluster: SimCluster) -> None:
        self._begin_s, self._cluster = plan.begin_s, cluster
        self._changes, self._jobs, self._events = deque(plan.changes), deque(plan.jobs), deque(plan.events)

    def bring_up_to_date(self) -> None:
        world = self._cluster.world
        at_s = self._cluster.now_s - self._begin_s
        while self._changes and self._changes[0].at_s <= at_s:
            _change(world, self._changes.popleft())
        while self._jobs and self._jobs[0].at_s <= at_s:
            world.apply(self._jobs.popleft().workload)
        while self._events and self._events[0].at_s <= at_s:
            self._bring(self._events.popleft())

    def _bring(self, event: Event) -> None:
        ec2, world = self._cluster.ec2, self._cluster.world
        lost = [n for n in world.state.nodes.values() if n.machine.zone == event.zone and not n.machine.server]
        match event.trouble:
            case Trouble.ZONE_LOST:
                for instance_type, market in product(CATALOGUE, (ON_DEMAND, SPOT)):
                    ec2.exhaust(instance_type, event.zone, market=market)
                for node in lost:
                    world.break_node(node.name)
            case Trouble.ZONE_BACK:
                ec2.replenish()
                for node in lost:
                    world.mend_node(node.name)
            case Trouble.DROUGHT:
                for zone, market in product(ZONES, (ON_DEMAND, SPOT)):
                    ec2.exhaust(DROUGHT_TYPE, zone, market=market)
            case Trouble.SPOT_TAKEN:
                _take_spot(ec2)
            case Trouble.PLENTY:
                ec2.replenish()


def _take_spot(ec2: Ec2) -> None:
    for instance_type in CATALOGUE:
        for zone in ZONES:
            ec2.exhaust(instance_type, zone, market=SPOT)
    there = [i for i in ec2.instances.values() if i.market == SPOT and i.ended_at_s is None]
    left = [i for i in there if i.noticed_at_s is None]
    for instance in left[: max(1, round(len(there) / 10))]:
        ec2.interrupt(instance.instance_id)


def _change(world: World, change: Change) -> None:
    if world.state.workloads[change.owner].replicas != change.replicas:
        world.scale(change.owner, change.replicas)
    world.burn(change.owner, change.burn_cores)

"""One workload on one fleet, from its first second to its last."""

import math
from collections import deque
from collections.abc import Callable
from itertools import product
from typing import Final

import msgspec

from autoscaler.backtest.meter import Meter
from autoscaler.backtest.past import days_alike
from autoscaler.backtest.plan import ZONES, Change, Event, Plan, Trouble
from autoscaler.backtest.service import TICK_S, Keeper
from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.market import on_demand_of
from autoscaler.model import ON_DEMAND, SPOT
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2
from autoscaler.simulator.metrics.past import Past
from autoscaler.simulator.world.workload import Kind
from autoscaler.simulator.world.world import World, WorldSettings

WARM_S: Final = 900.0
"""What runs at the begin has run so long, with nobody keeping the fleet: windows are full of it."""
SEED: Final = 12
LONGEST_STEP_S: Final = 1800.0
DROUGHT_TYPE: Final = "t3.small"


def play(
    plan: Plan,
    policy: Policy,
    make: Callable[[SimCluster], Keeper],
    *,
    workers: int,
    goes_on: Callable[[SimCluster], bool] = lambda _: True,
    past: Past | None = None,
) -> Meter:
    """Play the plan with so many workers at first; returns its meter at the end. The same call gives the same.

    `goes_on` is asked at each step and may end the play early. `past`: what a forecast reads; None: each earlier day
    was like the plan's.
    """
    pool = policy.pools[0]
    spot = workers - on_demand_of(pool, workers)
    cluster = SimCluster(
        policy, workers=workers, spot_workers=spot, now_s=plan.begin_s - WARM_S, seed=SEED, world=_world(plan)
    )
    cluster.wires.keep_log = False
    if policy.forecast.mode != "off":
        cluster.recorder.past = days_alike(plan) if past is None else past
    for workload in plan.base:
        cluster.apply(workload)
    cluster.run(WARM_S)
    meter, keeper, stage = Meter(cluster), make(cluster), _Stage(plan, cluster)
    end_s, counts_from_s = plan.begin_s + plan.length_s, plan.begin_s + plan.lead_s
    while goes_on(cluster):
        if meter.begin_s < counts_from_s <= cluster.now_s:
            meter = Meter(cluster)
        stage.bring_up_to_date()
        keeper.tick()
        meter.look()
        begin_s = counts_from_s if cluster.now_s < counts_from_s else math.inf
        due_s = min(begin_s, stage.next_s(), keeper.due_s(), cluster.world.next_event_s() or math.inf, end_s)
        ticks = ticks_until(cluster.now_s, due_s)
        if cluster.now_s + ticks * TICK_S > end_s:
            cluster.run(max(0.0, end_s - cluster.now_s))
            break
        cluster.run(ticks * TICK_S)
    return meter


def _world(plan: Plan) -> WorldSettings:
    settings = WorldSettings(cluster_id="sim", seed=SEED)
    if plan.daemon_sets is None:
        return settings
    others = tuple(workload for workload in settings.add_ons if workload.kind is not Kind.DAEMON_SET)
    return msgspec.structs.replace(settings, add_ons=(*others, *plan.daemon_sets))


def ticks_until(now_s: float, due_s: float) -> int:
    """Ticks to the first one at or after `due_s`: in between nothing happens, and nobody looks.

    At least one, and at most half an hour's: EC2 forgets its dead, and the meter has to have seen them.
    """
    ahead_s = min(due_s - now_s, LONGEST_STEP_S)
    return max(1, math.ceil(ahead_s / TICK_S))


class _Stage:
    """Brings what the plan holds, each at its time."""

    def __init__(self, plan: Plan, cluster: SimCluster) -> None:
        self._begin_s, self._cluster = plan.begin_s, cluster
        self._changes, self._jobs, self._events = deque(plan.changes), deque(plan.jobs), deque(plan.events)

    def next_s(self) -> float:
        """When something comes next; infinite: never."""
        firsts = (rows[0].at_s for rows in (self._changes, self._jobs, self._events) if rows)
        return self._begin_s + min(firsts, default=math.inf)

    def bring_up_to_date(self) -> None:
        world = self._cluster.world
        at_s = self._cluster.now_s - self._begin_s
        changes: list[Change] = []
        while self._changes and self._changes[0].at_s <= at_s:
            changes.append(self._changes.popleft())
        if len(changes) == 1:
            _change(world, changes[0])
        elif changes:
            world.follow([(change.owner, change.replicas, change.burn_cores) for change in changes])
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

"""A whole cluster in virtual time for tests, soaks and back-tests: `SimCluster(policy, workers=2)`."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from autoscaler.model import (
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    ON_DEMAND,
    POOL_TAG,
    SPOT,
    InstanceState,
    Notice,
    Sample,
    State,
    Trigger,
)
from autoscaler.observe.query import sight_query
from autoscaler.policy import Policy
from autoscaler.ports import Ports
from autoscaler.reconcile import reconcile
from autoscaler.simulator.ec2 import Ec2, Ec2Settings
from autoscaler.simulator.fakes import SimFleet, SimMetrics, SimNotifier
from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.ssm import SimCommands, Ssm
from autoscaler.simulator.table import MemoryStore, StateItem
from autoscaler.simulator.wires import Inline, Invocation, SimIds, SimTime, Wires
from autoscaler.simulator.world.workload import Workload
from autoscaler.simulator.world.world import SERVER, FixedNode, World, WorldSettings

START_S: Final = 1_800_000_000.0
"""Where virtual time begins unless told otherwise: 2027-01-15, a Friday, 08:00 UTC."""
SWEEP: Final = Trigger(kind="sweep")


class SimCluster:
    """World, EC2, SSM, Prometheus and the state table on one virtual clock.

    It begins with `workers` Ready workers of ours that are `history_s` old, of which the last `spot_workers` are on
    Spot, and with windows that are full.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        workers: int = 2,
        spot_workers: int = 0,
        static_workers: int = 0,
        static_tagged: bool = True,
        cluster_id: str = "sim",
        now_s: float = START_S,
        seed: int = 1,
        history_s: float | None = None,
        world: WorldSettings | None = None,
        ec2: Ec2Settings | None = None,
    ) -> None:
        self.policy = policy
        longest_s = max(policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s)
        longest_s += 2 * policy.metrics.cpu_rate_window_s + 4 * policy.metrics.utilisation_interval_s
        if history_s is None:
            history_s = max(longest_s + 120.0, policy.scale_down.min_age_s + 60.0)
        settings = world if world is not None else WorldSettings(cluster_id=cluster_id, seed=seed)
        settings = msgspec.structs.replace(
            settings,
            keep_s=max(settings.keep_s, longest_s),
            pools=settings.pools or policy.pools,
            fixed_nodes=(*settings.fixed_nodes, *_static_workers(static_workers, tagged=static_tagged)),
        )
        self.cluster_id = settings.cluster_id
        self.time = SimTime(now_s - history_s)
        self.world = World(settings, now_s=self.time.now_s)
        self.ec2 = Ec2(ec2 if ec2 is not None else Ec2Settings(seed=seed), self.world, policy.pools)
        self.recorder = Recorder(self.world, policy)
        self.ssm = Ssm(self.world)
        self.item = StateItem()
        self.metric_faults = MetricFaults()
        self.told: deque[dict[str, Any]] = deque(maxlen=10_000)
        self.lost: deque[dict[str, Any]] = deque(maxlen=10_000)
        self.wires = Wires(self.time, self.world.advance)
        self.ids = SimIds(self.time, seed)
        self.invocation = Invocation(self.wires)
        """The last one that `ports` made."""
        for number in range(workers):
            self.add_worker(number, market=SPOT if number >= workers - spot_workers else ON_DEMAND)
        self.run(history_s)

    # ------------------------------------------------------------------------------------------------------------ time

    @property
    def now_s(self) -> float:
        """The present."""
        return self.time.now_s

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.time.spend(seconds)
        self.world.advance(self.time.now_s)

    def run_until(self, condition: Callable[[], bool], *, within_s: float, step_s: float = 5.0) -> float:
        """Run until the condition holds; returns the seconds it took. Raises TimeoutError when it does not."""
        began_s = self.now_s
        while not condition():
            if self.now_s - began_s >= within_s:
                raise TimeoutError(f"it did not happen within {within_s} s of virtual time")
            self.run(step_s)
        return self.now_s - began_s

    def sweep_for(self, seconds: float, *, every_s: float = 120.0) -> list[dict[str, Any]]:
        """Run with a sweep every `every_s`; returns the decision documents."""
        documents: list[dict[str, Any]] = []
        end_s = self.now_s + seconds
        while self.now_s + every_s <= end_s:
            self.run(every_s)
            documents.append(self.sweep())
        self.run(max(0.0, end_s - self.now_s))
        return documents

    # ------------------------------------------------------------------------------------------------------------ calls

    def ports(self, *, timeout_s: float = 30.0, invocation: Invocation | None = None) -> Ports:
        """Ports for one new invocation, or for the one that is given."""
        invocation = self.invocation = invocation if invocation is not None else Invocation(self.wires, timeout_s)
        return Ports(
            metrics=SimMetrics(self.recorder, self.metric_faults, invocation, self.policy.metrics.timeout_s),
            fleet=SimFleet(self.ec2, invocation),
            commands=SimCommands(self.ssm, invocation),
            store=MemoryStore(self.item, invocation),
            notifier=SimNotifier(self.told, self.lost, invocation),
            background=Inline(),
            clock=invocation.clock,
            ids=self.ids,
            calls=lambda: dict(invocation.calls),
        )

    def sweep(self, *, trigger: Trigger = SWEEP, facts: tuple[Notice, ...] = ()) -> dict[str, Any]:
        """Run `reconcile` once; returns the decision document."""
        return reconcile(self.ports(), cluster_id=self.cluster_id, policy=self.policy, trigger=trigger, facts=facts)

    def fail(
        self,
        service: str,
        name: str,
        *,
        after_effect: bool = False,
        times: int | None = 1,
        code: str = "",
        effect_unknown: bool = False,
    ) -> None:
        """Let the next `times` calls fail (None: until `heal`), before their effect or after it.

        After it the caller never knows; `effect_unknown`: nor before it, as with an answer of status 500.

        `service` and `name`: prometheus query; ec2 describe, launch_context, launch, terminate; ssm send, result;
        dynamodb load, save, rules, keep_rules, record; sns notify.
        """
        self.wires.fail(service, name, after_effect=after_effect, times=times, code=code, effect_unknown=effect_unknown)

    def heal(self) -> None:
        """Switch the failures of calls off."""
        self.wires.heal()

    def freeze_metrics(self) -> None:
        """From now on Prometheus gives the present answer again and again; `metric_faults.frozen = None` ends it."""
        self.metric_faults.frozen = self.recorder.scene(self.now_s)

    # --------------------------------------------------------------------------------------------------------- cluster

    def apply(self, workload: Workload) -> None:
        """Apply a workload now."""
        self.world.apply(workload)

    def add_worker(
        self, number: int = 0, *, instance_type: str | None = None, pool: str = "", market: str = ON_DEMAND
    ) -> str:
        """Launch one worker of ours behind the core's back; returns its instance id. Zones take turns.

        Without a pool it carries no tag that names one, as those do that were launched before there were any.
        """
        subnets = self.ec2.settings.subnet_zones
        subnet_id, zone = subnets[number % len(subnets)]
        tags = {MANAGED_BY_TAG: MANAGED_BY_VALUE, CLUSTER_TAG: self.cluster_id, "Name": f"{self.cluster_id}-worker"}
        tags |= {POOL_TAG: pool} if pool else {}
        own = next((p for p in self.policy.pools if p.name == pool), self.policy.default_pool)
        return self.ec2.launch(instance_type or own.instance_types[0], zone, subnet_id, tags, market=market)

    def samples(self) -> list[Sample]:
        """What Prometheus would answer to the query of each look now, faults aside."""
        return self.recorder.query(sight_query(self.policy), self.now_s)

    @property
    def state(self) -> State:
        """The stored state."""
        return msgspec.json.decode(self.item.data, type=State) if self.item.version else State()

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """The recorded decisions, oldest first."""
        return [document for _, _, document in self.item.decisions]

    def workers(self) -> list[str]:
        """Instance ids of our living workers."""
        alive = self.ec2.ids(InstanceState.PENDING, InstanceState.RUNNING)
        return [i for i in alive if self.ec2.instances[i].tags.get(MANAGED_BY_TAG) == MANAGED_BY_VALUE]

    def ready_workers(self) -> list[str]:
        """Names of the Ready nodes that are no servers."""
        return [node.name for node in self.world.nodes if node.ready and not node.server]


def _static_workers(count: int, *, tagged: bool) -> tuple[FixedNode, ...]:
    zones = (SERVER.zone, "us-east-1b")
    return tuple(
        FixedNode(
            name=f"static-{number + 1}",
            instance_id=f"i-0bbbbbbbbbbbbbb{number + 1:02x}",
            zone=zones[number % 2],
            ip=f"10.0.2.{number + 10}",
            tagged=tagged,
        )
        for number in range(count)
    )

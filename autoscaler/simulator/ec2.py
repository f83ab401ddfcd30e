"""A small EC2 in virtual time: CreateFleet, DescribeInstances, TerminateInstances; the World follows its machines."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.prices import price_table
from autoscaler.model import (
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    ON_DEMAND,
    ROLE_TAG,
    SPOT,
    TEMPLATE_ID_TAG,
    TEMPLATE_VERSION_TAG,
    InstanceState,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    Pool,
    PoolTemplate,
)
from autoscaler.pools import WorkerPool, default_of, further_templates
from autoscaler.ports import FleetUnavailable
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.world.world import FixedNode, World

TOKEN_LIFE_S: Final = 86_400.0
SPOT_WARNING_S: Final = 120.0
SPOT_SHARE: Final = 0.35
"""Of the on-demand price, what the simulated Spot market asks: an assumption, of which AWS promises up to 90 % off."""


class Ec2Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What this EC2 is like. Times in seconds."""

    subnet_zones: tuple[tuple[str, str], ...] = (("subnet-0a", "us-east-1a"), ("subnet-0b", "us-east-1b"))
    template_id: str = "lt-0simulated00000000"
    template_version: str = "1"
    """The latest: what is launched behind the core's back is of it, too."""
    image_id: str = "ami-0simulated0000000"
    """Of the template."""
    pending_s: float = 5.0
    """From the launch to `running`."""
    shutdown_s: float = 20.0
    """From TerminateInstances to `terminated`."""
    forget_s: float = 3600.0
    """From `terminated` to not being listed any more."""
    visibility_s: float = 0.0
    """From the launch to being listed: DescribeInstances is eventually consistent."""
    replays_tokens: bool = True
    """False ignores ClientToken, as moto does."""
    seed: int = 2


@dataclass(slots=True)
class Shortage:
    """A pool that gives only `left` more instances, then the error."""

    code: str
    left: int


@dataclass(slots=True)
class _Token:
    request: LaunchRequest
    result: LaunchResult
    used_at_s: float


@dataclass(slots=True)
class Bill:
    """What was used."""

    launched: int = 0
    terminated: int = 0
    retired_usd: float = 0.0
    refused_terminations: list[str] = field(default_factory=list)
    """Instances that the caller's role may not terminate, and that it tried to: always a bug."""
    protected_terminations: set[str] = field(default_factory=set)
    """Instances that were not terminated because a person protects them."""


def _no_lag(_instance: SimInstance) -> float:
    return 0.0


def listed_usd(instance_type: str, market: str = ON_DEMAND) -> float:
    """What it costs an hour in us-east-1, wherever the simulated cluster is. Raises KeyError.

    On Spot a stated share of the on-demand price: no list of Spot prices is part of the package.
    """
    usd = price_table()["us-east-1"][ON_DEMAND].usd_per_hour[instance_type]
    return usd * SPOT_SHARE if market == SPOT else usd


class Ec2:
    """The region. Time is the World's."""

    def __init__(self, settings: Ec2Settings, world: World, pools: Sequence[WorkerPool] = ()) -> None:
        self.settings = settings
        self.world = world
        self._pools = tuple(pools)
        self.cluster_id = world.settings.cluster_id
        self.instances: dict[str, SimInstance] = {}
        self.bill = Bill()
        self.shortages: dict[Pool, Shortage] = {}
        self.protected: set[str] = set()
        """Instances on which a person switched termination protection on."""
        self.lag_s: Callable[[SimInstance], float] = _no_lag
        """How old the view of one instance is that DescribeInstances gives: eventual consistency, asked row by row."""
        self._tokens: dict[str, _Token] = {}
        self._rng = random.Random(settings.seed)
        self._addresses = 0
        for fixed in world.settings.fixed_nodes:
            if not fixed.provider_id:
                self._add_fixed(fixed)

    def _add_fixed(self, fixed: FixedNode) -> None:
        tags = {"Name": fixed.name}
        if fixed.tagged:
            tags[CLUSTER_TAG] = self.cluster_id
        if fixed.server:
            tags[ROLE_TAG] = "server"
        subnet_id = next((subnet for subnet, zone in self.settings.subnet_zones if zone == fixed.zone), "subnet-0other")
        self.instances[fixed.instance_id] = SimInstance(
            instance_id=fixed.instance_id,
            instance_type=fixed.instance_type,
            zone=fixed.zone,
            subnet_id=subnet_id,
            ip=fixed.ip,
            image_id=self.settings.image_id,
            tags=tags,
            launched_at_s=self.world.now_s,
            running_at_s=self.world.now_s,
        )

    # ------------------------------------------------------------------------------------------------------------ calls

    def describe(self) -> list[dict[str, Any]]:
        """DescribeInstances with the cluster's tag as filter, dead ones too."""
        now_s = self.world.now_s
        self._forget(now_s)
        return [
            instance.row(seen_s)
            for instance in self.instances.values()
            if instance.tags.get(CLUSTER_TAG) == self.cluster_id
            and ((seen_s := now_s - self.lag_s(instance)) >= self._listed_from_s(instance) or instance.started_again)
        ]

    def look_up(self, instance_ids: Sequence[str]) -> list[dict[str, Any]]:
        """DescribeInstances of these ids, whatever tags they carry; what it does not list yet is missing."""
        now_s = self.world.now_s
        self._forget(now_s)
        return [
            instance.row(seen_s)
            for instance in self.instances.values()
            if instance.instance_id in instance_ids
            and ((seen_s := now_s - self.lag_s(instance)) >= self._listed_from_s(instance) or instance.started_again)
        ]

    def _listed_from_s(self, instance: SimInstance) -> float:
        return instance.launched_at_s + self.settings.visibility_s

    def launch_context(self) -> LaunchContext:
        """The subnets, and a launch template for each pool and architecture, as a deployment makes them."""
        settings = self.settings
        return LaunchContext(
            template_id=settings.template_id,
            template_version=settings.template_version,
            subnet_zones=self._where(default_of(self._pools)) if self._pools else settings.subnet_zones,
            templates=tuple(
                PoolTemplate(
                    pool=pool.name,
                    arch=arch,
                    template_id=f"{settings.template_id}-{pool.name}-{arch}",
                    template_version=settings.template_version,
                    subnet_zones=self._where(pool),
                )
                for pool, arch in further_templates(self._pools)
            ),
        )

    def _where(self, pool: WorkerPool) -> tuple[tuple[str, str], ...]:
        subnets = self.settings.subnet_zones
        return tuple(row for row in subnets if row[0] in pool.subnets) or subnets

    def create_fleet(self, request: LaunchRequest) -> LaunchResult:
        """CreateFleet of type `instant`. A repeated ClientToken gets the first answer, and launches nothing.

        Raises FleetUnavailable with IdempotentParameterMismatch or IdempotentInstanceTerminated.
        """
        known = self._tokens.get(request.client_token) if self.settings.replays_tokens else None
        if known is not None:
            return self._replay(known, request)
        ids: list[str] = []
        errors: list[tuple[str, str, str]] = []
        for override in request.overrides:
            there = Pool(instance_type=override.instance_type, zone=override.zone, market=request.market)
            shortage = self.shortages.get(there)
            while len(ids) < request.count and (shortage is None or shortage.left > 0):
                if shortage is not None:
                    shortage.left -= 1
                tags = dict(request.tags)
                tags |= {TEMPLATE_ID_TAG: request.template_id, TEMPLATE_VERSION_TAG: request.template_version}
                ids.append(
                    self.launch(override.instance_type, override.zone, override.subnet_id, tags, market=request.market)
                )
            if len(ids) == request.count:
                break
            if shortage is not None:
                errors.append((shortage.code, override.instance_type, override.zone))
        result = LaunchResult(instance_ids=tuple(ids), errors=tuple(errors))
        self._tokens[request.client_token] = _Token(request, result, self.world.now_s)
        return result

    def _replay(self, known: _Token, request: LaunchRequest) -> LaunchResult:
        if known.request != request:
            raise FleetUnavailable(
                "The client token was used with other parameters.", code="IdempotentParameterMismatch"
            )
        ids = known.result.instance_ids
        if ids and all(self._ended(instance_id) for instance_id in ids):
            raise FleetUnavailable("The token's instances are terminated.", code="IdempotentInstanceTerminated")
        return known.result

    def _ended(self, instance_id: str) -> bool:
        instance = self.instances.get(instance_id)
        return instance is None or instance.ended_at_s is not None

    def terminate(self, instance_id: str) -> None:
        """TerminateInstances, with the role's condition on tags; an unknown id is success.

        Raises FleetUnavailable with UnauthorizedOperation for an instance that is not ours, and with
        OperationNotPermitted for one that is protected.
        """
        instance = self.instances.get(instance_id)
        if instance is None:
            return
        ours = instance.tags.get(MANAGED_BY_TAG) == MANAGED_BY_VALUE
        if not ours or instance.tags.get(CLUSTER_TAG) != self.cluster_id:
            self.bill.refused_terminations.append(instance_id)
            raise FleetUnavailable(f"Not authorised to terminate {instance_id}.", code="UnauthorizedOperation")
        if instance_id in self.protected:
            self.bill.protected_terminations.add(instance_id)
            raise FleetUnavailable(
                f"The instance '{instance_id}' may not be terminated. Modify its 'disableApiTermination' instance "
                "attribute and try again.",
                code="OperationNotPermitted",
            )
        self.end(instance_id)

    # -------------------------------------------------------------------------------------------------------- machines

    def launch(
        self, instance_type: str, zone: str, subnet_id: str, tags: Mapping[str, str], *, market: str = ON_DEMAND
    ) -> str:
        """Start one instance; returns its id."""
        if instance_type not in CATALOGUE:
            raise FleetUnavailable(f"There is no instance type {instance_type}.", code="InvalidFleetConfig")
        now_s = self.world.now_s
        self._addresses += 1
        instance = SimInstance(
            instance_id=f"i-0{self._rng.getrandbits(64):016x}",
            instance_type=instance_type,
            zone=zone,
            subnet_id=subnet_id,
            ip=f"10.{16 + self._addresses // 62_500 % 200}.{self._addresses // 250 % 250}.{self._addresses % 250 + 1}",
            image_id=self.settings.image_id,
            tags={
                TEMPLATE_ID_TAG: self.settings.template_id,
                TEMPLATE_VERSION_TAG: self.settings.template_version,
                **tags,
            },
            launched_at_s=now_s,
            running_at_s=now_s + self.settings.pending_s,
            market=market,
        )
        self.instances[instance.instance_id] = instance
        self.bill.launched += 1
        self.world.at(instance.running_at_s, self._show_world)
        return instance.instance_id

    def end(self, instance_id: str) -> None:
        """The instance ends, whoever wanted it: a call, Spot, or broken hardware. Raises KeyError."""
        instance = self.instances[instance_id]
        if instance.ended_at_s is not None:
            return
        now_s = self.world.now_s
        instance.ended_at_s = now_s
        instance.terminated_at_s = now_s + self.settings.shutdown_s
        self.bill.terminated += 1
        self.bill.retired_usd += self._usd(instance, now_s)
        self._show_world()

    def interrupt(self, instance_id: str) -> None:
        """EC2 gives notice that it takes a Spot instance back, and does so two minutes later. Raises KeyError.

        Source: EC2 user guide, "Spot Instance interruption notices". What is on demand is never taken back.
        """
        instance = self.instances[instance_id]
        if instance.market == SPOT and instance.ended_at_s is None and instance.noticed_at_s is None:
            instance.noticed_at_s = self.world.now_s
            self.world.at(self.world.now_s + SPOT_WARNING_S, lambda: self._take(instance_id))

    def _take(self, instance_id: str) -> None:
        if instance_id in self.instances:  # else it ended long before, and was forgotten
            self.end(instance_id)

    def stop(self, instance_id: str) -> None:
        """A person stops a running instance. Raises KeyError."""
        instance, now_s = self.instances[instance_id], self.world.now_s
        if instance.state(now_s) is InstanceState.RUNNING:
            instance.stopping_at_s = now_s
            instance.stopped_at_s = now_s + self.settings.shutdown_s
            self._show_world()

    def start(self, instance_id: str) -> None:
        """A person starts a stopped instance again: its launch time is then. Raises KeyError."""
        instance, now_s = self.instances[instance_id], self.world.now_s
        if instance.ended_at_s is None and instance.stopping_at_s is not None:
            instance.stopping_at_s = instance.stopped_at_s = None
            instance.launched_at_s = now_s
            instance.started_again = True
            instance.running_at_s = now_s + self.settings.pending_s
            self.world.at(instance.running_at_s, self._show_world)

    def exhaust(
        self,
        instance_type: str,
        zone: str,
        *,
        left: int = 0,
        code: str = "InsufficientInstanceCapacity",
        market: str = ON_DEMAND,
    ) -> None:
        """From now on the pool gives `left` more instances and then the error."""
        self.shortages[Pool(instance_type=instance_type, zone=zone, market=market)] = Shortage(code, left)

    def replenish(self) -> None:
        """Every pool has plenty again."""
        self.shortages.clear()

    def ids(self, *states: InstanceState) -> Sequence[str]:
        """Instances in one of the states, oldest first; all that are known when none is named."""
        now_s = self.world.now_s
        return [i.instance_id for i in self.instances.values() if not states or i.state(now_s) in states]

    def spent_usd(self) -> float:
        """What all instances cost so far."""
        now_s = self.world.now_s
        running = sum(self._usd(i, now_s) for i in self.instances.values() if i.ended_at_s is None)
        return self.bill.retired_usd + running

    @staticmethod
    def _usd(instance: SimInstance, now_s: float) -> float:
        return (now_s - instance.launched_at_s) / 3600 * listed_usd(instance.instance_type, instance.market)

    def _show_world(self) -> None:
        now_s = self.world.now_s
        self._forget(now_s)
        self.world.see_instances([instance.row(now_s) for instance in self.instances.values()])

    def _forget(self, now_s: float) -> None:
        for instance in list(self.instances.values()):
            terminated_s = instance.terminated_at_s
            if terminated_s is not None and now_s >= terminated_s + self.settings.forget_s:
                del self.instances[instance.instance_id]
        for token, known in list(self._tokens.items()):
            if now_s >= known.used_at_s + TOKEN_LIFE_S:
                del self._tokens[token]

"""The operator's scaling policy: typed, validated, with the defaults of the committed `policy.yml`.

Everything that is wrong is told at once, each with one sentence: which value, what is allowed. It changes nothing.
How it is read from a file is the business of autoscaler/policy_text.py.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Final, Literal

import msgspec

from autoscaler import pool_faults
from autoscaler.forecast import Forecast, faults_of_forecast
from autoscaler.instance_types import CATALOGUE, InstanceType
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Mode
from autoscaler.notifications import Notify
from autoscaler.policyfile.faults import refuse
from autoscaler.pools import GENERAL, Market, WorkerPool, default_of, resolved
from autoscaler.ranges import Count, PositiveSeconds, Ratio, Seconds, Step, Usd
from autoscaler.requirements import ResourceName
from autoscaler.signals import CustomSignal
from autoscaler.signals import faults as faults_of_signals
from autoscaler.spot import Spot
from autoscaler.windows import Blackout, Headroom, Window, blackout_faults, faults

TypeName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", max_length=40, description="an EC2 instance type, such as t3.small"
    ),
]
"""An EC2 instance type, `m6i.2xlarge`."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
"""A Kubernetes name, or two with a slash between them."""
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)]
_PERCENT: Final = r"(?:100|[1-9]?[0-9]) ?%"


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an instance type has before anything is reserved. EC2's largest has 896 vCPU and 32 TiB."""

    cpu_millicores: Annotated[int, msgspec.Meta(ge=1, le=2_000_000)]
    """As EC2 tells it, before anything is reserved."""
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)]
    """As EC2 tells it, before anything is reserved."""
    extended: Annotated[
        dict[ResourceName, Annotated[int, msgspec.Meta(ge=1, le=1_000)]], msgspec.Meta(max_length=10)
    ] = {}
    """Extended resources by their Kubernetes name: `nvidia.com/gpu`."""


class Workers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers, of what."""

    min: Count = 2
    """All workers count, static ones included; only ours are ever removed."""
    max: Count = 10
    """All workers count, static ones included; nothing is launched above it."""
    instance_types: Annotated[tuple[TypeName, ...], msgspec.Meta(max_length=50)] = ("t3.small",)
    """In order of preference, each once; one launch names the first ten that are large enough."""
    sizes: Annotated[dict[TypeName, Size], msgspec.Meta(max_length=100)] = {}
    """Of types that the built-in catalogue lacks, or has wrong."""
    join_timeout_s: PositiveSeconds = 600
    """Launched and not a Ready node by then: replaced."""
    market: Market = "on-demand"
    """`spot`: what is not on demand by the next two is bought on the Spot market."""
    on_demand_base: Count = 0
    """So many workers are on demand before any is Spot."""
    on_demand_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    """And this share of those beyond the base, rounded up."""
    pools: tuple[WorkerPool, ...] = ()
    """Several kinds of workers, in the place of the flat fields above. (`Policy.pools` has them resolved.)"""

    def __post_init__(self) -> None:
        refuse(self._faults())

    def _faults(self) -> Iterator[str]:
        if self.min > self.max:
            yield f"workers.min is {self.min} and workers.max is {self.max}: min may not exceed max"
        if not self.instance_types:
            yield "workers.instance_types is empty: name at least one EC2 instance type"
        for kind in sorted({kind for kind in self.instance_types if self.instance_types.count(kind) > 1}):
            yield f"workers.instance_types names {kind} twice: EC2 takes each type once, so name it once"


class ScaleUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to grow."""

    pending_for_s: Seconds = 10
    """A pod counts once the scheduler has found no node for it for this long."""
    cpu_above: Ratio = 0.70
    """CPU use of the Ready workers, all through the window, above which they grow."""
    memory_above: Ratio = 0.80
    """The same of memory."""
    window_s: PositiveSeconds = 60
    """For so long use has to be above."""
    max_step: Step | None = None
    """Workers launched by one decision; null: up to `workers.max` at once."""


class ScaleDown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to shrink, and whom to leave alone."""

    when: Literal["fits", "low_use"] = "fits"
    """`fits`: whenever what ran on a worker in the window fits on the others, and use stays `target_margin` below the
    grow targets without it. `low_use`: only once use is below the two limits here as well."""
    cpu_below: Ratio = 0.30
    """For `low_use`: the highest value in the window must be below."""
    memory_below: Ratio = 0.60
    """The same of memory."""
    window_s: PositiveSeconds = 600
    """Of use, and of what pods asked for: a worker is empty once nothing ran there for this long."""
    cool_down_s: Seconds = 600
    """After the last launch, and after a removal that was undone; one that ended well costs none."""
    target_margin: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.10
    """Demand is judged this far below the grow targets, so that a removal never calls for a launch."""
    min_age_s: Seconds = 600
    """Younger workers stay."""
    max_empty_step: Step = 5
    """So many workers that were empty all through the window leave together."""
    budget: Count | Annotated[str, msgspec.Meta(max_length=10, description="a share such as 20%")] = 1
    """Workers that run pods and may leave together; a share is one of the Ready workers."""
    blackouts: tuple[Blackout, ...] = ()
    """Times of the week at which nobody begins to leave by choice."""
    replace_when_saves: Annotated[float, msgspec.Meta(ge=0.05, le=0.95)] | None = None
    """Share of a worker's price that cheaper ones in its place must save; None: none is replaced for its price."""
    protected_priority_classes: Names = ("system-cluster-critical", "system-node-critical")
    """A worker with a pod of one of these classes stays; DaemonSet and static pods do not count."""
    protected_namespaces: Names = ()
    """A worker with a pod of one of these namespaces stays."""
    movable: Names = ()
    """Exceptions from both: `namespace/owner-name` of critical pods that may be moved all the same."""
    refused_for_s: Seconds = 1800
    """A worker whose removal was refused or failed is not asked again before; doubles up to four times this."""

    def __post_init__(self) -> None:
        wrong = blackout_faults(self.blackouts)
        if isinstance(self.budget, str) and not re.fullmatch(_PERCENT, self.budget):
            wrong.append(f"scale_down.budget is {self.budget!r}: give a number of workers, or a share from 0% to 100%")
        refuse(wrong)


Drift = Literal["image", "template", "k3s_version"]


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which workers are replaced although they work: launched before drained, one at a time, oldest first."""

    max_age_s: Annotated[int, msgspec.Meta(ge=3_600, le=94_608_000)] | None = None
    """Older workers are replaced; null: none for its age."""
    drift: Annotated[tuple[Drift, ...], msgspec.Meta(max_length=3)] = ()
    """What of a worker has to be as it would be of one that is launched now."""

    def __bool__(self) -> bool:
        return bool(self.drift or self.max_age_s)


LEAST_DRAIN_S: Final = 10
"""A policy may leave pods no grace at all; a drain still needs a moment, and 0 would be no time-out."""


class Drain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker is emptied."""

    timeout_s: PositiveSeconds = 300
    """So long pods may take to leave; then the worker is taken back."""
    force: bool = False
    """Terminate after the time-out although pods are left."""


class Repair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a worker is given up."""

    not_ready_s: PositiveSeconds = 300
    """One of our workers that is NotReady for this long is replaced."""
    max_unhealthy_share: Ratio = 0.34
    """Above this share of the workers nothing is replaced: the cause is elsewhere."""


class Interruption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when EC2 takes a machine back."""

    grace_s: Seconds = 60
    """What pods get when EC2 takes the machine back."""


class BlindGrowth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far an alert alone may grow the fleet."""

    step: Count = 1
    """Workers that a scale-up alert may launch while Prometheus cannot be asked; 0: none."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long an exhausted pool is left alone."""

    back_off_s: PositiveSeconds = 120
    """So long a type, zone and market that EC2 had nothing left of is left alone; doubles each time."""
    max_back_off_s: PositiveSeconds = 1800
    """And no longer than this."""

    def __post_init__(self) -> None:
        if self.back_off_s > self.max_back_off_s:
            raise ValueError(
                f"capacity.back_off_s is {self.back_off_s} and capacity.max_back_off_s is {self.max_back_off_s}: "
                "the first wait may not exceed the longest"
            )


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What workers cost, what they may cost together, and against what the saving is told. US dollars an hour."""

    max_usd_per_hour: Usd | None = None
    """What all workers may cost together, static ones included: growth never crosses it, and stops while a price is
    unknown; null: no cap."""
    usd_per_hour: Annotated[dict[TypeName, Usd], msgspec.Meta(max_length=100)] = {}
    """Your own on-demand prices by type, before those of the built-in table."""
    spot_usd_per_hour: Annotated[dict[TypeName, Usd], msgspec.Meta(max_length=100)] = {}
    """Your own estimates of Spot prices by type."""
    other_usd_per_hour: Usd | None = None
    """What a worker counts as whose price nobody knows, such as one outside EC2; null: unknown."""
    baseline_workers: Step | None = None
    """The saving is told against so many workers all day; null: it is not told."""
    baseline_type: TypeName | None = None
    """Of this type; null: the first of `workers.instance_types`."""

    def __post_init__(self) -> None:
        if self.baseline_type is not None and self.baseline_workers is None:
            raise ValueError(
                f"cost.baseline_type is {self.baseline_type} and cost.baseline_workers is not given: say how many of "
                "them the saving is told against, or leave both out"
            )


class RulesPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a server is asked for the scheduler's rules, and how long a look waits for its answer."""

    refresh_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 600
    """A server is asked at most this often, but at once for a waiting pod whose owner it has not told of."""
    wait_s: Annotated[int, msgspec.Meta(ge=0, le=20)] = 8
    """A look waits this long for the answer, then goes on without; 0: never waits."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Everything that decides."""

    version: Literal[1]
    """Of this form of the policy."""
    mode: Mode = Mode.ACTIVE
    """The first one of a cluster: `k3s-autoscaler pause`, `observe` and `resume` override it without a deployment."""
    workers: Workers = Workers()
    schedules: tuple[Window, ...] = ()
    """Other limits at times of the week."""
    headroom: Headroom = Headroom()
    signals: tuple[CustomSignal, ...] = ()
    """Numbers of your own that ask for workers or keep them."""
    forecast: Forecast = Forecast()
    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()
    rotation: Rotation = Rotation()
    drain: Drain = Drain()
    repair: Repair = Repair()
    interruption: Interruption = Interruption()
    blind_growth: BlindGrowth = BlindGrowth()
    capacity: Capacity = Capacity()
    spot: Spot = Spot()
    cost: Cost = Cost()
    rules: RulesPolicy = RulesPolicy()
    metrics: MetricsPolicy = MetricsPolicy()
    notify: Notify = Notify()
    history_days: Annotated[int, msgspec.Meta(ge=1, le=3_650)] = 30
    """How long decisions that acted, refused or failed are kept."""

    def __post_init__(self) -> None:
        refuse(self._faults())

    def _faults(self) -> Iterator[str]:
        yield from self._faults_of_windows()
        yield from faults(self.schedules, base_min=self.workers.min, base_max=self.workers.max)
        yield from faults_of_signals(self.signals, interval_s=self.metrics.utilisation_interval_s)
        yield from faults_of_forecast(self.forecast)
        least_max = min(self.workers.max, *(window.max for window in self.schedules if window.max is not None), 1_000)
        yield from pool_faults.faults(self.workers.pools, self.known_types, least_max=least_max)
        up, down = self.scale_up, self.scale_down
        if self.rotation.max_age_s is not None and self.rotation.max_age_s <= down.min_age_s:
            yield (
                f"rotation.max_age_s is {self.rotation.max_age_s} and scale_down.min_age_s is {down.min_age_s}: "
                "a worker that may not leave yet cannot be too old, so give a longer max_age_s"
            )
        for name, below, above in (
            ("cpu", down.cpu_below, up.cpu_above),
            ("memory", down.memory_below, up.memory_above),
        ):
            if below > above - down.target_margin:
                yield (
                    f"scale_down.{name}_below ({below}) must be at most scale_up.{name}_above ({above}) "
                    f"minus scale_down.target_margin ({down.target_margin}), or the fleet swings"
                )

    def _faults_of_windows(self) -> Iterator[str]:
        interval_s = self.metrics.utilisation_interval_s
        for name, window_s in (
            ("scale_up.window_s", self.scale_up.window_s),
            ("scale_down.window_s", self.scale_down.window_s),
            ("repair.not_ready_s", self.repair.not_ready_s),
        ):
            if window_s < 2 * interval_s:
                yield (
                    f"{name} is {window_s}: a window holds at least two samples, and "
                    f"metrics.utilisation_interval_s is {interval_s}: give {2 * interval_s} or more"
                )

    @cached_property
    def pools(self) -> tuple[WorkerPool, ...]:
        """Every pool, resolved; the flat fields of `workers` are the one of a policy that names none."""
        flat = self.workers
        if flat.pools:
            return resolved(flat.pools, self.known_types, self.cost.usd_per_hour)
        return (
            WorkerPool(
                name=GENERAL,
                instance_types=flat.instance_types,
                market=flat.market,
                on_demand_base=flat.on_demand_base,
                on_demand_share=flat.on_demand_share,
            ),
        )

    @cached_property
    def default_pool(self) -> WorkerPool:
        """The one of workers without a tag that names theirs."""
        return default_of(self.pools)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The types of all pools, each once."""
        return tuple(dict.fromkeys(kind for pool in self.pools for kind in pool.instance_types))

    @cached_property
    def known_types(self) -> dict[str, InstanceType]:
        """The catalogue's types, and those of `workers.sizes` before them."""
        own = {
            name: InstanceType(cpu_millicores=size.cpu_millicores, memory_mib=size.memory_mib, extended=size.extended)
            for name, size in self.workers.sizes.items()
        }
        return CATALOGUE | own

    @cached_property
    def digest(self) -> str:
        """What `policy_hash` tells."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:12]

    @property
    def most_workers(self) -> int:
        """The highest max that ever holds, by whatever schedule."""
        return max(self.workers.max, *(window.max or 0 for window in self.schedules), 0)

    def drain_timeout_s(self, *, reclaim: bool) -> int:
        """How long a drain may take; `reclaim`: of a machine that EC2 takes away."""
        return max(LEAST_DRAIN_S, self.interruption.grace_s) if reclaim else self.drain.timeout_s


def policy_hash(policy: Policy) -> str:
    """Twelve hex digits that name this policy in decisions, whatever its comments and the order of its lines."""
    return policy.digest

"""The mutable insides of the simulated cluster: machines, nodes, pods, volumes, and the state that holds them."""

import heapq
import itertools
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from autoscaler.decide.capacity.catalogue import CATALOGUE, MAX_PODS
from autoscaler.model import ON_DEMAND
from autoscaler.model.rules import Effect, PodRules, Taint
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload

SYSTEM_BURN_CORES: Final = 0.03
SYSTEM_MEMORY_BYTES: Final = 350 * MIB
"""Kernel, kubelet and containerd of a K3s agent at rest."""
CAPACITY_SHARE: Final = 0.97
ALLOCATABLE_SHARE: Final = 0.928
"""Of the nominal memory: a real t3.small offers 1900 of its 2048 MiB."""
RESERVED_MILLICORES: Final = 100
STORAGE_BYTES: Final = 20 * 1024**3
"""Ephemeral storage of every machine."""


K3S_VERSION: Final = "v1.36.2+k3s1"
"""What servers run, and workers join with, until somebody upgrades."""


class Phase(StrEnum):
    """Pod phases."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"


class Meter:
    """A rate that changes in steps, and its integral: CPU cores in use and CPU seconds.

    Only the steps are kept, and of those only what `keep_s` may ask for.
    """

    __slots__ = ("_rates", "_sums", "_times", "keep_s")

    def __init__(self, at_s: float, rate: float, keep_s: float) -> None:
        self._times = [at_s]
        self._sums = [0.0]
        self._rates = [rate]
        self.keep_s = keep_s

    def set(self, at_s: float, rate: float) -> bool:
        """From `at_s` on the rate is `rate`; returns whether that is news."""
        if rate == self._rates[-1]:
            return False
        if at_s == self._times[-1]:
            self._rates[-1] = rate
            return True
        self._sums.append(self.total(at_s))
        self._times.append(at_s)
        self._rates.append(rate)
        # Cut seldom and in one go: the list stays short, and an append stays cheap.
        if len(self._times) > 64 and self._times[32] < at_s - self.keep_s:
            del self._times[:32], self._sums[:32], self._rates[:32]
        return True

    def _step(self, at_s: float) -> int:
        if at_s >= self._times[-1]:
            return -1
        return max(0, bisect_right(self._times, at_s) - 1)

    def rate(self, at_s: float) -> float:
        """The rate at `at_s`."""
        return self._rates[self._step(at_s)]

    def total(self, at_s: float) -> float:
        """The integral from the start to `at_s`."""
        step = self._step(at_s)
        since_s = at_s - self._times[step]
        return self._sums[step] + self._rates[step] * since_s if since_s > 0.0 else self._sums[step]


@dataclass(slots=True, eq=False)
class Machine:
    """An EC2 instance as the cluster feels it: there, or not."""

    instance_id: str
    instance_type: str
    zone: str
    ip: str
    """IPv4."""
    node_name: str
    cpu: Meter
    """Cores in use."""
    memory: Meter
    """Bytes in use (only the rate is of interest)."""
    server: bool = False
    managed: bool = True
    alive: bool = True
    booted_at_s: float = 0.0
    arch: str = "amd64"
    foreign_provider_id: str = ""
    """Of what is no EC2 instance (`k3s://<node>` on bare metal); empty for EC2's own."""
    counters_reset_at_s: float | None = None
    """When its exporter's counters last began at zero again."""
    dual_stack: bool = False
    k3s_version: str = K3S_VERSION
    pool: str = ""
    """As its instance's tag names it."""
    market: str = ON_DEMAND
    memory_bytes: int = field(init=False)
    """MemTotal."""
    cpus: int = field(init=False)
    """VCPUs."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its Node's internal addresses, IPv4 first."""
        return (self.ip, f"2a05:d014:1:2:{self.ip.replace('.', ':')}") if self.dual_stack else (self.ip,)

    def __post_init__(self) -> None:
        """Look its size up."""
        capacity, _ = sizes_of(self.instance_type)
        self.memory_bytes, self.cpus = capacity.memory_bytes, capacity.cpu_millicores // 1000

    def idle_seconds(self, at_s: float) -> float:
        """node_cpu_seconds_total{mode="idle"} of each CPU."""
        reset_s = self.counters_reset_at_s
        if reset_s is None or at_s < reset_s:
            return self._idle_since_boot(at_s)
        return self._idle_since_boot(at_s) - self._idle_since_boot(reset_s)

    def _idle_since_boot(self, at_s: float) -> float:
        return max(0.0, at_s - self.booted_at_s - self.cpu.total(at_s) / self.cpus)

    @property
    def provider_id(self) -> str:
        """As the kubelet sets it on workers that we launch, or K3s where nothing does."""
        return self.foreign_provider_id or f"aws:///{self.zone}/{self.instance_id}"


@dataclass(slots=True, eq=False)
class SimNode:
    """A Node object."""

    name: str
    uid: str
    machine: Machine
    created_at_s: float
    labels: dict[str, str]
    capacity: Ask
    allocatable: Ask
    max_pods: int = MAX_PODS
    extended: Mapping[str, int] = field(default_factory=dict)
    """Extended resources that a device plugin has told the kubelet of."""
    ready: bool = False
    ready_since_s: float = 0.0
    """When `ready` last changed."""
    broken: bool = False
    """Its kubelet does not work: NotReady until mended."""
    useless: bool = False
    """The scheduler passes over it, for a reason that no metric shows."""
    silent_since_s: float | None = None
    """When its kubelet stopped telling."""
    cordoned: bool = False
    extra_taints: tuple[Taint, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    pods: dict[str, "SimPod"] = field(default_factory=dict)
    asked_millicores: int = 0
    asked_bytes: int = 0

    @property
    def kubelet_works(self) -> bool:
        """Whether pods start and stop on it."""
        return self.machine.alive and not self.broken

    @property
    def provider_id(self) -> str:
        """Its provider-id."""
        return self.machine.provider_id

    def taints(self) -> tuple[Taint, ...]:
        """Its taints: set ones, and those that Kubernetes derives from cordon and condition."""
        derived: list[Taint] = []
        if self.cordoned:
            derived.append(Taint(key="node.kubernetes.io/unschedulable", effect=Effect.NO_SCHEDULE))
        if not self.ready:
            key = f"node.kubernetes.io/{'not-ready' if self.machine.alive else 'unreachable'}"
            derived += [Taint(key=key, effect=effect) for effect in (Effect.NO_SCHEDULE, Effect.NO_EXECUTE)]
        return (*self.extra_taints, *derived)

    def unschedulable(self) -> bool:
        """Whether the scheduler passes over it for pods that tolerate nothing."""
        return self.cordoned or not self.ready


@dataclass(slots=True, eq=False)
class SimPod:
    """A Pod object."""

    namespace: str
    name: str
    uid: str
    created_at_s: float
    workload: Workload
    template: PodTemplate
    """Of its own: `burn` changes it while the pod runs."""
    ask: Ask
    rules: PodRules
    """What the scheduler asks of it, but for its claims: those change (world/rules.py)."""
    owner_kind: str
    owner_name: str
    ordinal: int = -1
    bound_to: str = ""
    """DaemonSet pods: the only node that they may run on."""
    node: SimNode | None = None
    phase: Phase = Phase.PENDING
    started: bool = False
    scheduled_at_s: float | None = None
    unschedulable_since_s: float | None = None
    unschedulable_message: str = ""
    """The scheduler's words, as of its last try."""
    deletion_at_s: float | None = None
    """Its deletion timestamp, once it is on its way out: when its grace period ends."""
    ip: str = ""

    @property
    def terminating(self) -> bool:
        """Whether it is being deleted."""
        return self.deletion_at_s is not None

    @property
    def title(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def waits(self) -> bool:
        """Whether it asks for a node and found none."""
        return self.unschedulable_since_s is not None and not (self.terminating or self.template.gated)

    @property
    def ready(self) -> bool:
        """Its Ready condition: false as soon as its node is lost."""
        return self.phase is Phase.RUNNING and self.node is not None and self.node.ready

    @property
    def finished(self) -> bool:
        """Whether it ended."""
        return self.phase is Phase.SUCCEEDED

    @property
    def claim(self) -> str:
        """Its volume claim; empty where it has none."""
        return f"data-{self.name}" if self.workload.local_volume else ""


@dataclass(slots=True, eq=False)
class Volume:
    """A bound PersistentVolume on a node's own disk, or in the network of a zone: there for ever."""

    name: str
    namespace: str
    claim: str
    node_name: str = ""
    """Empty for one in the network."""
    csi_driver: str = ""
    """Empty for local-path."""
    zone: str = ""
    """Of one in the network."""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One thing that happened."""

    at_s: float
    kind: str
    """`machine`, `node`, `pod`, `workload` or `command`."""
    subject: str
    message: str


@dataclass(slots=True)
class Faults:
    """Switches for tests; each works from now on until it is switched back."""

    never_join: bool = False
    """New instances boot and never become Nodes."""
    never_join_in: str = ""
    """As `never_join`, in this zone only."""
    join_delay_s: float = 0.0
    """New instances join this much later."""
    broken_image: bool = False
    """Every Node that joins from now on stays NotReady."""
    useless: bool = False
    """Every Node that joins from now on is Ready and gets no pods but daemons; no metric shows why."""
    api_unreachable: bool = False
    """Node commands cannot reach the Kubernetes API."""
    cordon_stays: bool = False
    """A drain that fails cannot undo its cordon: it was killed, or lost the API at the wrong moment."""
    admission_denies: bool = False
    """An admission policy denies every eviction."""
    pods_stay: bool = False
    """Pods that are to end do not: a finalizer of an operator that does not work, or a hanging mount."""
    unmeasured: set[str] = field(default_factory=set)
    """Names of nodes whose node-exporter does not answer."""


Action = Callable[[], None]


class ClusterState:
    """Everything that the cluster is, its agenda of what will happen, and its one source of chance."""

    def __init__(self, *, now_s: float, seed: int, keep_s: float, max_events: int) -> None:
        self.now_s = now_s
        self.started_at_s = now_s
        self.keep_s = keep_s
        self.rng = random.Random(seed)
        self.faults = Faults()
        self.machines: dict[str, Machine] = {}
        self.nodes: dict[str, SimNode] = {}
        self.pods: dict[str, SimPod] = {}
        self.workloads: dict[str, Workload] = {}
        self.owned: dict[str, dict[str, SimPod]] = {}
        self.volumes: dict[tuple[str, str], Volume] = {}
        """By (namespace, claim)."""
        self.unbound: dict[str, SimPod] = {}
        self.dirty_owners: set[str] = set()
        self.dirty_nodes: set[str] = set()
        self.schedule_due = False
        self.k3s_version = K3S_VERSION
        """What a new worker joins with."""
        self.evictions = 0
        """Pods that drains took off their Node before they had ended."""
        self.changed_at_s = now_s
        self.version = 0
        self.timeline: deque[TimelineEvent] = deque(maxlen=max_events)
        self.before_change: list[Callable[[float, float], None]] = []
        self.after_termination: list[Action] = []
        self._agenda: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, when_s: float, action: Action) -> None:
        """Put an action on the agenda."""
        heapq.heappush(self._agenda, (when_s, next(self._order), action))

    def next_at_s(self) -> float | None:
        """When something happens next by itself."""
        return self._agenda[0][0] if self._agenda else None

    def pop_due(self, until_s: float) -> Action | None:
        """Take the next action that is due."""
        if self._agenda and self._agenda[0][0] <= until_s:
            return heapq.heappop(self._agenda)[2]
        return None

    def touch(self) -> None:
        """Tell the listeners that the state, as it stood since the last change, is about to change."""
        if self.changed_at_s < self.now_s:
            for listener in self.before_change:
                listener(self.changed_at_s, self.now_s)
            self.changed_at_s = self.now_s
        self.version += 1

    def tell(self, kind: str, subject: str, message: str) -> None:
        """Write one line of the time line."""
        self.timeline.append(TimelineEvent(self.now_s, kind, subject, message))

    def new_uid(self) -> str:
        """A Kubernetes uid."""
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache
def sizes_of(instance_type: str) -> tuple[Ask, Ask]:
    """Capacity and allocatable of an instance type. Raises ValueError for one that the catalogue lacks."""
    known = CATALOGUE.get(instance_type)
    if known is None:
        raise ValueError(f"the simulator knows no instance type {instance_type}: use one of the catalogue's")
    capacity = Ask(cpu_millicores=known.cpu_millicores, memory_bytes=int(known.memory_mib * CAPACITY_SHARE) * MIB)
    allocatable = Ask(
        cpu_millicores=known.cpu_millicores - RESERVED_MILLICORES,
        memory_bytes=int(known.memory_mib * ALLOCATABLE_SHARE) * MIB,
    )
    return capacity, allocatable

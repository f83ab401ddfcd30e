"""What is observed: metrics, machines, the ends of node commands, and all of it at one moment."""

from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.model.forecast import DemandHistory
from autoscaler.model.rules import SchedulingRules
from autoscaler.model.signals import SeenSignal


class Sample(msgspec.Struct, frozen=True):
    """One element of an instant vector, as Prometheus' HTTP API writes it."""

    metric: dict[str, str]
    """Labels, `__name__` among them where the expression kept it."""
    value: tuple[float, str]
    """Evaluation time in epoch seconds, and the number as text (`NaN` and `+Inf` included)."""


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pod asks or a node can give."""

    cpu_millicores: int = 0
    memory_bytes: int = 0
    pods: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_millicores=self.cpu_millicores + other.cpu_millicores,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            pods=self.pods + other.pods,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_millicores=self.cpu_millicores - other.cpu_millicores,
            memory_bytes=self.memory_bytes - other.memory_bytes,
            pods=self.pods - other.pods,
        )

    def fits_in(self, room: "Resources") -> bool:
        """Whether every dimension of this is within `room`."""
        return (
            self.cpu_millicores <= room.cpu_millicores
            and self.memory_bytes <= room.memory_bytes
            and self.pods <= room.pods
        )


class MetricsStatus(StrEnum):
    """How far the metrics can be trusted; only `OK` may start a shrink."""

    OK = "ok"
    PARTIAL = "partial"
    UNAVAILABLE = "unavailable"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A Kubernetes Node as the metrics show it."""

    name: str
    instance_id: str | None
    """From the provider-id; None for a node that is not on EC2 or keeps K3s' default `k3s://` id."""
    zone: str | None
    provider_id: str
    created_at_s: int | None
    ready: bool | None
    unready_long: bool | None
    """NotReady during the whole of the policy's window; None while the window is not known."""
    cordoned: bool | None
    control_plane: bool
    tainted: bool
    """Carries a NoSchedule or NoExecute taint other than the cordon's own."""
    taint_keys: tuple[str, ...] = ()
    """Keys of these taints, sorted."""
    starting: bool = False
    """One of its taints is known to go by itself when the start is over."""
    allocatable: Resources | None
    local_volumes: int | None
    """PersistentVolumes with affinity to this node, mounted or not; None while that is not shown."""
    managed: bool | None = None
    """Carries the label of our workers; None while labels are not shown. Told of NotReady Nodes only."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels under kube-state-metrics' sanitised names (`topology_kubernetes_io_zone`), once rooms were asked for."""
    requested: Resources | None = None
    """Effective requests of its unfinished pods, once rooms were asked for."""
    movable: int | None = None
    """Pods that a drain would evict, once rooms were asked for."""
    kubelet_version: str = ""
    """`v1.36.2+k3s1`; empty where it was not asked for, or is not told by all alike."""
    requested_most: Resources | None = None
    """The highest requests of the shrink window, `pods` being those that a drain would have evicted.

    None while the window is not known, or rooms were not asked for.
    """


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod in phase Pending or Running."""

    namespace: str
    name: str
    uid: str
    node: str
    """Empty while the pod is not bound to a node."""
    owner_kind: str
    """Empty for a bare pod."""
    owner_name: str
    priority_class: str
    requests: Resources
    """Effective requests: what the scheduler reserves for the pod."""
    unschedulable_since_s: int | None = None
    """When the scheduler first said that no node fits; None for a pod that is bound, gated or not yet judged."""
    do_not_evict: bool = False
    node_selector: tuple[tuple[str, str], ...] = ()
    """Under sanitised names, as `Node.labels`."""

    @property
    def title(self) -> str:
        """`namespace/name`, as people write it."""
        return f"{self.namespace}/{self.name}"

    @property
    def owner(self) -> str:
        """`namespace/kind/name` of the owner, or of the bare pod itself."""
        return f"{self.namespace}/{self.owner_kind or 'Pod'}/{self.owner_name or self.name}"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How many unfinished pods of one owner are on one Node."""

    owner: str
    """As `Pod.owner`."""
    node: str
    count: int


class DaemonSet(msgspec.Struct, frozen=True, kw_only=True):
    """What a DaemonSet asks of each worker that it runs on."""

    namespace: str
    name: str
    requests: Resources
    """Of its largest pod."""


class Unshown(msgspec.Struct, frozen=True, kw_only=True):
    """A family that is not shown: unknown, which is not none. It costs only what needs it."""

    family: str
    sentence: str
    """What is not shown, what waits for it, and the mend."""


class Utilisation(msgspec.Struct, frozen=True, kw_only=True):
    """Use of one resource over the workers that take pods, as a ratio from 0 to 1, over the policy's two windows.

    A worker that is not measured counts as idle in `grow_min` and as full in `shrink_max`: bounds, not guesses.
    """

    resource: str
    now_low: float | None
    """The latest lower bound."""
    grow_min: float | None
    """The smallest lower bound in the grow window: above the threshold means 'high all the time'."""
    shrink_max: float | None
    """The largest upper bound in the shrink window: below the threshold means 'low all the time'."""


class InstanceState(StrEnum):
    """EC2's instance states."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    STOPPING = "stopping"
    STOPPED = "stopped"


ALIVE: Final = frozenset({InstanceState.PENDING, InstanceState.RUNNING})
ENDING: Final = frozenset({InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED})
"""There is nothing left to terminate. A stopped instance is neither alive nor ending: it still costs its volume."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An EC2 instance that carries this cluster's tag."""

    instance_id: str
    state: InstanceState
    instance_type: str
    zone: str
    subnet_id: str
    launched_at_s: int
    managed: bool
    """Tagged `ManagedBy=autoscaler` and in no Auto Scaling group: only such an instance is ever terminated."""
    server: bool
    operation_id: str | None
    private_dns_name: str = ""
    pool: str = ""
    """By its tag; empty for one launched before there were pools, which is in the default one."""
    market: str = "on-demand"
    """What it is paid by: `spot`, or another of EC2's lifecycles."""
    image_id: str = ""
    template_id: str = ""
    """Of the launch template that it was launched from; empty for none."""
    template_version: str = ""
    state_reason: str = ""
    """Why EC2 changed its state last (`Client.InvalidKMSKey.InvalidState: ...`); empty where EC2 gives no reason."""


class CommandOutcome(StrEnum):
    """How a node command ended, or that it has not. The script's exit codes map one to one onto the failures."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    BLOCKED_BY_BUDGET = "blocked_by_budget"
    TIMED_OUT = "timed_out"
    FENCED_OFF = "fenced_off"
    NO_SUCH_NODE = "no_such_node"
    API_UNREACHABLE = "api_unreachable"
    """No answer, or none that is understood; how far it came is not certain. The next server may do better."""
    UNDELIVERED = "undelivered"
    """SSM never handed it to the server, or knows nothing of it: nothing ran, send again."""
    FAILED = "failed"


UNKNOWN_COMMAND_RULE: Final = "unknown_to_ssm"
"""SSM knows nothing of the command: it was never handed over, or is so fresh that SSM has not caught up."""


class Cordon(StrEnum):
    """Whether a Node is cordoned, and by whom."""

    NONE = "none"
    OURS = "ours"
    """It carries our operation's mark."""
    OTHER = "other"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are, and the first names."""

    count: int = 0
    names: tuple[str, ...] = ()


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """A Node as a server showed it: all that stands against ending its machine (docs/node-commands.md)."""

    node: str
    uid: str
    created_at_s: int | None
    ready: bool
    """Whether its Ready condition is True; Unknown is not."""
    ready_since_s: int | None
    """When `ready` last changed; None where it has no such condition."""
    cordon: Cordon
    operation: str
    """The operation whose mark it carries, if any."""
    fence: int
    """The highest that spoke; 0 for none."""
    taints: tuple[str, ...]
    """`key=value:Effect`, the first ten."""
    local_volumes: Found
    """Volumes on this machine, which no other Node can have, mounted or not."""
    bare_pods: Found
    critical_pods: Found
    do_not_evict_pods: Found
    movable_pods: int
    """Pods that a drain would move, those of the three kinds above among them."""
    ending_pods: int
    """On their way out: no rule asks about them."""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of a node command."""

    outcome: CommandOutcome
    rule: str = ""
    """The preflight rule that refused, if one did."""
    message: str = ""
    evicted_pods: int = 0
    inspection: Inspection | None = None
    """Of an inspection that succeeded."""
    rules: str = ""
    """The packed answer to `rules` (docs/node-commands.md), if that succeeded."""
    ended_at_s: int | None = None
    """When the script ended, by SSM's clock; None while it runs, or where SSM does not say."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one look saw. `decide` sees nothing else of the world."""

    taken_at_s: int
    """The function's clock."""
    metrics_at_s: int | None
    """Prometheus' clock at the query: ages of pods are counted against it. None when it could not be asked."""
    metrics_status: MetricsStatus
    metrics_problems: tuple[str, ...]
    """One sentence for each thing that is missing, stale or inconsistent."""
    cluster_known: bool
    """Nodes, pods and their requests are complete and fresh, whatever else is missing: growth may be computed."""
    absence_proven: bool = True
    """A pod that is not shown is not there. Not while a kube-state-metrics that holds a share of them is down, or fills
    its caches: what it shows may be fresh and not whole, and nothing that cannot be taken back rests on it."""
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    """Pods without a Node, and all unfinished pods of the Nodes in `pods_of`."""
    gated_pods: int
    utilisation: tuple[Utilisation, ...]
    instances: tuple[Instance, ...]
    """All that carry the cluster's tag."""
    looked_up: frozenset[str] = frozenset()
    """Instance ids that EC2 was asked for whatever their tags: one that is not among `unlisted` does not exist."""
    unlisted: tuple[Instance, ...] = ()
    """Of these, the ones that there are."""
    commands: tuple[tuple[str, CommandResult], ...] = ()
    """By operation id: the state of the command that each open removal waits for."""
    unshown: tuple[Unshown, ...] = ()
    """What the metrics do not show although they are whole otherwise."""
    shows_init: bool = True
    """Whether any running pod has init containers with requests."""
    shows_overhead: bool = True
    rooms_known: bool = False
    """Whether `requested`, `movable` and `labels` of the Nodes, `daemons` and node selectors are known."""
    requested_at_once: Resources = Resources()
    """What the pods of all workers, those that are gone included, asked for at most at one time of the shrink window:
    CPU and memory; nothing where that is not known."""
    cpu_used_at_once_millicores: int = 0
    """What they used at most at one time of it, as far as they were measured."""
    daemons: tuple[DaemonSet, ...] = ()
    """DaemonSets whose pods run on workers."""
    pods_of: frozenset[str] = frozenset()
    """Names of the Nodes whose single pods are known."""
    scheduling_rules: SchedulingRules | None = None
    """What the scheduler asks, by pod owner: no metric shows it, a server tells. None until it was asked for."""
    rules_problem: str = ""
    """Why what was asked of the rules could not be had, in one sentence: then it is decided without."""
    places: tuple[Place, ...] = ()
    places_of: frozenset[str] = frozenset()
    """Owners whose `places` are known; one without a place has no pod on a Node."""
    zones: tuple[str, ...] | None = None
    """Zones that workers can be launched in, once they were asked for."""
    pool_zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(pool, zones) of pools whose own subnets lie in these; any other in all of `zones`."""
    zones_problem: str = ""
    """Why these could not be had, in one sentence: then those of known workers have to do."""
    templates: tuple[tuple[str, str], ...] | None = None
    """(launch template, its latest version as a number) of launches now, once they were asked for."""
    templates_problem: str = ""
    """Why these could not be had, in one sentence."""
    youngest_owner_at_s: int | None = None
    """When the first pod of the youngest pod owner was created; None while that is not shown."""
    signals: tuple[SeenSignal, ...] | None = None
    """The custom signals of the policy, once they were asked for."""
    history: DemandHistory | None = None
    """What earlier days asked for at this time, once that was asked for."""


class Asks(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision would have to see before it can judge more."""

    rooms: bool = False
    """What is free on each Node."""
    pods_of: tuple[str, ...] = ()
    """The single pods of these Nodes."""
    instances: tuple[str, ...] = ()
    """These instances, which the cluster's tag does not list."""
    rules: bool = False
    """The kept `scheduling_rules`."""
    rules_of: tuple[str, ...] = ()
    """Owners whose rules are not known, or not any more: a server has to be asked."""
    rules_since_s: int = 0
    """When the youngest of them began to wait, or came of age: an answer that is older does not know it."""
    rules_after_s: int = 0
    """An answer from before does not show what a machine that matters holds by now."""
    places_of: tuple[str, ...] = ()
    """Where the pods of these owners are."""
    zones: bool = False
    """Where workers can be launched."""
    signals: bool = False
    """The custom signals."""
    history: bool = False
    """What earlier days asked for at this time."""
    templates: bool = False
    """The latest versions of the launch templates."""

    def __bool__(self) -> bool:
        return any(msgspec.structs.astuple(self))

    def __or__(self, other: "Asks") -> "Asks":
        """Both questions."""
        return Asks(
            rooms=self.rooms or other.rooms,
            pods_of=_both(self.pods_of, other.pods_of),
            instances=_both(self.instances, other.instances),
            rules=self.rules or other.rules,
            rules_of=_both(self.rules_of, other.rules_of),
            rules_since_s=max(self.rules_since_s, other.rules_since_s),
            rules_after_s=max(self.rules_after_s, other.rules_after_s),
            places_of=_both(self.places_of, other.places_of),
            zones=self.zones or other.zones,
            signals=self.signals or other.signals,
            history=self.history or other.history,
            templates=self.templates or other.templates,
        )


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))

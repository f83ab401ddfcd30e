"""The words of the domain: what is observed, what is under way, what is decided.

Every value is frozen and typed. Units stand in the names (`_s` seconds, `_millicores`, `_bytes`); times are integer
epoch seconds. `None` means *unknown* wherever it stands for something measured; it never means zero.
"""

from enum import StrEnum
from typing import Final

import msgspec

MANAGED_BY_TAG: Final = "ManagedBy"
MANAGED_BY_VALUE: Final = "autoscaler"
CLUSTER_TAG: Final = "k3s-autoscaler/cluster"
OPERATION_TAG: Final = "k3s-autoscaler/operation"
ROLE_TAG: Final = "k3s-autoscaler/role"
ASG_TAG: Final = "aws:autoscaling:groupName"


# ------------------------------------------------------------------------------------------------------------ observed


class Sample(msgspec.Struct, frozen=True):
    """One element of an instant vector, as Prometheus' HTTP API writes it."""

    metric: dict[str, str]
    """Labels, `__name__` among them where the expression kept it."""
    value: tuple[float, str]
    """Evaluation time in epoch seconds, and the number as text (`NaN` and `+Inf` included)."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
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
    allocatable: Resources | None
    local_volumes: int
    """PersistentVolumes with affinity to this node, mounted or not."""
    labels: tuple[tuple[str, str], ...]
    """Allow-listed labels under kube-state-metrics' sanitised names (`topology_kubernetes_io_zone`)."""


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


class Utilisation(msgspec.Struct, frozen=True, kw_only=True):
    """Use of one resource over the Ready workers, as a ratio from 0 to 1, over the policy's two windows.

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
    UNDELIVERED = "undelivered"
    """SSM never handed it to the server, or knows nothing of it: nothing ran, send again."""
    FAILED = "failed"


UNKNOWN_COMMAND_RULE: Final = "unknown_to_ssm"
"""SSM knows nothing of the command: it was never handed over, or is so fresh that SSM has not caught up."""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of a node command."""

    outcome: CommandOutcome
    rule: str = ""
    """The preflight rule that refused, if one did."""
    message: str = ""
    evicted_pods: int = 0


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
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    gated_pods: int
    utilisation: tuple[Utilisation, ...]
    instances: tuple[Instance, ...]
    commands: tuple[tuple[str, CommandResult], ...] = ()
    """By operation id: the state of the command that each open removal waits for."""


# ----------------------------------------------------------------------------------------------------------- under way


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One place to launch: what EC2 can be out of."""

    instance_type: str
    zone: str
    market: str = "on-demand"


class LaunchOverride(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the fleet request's overrides."""

    instance_type: str
    subnet_id: str
    zone: str


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A complete, frozen CreateFleet request: sent again it is identical to the letter."""

    client_token: str
    template_id: str
    template_version: str
    count: int
    overrides: tuple[LaunchOverride, ...]
    tags: tuple[tuple[str, str], ...]


class LaunchOperation(msgspec.Struct, frozen=True, kw_only=True, tag="launch"):
    """Workers on their way: from the intent until each is a Ready node or is given up."""

    operation_id: str
    created_at_s: int
    reason: str
    request: LaunchRequest
    instance_ids: tuple[str, ...] = ()
    """Ids only accumulate; one moves to `finished_ids` when its Node is Ready or the instance is given up."""
    finished_ids: tuple[str, ...] = ()
    landed: bool = False
    """The call is known to have reached EC2 with a final answer: it is never sent again."""
    unidentified: int = 0
    """Requested and not yet known by id; 0 once landed."""
    absent_since_s: tuple[tuple[str, int], ...] = ()
    """When an id was first not listed: DescribeInstances is eventually consistent."""
    for_owners: tuple[str, ...] = ()
    """Pod owners (`namespace/kind/name`) that these workers were launched for."""
    sent_at_s: int | None = None
    """When the call was last sent, or is about to be."""


class LaunchContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a launch request freezes besides the policy's wishes."""

    template_id: str
    template_version: str
    """Numeric, never `$Latest`."""
    subnet_zones: tuple[tuple[str, str], ...]
    """(subnet id, zone name)."""


class LaunchResult(msgspec.Struct, frozen=True, kw_only=True):
    """CreateFleet's answer: instances and errors may both be present."""

    instance_ids: tuple[str, ...] = ()
    errors: tuple[tuple[str, str, str], ...] = ()
    """(error code, instance type, zone) of each pool that gave nothing."""


class RemovalPhase(StrEnum):
    """`draining -> drained -> terminating -> deleting`; from the first two only: `-> uncordoning`. Never backwards."""

    DRAINING = "draining"
    DRAINED = "drained"
    TERMINATING = "terminating"
    DELETING = "deleting"
    UNCORDONING = "uncordoning"


class Verb(StrEnum):
    """What the node-command document can do."""

    PREFLIGHT = "preflight"
    DRAIN = "drain"
    UNCORDON = "uncordon"
    DELETE_NODE = "delete-node"
    STATUS = "status"


class NodeCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the node-command document (docs/node-commands.md)."""

    verb: Verb
    node_name: str
    provider_id: str
    """The provider-id that the Node must carry."""
    operation_id: str
    """A repeat of an operation id and verb returns the first result."""
    fence: int
    """Lower than the Node's annotation: refused."""
    not_after_s: int
    """Later than this: refused."""
    timeout_s: int
    """How long a drain may take."""
    grace_s: int = -1
    """Grace period that overrides the pods' own; -1 leaves theirs."""
    reclaim: bool = False
    """The machine goes away whatever we do: only the identity and control-plane checks."""


class CommandRef(msgspec.Struct, frozen=True, kw_only=True):
    """A node command that was sent: where its result is asked for."""

    command_id: str
    server_id: str
    sent_at_s: int


class RemovalOperation(msgspec.Struct, frozen=True, kw_only=True, tag="removal"):
    """One worker on its way out."""

    operation_id: str
    created_at_s: int
    reason: str
    instance_id: str
    node_name: str
    """Empty for an instance that never became a Node."""
    provider_id: str
    phase: RemovalPhase
    phase_since_s: int
    fence: int
    """The fence of the phase's intent: a command of an earlier phase is refused by the node once a later one spoke."""
    not_after_s: int
    """The script refuses to start later than this."""
    reclaim: bool = False
    """The machine goes away whatever we do: short grace, no take-back."""
    command: CommandRef | None = None
    attempts: int = 0
    absent_since_s: int | None = None
    failure: str = ""
    """Why the drain was given up, for the phase `uncordoning`."""


class Mode(StrEnum):
    """What the autoscaler may do."""

    ACTIVE = "active"
    OBSERVE = "observe"
    PAUSED = "paused"


class ModeSetting(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word. It ends at `until_s`, or stays; when it has ended, `then` holds, None being the policy's."""

    mode: Mode
    set_at_s: int
    until_s: int | None = None
    by: str = ""
    then: Mode | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts now, and until when at the latest."""

    owner: str
    expires_at_s: int


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that no observation shows, brought by a trigger."""

    kind: str
    """`interruption`, `rebalance`, `retirement` or `blind_alert`; and `orphan`, which repair notes for itself."""
    subject: str
    """An instance id, or `fingerprint@startsAt` of an alert."""
    received_at_s: int
    handled: bool = False


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that EC2 had nothing left of."""

    pool: Pool
    error_code: str
    until_s: int
    failures: int


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A worker whose removal was refused or failed: not nominated again before `until_s`."""

    node_name: str
    reason: str
    until_s: int
    failures: int = 1


class OwnerLaunches(msgspec.Struct, frozen=True, kw_only=True):
    """Launches made for the pods of one owner, so that a launch that did not help is not repeated for ever."""

    owner: str
    launched_at_s: int
    zones: tuple[str, ...]
    unhelped: int = 0
    retry_at_s: int = 0


class JoinFailures(msgspec.Struct, frozen=True, kw_only=True):
    """Launches in a row of which no worker stayed: a broken image or network is not cured by launching on and on."""

    failures: int
    failed_at_s: int
    """When the last one was given up: launches older than that belong to the same wave, and count once."""
    until_s: int
    after_ready: bool = False
    """A worker was Ready and lost soon after: being Ready proves nothing any more, only staying so does."""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole truth about what is under way: one item, one compare-and-set. Changed only by functions of `state/`."""

    schema: int = 1
    fence: int = 0
    lease: Lease | None = None
    mode: ModeSetting | None = None
    launches: tuple[LaunchOperation, ...] = ()
    removals: tuple[RemovalOperation, ...] = ()
    notices: tuple[Notice, ...] = ()
    backoffs: tuple[Backoff, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    owners: tuple[OwnerLaunches, ...] = ()
    join_failures: JoinFailures | None = None
    last_scale_up_s: int | None = None
    last_scale_down_s: int | None = None
    told_refusal: str = ""
    """Reason code of the refusal that people know of: it is told and recorded once, until it changes or ends."""
    node_count: int | None = None
    """Ready workers at the last write; for people and dashboards, never read to decide."""


# ------------------------------------------------------------------------------------------------------------- decided


class Action(StrEnum):
    """What a decision did, in one word."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    REPAIR = "repair"
    NONE = "none"
    REFUSED = "refused"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """What woke us. It says *look now*; `correlation_id` is the request id of the sender."""

    kind: str
    """`alert`, `sweep` or `lifecycle`."""
    correlation_id: str = ""
    detail: str = ""


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Workers, static ones included."""

    ready: int | None
    """None, as `desired`, while the metrics cannot tell."""
    joining: int
    draining: int
    desired: int | None
    min: int
    max: int


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to want workers: what was measured, where its threshold lies, how many workers it wants."""

    name: str
    value: float | None
    threshold: float | None
    wants: int | None


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A node or pod that was passed over, and why."""

    subject: str
    reason: str


class NewWorkers(msgspec.Struct, frozen=True):
    """Workers of one type to launch; `zone` is empty where any will do."""

    instance_type: str
    count: int
    zone: str = ""


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Workers to launch. It becomes operations once the launch template's version and the zones are known."""

    workers: tuple[NewWorkers, ...]
    """What to launch, what has to be in one zone first."""
    reason: str
    for_owners: tuple[str, ...] = ()
    unhelped: tuple[OwnerLaunches, ...] = ()
    """Records to keep with the launch: the model had found room for these owners' pods, the scheduler had not."""

    @property
    def count(self) -> int:
        """Workers altogether."""
        return sum(new.count for new in self.workers)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do and why: it explains itself. `state` is what holds once the decision is taken."""

    action: Action
    reason: str
    message: str
    nodes: NodeCounts
    signals: tuple[Signal, ...]
    blocked: tuple[Blocked, ...]
    events: tuple[str, ...]
    """One sentence for each step that open operations took in this look."""
    growth: Growth | None
    state: State

"""What the scheduler asks of a pod, and what it reads of a node: the fields of the API that a Filter plugin looks at.

Everything is frozen and compared by value: the pods of one owner share one `PodRules`, and equal rules are one class,
whoever owns them. Preferences (preferred terms, ScheduleAnyway) never refuse a node and are left out.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final

import msgspec

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
DEFAULT_SCHEDULER: Final = "default-scheduler"
EVERY_ADDRESS: Final = str(IPv4Address(0))
"""What an absent `hostIP` means to the scheduler."""

Labels = tuple[tuple[str, str], ...]
"""Sorted by key, under the names that the API uses (not kube-state-metrics' sanitised ones)."""
Amounts = tuple[tuple[str, int], ...]
"""Resource name -> amount, sorted by name: `cpu` in millicores, `memory`, `ephemeral-storage` and `hugepages-*` in
bytes, extended resources in pieces. A pod's own place (`pods`) is never among what it requests."""


class Operator(StrEnum):
    """How a requirement compares; `GT` and `LT` exist for nodes only."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class Requirement(msgspec.Struct, frozen=True, cache_hash=True):
    """One line of a selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


Selector = tuple[Requirement, ...]
"""All must hold; the empty one selects everything. Where none is given (None), nothing is selected."""


def equal_to(labels: Mapping[str, str]) -> Selector:
    """A selector's `matchLabels` as requirements."""
    return tuple(Requirement(key, Operator.IN, (value,)) for key, value in sorted(labels.items()))


def with_label_keys(
    selector: Selector | None,
    labels: Mapping[str, str],
    *,
    match_keys: Collection[str] = (),
    mismatch_keys: Collection[str] = (),
) -> Selector | None:
    """The selector with the pod's own values of `matchLabelKeys` and `mismatchLabelKeys`, each once.

    An API server merges them when the pod is created; for spread constraints only since 1.34, and then the scheduler
    does it. A key that the pod has not counts for nothing.
    """
    if selector is None:
        return None
    equal = (Requirement(key, Operator.IN, (labels[key],)) for key in match_keys if key in labels)
    unequal = (Requirement(key, Operator.NOT_IN, (labels[key],)) for key in mismatch_keys if key in labels)
    return tuple(dict.fromkeys((*selector, *equal, *unequal)))


class NodeTerm(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One of a node selector's terms: its lines must all hold; a term without lines matches no node."""

    labels: Selector = ()
    fields: Selector = ()
    """`metadata.name` is the only field there is: the Node's name, whatever its hostname label says."""


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Taint(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A node's mark that keeps pods away."""

    key: str
    value: str = ""
    effect: Effect


class Toleration(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """Taints that a pod puts up with."""

    key: str = ""
    """Empty for every key."""
    any_value: bool = False
    """Operator Exists; Equal without."""
    value: str = ""
    effect: Effect | None = None
    """None for every effect."""


class PodTerm(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A required term of pod affinity or anti-affinity, its label keys merged into the selector."""

    selector: Selector | None
    topology_key: str
    namespaces: tuple[str, ...] = ()
    namespace_selector: Selector | None = None
    """The union with `namespaces`; without either, the namespace of the pod that has the term."""


class SpreadConstraint(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A topology spread constraint with `whenUnsatisfiable: DoNotSchedule`, its label keys merged into the selector."""

    topology_key: str
    max_skew: int
    selector: Selector | None
    min_domains: int = 1
    honor_affinity: bool = True
    """nodeAffinityPolicy: whether nodes that the pod's own node selector or affinity excludes are no domains."""
    honor_taints: bool = False
    """nodeTaintsPolicy: whether nodes whose taints the pod does not tolerate are no domains."""


class HostPort(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A port of the node itself that the pod binds."""

    port: int
    protocol: str = "TCP"
    address: str = EVERY_ADDRESS


class FreeVolume(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """An available PersistentVolume of the claim's class, mode and size."""

    name: str
    node_affinity: tuple[NodeTerm, ...] | None = None


class MissingClaim(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, tag="missing"):
    """A claim that the pod names and that does not exist."""

    name: str


class ImmediateClaim(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, tag="immediate"):
    """A claim that is to be bound before any pod, and is not yet."""

    name: str


class BoundClaim(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, tag="bound"):
    """A claim with its volume."""

    name: str
    node_affinity: tuple[NodeTerm, ...] | None = None
    """The volume's; None where it may be mounted anywhere."""
    zones: Labels = ()
    """The volume's own zone and region labels, as in-tree provisioners wrote them (`a__b` for several)."""


class WaitingClaim(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, tag="waiting"):
    """A claim of a class with WaitForFirstConsumer, not bound yet. A pod's claims stand smallest first."""

    name: str
    provisioned: bool
    """Whether the class can make a volume (its provisioner is not `kubernetes.io/no-provisioner`)."""
    topologies: tuple[Selector, ...] = ()
    """Where the class may make one (allowedTopologies): any of these; anywhere if there is none."""
    free: tuple[FreeVolume, ...] = ()
    """Volumes that would do, smallest first."""


Claim = MissingClaim | ImmediateClaim | BoundClaim | WaitingClaim


class PodRules(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """All that the default Filter plugins ask of a pod."""

    namespace: str
    labels: Labels = ()
    requests: Amounts = ()
    """Effective ones: sidecars, init containers, pod level and overhead in (observe/pod_requests.py)."""
    node_name: str = ""
    """A node that the pod names itself; only simulations of a DaemonSet's pods have such a pod waiting."""
    node_selector: Labels = ()
    node_affinity: tuple[NodeTerm, ...] | None = None
    """Any of the required terms; None where none is asked."""
    tolerations: tuple[Toleration, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    """One other pod must match them all."""
    anti_affinity: tuple[PodTerm, ...] = ()
    """Judged one by one."""
    spread: tuple[SpreadConstraint, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    """Of containers and sidecars; those of plain init containers are over before they could clash."""
    claims: tuple[Claim, ...] = ()
    scheduler: str = DEFAULT_SCHEDULER
    priority: int = 0
    preempts: bool = True
    """Whether it may push pods of lower priority off a node (`preemptionPolicy` other than Never)."""
    resource_claims: bool = False
    """Asks for devices by dynamic resource allocation."""
    exclusive_claims: bool = False
    """One of its claims is ReadWriteOncePod."""


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the scheduler reads of a Node. Its conditions do not matter: the taints made of them do."""

    name: str
    labels: Labels = ()
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    allocatable: Amounts = ()
    """With `pods`; what is not listed is 0."""


class Unmodelled(StrEnum):
    """What the filters do not know about a pod: their word on it is no verdict."""

    OTHER_SCHEDULER = "another scheduler places it"
    DYNAMIC_RESOURCES = "it asks for devices by dynamic resource allocation"
    ATTACH_LIMITS = "how many more volumes a node can attach is not known"
    EXCLUSIVE_CLAIM = "one of its claims is ReadWriteOncePod"


def unmodelled(rules: PodRules) -> tuple[Unmodelled, ...]:
    """What about this pod is not modelled; empty when the filters know all that the scheduler asks."""
    found = {
        Unmodelled.OTHER_SCHEDULER: rules.scheduler != DEFAULT_SCHEDULER,
        Unmodelled.DYNAMIC_RESOURCES: rules.resource_claims,
        Unmodelled.ATTACH_LIMITS: any(isinstance(claim, BoundClaim | WaitingClaim) for claim in rules.claims),
        Unmodelled.EXCLUSIVE_CLAIM: rules.exclusive_claims,
    }
    return tuple(what for what, holds in found.items() if holds)


class OwnerRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the pods of one owner ask: they share their spec, but for claims of their own and for revisions."""

    owner: str
    """`namespace/kind/name` of the controlling owner, or of the bare pod itself (kind `Pod`), as `Pod.owner`."""
    rules: PodRules
    pods: tuple[str, ...] = ()
    """Names of the pods that it is true of, where the owner's pods differ; empty where it is true of all of them."""
    shown: Amounts = ()
    """What kube-state-metrics shows of `rules.requests`, where it shows less: it knows no requests of the pod level.

    Every resource of `rules.requests` is in it, with 0 where none of it is shown; empty where all is shown.
    """
    seen_at_s: int
    """When a server showed it last."""


class WaitingWord(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster says of one pod that has no node."""

    pod: str
    """`namespace/name`."""
    nominated_node: str = ""
    """Where the scheduler is making room for it by preemption."""
    message: str = ""
    """The scheduler's own words why no node fits, shortened."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A PodDisruptionBudget."""

    namespace: str
    name: str
    selector: Selector | None
    allowed: int
    """Evictions that it allowed when it was read."""


class SchedulingRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a server told of all that the scheduler asks (docs/node-commands.md, verb `rules`), and what is kept of it.

    Rules are by owner and change seldom; where pods are, and how much is free, is never read here but in the metrics.
    """

    answered_at_s: int
    """When a server answered last, by the function's clock."""
    owners: tuple[OwnerRules, ...] = ()
    daemons: tuple[OwnerRules, ...] = ()
    """DaemonSets' templates, also of those that have no pod."""
    nodes: tuple[NodeSpec, ...] = ()
    namespaces: tuple[tuple[str, Labels], ...] = ()
    budgets: tuple[Budget, ...] = ()
    waiting: tuple[WaitingWord, ...] = ()
    malformed: tuple[tuple[str, str], ...] = ()
    """(owner, why) of those whose rules could not be read: they are unknown."""
    left_out: int = 0
    """Lines about owners that did not fit into the answer: what they are about is unknown as well."""
    incomplete: tuple[str, ...] = ()
    """What else did not fit: `waiting`, `daemons`, `budgets`, `namespaces` or `nodes`, of which some are missing."""

"""The fields of the Kubernetes API (v1, apps/v1, policy/v1) that the scheduler's rules are made of.

Names are the API's own, in snake case. What is not listed is not read; what is listed and has another form is an error.
A field without a value is left out, in reading and in writing.
"""

from typing import Final

import msgspec

from autoscaler.model.rules import Requirement, Taint

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


class Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Its subclasses say `frozen` and `kw_only` again: type checkers do not inherit them."""


class Metadata(Object, frozen=True, kw_only=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: str | None = None


# ------------------------------------------------------------------------------------------------------------ selectors


class LabelSelector(Object, frozen=True, kw_only=True):
    """All of it must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class NodeSelectorTerm(Object, frozen=True, kw_only=True):
    """All of it must hold; an empty one matches no Node."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()


class NodeSelector(Object, frozen=True, kw_only=True):
    """Any of its terms."""

    node_selector_terms: tuple[NodeSelectorTerm, ...]


class NodeAffinity(Object, frozen=True, kw_only=True):
    """The preferred part is not read."""

    required: NodeSelector | None = msgspec.field(default=None, name=REQUIRED)


class PodAffinityTerm(Object, frozen=True, kw_only=True):
    """Pods, and what counts as near them."""

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class PodAffinity(Object, frozen=True, kw_only=True):
    """Affinity or anti-affinity; the preferred part is not read."""

    required: tuple[PodAffinityTerm, ...] = msgspec.field(default=(), name=REQUIRED)


class Affinity(Object, frozen=True, kw_only=True):
    """All three must hold."""

    node_affinity: NodeAffinity = NodeAffinity()
    pod_affinity: PodAffinity = PodAffinity()
    pod_anti_affinity: PodAffinity = PodAffinity()


class Toleration(Object, frozen=True, kw_only=True):
    """An empty operator is Equal, an empty effect every effect."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class TopologySpreadConstraint(Object, frozen=True, kw_only=True):
    """Also those that only prefer (`whenUnsatisfiable`)."""

    topology_key: str
    max_skew: int
    when_unsatisfiable: str
    label_selector: LabelSelector | None = None
    min_domains: int = 1
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"
    match_label_keys: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------------------------------- pods


class Resources(Object, frozen=True, kw_only=True):
    """Quantities as text."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class ContainerPort(Object, frozen=True, kw_only=True):
    """A host port of 0 is none."""

    container_port: int = 0
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = ""


class Container(Object, frozen=True, kw_only=True):
    """Also an init container, which is a sidecar if it restarts always."""

    name: str = ""
    resources: Resources = Resources()
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class ClaimSource(Object, frozen=True, kw_only=True):
    """The claim of a volume."""

    claim_name: str


class Ephemeral(Object, frozen=True, kw_only=True):
    """A volume whose claim is named after the pod."""


class Volume(Object, frozen=True, kw_only=True):
    """Other kinds of volumes are not read."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Ephemeral | None = None


class DeviceClaim(Object, frozen=True, kw_only=True):
    """Of dynamic resource allocation."""

    name: str = ""


class PodSpec(Object, frozen=True, kw_only=True):
    """What a pod asks for."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resources: Resources = Resources()
    overhead: dict[str, str] = {}
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: Affinity = Affinity()
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    host_network: bool = False
    volumes: tuple[Volume, ...] = ()
    scheduler_name: str = ""
    priority: int = 0
    preemption_policy: str = ""
    resource_claims: tuple[DeviceClaim, ...] = ()


class ContainerStatus(Object, frozen=True, kw_only=True):
    """What a container holds, while it is being resized."""

    name: str
    allocated_resources: dict[str, str] = {}
    resources: Resources = Resources()


class Condition(Object, frozen=True, kw_only=True):
    """Only the reason is read."""

    type: str
    reason: str = ""


class PodStatus(Object, frozen=True, kw_only=True):
    """What became of a pod."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    """Also a DaemonSet's template, which has no status."""

    metadata: Metadata = Metadata()
    spec: PodSpec
    status: PodStatus = PodStatus()


# ---------------------------------------------------------------------------------------------------------------- nodes


class NodeFields(Object, frozen=True, kw_only=True):
    """A v1.NodeSpec."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(Object, frozen=True, kw_only=True):
    """What pods can have of it."""

    allocatable: dict[str, str] = {}


class Node(Object, frozen=True, kw_only=True):
    """A v1.Node."""

    metadata: Metadata = Metadata()
    spec: NodeFields = NodeFields()
    status: NodeStatus = NodeStatus()


# -------------------------------------------------------------------------------------------------------------- budgets


class PodDisruptionBudgetSpec(Object, frozen=True, kw_only=True):
    """Whom it protects."""

    selector: LabelSelector | None = None


class PodDisruptionBudgetStatus(Object, frozen=True, kw_only=True):
    """How many evictions it allows now."""

    disruptions_allowed: int = 0


class PodDisruptionBudget(Object, frozen=True, kw_only=True):
    """A policy/v1 PodDisruptionBudget."""

    metadata: Metadata = Metadata()
    spec: PodDisruptionBudgetSpec = PodDisruptionBudgetSpec()
    status: PodDisruptionBudgetStatus = PodDisruptionBudgetStatus()

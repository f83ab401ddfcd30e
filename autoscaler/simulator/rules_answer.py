"""What a server answers to the verb `rules`: `SchedulingRules` in the form of observe/rules_text.py, cut like there."""

from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.model.rules import (
    DEFAULT_SCHEDULER,
    EVERY_ADDRESS,
    Amounts,
    BoundClaim,
    Budget,
    Claim,
    HostPort,
    Labels,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    OwnerRules,
    PodRules,
    PodTerm,
    SchedulingRules,
    Selector,
    SpreadConstraint,
    Toleration,
    WaitingClaim,
    WaitingWord,
)
from autoscaler.observe.kubernetes import api, storage_api
from autoscaler.observe.kubernetes.pods import DO_NOT_SCHEDULE
from autoscaler.observe.kubernetes.storage import EXCLUSIVE, NO_PROVISIONER, WAIT_FOR_FIRST_CONSUMER
from autoscaler.observe.rules_text import OWN_NAME, Kind, Line, Word, pack

_LARGE: Final = 1_000_000
"""Bytes of a free volume: larger than any claim here."""


def answer(rules: SchedulingRules) -> str:
    """The packed text that `parse_rules` reads back, but for the times at which owners were seen.

    Owners are cut off from the end: those that wait stand first. What did not fit into an earlier answer (`left_out`,
    `incomplete`, `malformed`) is no part of it.
    """
    lines = [_word(word) for word in rules.waiting]
    for daemon in rules.daemons:
        lines += [*_storage(daemon), _owner(Kind.DAEMON, daemon)]
    lines += [_budget(budget) for budget in rules.budgets]
    lines += [_line(Kind.NAMESPACE, name, dict(labels)) for name, labels in rules.namespaces]
    lines += _nodes(rules.nodes)
    for owner in rules.owners:
        lines += [*_storage(owner), _owner(Kind.OWNER, owner)]
    return pack(list(dict.fromkeys(lines)))


def _line(kind: Kind, key: str, found: object, names: Iterable[str] = ()) -> Line:
    return Line(kind, key, tuple(names), msgspec.json.encode(found).decode())


def _word(word: WaitingWord) -> Line:
    return _line(Kind.WAITING, word.pod, Word(nominated_node_name=word.nominated_node, message=word.message))


def _budget(budget: Budget) -> Line:
    found = api.PodDisruptionBudget(
        spec=api.PodDisruptionBudgetSpec(selector=_selector(budget.selector)),
        status=api.PodDisruptionBudgetStatus(disruptions_allowed=budget.allowed),
    )
    return _line(Kind.BUDGET, f"{budget.namespace}/{budget.name}", found)


def _nodes(nodes: Iterable[NodeSpec]) -> list[Line]:
    alike: dict[NodeSpec, list[str]] = {}
    for node in nodes:
        labels = tuple((key, OWN_NAME if value == node.name else value) for key, value in node.labels)
        alike.setdefault(msgspec.structs.replace(node, name="", labels=labels), []).append(node.name)
    return [_line(Kind.NODE, "", _node(node), names) for node, names in alike.items()]


def _node(node: NodeSpec) -> api.Node:
    return api.Node(
        metadata=api.Metadata(labels=dict(node.labels)),
        spec=api.NodeFields(taints=node.taints, unschedulable=node.unschedulable),
        status=api.NodeStatus(allocatable=_quantities(node.allocatable)),
    )


# ----------------------------------------------------------------------------------------------------------------- pods


def _owner(kind: Kind, owner: OwnerRules) -> Line:
    return _line(kind, owner.owner, _pod(owner.rules, owner.shown or owner.rules.requests), owner.pods)


def _pod(rules: PodRules, shown: Amounts) -> api.Pod:
    """`shown` is what its only container asks; what the pod asks beyond it, it asks as a whole."""
    container = api.Container(
        name="main",
        resources=api.Resources(requests=_quantities(shown)),
        ports=tuple(_port(port) for port in rules.host_ports),
    )
    whole = tuple(entry for entry in rules.requests if entry not in shown)
    return api.Pod(
        metadata=api.Metadata(labels=dict(rules.labels)),
        spec=api.PodSpec(
            containers=(container,),
            resources=api.Resources(requests=_quantities(whole)),
            node_name=rules.node_name,
            node_selector=dict(rules.node_selector),
            affinity=api.Affinity(
                node_affinity=api.NodeAffinity(required=_node_selector(rules.node_affinity)),
                pod_affinity=api.PodAffinity(required=tuple(_pod_term(term) for term in rules.affinity)),
                pod_anti_affinity=api.PodAffinity(required=tuple(_pod_term(term) for term in rules.anti_affinity)),
            ),
            tolerations=tuple(_toleration(toleration) for toleration in rules.tolerations),
            topology_spread_constraints=tuple(_spread(constraint) for constraint in rules.spread),
            volumes=tuple(
                api.Volume(persistent_volume_claim=api.ClaimSource(claim_name=claim.name)) for claim in rules.claims
            ),
            scheduler_name="" if rules.scheduler == DEFAULT_SCHEDULER else rules.scheduler,
            priority=rules.priority,
            preemption_policy="" if rules.preempts else "Never",
            resource_claims=(api.DeviceClaim(name="device"),) if rules.resource_claims else (),
        ),
    )


def _quantities(amounts: Amounts) -> dict[str, str]:
    return {name: f"{value}m" if name == "cpu" else str(value) for name, value in amounts}


def _port(port: HostPort) -> api.ContainerPort:
    return api.ContainerPort(
        container_port=port.port,
        host_port=port.port,
        host_ip="" if port.address == EVERY_ADDRESS else port.address,
        protocol=port.protocol,
    )


def _selector(selector: Selector | None) -> api.LabelSelector | None:
    return None if selector is None else api.LabelSelector(match_expressions=selector)


def _node_selector(terms: tuple[NodeTerm, ...] | None) -> api.NodeSelector | None:
    if terms is None:
        return None
    return api.NodeSelector(
        node_selector_terms=tuple(
            api.NodeSelectorTerm(match_expressions=term.labels, match_fields=term.fields) for term in terms
        )
    )


def _pod_term(term: PodTerm) -> api.PodAffinityTerm:
    return api.PodAffinityTerm(
        topology_key=term.topology_key,
        label_selector=_selector(term.selector),
        namespaces=term.namespaces,
        namespace_selector=_selector(term.namespace_selector),
    )


def _toleration(toleration: Toleration) -> api.Toleration:
    return api.Toleration(
        key=toleration.key,
        operator="Exists" if toleration.any_value else "",
        value=toleration.value,
        effect=toleration.effect or "",
    )


def _spread(constraint: SpreadConstraint) -> api.TopologySpreadConstraint:
    return api.TopologySpreadConstraint(
        topology_key=constraint.topology_key,
        max_skew=constraint.max_skew,
        when_unsatisfiable=DO_NOT_SCHEDULE,
        label_selector=_selector(constraint.selector),
        min_domains=constraint.min_domains,
        node_affinity_policy="Honor" if constraint.honor_affinity else "Ignore",
        node_taints_policy="Honor" if constraint.honor_taints else "Ignore",
    )


# -------------------------------------------------------------------------------------------------------------- storage


def _storage(owner: OwnerRules) -> list[Line]:
    """Its claims that exist, their sizes in the order in which they stand, each waiting one with a class of its own."""
    rules, lines = owner.rules, []
    for size, claim in enumerate(rules.claims, start=1):
        if isinstance(claim, MissingClaim):
            continue
        own = f"{rules.namespace}.{claim.name}"
        spec = storage_api.PersistentVolumeClaimSpec(
            resources=api.Resources(requests={"storage": str(size)}),
            access_modes=(EXCLUSIVE,) if rules.exclusive_claims else (),
            volume_name=own if isinstance(claim, BoundClaim) else "",
            storage_class_name=own if isinstance(claim, WaitingClaim) else "",
        )
        lines += _behind(claim, own)
        lines.append(_line(Kind.CLAIM, f"{rules.namespace}/{claim.name}", storage_api.PersistentVolumeClaim(spec=spec)))
    return lines


def _behind(claim: Claim, name: str) -> list[Line]:
    """The volume or class of this name that makes the claim what it is, and the volumes that would do."""
    if isinstance(claim, BoundClaim):
        return [_volume(name, claim.node_affinity, labels=claim.zones)]
    if not isinstance(claim, WaitingClaim):
        return []
    found = storage_api.StorageClass(
        provisioner="" if claim.provisioned else NO_PROVISIONER,
        volume_binding_mode=WAIT_FOR_FIRST_CONSUMER,
        allowed_topologies=tuple(
            storage_api.TopologyTerm(
                match_label_expressions=tuple(
                    storage_api.TopologyExpression(key=line.key, values=line.values) for line in topology
                )
            )
            for topology in claim.topologies
        ),
    )
    free = [
        _volume(volume.name, volume.node_affinity, class_name=name, size=_LARGE + place)
        for place, volume in enumerate(claim.free)
    ]
    return [_line(Kind.CLASS, name, found), *free]


def _volume(
    name: str,
    affinity: tuple[NodeTerm, ...] | None,
    *,
    labels: Labels = (),
    class_name: str = "",
    size: int = _LARGE,
) -> Line:
    """Free where it has a class."""
    spec = storage_api.PersistentVolumeSpec(
        capacity={"storage": str(size)},
        access_modes=(EXCLUSIVE,),
        storage_class_name=class_name,
        node_affinity=storage_api.VolumeNodeAffinity(required=_node_selector(affinity)),
    )
    found = storage_api.PersistentVolume(
        metadata=api.Metadata(labels=dict(labels)),
        spec=spec,
        status=storage_api.PersistentVolumeStatus(phase="Available" if class_name else "Bound"),
    )
    return _line(Kind.VOLUME, name, found)

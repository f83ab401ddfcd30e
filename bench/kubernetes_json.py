"""Kubernetes objects as the API server writes them (plain JSON) -> the words of `model.rules`.

For benches and tests only: the service reads rules in a form of its own. A field that is not understood is an error,
not a default.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from autoscaler.model.rules import (
    DEFAULT_SCHEDULER,
    EVERY_ADDRESS,
    Amounts,
    BoundClaim,
    Claim,
    Effect,
    FreeVolume,
    HostPort,
    ImmediateClaim,
    Labels,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    Operator,
    PodRules,
    PodTerm,
    Requirement,
    Selector,
    SpreadConstraint,
    Taint,
    Toleration,
    WaitingClaim,
    equal_to,
    with_label_keys,
)
from autoscaler.observe.pod_requests import Container, largest, pod_requests
from autoscaler.observe.quantities import amount, amounts

Json = Mapping[str, Any]
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_ZONE_KEYS: Final = frozenset(
    f"{prefix}/{what}"
    for prefix in ("topology.kubernetes.io", "failure-domain.beta.kubernetes.io")
    for what in ("zone", "region")
)


class Storage(msgspec.Struct, frozen=True):
    """What a pod's claims are looked up in, each by name (claims by namespace and name)."""

    claims: dict[tuple[str, str], Json]
    volumes: dict[str, Json]
    classes: dict[str, Json]


NO_STORAGE: Final = Storage({}, {}, {})


def storage(case: Json) -> Storage:
    """`pvcs`, `pvs` and `storageclasses` of a case."""
    return Storage(
        {(c["metadata"]["namespace"], c["metadata"]["name"]): c for c in case.get("pvcs", ())},
        {volume["metadata"]["name"]: volume for volume in case.get("pvs", ())},
        {sc["metadata"]["name"]: sc for sc in case.get("storageclasses", ())},
    )


def node_spec(node: Json) -> NodeSpec:
    """A v1.Node."""
    return NodeSpec(
        name=node["metadata"]["name"],
        labels=_labels(node["metadata"].get("labels", {})),
        taints=tuple(
            Taint(key=taint["key"], value=taint.get("value", ""), effect=Effect(taint["effect"]))
            for taint in node["spec"].get("taints", ())
        ),
        unschedulable=node["spec"].get("unschedulable", False),
        allocatable=amounts(node["status"]["allocatable"]),
    )


def is_ending(pod: Json) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def is_finished(pod: Json) -> bool:
    """The scheduler forgets such pods."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def pod_rules(pod: Json, kept: Storage = NO_STORAGE, *, bound: bool = False) -> PodRules:
    """A v1.Pod; of a bound one, `spec.nodeName` is where it is, not what it asks."""
    spec, namespace, labels = pod["spec"], pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
    affinity = spec.get("affinity", {})
    node_terms = affinity.get("nodeAffinity", {}).get(_REQUIRED)
    return PodRules(
        namespace=namespace,
        labels=_labels(labels),
        requests=_requests(pod),
        node_name="" if bound else spec.get("nodeName", ""),
        node_selector=_labels(spec.get("nodeSelector", {})),
        node_affinity=None if node_terms is None else _node_terms(node_terms),
        tolerations=tuple(_toleration(toleration) for toleration in spec.get("tolerations", ())),
        affinity=_pod_terms(affinity.get("podAffinity", {}), labels),
        anti_affinity=_pod_terms(affinity.get("podAntiAffinity", {}), labels),
        spread=tuple(
            _spread(constraint, labels)
            for constraint in spec.get("topologySpreadConstraints", ())
            if constraint["whenUnsatisfiable"] == "DoNotSchedule"
        ),
        host_ports=_host_ports(spec),
        claims=_claims(spec, namespace, kept),
        scheduler=spec.get("schedulerName", DEFAULT_SCHEDULER),
        priority=spec.get("priority", 0),
        resource_claims=bool(spec.get("resourceClaims")),
        exclusive_claims=any(
            "ReadWriteOncePod" in kept.claims.get((namespace, name), {}).get("spec", {}).get("accessModes", ())
            for name in _claim_names(spec)
        ),
    )


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


# ------------------------------------------------------------------------------------------------------------ selectors


def _requirement(line: Json) -> Requirement:
    return Requirement(line["key"], Operator(line["operator"]), tuple(line.get("values", ())))


def _selector(selector: Json | None) -> Selector | None:
    if selector is None:
        return None
    lines = tuple(_requirement(line) for line in selector.get("matchExpressions", ()))
    return equal_to(selector.get("matchLabels", {})) + lines


def _node_terms(selector: Json) -> tuple[NodeTerm, ...]:
    return tuple(
        NodeTerm(
            labels=tuple(_requirement(line) for line in term.get("matchExpressions", ())),
            fields=tuple(_requirement(line) for line in term.get("matchFields", ())),
        )
        for term in selector["nodeSelectorTerms"]
    )


def _toleration(toleration: Json) -> Toleration:
    operator = toleration.get("operator", "Equal")
    if operator not in ("Equal", "Exists"):
        raise ValueError(f"A toleration's operator {operator} is not understood.")
    effect = toleration.get("effect")
    return Toleration(
        key=toleration.get("key", ""),
        any_value=operator == "Exists",
        value=toleration.get("value", ""),
        effect=Effect(effect) if effect else None,
    )


def _pod_terms(affinity: Json, labels: Mapping[str, str]) -> tuple[PodTerm, ...]:
    return tuple(
        PodTerm(
            selector=with_label_keys(
                _selector(term.get("labelSelector")),
                labels,
                match_keys=term.get("matchLabelKeys", ()),
                mismatch_keys=term.get("mismatchLabelKeys", ()),
            ),
            topology_key=term["topologyKey"],
            namespaces=tuple(sorted(term.get("namespaces", ()))),
            namespace_selector=_selector(term.get("namespaceSelector")),
        )
        for term in affinity.get(_REQUIRED, ())
    )


def _spread(constraint: Json, labels: Mapping[str, str]) -> SpreadConstraint:
    selector = _selector(constraint.get("labelSelector"))
    return SpreadConstraint(
        topology_key=constraint["topologyKey"],
        max_skew=constraint["maxSkew"],
        selector=with_label_keys(selector, labels, match_keys=constraint.get("matchLabelKeys", ())),
        min_domains=constraint.get("minDomains", 1),
        honor_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
        honor_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


# --------------------------------------------------------------------------------------------------- requests and ports


def _requests(pod: Json) -> Amounts:
    spec, status = pod["spec"], pod.get("status", {})
    statuses = {s["name"]: s for s in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))}
    infeasible = any(
        condition["type"] == "PodResizePending" and condition.get("reason") == "Infeasible"
        for condition in status.get("conditions", ())
    )

    def asked(container: Json) -> Container:
        """What it asks, what it was given, what it holds: the largest, as long as a resize is not settled."""
        own = {} if infeasible else _of(container)
        held = statuses.get(container["name"], {})
        given = dict(amounts(held.get("allocatedResources", {})))
        if not held:
            own = _of(container)
        return Container(
            requests=tuple(sorted(largest(largest(own, given), _of(held)).items())),
            sidecar=container.get("restartPolicy") == "Always",
        )

    return pod_requests(
        [asked(container) for container in spec["containers"]],
        [asked(container) for container in spec.get("initContainers", ())],
        pod_level=amounts(spec.get("resources", {}).get("requests", {})),
        overhead=amounts(spec.get("overhead", {})),
    )


def _of(container: Json) -> dict[str, int]:
    return dict(amounts(container.get("resources", {}).get("requests", {})))


def _host_ports(spec: Json) -> tuple[HostPort, ...]:
    sidecars = [c for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always"]
    return tuple(
        HostPort(
            port=port["hostPort"],
            protocol=port.get("protocol") or "TCP",
            address=port.get("hostIP") or EVERY_ADDRESS,
        )
        for container in (*spec["containers"], *sidecars)
        for port in container.get("ports", ())
        if port.get("hostPort", 0) > 0
    )


# -------------------------------------------------------------------------------------------------------------- volumes


def _claim_names(spec: Json) -> list[str]:
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in spec.get("volumes", ())
        if "persistentVolumeClaim" in volume
    ]


def _claims(spec: Json, namespace: str, kept: Storage) -> tuple[Claim, ...]:
    found = [(name, kept.claims.get((namespace, name))) for name in _claim_names(spec)]
    found.sort(key=lambda entry: 0 if entry[1] is None else _size(entry[1]["spec"]["resources"]["requests"]))
    return tuple(MissingClaim(name=name) if claim is None else _claim(name, claim, kept) for name, claim in found)


def _claim(name: str, claim: Json, kept: Storage) -> Claim:
    if volume_name := claim["spec"].get("volumeName"):
        volume = kept.volumes[volume_name]
        labels = volume["metadata"].get("labels", {})
        zones = _labels({key: value for key, value in labels.items() if key in _ZONE_KEYS})
        return BoundClaim(name=name, node_affinity=_volume_affinity(volume), zones=zones)
    storage_class = kept.classes[claim["spec"]["storageClassName"]]
    if storage_class.get("volumeBindingMode") != "WaitForFirstConsumer":
        return ImmediateClaim(name=name)
    return WaitingClaim(
        name=name,
        provisioned=storage_class["provisioner"] != "kubernetes.io/no-provisioner",
        topologies=tuple(
            tuple(
                Requirement(line["key"], Operator.IN, tuple(line["values"]))
                for line in topology["matchLabelExpressions"]
            )
            for topology in storage_class.get("allowedTopologies", ())
        ),
        free=_free_volumes(claim, kept.volumes.values()),
    )


def _free_volumes(claim: Json, volumes: Iterable[Json]) -> tuple[FreeVolume, ...]:
    """Those that would do, smallest first."""
    asked = claim["spec"]
    would_do = [
        volume
        for volume in volumes
        if volume["status"]["phase"] == "Available"
        and volume["spec"].get("storageClassName", "") == asked["storageClassName"]
        and set(asked["accessModes"]) <= set(volume["spec"]["accessModes"])
        and _size(volume["spec"]["capacity"]) >= _size(asked["resources"]["requests"])
    ]
    would_do.sort(key=lambda volume: (_size(volume["spec"]["capacity"]), volume["metadata"]["name"]))
    return tuple(FreeVolume(name=v["metadata"]["name"], node_affinity=_volume_affinity(v)) for v in would_do)


def _volume_affinity(volume: Json) -> tuple[NodeTerm, ...] | None:
    required = volume["spec"].get("nodeAffinity", {}).get("required")
    return None if required is None else _node_terms(required)


def _size(quantities: Mapping[str, str]) -> int:
    return amount("storage", quantities["storage"])

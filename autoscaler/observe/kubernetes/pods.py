"""Pods, and the templates of DaemonSets, as the scheduler's rules."""

from collections.abc import Mapping
from typing import Final

import msgspec

from autoscaler.model.rules import (
    DEFAULT_SCHEDULER,
    EVERY_ADDRESS,
    Amounts,
    Effect,
    HostPort,
    PodRules,
    PodTerm,
    SpreadConstraint,
    Toleration,
    with_label_keys,
)
from autoscaler.observe import pod_requests
from autoscaler.observe.kubernetes import api
from autoscaler.observe.kubernetes.selectors import node_terms, requirements, sorted_labels
from autoscaler.observe.kubernetes.storage import NO_STORAGE, Storage, claims_of, has_exclusive_claim
from autoscaler.observe.pod_requests import largest
from autoscaler.observe.quantities import amounts

DO_NOT_SCHEDULE: Final = "DoNotSchedule"
_OF_A_DAEMON: Final = (
    Toleration(key="node.kubernetes.io/not-ready", any_value=True, effect=Effect.NO_EXECUTE),
    Toleration(key="node.kubernetes.io/unreachable", any_value=True, effect=Effect.NO_EXECUTE),
    Toleration(key="node.kubernetes.io/disk-pressure", any_value=True, effect=Effect.NO_SCHEDULE),
    Toleration(key="node.kubernetes.io/memory-pressure", any_value=True, effect=Effect.NO_SCHEDULE),
    Toleration(key="node.kubernetes.io/pid-pressure", any_value=True, effect=Effect.NO_SCHEDULE),
    Toleration(key="node.kubernetes.io/unschedulable", any_value=True, effect=Effect.NO_SCHEDULE),
)
_NETWORK_UNAVAILABLE: Final = Toleration(
    key="node.kubernetes.io/network-unavailable", any_value=True, effect=Effect.NO_SCHEDULE
)


def is_ending(pod: api.Pod) -> bool:
    """Whether it is being deleted."""
    return pod.metadata.deletion_timestamp is not None


def is_finished(pod: api.Pod) -> bool:
    """The scheduler forgets such pods."""
    return pod.status.phase in ("Succeeded", "Failed")


def pod_rules(
    pod: api.Pod, storage: Storage = NO_STORAGE, *, namespace: str | None = None, bound: bool = False
) -> PodRules:
    """A v1.Pod; of a bound one, `spec.nodeName` is where it is, not what it asks.

    `namespace` where the pod itself does not say. Raises ValueError for what is not understood.
    """
    spec, labels = pod.spec, pod.metadata.labels
    namespace = pod.metadata.namespace if namespace is None else namespace
    required = spec.affinity.node_affinity.required
    return PodRules(
        namespace=namespace,
        labels=sorted_labels(labels),
        requests=requests(pod),
        node_name="" if bound else spec.node_name,
        node_selector=sorted_labels(spec.node_selector),
        node_affinity=None if required is None else node_terms(required),
        tolerations=tuple(_toleration(toleration) for toleration in spec.tolerations),
        affinity=_pod_terms(spec.affinity.pod_affinity, labels),
        anti_affinity=_pod_terms(spec.affinity.pod_anti_affinity, labels),
        spread=tuple(
            _spread(constraint, labels)
            for constraint in spec.topology_spread_constraints
            if constraint.when_unsatisfiable == DO_NOT_SCHEDULE
        ),
        host_ports=_host_ports(spec),
        claims=claims_of(pod, namespace, storage),
        scheduler=spec.scheduler_name or DEFAULT_SCHEDULER,
        priority=spec.priority,
        preempts=spec.preemption_policy != "Never",
        resource_claims=bool(spec.resource_claims),
        exclusive_claims=has_exclusive_claim(pod, namespace, storage),
    )


# -------------------------------------------------------------------------------------------------------------- daemons


def template_pod(template: api.Pod) -> api.Pod:
    """The pod of a DaemonSet's template: what an API server fills in when a pod is created, not in a template.

    Requests that only a limit gives (SetDefaults_Pod and SetDefaults_PodResources of core/v1), and a host port for each
    port of a pod in the host's network. The name and affinity of one Node are left out: it is the pod of any Node.
    """
    spec = template.spec
    containers = tuple(_defaulted(container, spec) for container in spec.containers)
    init = tuple(_defaulted(container, spec) for container in spec.init_containers)
    own = {name for container in (*containers, *init) for name in container.resources.requests}
    whole = spec.resources
    pod_level = {name: limit for name, limit in whole.limits.items() if name not in own} | whole.requests
    return msgspec.structs.replace(
        template,
        spec=msgspec.structs.replace(
            spec, containers=containers, init_containers=init, resources=api.Resources(requests=pod_level)
        ),
    )


def daemon_rules(template: api.Pod, storage: Storage = NO_STORAGE, *, namespace: str) -> PodRules:
    """What the pods of a DaemonSet ask, with the tolerations that its controller gives to each of them.

    Source: pkg/controller/daemon/util, AddOrUpdateDaemonPodTolerations. A template's priority is a class's, by name
    only: it counts as 0.
    """
    rules = pod_rules(template_pod(template), storage, namespace=namespace)
    given = (*_OF_A_DAEMON, _NETWORK_UNAVAILABLE) if template.spec.host_network else _OF_A_DAEMON
    missing = tuple(toleration for toleration in given if toleration not in rules.tolerations)
    return msgspec.structs.replace(rules, tolerations=rules.tolerations + missing)


def _defaulted(container: api.Container, spec: api.PodSpec) -> api.Container:
    ports = container.ports
    if spec.host_network:
        ports = tuple(msgspec.structs.replace(port, host_port=port.host_port or port.container_port) for port in ports)
    asked = api.Resources(requests=container.resources.limits | container.resources.requests)
    return msgspec.structs.replace(container, resources=asked, ports=ports)


# ---------------------------------------------------------------------------------------------------------------- parts


def _toleration(toleration: api.Toleration) -> Toleration:
    if toleration.operator not in ("", "Equal", "Exists"):
        raise ValueError(f"A toleration's operator {toleration.operator} is not understood.")
    return Toleration(
        key=toleration.key,
        any_value=toleration.operator == "Exists",
        value=toleration.value,
        effect=Effect(toleration.effect) if toleration.effect else None,
    )


def _pod_terms(affinity: api.PodAffinity, labels: Mapping[str, str]) -> tuple[PodTerm, ...]:
    return tuple(
        PodTerm(
            selector=with_label_keys(
                requirements(term.label_selector),
                labels,
                match_keys=term.match_label_keys,
                mismatch_keys=term.mismatch_label_keys,
            ),
            topology_key=term.topology_key,
            namespaces=tuple(sorted(term.namespaces)),
            namespace_selector=requirements(term.namespace_selector),
        )
        for term in affinity.required
    )


def _spread(constraint: api.TopologySpreadConstraint, labels: Mapping[str, str]) -> SpreadConstraint:
    selector = requirements(constraint.label_selector)
    return SpreadConstraint(
        topology_key=constraint.topology_key,
        max_skew=constraint.max_skew,
        selector=with_label_keys(selector, labels, match_keys=constraint.match_label_keys),
        min_domains=constraint.min_domains,
        honor_affinity=constraint.node_affinity_policy == "Honor",
        honor_taints=constraint.node_taints_policy == "Honor",
    )


def _host_ports(spec: api.PodSpec) -> tuple[HostPort, ...]:
    sidecars = [container for container in spec.init_containers if _is_sidecar(container)]
    return tuple(
        HostPort(port=port.host_port, protocol=port.protocol or "TCP", address=port.host_ip or EVERY_ADDRESS)
        for container in (*spec.containers, *sidecars)
        for port in container.ports
        if port.host_port > 0
    )


def _is_sidecar(container: api.Container) -> bool:
    return container.restart_policy == "Always"


# ------------------------------------------------------------------------------------------------------------- requests


def requests(pod: api.Pod, *, pod_level: bool = True) -> Amounts:
    """Effective ones; without the pod level they are what kube-state-metrics shows."""
    spec, status = pod.spec, pod.status
    statuses = {held.name: held for held in (*status.container_statuses, *status.init_container_statuses)}
    infeasible = any(
        condition.type == "PodResizePending" and condition.reason == "Infeasible" for condition in status.conditions
    )

    def asked(container: api.Container) -> pod_requests.Container:
        """What it asks, what it was given, what it holds: the largest, as long as a resize is not settled."""
        held = statuses.get(container.name)
        own = _amounts(container.resources.requests)
        if held is not None:
            given, has = _amounts(held.allocated_resources), _amounts(held.resources.requests)
            own = largest(largest({} if infeasible else own, given), has)
        return pod_requests.Container(requests=tuple(sorted(own.items())), sidecar=_is_sidecar(container))

    return pod_requests.pod_requests(
        [asked(container) for container in spec.containers],
        [asked(container) for container in spec.init_containers],
        pod_level=amounts(spec.resources.requests) if pod_level else (),
        overhead=amounts(spec.overhead),
    )


def _amounts(quantities: dict[str, str]) -> dict[str, int]:
    return dict(amounts(quantities))

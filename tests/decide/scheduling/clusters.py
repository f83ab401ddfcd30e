"""Nodes and pods for the filters in one line: `cluster(node("a", ZONE="z1"), on={"a": [pod(app="web")]})`."""

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.decide.scheduling.placing import Template, Waiting
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    Amounts,
    NodeSpec,
    PodRules,
    PodTerm,
    Requirement,
    SpreadConstraint,
    Taint,
    equal_to,
)

HOST = HOSTNAME_LABEL
ZONE = "topology.kubernetes.io/zone"
ROOMY: Amounts = (("cpu", 4000), ("memory", 8 << 30), ("pods", 110))


def node(
    name: str,
    zone: str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Taint] = (),
    cordoned: bool = False,
    offers: Amounts = ROOMY,
) -> NodeSpec:
    """A roomy node with a hostname, and a zone if it is given one."""
    own = {HOST: name, **({} if zone is None else {ZONE: zone}), **(labels or {})}
    return NodeSpec(
        name=name,
        labels=tuple(sorted(own.items())),
        taints=tuple(taints),
        unschedulable=cordoned,
        allocatable=offers,
    )


def pod(namespace: str = "shop", *, cpu: int = 100, labels: Mapping[str, str] | None = None, **asks: Any) -> PodRules:
    """A small pod of the app `web`."""
    own = {"app": "web"} if labels is None else labels
    return PodRules(
        namespace=namespace, labels=tuple(sorted(own.items())), requests=(("cpu", cpu), ("memory", 1 << 20)), **asks
    )


WEB = equal_to({"app": "web"})


def near(key: str = HOST, selector: tuple[Requirement, ...] | None = WEB, **changes: Any) -> PodTerm:
    """A term about pods of the app `web`."""
    return PodTerm(selector=selector, topology_key=key, **changes)


def spread(key: str = ZONE, *, skew: int = 1, **changes: Any) -> SpreadConstraint:
    """Pods of the app `web`, evenly."""
    return SpreadConstraint(**{"topology_key": key, "max_skew": skew, "selector": WEB, **changes})


def cluster(
    *nodes: NodeSpec,
    on: Mapping[str, Sequence[PodRules]] | None = None,
    ending: Mapping[str, Sequence[PodRules]] | None = None,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> Cluster:
    """Nodes, and what is on them by node name; `ending` is being deleted."""
    built = Cluster(namespaces or {})
    for spec in nodes:
        built.add_node(spec)
    for leaving, placed in ((False, on or {}), (True, ending or {})):
        for name, pods in placed.items():
            for rules in pods:
                built.place(rules, built.nodes[name], ending=leaving)
    return built


def refusing(rules: PodRules, nodes: Cluster) -> dict[str, Plugin | None]:
    """By node, who refuses the pod."""
    found = {name: first_refusal(rules, info, nodes) for name, info in nodes.nodes.items()}
    return {name: None if refusal is None else refusal.plugin for name, refusal in found.items()}


def taking(rules: PodRules, nodes: Cluster) -> set[str]:
    """The nodes that take the pod."""
    return {name for name, plugin in refusing(rules, nodes).items() if plugin is None}


def template(name: str = "t", zone: str | None = None, *, daemons: Sequence[PodRules] = (), **changes: Any) -> Template:
    """What a new node would be."""
    return Template(name=name, node=node(name, zone, **changes), daemons=tuple(daemons))


def waiting(count: int, rules: PodRules) -> Waiting:
    """So many of them."""
    return Waiting(rules, count)

"""What a server of the world tells of all that its scheduler asks: the verb `rules`, by pod owner."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.model.rules import Amounts, Budget, OwnerRules, PodRules, SchedulingRules, WaitingWord, equal_to
from autoscaler.simulator.world.controllers import budget_status
from autoscaler.simulator.world.objects import ClusterState, SimPod
from autoscaler.simulator.world.rules import amounts_of, labels_of, namespace_labels, node_spec, pod_rules, rules_of
from autoscaler.simulator.world.workload import NOTHING, Kind, PodTemplate

GATED: Final = "Scheduling is blocked due to non-empty scheduling gates"


def scheduling_rules(state: ClusterState) -> SchedulingRules:
    """All of it, as of now; owners of which a pod waits stand first."""
    return SchedulingRules(
        answered_at_s=int(state.now_s),
        owners=tuple(_owners(state)),
        daemons=tuple(_daemons(state)),
        nodes=tuple(sorted((node_spec(node) for node in state.nodes.values()), key=lambda node: node.name)),
        namespaces=tuple((name, tuple(labels.items())) for name, labels in namespace_labels(state).items()),
        budgets=tuple(_budgets(state)),
        waiting=tuple(
            WaitingWord(pod=pod.title, message=GATED if pod.template.gated else pod.unschedulable_message)
            for pod in state.unbound.values()
        ),
    )


def owner_key(pod: SimPod) -> str:
    """As the core's `Pod.owner`."""
    return f"{pod.namespace}/{pod.owner_kind or 'Pod'}/{pod.owner_name or pod.name}"


def _owners(state: ClusterState) -> Iterable[OwnerRules]:
    """One entry for each owner, or several that name their pods, where these differ."""
    pods: dict[str, dict[PodRules, list[SimPod]]] = defaultdict(lambda: defaultdict(list))
    for pod in state.pods.values():
        if pod.workload.kind is not Kind.DAEMON_SET and not pod.finished:
            pods[owner_key(pod)][pod_rules(state, pod)].append(pod)
    waiting = {owner_key(pod) for pod in state.unbound.values()}
    for owner in sorted(pods, key=lambda owner: (owner not in waiting, owner)):
        for rules, alike in pods[owner].items():
            names = tuple(sorted(pod.name for pod in alike)) if len(pods[owner]) > 1 else ()
            shown = _shown(alike[0].template, rules)
            yield OwnerRules(owner=owner, rules=rules, pods=names, shown=shown, seen_at_s=int(state.now_s))


def _daemons(state: ClusterState) -> Iterable[OwnerRules]:
    """A template names its priority class, and no number."""
    for workload in state.workloads.values():
        if workload.kind is Kind.DAEMON_SET:
            rules = msgspec.structs.replace(rules_of(workload), priority=0)
            owner = f"{workload.namespace}/DaemonSet/{workload.name}"
            shown = _shown(workload.template, rules)
            yield OwnerRules(owner=owner, rules=rules, shown=shown, seen_at_s=int(state.now_s))


def _shown(template: PodTemplate, rules: PodRules) -> Amounts:
    """What kube-state-metrics knows of the requests, where that is not all."""
    known = dict(amounts_of(msgspec.structs.replace(template, pod_level=NOTHING)))
    shown = tuple((name, known.get(name, 0)) for name, _ in rules.requests)
    return () if shown == rules.requests else shown


def _budgets(state: ClusterState) -> Iterable[Budget]:
    for workload in state.workloads.values():
        status = budget_status(state, workload)
        if status is not None:
            selector = equal_to(dict(labels_of(workload)))
            yield Budget(namespace=workload.namespace, name=workload.name, selector=selector, allowed=status.allowed)

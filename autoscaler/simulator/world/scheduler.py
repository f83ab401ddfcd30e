"""kube-scheduler's filters (decide/scheduling/filters), then least allocated first. It never preempts.

The filters are the core's: that they are right is shown from outside, by the verdicts of a real scheduler
(tests/data/verdicts), and not by this world.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.filters.node_affinity import wants
from autoscaler.decide.scheduling.filters.refusal import Refusal
from autoscaler.decide.scheduling.matching import untolerated
from autoscaler.model.rules import DEFAULT_SCHEDULER, NodeSpec, PodRules
from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod
from autoscaler.simulator.world.rules import cluster_of, pod_rules, priority_of, rules_of
from autoscaler.simulator.world.workload import Kind, Workload

_Alike = tuple[PodRules, str]
"""Rules, and the Node that a DaemonSet's pod is for."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the scheduler decided of one pod: a Node, or words why there is none."""

    pod: SimPod
    node: SimNode | None
    message: str = ""


def belongs(workload: Workload, spec: NodeSpec) -> bool:
    """Whether the DaemonSet controller makes a pod there: it looks at what the Node is, not at what is free on it."""
    rules = rules_of(workload)
    return wants(rules, NodeInfo(spec)) and untolerated(spec.taints, rules.tolerations) is None


def placements(state: ClusterState) -> Iterable[Placement]:
    """Judge the unbound pods that are not gated, by priority and age; the caller binds before it takes the next."""
    waiting = sorted(
        (pod for pod in state.unbound.values() if _is_asked_for(pod)),
        key=lambda pod: (-priority_of(pod.template), pod.created_at_s, pod.uid),
    )
    if not waiting:
        return
    cluster = cluster_of(state)
    # What did not fit once in this pass is not tried again: placing pods only takes room away, but for two filters.
    hopeless: dict[_Alike, str] = {}
    tried = _Tried(cluster, each_alone=not any(pod.rules.affinity or pod.rules.spread for pod in state.pods.values()))
    for pod in waiting:
        rules = pod_rules(state, pod)
        alike = (rules, pod.bound_to)
        if alike in hopeless:
            yield Placement(pod, None, hopeless[alike])
            continue
        node, reasons = _choose(pod, rules, state, tried)
        if node is None:
            hopeless[alike] = f"0/{len(state.nodes)} nodes are available: {', '.join(reasons)}."
            yield Placement(pod, None, hopeless[alike])
            continue
        yield Placement(pod, node)
        cluster.place(pod.rules, cluster.nodes[node.name])
        tried.forget(node.name)
        for others in [key for key in hopeless if key[0].affinity or key[0].spread]:
            del hopeless[others]


class _Tried:
    """What the filters said of each Node to pods that ask alike, within one pass.

    `each_alone`: no pod looks at others, so what is placed on one Node changes nothing on the rest.
    """

    def __init__(self, cluster: Cluster, *, each_alone: bool) -> None:
        self._cluster = cluster
        self._each_alone = each_alone
        self._said: dict[PodRules, dict[str, Refusal | None]] = {}

    def refusal(self, rules: PodRules, node: str) -> Refusal | None:
        said = self._said.setdefault(rules, {})
        if node not in said:
            said[node] = first_refusal(rules, self._cluster.nodes[node], self._cluster)
        return said[node]

    def forget(self, node: str) -> None:
        """A pod was placed there."""
        if not self._each_alone:
            self._said.clear()
        for said in self._said.values():
            said.pop(node, None)


def _is_asked_for(pod: SimPod) -> bool:
    return not (pod.template.gated or pod.terminating) and pod.rules.scheduler == DEFAULT_SCHEDULER


def _choose(pod: SimPod, rules: PodRules, state: ClusterState, tried: _Tried) -> tuple[SimNode | None, list[str]]:
    """The best Node for the pod, or what stands against all. Ties fall by name, so that a run can be repeated.

    Reasons as kube-scheduler's FitError tells them: so many Nodes for each, or what is said of the pod itself.
    """
    best: tuple[float, str] | None = None
    for name, node in state.nodes.items():
        # What has no room is refused by one filter or another: which one, only words need to know.
        if not _has_room(pod, node) or tried.refusal(rules, name) is not None or _passed_over(pod, node):
            continue
        scored = (score(pod, node), name)
        if best is None or scored > best:
            best = scored
    if best is not None:
        return state.nodes[best[1]], []
    reasons: Counter[str] = Counter()
    for name, node in state.nodes.items():
        refusal = tried.refusal(rules, name)
        if refusal is not None and refusal.before_nodes and not refusal.reasons[0].startswith("node(s)"):
            return None, [*refusal.reasons]
        if why := _passed_over(pod, node):
            reasons[why] += 1
        elif refusal is not None:
            reasons.update(refusal.reasons)
    return None, sorted(f"{count} {reason}" for reason, count in reasons.items())


def _has_room(pod: SimPod, node: SimNode) -> bool:
    """As NodeResourcesFit has it of CPU and memory: what is asked as 0 is not checked."""
    ask, size = pod.ask, node.allocatable
    fits = not ask.cpu_millicores or node.asked_millicores + ask.cpu_millicores <= size.cpu_millicores
    return fits and (not ask.memory_bytes or node.asked_bytes + ask.memory_bytes <= size.memory_bytes)


def _passed_over(pod: SimPod, node: SimNode) -> str:
    """What keeps the pod off a Node beside the filters; empty for nothing."""
    if pod.bound_to not in ("", node.name):
        return "node(s) didn't satisfy plugin(s) [NodeAffinity]"
    if node.useless and pod.workload.kind is not Kind.DAEMON_SET:
        return "node(s) are refused by a plugin that nobody knows"
    return ""


def score(pod: SimPod, node: SimNode) -> float:
    """The mean free share after placing the pod: kube-scheduler's LeastAllocated."""
    cpu = 1 - (node.asked_millicores + pod.ask.cpu_millicores) / node.allocatable.cpu_millicores
    memory = 1 - (node.asked_bytes + pod.ask.memory_bytes) / node.allocatable.memory_bytes
    return (cpu + memory) / 2

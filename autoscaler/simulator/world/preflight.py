"""The rules that forbid a node command before anything is touched, and the line that tells its result."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from autoscaler.model import CommandOutcome, Cordon, Found, Inspection, NodeCommand
from autoscaler.model.rules import Taint
from autoscaler.simulator.world.controllers import evictable_pods, may_evict
from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod
from autoscaler.simulator.world.workload import SYSTEM_CRITICAL, Kind

FENCE_ANNOTATION: Final = "k3s-autoscaler/fence"
"""The highest fence that spoke."""
OPERATION_ANNOTATION: Final = "k3s-autoscaler/operation"
"""Whose cordon it is."""
DRAINING_ANNOTATION: Final = "k3s-autoscaler/draining"
"""Which drain runs; another word there stops it."""
ADMISSION_RULE: Final = "admission"
NAMES_KEPT: Final = 5
"""Of each kind of pod that an inspection names."""
VOLUMES_KEPT: Final = 10


class ResultLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The only line that the script prints."""

    operation: str
    verb: str
    outcome: CommandOutcome
    rule: str
    message: str
    evicted_pods: int
    inspection: Inspection | None = None
    rules: str = ""


def result_line(
    command: NodeCommand,
    outcome: CommandOutcome,
    message: str,
    *,
    rule: str = "",
    evicted_pods: int = 0,
    inspection: Inspection | None = None,
    rules: str = "",
) -> ResultLine:
    """Fill a result line."""
    return ResultLine(
        operation=command.operation_id,
        verb=command.verb.value,
        outcome=outcome,
        rule=rule,
        message=message,
        evicted_pods=evicted_pods,
        inspection=inspection,
        rules=rules,
    )


def _refuse(command: NodeCommand, rule: str, message: str) -> ResultLine:
    return result_line(command, CommandOutcome.REFUSED, message, rule=rule)


def fence_of(node: SimNode) -> int:
    """The highest fence that the node has seen."""
    return int(node.annotations.get(FENCE_ANNOTATION, "0"))


def preflight(state: ClusterState, command: NodeCommand, node: SimNode) -> ResultLine | None:
    """The first rule that forbids the drain; None when none does.

    A reclaim keeps only the fence, identity and control-plane rules: the machine goes away whatever we do.
    """
    refusal = check_fence(command, node) or check_identity(command, node)
    if refusal is not None or command.reclaim:
        return refusal
    return _check_cordon(command, node) or _check_volumes(state, command, node) or _check_pods(state, command, node)


def check_fence(command: NodeCommand, node: SimNode) -> ResultLine | None:
    """A command of an earlier operation is too late."""
    if command.fence >= fence_of(node):
        return None
    message = f"A command with fence {fence_of(node)} spoke; this one has {command.fence}."
    return result_line(command, CommandOutcome.FENCED_OFF, message)


def check_identity(command: NodeCommand, node: SimNode) -> ResultLine | None:
    """Another machine under the same name, or a server."""
    if node.provider_id != command.provider_id:
        message = f'The Node {node.name} has provider-id "{node.provider_id}", not {command.provider_id}.'
        return _refuse(command, "identity", message)
    if node.machine.server:
        return _refuse(command, "control-plane", f"The Node {node.name} runs the control plane.")
    return None


def _check_cordon(command: NodeCommand, node: SimNode) -> ResultLine | None:
    if node.cordoned and OPERATION_ANNOTATION not in node.annotations:
        return _refuse(command, "cordoned-by-others", f"The Node {node.name} was cordoned by someone else.")
    return None


def _check_volumes(state: ClusterState, command: NodeCommand, node: SimNode) -> ResultLine | None:
    for name in local_volumes(state, node):
        return _refuse(command, "local-volume", f"The volume {name} lives on {node.name}.")
    return None


def local_volumes(state: ClusterState, node: SimNode) -> list[str]:
    """Those that no other Node can have. Every volume of this world names one Node, under its driver's key."""
    return [volume.name for volume in state.volumes.values() if volume.node_name == node.name]


def movable_pods(node: SimNode) -> list[SimPod]:
    """What a drain would move."""
    return [pod for pod in evictable_pods(node) if not pod.finished]


def inspection_of(state: ClusterState, node: SimNode) -> Inspection:
    """All that stands against ending its machine, judged as a preflight does."""
    pods = movable_pods(node)
    volumes = local_volumes(state, node)
    marked = node.annotations.get(OPERATION_ANNOTATION, "")
    cordon = Cordon.NONE
    if node.cordoned:
        cordon = Cordon.OURS if marked else Cordon.OTHER
    return Inspection(
        node=node.name,
        uid=node.uid,
        created_at_s=int(node.created_at_s),
        ready=node.ready,
        ready_since_s=int(node.ready_since_s),
        cordon=cordon,
        operation=marked,
        fence=fence_of(node),
        taints=tuple(_taint(taint) for taint in node.taints()),
        local_volumes=Found(count=len(volumes), names=tuple(volumes[:VOLUMES_KEPT])),
        bare_pods=_found(pods, lambda pod: not pod.owner_kind),
        critical_pods=_found(pods, lambda pod: pod.template.priority_class in SYSTEM_CRITICAL),
        do_not_evict_pods=_found(pods, lambda pod: pod.template.do_not_evict()),
        movable_pods=len(pods),
        ending_pods=sum(pod.terminating and pod.workload.kind is not Kind.DAEMON_SET for pod in node.pods.values()),
    )


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"


def _found(pods: list[SimPod], kind: Callable[[SimPod], bool]) -> Found:
    titles = [pod.title for pod in pods if kind(pod)]
    return Found(count=len(titles), names=tuple(titles[:NAMES_KEPT]))


def _check_pods(state: ClusterState, command: NodeCommand, node: SimNode) -> ResultLine | None:
    pods = movable_pods(node)
    for pod in pods:
        if not pod.owner_kind:
            return _refuse(command, "bare-pod", f"The pod {pod.title} has no controller: nothing would start it again.")
        if pod.template.do_not_evict():
            return _refuse(command, "do-not-evict", f"The pod {pod.title} asks not to be evicted.")
    for pod in pods:
        if not may_evict(state, pod):
            message = f"A disruption budget forbids it: {pod.title} of {pod.workload.key}."
            return result_line(command, CommandOutcome.BLOCKED_BY_BUDGET, message, rule="disruption-budget")
    return admission_denies(state, command, pods)


def admission_denies(state: ClusterState, command: NodeCommand, pods: Sequence[SimPod]) -> ResultLine | None:
    """The refusal of an admission policy, where one denies the evictions that are left to do."""
    if not pods or not state.faults.admission_denies:
        return None
    return _refuse(command, ADMISSION_RULE, f"An admission policy denies it: {pods[0].title}.")

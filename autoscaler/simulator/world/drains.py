"""One running drain: cordon, evict what budgets allow, wait for the pods to go, give back what did not work."""

from collections.abc import Callable
from typing import Final

from autoscaler.model import CommandOutcome, NodeCommand
from autoscaler.simulator.world.controllers import delete_pod, evictable_pods, may_evict
from autoscaler.simulator.world.nodes import Nodes
from autoscaler.simulator.world.objects import ClusterState, SimNode, SimPod
from autoscaler.simulator.world.preflight import (
    DRAINING_ANNOTATION,
    FENCE_ANNOTATION,
    OPERATION_ANNOTATION,
    ResultLine,
    admission_denies,
    fence_of,
    result_line,
)
from autoscaler.simulator.world.workload import Kind

RETRY_S: Final = 5.0
"""kubectl drain asks again this long after a budget said no."""
POLL_S: Final = 2.0
"""How often a running drain looks at its node's annotations."""
STOP_WAIT_S: Final = 45.0
"""How long a later command waits for the end of a drain that it stopped."""
BLIND_S: Final = 10.0
"""A drain that cannot see its fence for this long stops (five polls)."""


class Drain:
    """Begins with the cordon; `step` looks and does what can be done now."""

    def __init__(
        self,
        state: ClusterState,
        nodes: Nodes,
        command: NodeCommand,
        node: SimNode,
        ended: Callable[[ResultLine], None],
    ) -> None:
        self.command = command
        self.when_ended: list[Callable[[], None]] = []
        self._state = state
        self._nodes = nodes
        self._node = node
        self._ended = ended
        self._over = False
        self._waiting: dict[str, SimPod] = {}
        """On their way out, by uid."""
        self._evicted = 0
        self._retry_at_s: float | None = None
        self._blind_since_s: float | None = None
        self._deadline_s = state.now_s + command.timeout_s
        nodes.cordon(node)
        node.annotations[FENCE_ANNOTATION] = str(command.fence)
        node.annotations[OPERATION_ANNOTATION] = command.operation_id
        node.annotations[DRAINING_ANNOTATION] = command.operation_id
        state.at(self._deadline_s, self.step)
        state.after_termination.append(self._pod_gone)

    def _pod_gone(self) -> None:
        if any(uid not in self._state.pods for uid in self._waiting):
            self._state.at(self._state.now_s, self.step)

    def step(self) -> None:
        """Look, and do what can be done now."""
        state, node = self._state, self._node
        if self._over:
            return
        if state.nodes.get(node.name) is not node:
            self._end(CommandOutcome.NO_SUCH_NODE, f"The Node {node.name} was deleted while it was drained.")
        elif state.faults.api_unreachable:
            self._wait_blind()
        elif fence_of(node) > self.command.fence or node.annotations.get(DRAINING_ANNOTATION) != self._mark:
            self._end(CommandOutcome.FENCED_OFF, f"The drain was stopped by a later command (fence {fence_of(node)}).")
        elif not node.cordoned and not self.command.reclaim:
            words = f"Somebody uncordoned {node.name} while it was drained: it is theirs to decide on."
            self._end(CommandOutcome.REFUSED, words, rule="uncordoned-by-others")
        elif denied := admission_denies(state, self.command, evictable_pods(node)):
            self._end(denied.outcome, denied.message, rule=denied.rule)
        else:
            if not node.cordoned:
                self._nodes.cordon(node)
            self._blind_since_s = None
            self._go_on()

    def abandon(self) -> None:
        """The server that runs it is gone: nothing is undone or told, and whoever waits for its end goes on."""
        if not self._over:
            self._over = True
            self._state.after_termination.remove(self._pod_gone)
            for action in self.when_ended:
                self._state.at(self._state.now_s + STOP_WAIT_S, action)

    @property
    def _mark(self) -> str:
        return self.command.operation_id

    def _wait_blind(self) -> None:
        now_s = self._state.now_s
        if self._blind_since_s is None:
            self._blind_since_s = now_s
        if now_s - self._blind_since_s >= BLIND_S:
            self._end(CommandOutcome.API_UNREACHABLE, "The drain was stopped: the fence could not be seen.")
        else:
            self._state.at(now_s + BLIND_S, self.step)

    def _go_on(self) -> None:
        state, node = self._state, self._node
        blocked = self._evict()
        # A pod that somebody else is ending is waited for as well, as kubectl does.
        self._waiting = {
            pod.uid: pod for pod in node.pods.values() if pod.terminating and pod.workload.kind is not Kind.DAEMON_SET
        }
        if not self._waiting and not blocked:
            self._end(CommandOutcome.SUCCEEDED, f"Drained; {self._evicted} pods were evicted.")
        elif state.now_s >= self._deadline_s and blocked:
            message = (
                f"A disruption budget held the drain up for {self.command.timeout_s} s: {blocked[0].workload.key}."
            )
            self._end(CommandOutcome.BLOCKED_BY_BUDGET, message)
        elif state.now_s >= self._deadline_s:
            self._end(CommandOutcome.TIMED_OUT, f"The drain did not end within {self.command.timeout_s} s.")
        elif blocked and (self._retry_at_s is None or self._retry_at_s <= state.now_s):
            self._retry_at_s = state.now_s + RETRY_S
            state.at(self._retry_at_s, self.step)

    def _evict(self) -> list[SimPod]:
        """Evict every pod that its budget lets go now; returns the others."""
        blocked = []
        for pod in evictable_pods(self._node):
            if may_evict(self._state, pod):
                delete_pod(self._state, pod, grace_s=self.command.grace_s)
                self._evicted += 1
                self._state.evictions += not pod.finished
            else:
                blocked.append(pod)
        return blocked

    def _end(self, outcome: CommandOutcome, message: str, *, rule: str = "") -> None:
        node, annotations = self._node, self._node.annotations
        self._over = True
        self._state.after_termination.remove(self._pod_gone)
        if outcome is not CommandOutcome.API_UNREACHABLE:
            annotations.pop(DRAINING_ANNOTATION, None)
            # Whatever did not work is undone, unless the machine goes away or a later command decides.
            undone = outcome not in (CommandOutcome.SUCCEEDED, CommandOutcome.FENCED_OFF) and not self.command.reclaim
            if undone and not self._state.faults.cordon_stays:
                annotations.pop(OPERATION_ANNOTATION, None)
                self._nodes.uncordon(node)
        gone = self._evicted - len(self._waiting)
        self._ended(result_line(self.command, outcome, message, rule=rule, evicted_pods=max(0, gone)))
        for action in self.when_ended:
            action()

"""Node commands in virtual time: what `cloudformation/scripts/node-command.sh` does with kubectl.

The rules, their names and order, the annotations and the exit codes are the script's. A drain takes time: it wakes up
when a pod has gone, when a refused eviction is due again, and when it is told to stop.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.model import CommandOutcome, NodeCommand, Verb
from autoscaler.simulator.rules_answer import answer
from autoscaler.simulator.world.drains import POLL_S, Drain
from autoscaler.simulator.world.nodes import Nodes
from autoscaler.simulator.world.objects import ClusterState, SimNode
from autoscaler.simulator.world.preflight import (
    ADMISSION_RULE,
    DRAINING_ANNOTATION,
    FENCE_ANNOTATION,
    OPERATION_ANNOTATION,
    ResultLine,
    check_fence,
    check_identity,
    fence_of,
    inspection_of,
    preflight,
    result_line,
)
from autoscaler.simulator.world.told import scheduling_rules

EXIT_CODES: Final = {
    CommandOutcome.SUCCEEDED: 0,
    CommandOutcome.FAILED: 1,
    CommandOutcome.REFUSED: 10,
    CommandOutcome.BLOCKED_BY_BUDGET: 11,
    CommandOutcome.TIMED_OUT: 12,
    CommandOutcome.FENCED_OFF: 13,
    CommandOutcome.NO_SUCH_NODE: 14,
    CommandOutcome.API_UNREACHABLE: 15,
}
QUICK_S: Final = 1.0
"""What a command takes that waits for nothing."""
UNREACHABLE_S: Final = 20.0
"""How long one question to the API may take before it counts as unreachable."""
REPEATABLE: Final = frozenset({CommandOutcome.API_UNREACHABLE, CommandOutcome.FAILED})
"""No answers: the same operation and verb may run again."""

Key = tuple[str, Verb]


class RunStatus(StrEnum):
    """SSM's words for a command's state."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCESS = "Success"
    FAILED = "Failed"


class CommandStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What SSM says of a command."""

    status: RunStatus
    exit_code: int | None = None
    """None while it runs."""
    stdout: str = ""
    """One JSON line: the ResultLine."""
    ended_at_s: float | None = None


class CommandRunner:
    """Runs commands and remembers their results, as the script does in its folder on the server."""

    def __init__(self, state: ClusterState, nodes: Nodes) -> None:
        self._state = state
        self._nodes = nodes
        self._commands: dict[str, tuple[NodeCommand, ResultLine | None]] = {}
        """By command id: the command, and how it ended."""
        self._ended_s: dict[str, float] = {}
        """By command id: when it ended."""
        self._stored: dict[Key, ResultLine] = {}
        self._waiting: dict[Key, list[str]] = {}
        """Command ids by operation and verb: the first one runs, the others wait for its result."""
        self._drains: dict[str, Drain] = {}
        """By node name."""
        self._lost: set[str] = set()
        """Command ids whose server went away in the middle."""

    def start(self, command: NodeCommand, command_id: str) -> None:
        """Begin; a repeat of an operation id and verb waits for the first result. A known command id is left alone."""
        if command_id in self._commands:
            return
        self._commands[command_id] = (command, None)
        queue = self._waiting.setdefault((command.operation_id, command.verb), [])
        queue.append(command_id)
        if len(queue) == 1:
            self._begin(command, command_id)

    def lose(self, command_id: str) -> None:
        """The server that runs it is gone: it goes no further, and nobody will ever tell how it ended."""
        command, line = self._commands.get(command_id, (None, None))
        if command is None or line is not None:
            return
        self._lost.add(command_id)
        drain = self._drains.get(command.node_name)
        if drain is not None and drain.command is command:
            del self._drains[command.node_name]
            drain.abandon()
        queue = self._waiting.get((command.operation_id, command.verb), [])
        ran = queue[:1] == [command_id]
        if command_id in queue:
            queue.remove(command_id)
        if ran and queue:
            self._begin(self._commands[queue[0]][0], queue[0])
        elif not queue:
            self._waiting.pop((command.operation_id, command.verb), None)

    def drains(self, command: NodeCommand) -> bool:
        """Whether this very drain runs now."""
        running = self._drains.get(command.node_name)
        return running is not None and running.command is command

    def look_again(self, node_name: str) -> None:
        """A person changed the Node: a drain that runs there sees it at its next poll."""
        running = self._drains.get(node_name)
        if running is not None:
            self._state.at(self._state.now_s + POLL_S, running.step)

    def status(self, command_id: str) -> CommandStatus | None:
        """What SSM would say; None for an unknown id."""
        known = self._commands.get(command_id)
        if known is None:
            return None
        line = known[1]
        if line is None:
            return CommandStatus(status=RunStatus.IN_PROGRESS)
        exit_code = EXIT_CODES[line.outcome]
        return CommandStatus(
            status=RunStatus.SUCCESS if exit_code == 0 else RunStatus.FAILED,
            exit_code=exit_code,
            stdout=msgspec.json.encode(line).decode() + "\n",
            ended_at_s=self._ended_s[command_id],
        )

    def _begin(self, command: NodeCommand, command_id: str) -> None:
        self._state.tell("command", command.node_name, f"{command.verb} starts (operation {command.operation_id})")
        self._state.at(self._state.now_s + QUICK_S, lambda: self._run(command, command_id))

    def _end(self, command: NodeCommand, command_id: str, line: ResultLine, *, final: bool = True) -> None:
        """Note the result. A final one is the answer to every repeat; after another one the next repeat runs itself."""
        if command_id in self._lost:
            return
        key = (command.operation_id, command.verb)
        self._commands[command_id] = (command, line)
        self._ended_s[command_id] = self._state.now_s
        self._state.tell("command", command.node_name, f"{command.verb}: {line.outcome} - {line.message}")
        lasting = command.verb in (Verb.DRAIN, Verb.UNCORDON, Verb.DELETE_NODE)
        if final and lasting and line.outcome not in REPEATABLE:
            self._stored[key] = line
        queue = self._waiting[key]
        queue.remove(command_id)
        if queue:
            self._begin(self._commands[queue[0]][0], queue[0])
        else:
            del self._waiting[key]

    def _run(self, command: NodeCommand, command_id: str) -> None:
        if command_id in self._lost:
            return
        state = self._state
        stored = self._stored.get((command.operation_id, command.verb))
        if stored is not None:
            self._end(command, command_id, stored)
            return
        if state.now_s > command.not_after_s:
            message = f"It is {state.now_s - command.not_after_s:.0f} s too late to start."
            line = result_line(command, CommandOutcome.REFUSED, message, rule="late")
            self._end(command, command_id, line, final=False)
            return
        if state.faults.api_unreachable:
            line = result_line(command, CommandOutcome.API_UNREACHABLE, "The Node could not be read.")
            state.at(state.now_s + UNREACHABLE_S, lambda: self._end(command, command_id, line))
            return
        of_no_node = {Verb.INSPECT: self._inspect, Verb.RULES: self._tell}.get(command.verb)
        if of_no_node is not None:
            self._end(command, command_id, of_no_node(command))
            return
        node = state.nodes.get(command.node_name)
        if node is None:
            gone = command.verb is Verb.DELETE_NODE
            outcome = CommandOutcome.SUCCEEDED if gone else CommandOutcome.NO_SUCH_NODE
            self._end(command, command_id, result_line(command, outcome, f"There is no Node {command.node_name}."))
            return
        self._act(command, node, lambda line: self._end(command, command_id, line, final=line.rule != ADMISSION_RULE))

    def _tell(self, command: NodeCommand) -> ResultLine:
        """What the scheduler asks, of no Node in particular."""
        rules = scheduling_rules(self._state)
        words = f"{len(rules.owners)} owners, {len(rules.waiting)} pods wait."
        return result_line(command, CommandOutcome.SUCCEEDED, words, rules=answer(rules))

    def _inspect(self, command: NodeCommand) -> ResultLine:
        """By provider-id alone: a name proves nothing."""
        nodes = [node for node in self._state.nodes.values() if node.provider_id == command.provider_id]
        bears = [n.name for n in self._state.nodes.values() if command.provider_id.rpartition("/")[2] in n.name]
        if not nodes and bears:
            words = f"The Node {bears[0]} bears the id of this machine, and not its provider-id."
            return result_line(command, CommandOutcome.REFUSED, words, rule="identity")
        if not nodes:
            words = f"No Node carries the provider-id {command.provider_id}."
            return result_line(command, CommandOutcome.NO_SUCH_NODE, words)
        if len(nodes) > 1:
            words = f"{len(nodes)} Nodes carry the provider-id {command.provider_id}."
            return result_line(command, CommandOutcome.REFUSED, words, rule="identity")
        refusal = check_identity(command, nodes[0])
        if refusal is not None:
            return refusal
        found = inspection_of(self._state, nodes[0])
        words = f"The Node {found.node}: ready={found.ready} cordon={found.cordon} movable-pods={found.movable_pods}"
        return result_line(command, CommandOutcome.SUCCEEDED, words, inspection=found)

    def _act(self, command: NodeCommand, node: SimNode, done: Callable[[ResultLine], None]) -> None:
        if command.verb is Verb.STATUS:
            words = f"cordoned={node.cordoned} fence={fence_of(node)} {len(node.pods)} pods."
            done(result_line(command, CommandOutcome.SUCCEEDED, words))
            return
        if command.verb in (Verb.PREFLIGHT, Verb.DRAIN):
            refusal = preflight(self._state, command, node)
        else:
            refusal = check_fence(command, node) or check_identity(command, node)
        if refusal is not None:
            done(refusal)
        elif command.verb is Verb.PREFLIGHT:
            done(result_line(command, CommandOutcome.SUCCEEDED, "Nothing stands against a drain."))
        elif command.verb is Verb.DRAIN:
            self._drain(command, node, done)
        elif command.verb is Verb.UNCORDON:
            self._stop_drain(command, node, lambda: self._uncordon(command, node, done))
        else:
            self._nodes.delete(node)
            done(result_line(command, CommandOutcome.SUCCEEDED, f"The Node {node.name} is deleted."))

    def _stop_drain(self, command: NodeCommand, node: SimNode, then: Callable[[], None]) -> None:
        """A running drain of the node sees that its mark is gone at its next poll; what follows waits for its end."""
        running = self._drains.get(node.name)
        if running is None:
            then()
            return
        node.annotations[FENCE_ANNOTATION] = str(command.fence)
        node.annotations[DRAINING_ANNOTATION] = "stop"
        running.when_ended.append(then)
        self._state.at(self._state.now_s + POLL_S, running.step)

    def _uncordon(self, command: NodeCommand, node: SimNode, done: Callable[[ResultLine], None]) -> None:
        if self._state.nodes.get(node.name) is not node:
            done(result_line(command, CommandOutcome.NO_SUCH_NODE, f"There is no Node {node.name}."))
            return
        if node.cordoned and OPERATION_ANNOTATION not in node.annotations:
            message = f"The cordon of {node.name} is not ours and was left."
            done(result_line(command, CommandOutcome.SUCCEEDED, message))
            return
        self._nodes.uncordon(node)
        node.annotations[FENCE_ANNOTATION] = str(command.fence)
        node.annotations.pop(OPERATION_ANNOTATION, None)
        done(result_line(command, CommandOutcome.SUCCEEDED, "Uncordoned."))

    def _drain(self, command: NodeCommand, node: SimNode, done: Callable[[ResultLine], None]) -> None:
        def begin() -> None:
            if self._state.nodes.get(node.name) is not node:
                done(result_line(command, CommandOutcome.NO_SUCH_NODE, f"There is no Node {node.name}."))
                return

            def ended(line: ResultLine) -> None:
                del self._drains[node.name]
                done(line)

            self._drains[node.name] = drain = Drain(self._state, self._nodes, command, node, ended)
            drain.step()

        self._stop_drain(command, node, begin)

"""SSM's Run Command in virtual time, and the core's port over it."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from autoscaler.model import CommandOutcome, CommandResult, NodeCommand, Verb
from autoscaler.ports import CommandsUnavailable
from autoscaler.simulator.commands import RunStatus
from autoscaler.simulator.rules_faults import RulesFault, spoilt
from autoscaler.simulator.wires import SSM, Invocation
from autoscaler.simulator.world.preflight import ResultLine
from autoscaler.simulator.world.world import World

DELIVERY_TIMEOUT_S: Final = 60.0
"""SSM gives up to hand a command to a server that is offline."""


@dataclass(slots=True)
class Ssm:
    """Run Command: which server is online, what was sent."""

    world: World
    offline: set[str] = field(default_factory=set)
    """Servers whose agent does not answer: a command waits, and is given up after a minute."""
    sent: dict[str, tuple[NodeCommand, str, float]] = field(default_factory=dict)
    """By command id: the command, the server, when."""
    delay_s: float = 0.0
    """From SendCommand to the start on the server: below the delivery time-out."""
    refusing: bool = False
    """SSM hands commands to no server at all."""
    crashing: bool = False
    """Commands sent now end at once with an exit code that means nothing, having done nothing."""
    mute: bool = False
    """Commands sent now run, and their end is never reported."""
    rules_fault: RulesFault | None = None
    """What becomes of answers to questions that are sent now."""
    _spoilt: dict[str, RulesFault] = field(default_factory=dict)
    _first_told: str = ""
    _crashed: set[str] = field(default_factory=set)
    _muted: set[str] = field(default_factory=set)

    def send(self, command: NodeCommand, server_id: str) -> str:
        """SendCommand. Raises CommandsUnavailable with InvalidInstanceId for what is no living server."""
        machine = self.world.state.machines.get(server_id)
        if self.refusing or machine is None or not machine.server or not machine.alive:
            raise CommandsUnavailable(f"{server_id} is no instance that takes commands.", code="InvalidInstanceId")
        command_id = f"00000000-0000-4000-8000-{len(self.sent) + 1:012x}"
        self.sent[command_id] = (command, server_id, self.world.now_s)
        if command.verb is Verb.RULES and self.rules_fault is not None:
            self._spoilt[command_id] = self.rules_fault
        if self.mute:
            self._muted.add(command_id)
        if self.crashing:
            self._crashed.add(command_id)
        elif server_id not in self.offline:
            self._start(command, command_id, server_id)
        return command_id

    def lose(self, server_id: str) -> None:
        """The server goes away with all that it runs."""
        for command_id, (_, at, _) in self.sent.items():
            if at == server_id:
                self.world.lose_command(command_id)

    def _start(self, command: NodeCommand, command_id: str, server_id: str) -> None:
        def deliver() -> None:
            if self.world.state.machines[server_id].alive:
                self.world.start_command(command, command_id)

        if self.delay_s:
            self.world.at(self.world.now_s + self.delay_s, deliver)
        else:
            deliver()

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """GetCommandInvocation, as a CommandResult."""
        known = self.sent.get(command_id)
        if known is None or known[1] != server_id:
            return CommandResult(outcome=CommandOutcome.UNDELIVERED, message="SSM knows no such command.")
        if command_id in self._muted or self._spoilt.get(command_id) is RulesFault.NEVER:
            return CommandResult(outcome=CommandOutcome.RUNNING)
        if command_id in self._crashed:
            return CommandResult(outcome=CommandOutcome.FAILED, message="The script broke.")
        status = self.world.command_status(command_id)
        if status is None:
            late = self.world.now_s - known[2] > DELIVERY_TIMEOUT_S
            return CommandResult(outcome=CommandOutcome.UNDELIVERED if late else CommandOutcome.RUNNING)
        if status.status in {RunStatus.PENDING, RunStatus.IN_PROGRESS}:
            return CommandResult(outcome=CommandOutcome.RUNNING)
        line = msgspec.json.decode(status.stdout, type=ResultLine)
        return CommandResult(
            outcome=line.outcome,
            rule=line.rule,
            message=line.message,
            evicted_pods=line.evicted_pods,
            inspection=line.inspection,
            rules=self._told(line.rules, command_id) if line.rules else "",
            ended_at_s=None if status.ended_at_s is None else int(status.ended_at_s),
        )

    def _told(self, packed: str, command_id: str) -> str:
        """The answer as SSM hands it on."""
        self._first_told = self._first_told or packed
        fault = self._spoilt.get(command_id)
        if fault is RulesFault.OLD:
            return self._first_told
        return packed if fault is None else spoilt(packed, fault)


class SimCommands:
    """SSM (port NodeCommands)."""

    def __init__(self, ssm: Ssm, invocation: Invocation) -> None:
        self._ssm = ssm
        self._invocation = invocation

    def send(self, command: NodeCommand, server_id: str) -> str:
        """Hand the command over. Raises CommandsUnavailable."""
        return self._invocation.call(
            SSM, "send", CommandsUnavailable, lambda: self._ssm.send(command, server_id), command
        )

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """Ask for the result. Raises CommandsUnavailable."""
        return self._invocation.call(
            SSM, "result", CommandsUnavailable, lambda: self._ssm.result(command_id, server_id)
        )

"""What servers were asked, and what they really said - whatever SSM made of it on the way."""

from collections.abc import Iterator

import msgspec

from autoscaler.model import CommandOutcome, NodeCommand, Verb
from autoscaler.simulator.world.preflight import ResultLine
from autoscaler.simulator.world.world import World


class Answers:
    """Every command that reached SSM, by operation and verb."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[tuple[str, Verb], list[tuple[str, float]]] = {}
        """Command ids, and when each was sent."""

    def asked(self, command: NodeCommand, command_id: str) -> None:
        """A command reached SSM."""
        sent = self._sent.setdefault((command.operation_id, command.verb), [])
        sent.append((command_id, self._world.now_s))

    def drained(self, operation_id: str, outcome: CommandOutcome = CommandOutcome.SUCCEEDED) -> bool:
        """Whether a drain of the operation ended so on a server."""
        return any(line.outcome is outcome for line, _ in self._said(operation_id, Verb.DRAIN))

    def let_go(self, operation_id: str) -> bool:
        """Whether a server that the operation asked said that there is nothing to lose with the machine."""
        return self.let_go_asked_s(operation_id) is not None

    def let_go_asked_s(self, operation_id: str) -> float | None:
        """When the last question was asked whose answer let the machine go; None where there is none."""
        said = self._said(operation_id, Verb.INSPECT)
        return max((at_s for line, at_s in said if _nothing_to_lose(line)), default=None)

    def drain_asked_s(self, operation_id: str) -> float | None:
        """When the last drain was asked for that succeeded; None where none did."""
        said = self._said(operation_id, Verb.DRAIN)
        return max((at_s for line, at_s in said if line.outcome is CommandOutcome.SUCCEEDED), default=None)

    def _said(self, operation_id: str, verb: Verb) -> Iterator[tuple[ResultLine, float]]:
        for command_id, at_s in self._sent.get((operation_id, verb), ()):
            status = self._world.command_status(command_id)
            if status is not None and status.stdout:
                yield msgspec.json.decode(status.stdout, type=ResultLine), at_s


def _nothing_to_lose(line: ResultLine) -> bool:
    """No Node of it, or one that is NotReady and holds nothing that stays."""
    if line.outcome is CommandOutcome.NO_SUCH_NODE:
        return True
    seen = line.inspection
    return seen is not None and not seen.ready and not seen.local_volumes.count

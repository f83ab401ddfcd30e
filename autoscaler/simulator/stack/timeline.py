"""One line for each thing that happened, from what a `Watch` saw."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from autoscaler.simulator.emulator.moto import Call
from autoscaler.simulator.stack.journal import Invocation
from autoscaler.simulator.stack.watch import Watch
from autoscaler.simulator.world.objects import TimelineEvent

CALLS_TOLD: Final = {
    "CreateFleet": "EC2 receives CreateFleet",
    "TerminateInstances": "EC2 receives TerminateInstances",
}
VERBS_TOLD: Final = {"delete-node": "delete the Node of"}
UNSCHEDULABLE: Final = "is unschedulable"
QUIET: Final = ("none",)


@dataclass(frozen=True, order=True, kw_only=True)
class Line:
    """One line of the time line."""

    at_s: float
    source: str
    """`cluster`, `EC2`, `alert` or `decision`."""
    text: str


class Timeline:
    """Turns what a watch saw into lines, each once."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._told: set[Line] = set()
        self._last_words = ""
        self._invocations_read = 0
        self.lines: list[Line] = []

    def news(self) -> list[Line]:
        """Lines for what is new since the last call, in order of time; they are also kept in `lines`."""
        fresh = [
            *self._cluster_lines(),
            *(self._call_line(call) for call in self._watch.calls if self._told_call(call)),
        ]
        fresh = [line for line in fresh if line not in self._told]
        invocations = self._watch.invocations[self._invocations_read :]
        self._invocations_read += len(invocations)
        for invocation in invocations:
            fresh += self._invocation_lines(invocation)
        self._told.update(fresh)
        fresh.sort()
        self.lines = sorted([*self.lines, *fresh])
        return fresh

    def _cluster_lines(self) -> list[Line]:
        lines, pending = [], Counter[tuple[float, str]]()
        for event in self._watch.state.events:
            if event.kind == "pod":
                pending.update(self._pending_pod(event))
            else:
                lines.append(Line(at_s=event.at_s, source="cluster", text=_words(event)))
        for (at_s, owner), count in pending.items():
            text = f"{count} pod{'s' if count > 1 else ''} of {owner} fit{'' if count > 1 else 's'} on no node"
            lines.append(Line(at_s=at_s, source="cluster", text=text))
        return lines

    def _pending_pod(self, event: TimelineEvent) -> list[tuple[float, str]]:
        if not event.message.startswith(UNSCHEDULABLE):
            return []
        name = event.subject.rsplit("-", 2)[0]
        return [(event.at_s, name)]

    @staticmethod
    def _told_call(call: Call) -> bool:
        return call.operation in CALLS_TOLD

    @staticmethod
    def _call_line(call: Call) -> Line:
        return Line(at_s=call.at_s, source="EC2", text=CALLS_TOLD[call.operation])

    def _invocation_lines(self, invocation: Invocation) -> list[Line]:
        lines = []
        names = [name for name in dict.fromkeys(invocation.alert_names) if name != "Watchdog"]
        if names:
            text = f"Alertmanager posts {', '.join(names)}: answered {invocation.status}"
            lines.append(Line(at_s=invocation.started_at_s, source="alert", text=text))
        words = decision_words(invocation)
        document = invocation.document
        acted = document is not None and document.get("action") not in QUIET
        if words and words != self._last_words and (acted or invocation.status >= 500):
            lines.append(Line(at_s=invocation.ended_at_s, source="decision", text=f"{invocation.key}: {words}"))
            self._last_words = words
        return lines


def decision_words(invocation: Invocation) -> str:
    """What was decided, in the document's own words, or what went wrong."""
    document = invocation.document
    if document is None:
        return f"failed: {invocation.error}" if invocation.status >= 500 else ""
    return f"{document['action']} - {document['message']}"


def _words(event: TimelineEvent) -> str:
    if event.kind != "command":
        return f"{event.subject} {event.message}"
    verb, _, rest = event.message.partition(" " if ": " not in event.message else ": ")
    if rest.startswith("starts"):
        return f"the server begins to {VERBS_TOLD.get(verb, verb)} {event.subject}"
    return f"the server ends {verb} of {event.subject}: {rest}"

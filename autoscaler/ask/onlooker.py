"""In the place of a look's questions to a server: what the state keeps is used, and nobody is asked anew.

A question to a server changes nothing in the cluster, but who asks writes it into the state (asking/server.py).
"""

from autoscaler.asking.following import Following
from autoscaler.model import CommandOutcome, SchedulingRules, Snapshot
from autoscaler.observe.rules import BadRules, merged, parse_rules
from autoscaler.observe.snapshot import command_result
from autoscaler.policy import Policy
from autoscaler.ports import Ports, RulesMalformed
from autoscaler.state.questions import open_command, why_not_asked


class Onlooker:
    """Knows what servers have told, and what a look would ask them."""

    def __init__(self, ports: Ports, policy: Policy) -> None:
        self._ports = ports
        self._policy = policy
        self.would_ask: dict[str, None] = {}
        """What a look in this place would do, a sentence each, in order."""

    def take_answer(self, snapshot: Snapshot, held: Following) -> SchedulingRules | None:
        """The answer to a question that a look asked, if it is there; it stays for that look to keep."""
        command = open_command(held.state)
        if command is None:
            return None
        result = command_result(self._ports.commands, command, snapshot.taken_at_s)
        if result is None or result.outcome is not CommandOutcome.SUCCEEDED:
            return None
        try:
            fresh = parse_rules(result.rules, answered_at_s=command.sent_at_s)
        except BadRules:
            return None
        try:
            kept = self._ports.store.rules()
        except RulesMalformed:
            return fresh
        return kept if kept is not None and kept.answered_at_s > fresh.answered_at_s else merged(kept, fresh)

    def foresee(self, snapshot: Snapshot, held: Following) -> None:
        """Nothing: what is not needed yet is not missed."""

    def answer(self, snapshot: Snapshot, held: Following, *, since_s: int) -> str:
        """Why it is not known here, and whether a look would ask."""
        del snapshot
        now_s = self._ports.clock.now_s()
        command = open_command(held.state)
        if command is not None:
            return f"{command.server_id} was asked {max(0, now_s - command.sent_at_s)} s ago and has not answered yet"
        why_not = why_not_asked(held.state, now_s, self._policy, since_s=since_s)
        if why_not:
            return why_not
        self.would_ask["A look would ask a server what the scheduler asks of pods; this answer does without."] = None
        return "a look would ask a server now, and a question changes nothing"

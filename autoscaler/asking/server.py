"""The question to a server what the scheduler asks of pods: verb `rules` of docs/node-commands.md.

One invocation asks at a time, any of them takes the answer: whoever asked may be gone, and the event of the command's
end starts a look as well (state/questions.py). What cannot be had is a sentence, never a failure of the look.
"""

from typing import Final

from autoscaler.asking.following import OVERTAKEN, Following
from autoscaler.model import (
    ALIVE,
    CommandOutcome,
    CommandRef,
    CommandResult,
    NodeCommand,
    SchedulingRules,
    Snapshot,
    State,
    Verb,
)
from autoscaler.observe.rules_text import BadRules, reading
from autoscaler.observe.snapshot import command_result
from autoscaler.policy import Policy
from autoscaler.ports import CommandsUnavailable, PortError, Ports, RulesMalformed, StoreUnavailable
from autoscaler.state.questions import (
    about_to_ask,
    answered,
    asked,
    failed_before,
    in_vain,
    is_about_to_be_asked,
    open_command,
    silent_for_too_long,
    why_not_asked,
)

ACTING_S: Final = 5.0
"""What is left for acting when a closer look takes as long as it may."""
CALL_S: Final = 7.0
"""Connect and read time-out of one call, with a little to spare: no server is asked with less time left to act."""
POLL_S: Final = 1.0
ANSWER_S: Final = 30
"""`timeoutSeconds` of the command; the script bounds itself and does not read it."""
START_WITHIN_S: Final = 60
"""A server that begins later than this would answer nobody."""
NO_TIME: Final = "the time of this invocation is nearly up"


class Server:
    """The servers of the cluster, as one who knows; lives as long as an invocation."""

    def __init__(self, ports: Ports, policy: Policy, owner: str) -> None:
        self._commands = ports.commands
        self._store = ports.store
        self._clock = ports.clock
        self._ids = ports.ids
        self._policy = policy
        self._owner = owner
        self._patient_until_ms: int | None = None
        """All looks of an invocation together wait no longer than one may."""

    def take_answer(self, snapshot: Snapshot, held: Following) -> SchedulingRules | None:
        """The answer to a question that is open, if it is there."""
        command = open_command(held.latest)
        found = self._taken(snapshot, held, command) if command is not None else None
        return found if isinstance(found, SchedulingRules) else None

    def foresee(self, snapshot: Snapshot, held: Following) -> None:
        """Ask, without waiting, for owners that are newer than the last answer: a sale then finds them known."""
        youngest_s, known_s = snapshot.youngest_owner_at_s, held.latest.rules_answered_at_s
        if snapshot.cluster_known and youngest_s is not None and known_s is not None and youngest_s > known_s:
            self._ask(_servers(snapshot), held, since_s=0)

    def answer(self, snapshot: Snapshot, held: Following, *, since_s: int) -> SchedulingRules | str:
        """What a server tells now, or why that cannot be had in this look.

        `since_s`: when the youngest of the owners that nothing is known of began to wait.
        """
        if self._clock.remaining_s() <= CALL_S + ACTING_S:
            return NO_TIME
        known_at_s = held.latest.rules_answered_at_s
        while True:
            command = open_command(held.latest)
            if command is not None:
                found = self._taken(snapshot, held, command)
                if found is not None and (isinstance(found, SchedulingRules) or open_command(held.latest) == command):
                    return found
            elif held.latest.rules_answered_at_s != known_at_s:
                return self._kept_by_another()
            if not self._is_asked(held):
                problem = self._ask(_servers(snapshot), held, since_s=since_s)
                if problem:
                    return problem
            if not self._wait():
                waited_for = open_command(held.latest)
                name = waited_for.server_id if waited_for is not None else "a server"
                return f"{name} was asked and has not answered yet"
            if open_command(held.latest) is None:
                held.reload()

    # ---------------------------------------------------------------------------------------------------------- asking

    def _ask(self, servers: tuple[str, ...], held: Following, *, since_s: int) -> str:
        """Hand the question to a server, to the next one where one is refused. Why none has it; empty if one does."""
        if not servers:
            return "no server of the cluster is running"
        while True:
            now_s = self._clock.now_s()
            why = why_not_asked(held.latest, now_s, self._policy, since_s=since_s)
            if why or held.overtaken:
                return why or OVERTAKEN
            if not self._announce(held, now_s, since_s):
                return "" if self._is_asked(held) else held.refused or OVERTAKEN
            server_id = servers[failed_before(held.latest) % len(servers)]
            refusal = self._send(server_id, held, now_s)
            if not refusal:
                return held.refused
            if not self._note_failure(None, refusal, len(servers), held):
                return refusal

    def _announce(self, held: Following, now_s: int, since_s: int) -> bool:
        """Save that we ask; False where somebody else was faster, or changed more, or it cannot be saved."""

        def announced(state: State) -> State:
            is_asked = open_command(state) is not None
            if is_asked or held.overtaken or why_not_asked(state, now_s, self._policy, since_s=since_s):
                return state
            return about_to_ask(state, self._owner, now_s)

        return held.change(announced)

    def _send(self, server_id: str, held: Following, now_s: int) -> str:
        """Hand it over and note where its answer will be; why not, where SSM does not take it."""
        question = NodeCommand(
            verb=Verb.RULES,
            node_name="",
            provider_id="",
            operation_id=f"rules-{self._ids.new()}",
            fence=0,
            not_after_s=now_s + START_WITHIN_S,
            timeout_s=ANSWER_S,
        )
        try:
            command_id = self._commands.send(question, server_id)
        except CommandsUnavailable as error:
            return f"{server_id} could not be asked: {error}"
        sent = CommandRef(command_id=command_id, server_id=server_id, sent_at_s=now_s)
        held.change(lambda state: asked(state, sent))
        return ""

    def _is_asked(self, held: Following) -> bool:
        return open_command(held.latest) is not None or is_about_to_be_asked(held.latest, self._clock.now_s())

    def _wait(self) -> bool:
        """Let a second pass; False where none is left to wait."""
        now_ms = self._clock.elapsed_ms()
        if self._patient_until_ms is None:
            self._patient_until_ms = now_ms + 1000 * self._policy.rules.wait_s
        left_s = min((self._patient_until_ms - now_ms) / 1000, self._clock.remaining_s() - ACTING_S)
        if left_s < POLL_S:
            return False
        self._clock.wait(POLL_S)
        return True

    # ------------------------------------------------------------------------------------------------------ the answer

    def _taken(self, snapshot: Snapshot, held: Following, command: CommandRef) -> SchedulingRules | str | None:
        """The answer, merged with what was known and kept; why there is none. None: it may still come."""
        servers, now_s = _servers(snapshot), self._clock.now_s()
        result = command_result(self._commands, command, now_s)
        if result is not None and result.outcome is CommandOutcome.SUCCEEDED:
            # As old as the question: what came while the server was at work may be missing in it.
            try:
                return self._keep(reading().parse_rules(result.rules, answered_at_s=command.sent_at_s), held, command)
            except BadRules as error:
                why = f"the answer of {command.server_id} cannot be read: {error}"
        elif result is not None and result.outcome is not CommandOutcome.RUNNING:
            why = f"{command.server_id} did not tell: {_words(result)}"
        elif command.server_id not in servers:
            why = f"the server {command.server_id} is gone"
        elif silent_for_too_long(command, now_s):
            why = f"{command.server_id} has not answered for {now_s - command.sent_at_s} s"
        else:
            return None
        # One that is gone was a server of the round, too.
        self._note_failure(command, why, len({*servers, command.server_id}), held)
        return why

    def _keep(self, fresh: SchedulingRules, held: Following, command: CommandRef) -> SchedulingRules:
        """What could not be kept is used all the same; its question stays open, and the next look keeps it."""
        try:
            kept = self._store.rules()
        except RulesMalformed:
            kept = None
        except StoreUnavailable:
            return fresh
        rules = kept if kept is not None and kept.answered_at_s > fresh.answered_at_s else reading().merged(kept, fresh)
        if rules is not kept:
            try:
                self._store.keep_rules(rules)
            except StoreUnavailable:
                return rules
        held.change(lambda state: answered(state, command))
        return rules

    def _kept_by_another(self) -> SchedulingRules | str:
        try:
            return self._store.rules() or "the rules that another invocation kept are gone"
        except PortError as error:
            return str(error)

    def _note_failure(self, command: CommandRef | None, why: str, servers: int, held: Following) -> bool:
        now_s = self._clock.now_s()
        return held.change(
            lambda state: in_vain(state, command, why, now_s=now_s, servers=servers, policy=self._policy)
        )


def _servers(snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(sorted(i.instance_id for i in snapshot.instances if i.server and i.state in ALIVE))


def _words(result: CommandResult) -> str:
    return " ".join(part for part in (result.outcome.value, result.rule, result.message) if part)

"""Whom, and when, to ask what the scheduler asks: pure `State -> State` functions over the one open question."""

from typing import Final

import msgspec

from autoscaler.model import CommandRef, RulesQuestion, State
from autoscaler.policy import Policy

SENT_WITHIN_S: Final = 30
"""Who was about to ask has asked by then, or was killed: an invocation lives no longer."""
SILENT_AFTER_S: Final = 150
"""SSM hands a command over within 60 s, the script ends within 20 s, and the next sweep comes within 120 s."""
FIRST_RETRY_S: Final = 60
RETRY_AT_MOST: Final = 6
"""Servers that fail again and again are asked again after this many times `rules.refresh_s`."""
MAX_PROBLEM: Final = 200
"""Characters of a failure that are kept."""
_MAX_DOUBLINGS: Final = 20


def why_not_asked(state: State, now_s: int, policy: Policy, *, since_s: int = 0) -> str:
    """Why no server is asked now, in one clause; empty where one may be.

    `since_s`: when the youngest of the owners that nothing is known of began to wait. A younger answer did not tell of
    it, and the next one would not either.
    """
    question, answered_at_s = state.rules_question, state.rules_answered_at_s
    if question is not None and question.command is None and now_s < question.retry_at_s:
        why = question.problem or "another invocation is about to ask a server"
        return f"{why}; asked again in {question.retry_at_s - now_s} s"
    if answered_at_s is None or answered_at_s < since_s:
        return ""
    wait_s = answered_at_s + policy.rules.refresh_s - now_s
    if wait_s > 0:
        return f"a server was asked {max(0, now_s - answered_at_s)} s ago and did not tell; asked again in {wait_s} s"
    return ""


def is_about_to_be_asked(state: State, now_s: int) -> bool:
    """Whether an invocation has said that it asks, and had no time yet to say whom."""
    question = state.rules_question
    return question is not None and bool(question.asked_by) and now_s < question.retry_at_s


def silent_for_too_long(command: CommandRef, now_s: int) -> bool:
    """Whether no answer will come any more."""
    return now_s - command.sent_at_s > SILENT_AFTER_S


def open_command(state: State) -> CommandRef | None:
    """The command whose answer is waited for."""
    return state.rules_question.command if state.rules_question is not None else None


def failed_before(state: State) -> int:
    """How many servers in a row were asked in vain."""
    return state.rules_question.failures if state.rules_question is not None else 0


def about_to_ask(state: State, by: str, now_s: int) -> State:
    """Saved before a server is asked, so that nobody else asks beside us. `by`: the invocation's own id."""
    asking = RulesQuestion(
        asked_by=by, failures=failed_before(state), retry_at_s=now_s + SENT_WITHIN_S, problem=_problem(state)
    )
    return msgspec.structs.replace(state, rules_question=asking)


def asked(state: State, command: CommandRef) -> State:
    """A server has the question: where its answer is asked for. One that somebody else asked meanwhile stays."""
    if open_command(state) is not None:
        return state
    waiting = RulesQuestion(command=command, failures=failed_before(state), problem=_problem(state))
    return msgspec.structs.replace(state, rules_question=waiting)


def in_vain(state: State, command: CommandRef | None, why: str, *, now_s: int, servers: int, policy: Policy) -> State:
    """The question failed (`command` None: it was not even sent). Once each server was asked, the next one waits.

    The wait doubles with each round. Of a question that somebody else has dealt with nothing changes.
    """
    if open_command(state) != command:
        return state
    failures = failed_before(state) + 1
    rounds, left = divmod(failures, max(1, servers))
    doublings = min(max(0, rounds - 1), _MAX_DOUBLINGS)
    wait_s = 0 if left else min(FIRST_RETRY_S * 2**doublings, policy.rules.refresh_s * RETRY_AT_MOST)
    problem = " ".join(why.split())[:MAX_PROBLEM]
    failed = RulesQuestion(failures=failures, retry_at_s=now_s + wait_s, problem=problem)
    return msgspec.structs.replace(state, rules_question=failed)


def answered(state: State, command: CommandRef) -> State:
    """The answer was taken and kept: what failed before it is over."""
    known_at_s = max(command.sent_at_s, state.rules_answered_at_s or 0)
    question = None if open_command(state) == command else state.rules_question
    return msgspec.structs.replace(state, rules_question=question, rules_answered_at_s=known_at_s)


def same_but_for_questions(one: State, other: State) -> bool:
    """Whether two states differ in nothing but who asked what."""
    return (
        msgspec.structs.replace(other, rules_question=one.rules_question, rules_answered_at_s=one.rules_answered_at_s)
        == one
    )


def _problem(state: State) -> str:
    return state.rules_question.problem if state.rules_question is not None else ""

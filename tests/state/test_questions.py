"""The one open question for rules, as pure changes of the state."""

import msgspec
import pytest

from autoscaler.model import CommandRef, RulesQuestion, State
from autoscaler.policy import Policy, RulesPolicy
from autoscaler.state.questions import (
    MAX_PROBLEM,
    SENT_WITHIN_S,
    about_to_ask,
    answered,
    asked,
    in_vain,
    is_about_to_be_asked,
    same_but_for_questions,
    why_not_asked,
)
from autoscaler.state.size import encoded

NOW_S = 1_800_000_000
POLICY = Policy(version=1)
FIRST = CommandRef(command_id="c1", server_id="i-1", sent_at_s=NOW_S)
SECOND = CommandRef(command_id="c2", server_id="i-2", sent_at_s=NOW_S + 5)
OPEN = asked(about_to_ask(State(), "me", NOW_S), FIRST)


def failed(state: State, command: CommandRef | None, *, at_s: int = NOW_S, servers: int = 2) -> State:
    return in_vain(state, command, "it broke", now_s=at_s, servers=servers, policy=POLICY)


@pytest.mark.parametrize(
    ("state", "since_s", "why"),
    [
        pytest.param(State(), 0, "", id="nobody ever asked"),
        pytest.param(State(rules_answered_at_s=NOW_S - 600), 0, "", id="the refresh is over"),
        pytest.param(
            State(rules_answered_at_s=NOW_S - 599),
            0,
            "a server was asked 599 s ago and did not tell; asked again in 1 s",
            id="the refresh is not over",
        ),
        pytest.param(State(rules_answered_at_s=NOW_S - 10), NOW_S - 9, "", id="it began to wait later"),
        pytest.param(
            State(rules_answered_at_s=NOW_S - 10),
            NOW_S - 10,
            "a server was asked 10 s ago and did not tell; asked again in 590 s",
            id="it waited already",
        ),
        pytest.param(
            State(rules_answered_at_s=NOW_S + 30),
            0,
            "a server was asked 0 s ago and did not tell; asked again in 630 s",
            id="another invocation's clock is ahead",
        ),
        pytest.param(
            about_to_ask(State(), "other", NOW_S - 10),
            NOW_S,
            "another invocation is about to ask a server; asked again in 20 s",
            id="another one is about to ask",
        ),
        pytest.param(about_to_ask(State(), "other", NOW_S - SENT_WITHIN_S), 0, "", id="it was killed before it could"),
        pytest.param(failed(State(), None, servers=1), NOW_S, "it broke; asked again in 60 s", id="it failed"),
    ],
)
def test_whether_a_server_may_be_asked(state: State, since_s: int, why: str) -> None:
    assert why_not_asked(state, NOW_S, POLICY, since_s=since_s) == why


def test_who_is_about_to_ask_is_told_apart_from_who_failed() -> None:
    assert is_about_to_be_asked(about_to_ask(State(), "me", NOW_S), NOW_S)
    assert not is_about_to_be_asked(OPEN, NOW_S)
    assert not is_about_to_be_asked(failed(OPEN, FIRST, servers=1), NOW_S)
    assert not is_about_to_be_asked(State(), NOW_S)


def test_the_question_of_another_one_stays() -> None:
    assert asked(OPEN, SECOND) == OPEN
    assert failed(OPEN, SECOND) == OPEN
    assert failed(OPEN, None) == OPEN
    assert answered(OPEN, SECOND).rules_question == OPEN.rules_question


def test_an_answer_ends_the_question_and_what_failed_before() -> None:
    state = answered(asked(about_to_ask(failed(State(), None), "me", NOW_S), FIRST), FIRST)
    assert state == State(rules_answered_at_s=NOW_S)
    assert answered(State(rules_answered_at_s=NOW_S + 9), FIRST) == State(rules_answered_at_s=NOW_S + 9)


@pytest.mark.parametrize(("servers", "waits"), [(1, (60, 120, 240, 480)), (2, (0, 60, 0, 120)), (3, (0, 0, 60, 0))])
def test_a_round_over_all_servers_comes_before_the_wait(servers: int, waits: tuple[int, ...]) -> None:
    state = State()
    for wait_s in waits:
        state = failed(state, None, servers=servers)
        assert state.rules_question is not None
        assert state.rules_question.retry_at_s == NOW_S + wait_s


@pytest.mark.parametrize("refresh_s", [60, 600, 86_400])
def test_waits_stay_bounded_however_often_it_failed(refresh_s: int) -> None:
    policy = msgspec.structs.replace(POLICY, rules=RulesPolicy(refresh_s=refresh_s))
    state = State(rules_question=RulesQuestion(failures=10**6))
    state = in_vain(state, None, "x\n" * 500, now_s=NOW_S, servers=1, policy=policy)
    assert state.rules_question is not None
    assert state.rules_question.retry_at_s - NOW_S == min(6 * refresh_s, 60 * 2**20)
    assert len(state.rules_question.problem) == MAX_PROBLEM
    assert "\n" not in state.rules_question.problem
    assert len(encoded(state)) - len(encoded(State())) < 500


def test_what_is_asked_is_no_difference_that_matters() -> None:
    assert same_but_for_questions(State(), OPEN)
    assert same_but_for_questions(State(), answered(OPEN, FIRST))
    assert not same_but_for_questions(State(), msgspec.structs.replace(OPEN, fence=1))

"""Custom signals in the policy: what is refused, and with which words."""

from typing import Any, Final

import pytest
import yaml

from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy

GOOD: Final[dict[str, Any]] = {"name": "orders_queue", "query": "sum(orders_queued)", "per_worker_target": 200}


def parsed(*signals: dict[str, Any], **more: Any) -> Policy:
    return parse_policy(yaml.safe_dump({"version": 1, "signals": list(signals), **more}))


@pytest.mark.parametrize(
    "query",
    [
        "sum(x)",
        'sum(rate(http_requests_total{path=~"/(a|b){1,2}", code!="5.."}[5m]))',
        "max(x{a='\\'('})",
        "max(x{a=`\\`})",
        "sum(x) # (a comment",
        "# first\nsum(\n  x\n)",
        "sum(x[5m:1m] offset 1h)",
    ],
)
def test_queries_that_can_stand_in_parentheses_are_taken(query: str) -> None:
    (signal,) = parsed(GOOD | {"query": query}).signals
    assert signal.query == query


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": "sum(x"}, "signals.orders_queue: query ends before a )"),
        ({"query": "sum(x))"}, "signals.orders_queue: query has a ) that closes nothing"),
        ({"query": "sum(x]"}, "query has a ] that closes nothing"),
        ({"query": 'x{a="b}'}, 'query has a string that begins with " and does not end'),
        ({"query": "x{a=`b\\``}"}, "query has a string that begins with ` and does not end"),
        ({"query": "  \n"}, "query is empty"),
        ({"query": "x\u0007"}, "query holds '\\x07', which no query needs"),
        ({"query": "x" * 1001}, "length <= 1000"),
        ({"query": ""}, "length >= 1"),
        ({"name": "headroom"}, "the name belongs to a signal that is built in"),
        ({"name": "forecast"}, "the name belongs to a signal that is built in"),
        ({"name": "pool_minimum"}, "the name belongs to a signal that is built in"),
        ({"name": "Orders"}, "write at most 40 small letters, digits and _"),
        ({"name": "x" * 41}, "write at most 40 small letters, digits and _"),
        ({"above": 3}, "give either per_worker_target, or above or below or both"),
        ({"per_worker_target": None}, "give either per_worker_target, or above or below or both"),
        ({"per_worker_target": 0}, "write a number above 0"),
        ({"per_worker_target": float("nan")}, "per_worker_target"),
        ({"per_worker_target": None, "above": 1, "below": 2}, "below is 2 and above is 1"),
        ({"window_s": 29}, "window_s is 29: a window holds at least two samples"),
        ({"window_s": 3601}, "from 2 to 3600"),
        ({"step": 0}, "from 1 to 100"),
        ({"treshold": 1}, "treshold is an unknown field"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parsed(GOOD | changes)
    assert words in str(refused.value)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as refused:
        parsed(GOOD, GOOD | {"query": "sum(", "window_s": 10})
    told = str(refused.value)
    assert "signals names orders_queue twice: give each its own name" in told
    assert "query ends before a )" in told
    assert "window_s is 10" in told


def test_there_may_be_ten() -> None:
    assert len(parsed(*(GOOD | {"name": f"s{n}"} for n in range(10))).signals) == 10
    with pytest.raises(PolicyError, match="at most 10 are allowed"):
        parsed(*(GOOD | {"name": f"s{n}"} for n in range(11)))


def test_without_any_nothing_changes() -> None:
    assert Policy(version=1).signals == ()

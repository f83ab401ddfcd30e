"""The webhook under attack: no answer is a fault of ours, and nothing is looked at without a token."""

import ast
import base64
import copy
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.aws import parameters
from autoscaler.webhook import BODY_LIMIT_BYTES
from tests.handlers.support import TOKEN, desk, post, sample
from tests.handlers.test_alerts import ask

FUZZ = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
FIRING = sample("firing")
SAMPLES = ("firing", "firing-repeat", "firing-truncated", "resolved")
ODD: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**400, "", "\x00", "\ud800", "4", [], {}, [[]], {"a": {}}, "x" * 70)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
anything = (
    st.none() | st.text() | st.integers() | st.lists(st.text(), max_size=2) | st.dictionaries(st.text(), st.text())
)


def without_token(event: dict[str, Any]) -> int:
    """The status; nothing may have been looked at."""
    at = desk()
    status, answer = ask(at, event)
    assert at.reconcile.looks == []
    assert list(answer) == ["error"]
    return status


def with_token(event: dict[str, Any]) -> int:
    """The status; a look only for what is Alertmanager's."""
    at = desk()
    status, answer = ask(at, event)
    assert status in {200, 400, 413}, answer
    assert len(at.reconcile.looks) == (1 if status == 200 and answer.get("reason") != "watchdog" else 0)
    return status


# ------------------------------------------------------------------------------------------------------- made by hand

DEEP = 100_000
HAND_MADE = {
    "deep lists": "[" * DEEP,
    "deep lists that close": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * 40_000 + "1" + "}" * 40_000,
    "deep inside a field": '{"version":"4","x":' + "[" * DEEP + "]" * DEEP + "}",
    "deep inside the labels": '{"version":"4","alerts":[{"labels":' + "[" * DEEP + "]" * DEEP + "}]}",
    "an unclosed text": '"' + "x" * 200_000,
    "a huge number": "1" * 200_000,
    "a huge exponent": "1e999999999",
    "not a number": "NaN",
    "infinity": '{"version": Infinity}',
    "a byte order mark": "\ufeff" + json.dumps(FIRING),
    "zero bytes": "\x00" * 100,
    "a zero byte inside": json.dumps(FIRING).replace("4", "\x00", 1),
    "a lone surrogate": '{"version":"\ud800"}',
    "a list": "[]",
    "a number": "4",
    "a text": '"4"',
    "null": "null",
    "blanks": "   \n",
    "another version": json.dumps(FIRING | {"version": "5"}),
    "a version of another type": json.dumps(FIRING | {"version": 4}),
    "the last of two versions counts": '{"version":"4",' + json.dumps(FIRING)[1:-1] + ',"version":"5"}',
    "alerts twice, the last one empty": json.dumps(FIRING)[:-1] + ',"alerts":[]}',
}


@pytest.mark.parametrize("body", HAND_MADE.values(), ids=HAND_MADE)
def test_what_is_made_to_break_a_parser_is_a_400(body: str) -> None:
    assert with_token(post(body)) == 400
    assert without_token(post(body, token=None)) == 401
    assert without_token(post(body, token="guessed")) == 401


def test_of_duplicate_keys_every_one_is_checked() -> None:
    assert with_token(post('{"alerts":[],' + json.dumps(FIRING)[1:])) == 400
    assert with_token(post('{"receiver":"a","receiver":"b",' + json.dumps(FIRING)[1:])) == 200, "it is not read"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_no_json(encoding: str) -> None:
    raw = json.dumps(FIRING | {"groupKey": "für"}, ensure_ascii=False).encode(encoding)
    assert with_token(post(base64.b64encode(raw).decode(), isBase64Encoded=True)) == 400


@pytest.mark.parametrize("size", [BODY_LIMIT_BYTES + 1, 6_000_000])
@pytest.mark.parametrize("token", [TOKEN, None, "guessed"])
def test_what_is_too_large_is_not_read(size: int, token: str | None) -> None:
    assert with_token(post("[" * size, token=token)) == 413


def test_a_body_of_just_the_limit_is_read() -> None:
    text = json.dumps(FIRING)
    assert with_token(post(text + " " * (BODY_LIMIT_BYTES - len(text)))) == 200


# ----------------------------------------------------------------------------------------------------------- at random


@FUZZ
@given(body=st.text(max_size=300) | json_values.map(json.dumps), encoded=st.booleans())
def test_any_body(body: str, encoded: bool) -> None:
    with_token(post(body, isBase64Encoded=encoded))
    assert without_token(post(body, token="guessed", isBase64Encoded=encoded)) == 401


@FUZZ
@given(raw=st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    with_token(post(base64.b64encode(raw).decode(), isBase64Encoded=True))


@FUZZ
@given(event=st.dictionaries(st.sampled_from(["headers", "body", "isBase64Encoded", "requestContext", "x"]), anything))
def test_any_event(event: dict[str, Any]) -> None:
    assert without_token(event) == 401


@FUZZ
@given(token=st.text(max_size=80), scheme=st.sampled_from(["Bearer", "bearer", "Basic", "", "Bearer Bearer"]))
def test_any_token(token: str, scheme: str) -> None:
    if token.strip() != TOKEN:
        headers = {"Authorization": f"{scheme} {token}"}
        assert without_token(post(FIRING, token=None) | {"headers": headers}) == 401


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body, the whole of it too."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at the place; KeyError as value leaves it out."""
    if not path:
        return value
    changed = copy.deepcopy(body)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", SAMPLES)
def test_a_real_body_with_anything_odd_at_any_place(name: str) -> None:
    body = sample(name)
    statuses = set()
    for path in places(body):
        for odd in (*ODD, *([KeyError] if path else [])):
            text = json.dumps(put(body, path, odd))
            statuses.add(with_token(post(text)))
    assert statuses == {200, 400}, "fields that we do not read may hold anything; those that we do may not"


# ----------------------------------------------------------------------------------------------------------- the token


def test_tokens_are_compared_in_constant_time_and_all_of_them() -> None:
    """What cannot be timed here reliably is held by its form: every token is compared before the answer is made."""
    tree = ast.parse(inspect.getsource(parameters.WebhookTokens))
    [matches] = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_matches"]
    [compared] = [n for n in ast.walk(matches) if isinstance(n, ast.ListComp)]
    assert isinstance(compared.elt, ast.Call)
    assert ast.unparse(compared.elt.func) == "hmac.compare_digest"
    assert not any(g.ifs for g in compared.generators)
    early = (ast.GeneratorExp, ast.For, ast.BoolOp, ast.Compare, ast.If, ast.IfExp)
    assert not any(isinstance(n, early) for n in ast.walk(matches))


def test_a_token_is_rotated_without_a_gap_and_without_a_deployment() -> None:
    now = [0.0]
    stored = ["old"]
    tokens = parameters.WebhookTokens(lambda _: "\n".join(stored), "/k3s/demo/token", monotonic=lambda: now[0])
    assert tokens.accept("old")
    stored[:] = ["new", "old"]
    now[0] = 31.0
    assert tokens.accept("new"), "current"
    assert tokens.accept("old"), "previous"
    stored[:] = ["new"]
    now[0] += parameters.MAX_AGE_S + 1
    assert tokens.accept("new")
    assert not tokens.accept("old"), "ended"

"""The webhook under attack: whatever is posted, it is answered 413, 401 or 400 in this order, and nothing is looked at.

Every request goes through the handler, with the real token store over a parameter that counts its reads.
"""

import ast
import base64
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.aws.clock import Context
from autoscaler.aws.parameters import MIN_REFRESH_S, ParameterUnavailable, WebhookTokens
from autoscaler.webhook import BODY_LIMIT_BYTES, MAX_FACTS
from handlers.alerts import handle
from tests.handlers.leaks import leaks
from tests.handlers.support import NOW, Desk, FakeContext, desk, post, sample

CURRENT = "current-t0ken-5c1d7e88"
PREVIOUS = "previous-t0ken-a90b3f12"
SAMPLES = ("firing", "firing-repeat", "firing-truncated", "resolved")
MARK = "mark-of-the-body-81c2"
MANY = settings(max_examples=150)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**30, max_value=10**400)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "4", "firing", "\x00", "\ud800", "ä" * 70, MARK]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
absurd = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20) | json_values


class Front:
    """The webhook with its token store: what a stranger sees of it."""

    def __init__(self) -> None:
        self.value: str | None = f"{CURRENT}\n{PREVIOUS}\n"
        self.now_s = 1000.0
        self.reads = 0
        self.tokens = WebhookTokens(self.read, "/k3s/demo/webhook-token", monotonic=lambda: self.now_s)
        self.once_calls = 0
        self.at: Desk = desk(accept_token=self.tokens.accept)

    def read(self, name: str) -> str:
        self.reads += 1
        if self.value is None:
            raise ParameterUnavailable(f"could not read {name}")
        return self.value

    def once(self, key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        del context
        key.encode()  # a key of broken text could not be hashed
        self.once_calls += 1
        return work(), False

    def ask(self, event: dict[str, Any]) -> tuple[int, str]:
        answer = handle(self.at.app, self.once, event, FakeContext(), now_s=NOW)
        assert answer["headers"]["content-type"] == "application/json"
        return answer["statusCode"], answer["body"]

    @property
    def looked(self) -> int:
        return len(self.at.reconcile.looks)


def raw(body: bytes) -> dict[str, Any]:
    """An event whose body is these bytes, as API Gateway passes on what is no text."""
    return post(base64.b64encode(body).decode(), token=CURRENT, isBase64Encoded=True)


def refused(event: dict[str, Any], *statuses: int) -> str:
    """The one sentence of the refusal; nothing else happened."""
    front = Front()
    status, body = front.ask(event)
    assert status in statuses, body
    assert (front.looked, front.once_calls) == (0, 0)
    told = json.loads(body)
    assert list(told) == ["error"]
    sentence: str = told["error"]
    assert re.fullmatch(r"[A-Z][^\n]{10,300}\.", sentence), sentence
    assert leaks(body + front.at.log.getvalue(), [CURRENT, PREVIOUS, MARK]) == []
    assert [line["http_status"] for line in front.at.told] == [status]
    return sentence


# ------------------------------------------------------------------------------------------------------------- by hand

GOOD = json.dumps(sample("firing"))
CUT = GOOD[:-1]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="open brackets"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 40_000 + b"1" + b"}" * 40_000, id="deep objects"),
        pytest.param(f'{CUT}, "x": {"[" * 100_000}{"]" * 100_000}}}'.encode(), id="deep in a field that nobody reads"),
        pytest.param(b'{"version": ' + b"[" * 900 + b"]" * 900 + b"}", id="a deep version"),
        pytest.param(b'{"version": "' + b"4" * 200_000 + b'"}', id="a long version"),
        pytest.param(b'{"version": ' + b"4" * 200_000 + b"}", id="a huge number as version"),
        pytest.param(f'{{"version": "{MARK}"}}'.encode(), id="a version that is a secret"),
        pytest.param(f'{CUT}, "status": "{MARK}"}}'.encode(), id="a status that is a secret"),
        pytest.param(GOOD.replace('"firing"', f'"{MARK} - at `$.x`"').encode(), id="a status like an error"),
        pytest.param(f'{CUT}, "x": NaN}}'.encode(), id="NaN"),
        pytest.param(f'{CUT}, "x": -Infinity}}'.encode(), id="Infinity"),
        pytest.param(GOOD.encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.encode("utf-16-be"), id="UTF-16 without a mark"),
        pytest.param(GOOD.encode("utf-32"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="byte order mark"),
        pytest.param(GOOD.replace("firing", "fir\udcffing").encode("utf-8", "surrogateescape"), id="broken UTF-8"),
        pytest.param(GOOD.replace('"receiver"', '"\\ud800"', 1).encode()[:-1] + b', "groupKey": "\\ud800"}', id="half"),
        pytest.param(GOOD.encode() + b"\x00", id="NUL at the end"),
        pytest.param(b"\x00" * 1000, id="NUL"),
        pytest.param(GOOD.encode() * 2, id="two bodies"),
        pytest.param(f'{CUT}, "version": "3"}}'.encode(), id="version twice, the last one wrong"),
        pytest.param(f'{CUT}, "alerts": null}}'.encode(), id="alerts twice, the last one null"),
        pytest.param(GOOD.replace("b5c6faefc20142bc", "\\u0000" * 16).encode(), id="a fingerprint of NULs"),
        pytest.param(GOOD.replace("b5c6faefc20142bc", "ä" * 16).encode(), id="a fingerprint of letters"),
        pytest.param(b'"' + GOOD.replace('"', '\\"').encode() + b'"', id="JSON in JSON"),
        *(
            pytest.param(b, id=b.decode())
            for b in (b"", b" ", b"null", b"true", b"4", b'"4"', b"[]", b"{}", b"-", b"'")
        ),
    ],
)
def test_a_malformed_body_is_400_and_one_sentence(body: bytes) -> None:
    refused(raw(body), 400)
    if body.isascii():
        refused(post(body.decode(), token=CURRENT), 400)


@pytest.mark.parametrize("text", ["%%%", "YQ", "YQ=", "YQ===", "Y Q==", "YQ==\n", "é", "\ud800", "=" * 64, "YQ==YQ=="])
def test_invalid_base64_is_400(text: str) -> None:
    refused(post(text, token=CURRENT, isBase64Encoded=True), 400)


def _of_size(size: int) -> bytes:
    return CUT.encode() + b" " * (size - len(GOOD)) + b"}"


@pytest.mark.parametrize("size", range(BODY_LIMIT_BYTES - 2, BODY_LIMIT_BYTES + 3))
def test_the_limit_is_exact_in_every_encoding(size: int) -> None:
    expected = 200 if size <= BODY_LIMIT_BYTES else 413
    for event in (raw(_of_size(size)), post(_of_size(size).decode(), token=CURRENT)):
        assert Front().ask(event)[0] == expected


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        (None, "x" * 10_000_000, 413),
        (None, "[" * 100_000, 401),
        ("wrong", "[" * 100_000, 401),
        (CURRENT, "[" * 100_000, 400),
        (CURRENT, "[" * (BODY_LIMIT_BYTES + 1), 413),
        ("wrong", None, 401),
    ],
)
def test_size_then_token_then_content(token: str | None, body: str | None, status: int) -> None:
    refused(post(body, token=token), status)


BEARER = f"Bearer {CURRENT}"
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": DEEP}, id="deep"),
        None, [], 4, "authorization", {}, {"authorization": None}, {"authorization": [BEARER]}, {"authorization": 7},
        {"authorization": {"Bearer": CURRENT}}, {"authorization": b"Bearer x"}, {"authorization": ""},
        {"authorization": "Bearer"}, {"authorization": "Bearer "}, {"authorization": f"Bearer{CURRENT}"},
        {"authorization": f"{BEARER},{BEARER}"}, {"authorization": f"{BEARER}, Basic eA=="},
        {"authorization": f"Bearer Bearer {CURRENT}"}, {"authorization": f'Bearer "{CURRENT}"'},
        {"authorization": f"Bearer {CURRENT}\x00"}, {"authorization": f"Bearer {CURRENT}\nx"},
        {"authorization": f"Bearer {CURRENT}{PREVIOUS}"}, {"authorization": f"Bearer {CURRENT}\n{PREVIOUS}"},
        {"authorization": f"Bearer {CURRENT.upper()}"}, {"authorization": "Bearer " + "ä" * 100},
        {"authorization": "Bearer \udcff\ud800"}, {"authorization": "Bearer " + "x" * 1_000_000},
        {"x-authorization": BEARER}, {" authorization": BEARER}, {"proxy-authorization": BEARER},
        {None: BEARER}, {"cookie": BEARER},
    ],
)  # fmt: skip
def test_no_header_but_the_right_one_opens(headers: Any) -> None:
    refused(post(GOOD, token=CURRENT, headers=headers), 401)


CONTEXTS: tuple[object, ...] = (None, [], 4, "x", {}, {"requestId": None}, {"requestId": ["x"]})


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {"Authorization": BEARER}},
        {"headers": {"AUTHORIZATION": f"bEARER   {CURRENT} "}},
        {"headers": {"authorization": f"Bearer {PREVIOUS}"}},
        {"headers": {1: 2, None: 3, "authorization": BEARER}},
        *({"requestContext": context} for context in CONTEXTS),
        {"version": "1.0", "rawPath": 7, "cookies": {}, "isBase64Encoded": None},
        {"isBase64Encoded": 0, "queryStringParameters": {"token": "x"}},
    ],
)
def test_what_stands_beside_token_and_body_does_not_matter(changes: dict[str, Any]) -> None:
    front = Front()
    assert (front.ask(post(GOOD, token=CURRENT) | changes)[0], front.looked) == (200, 1)


def test_without_its_context_the_request_is_known_by_the_functions_own_id() -> None:
    front = Front()
    front.ask({name: value for name, value in post(GOOD, token=CURRENT).items() if name != "requestContext"})
    assert front.at.told[-1]["correlation_id"] == "request-1"


# ----------------------------------------------------------------------------------------------------------- hypothesis


@MANY
@given(st.text(max_size=200) | st.binary(max_size=200) | json_values)
def test_no_body_opens_without_a_token(body: Any) -> None:
    text = (
        body if isinstance(body, str) else json.dumps(body) if not isinstance(body, bytes) else body.decode("latin-1")
    )
    for token in (None, "wrong"):
        refused(post(text, token=token), 401)
        refused(post(text, token=token, isBase64Encoded=True), 401)


@MANY
@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_a_400(body: bytes) -> None:
    refused(raw(body), 400)


@MANY
@given(json_values)
def test_no_json_is_more_than_a_400(value: Any) -> None:
    refused(post(json.dumps(value), token=CURRENT), 400)


@MANY
@given(st.dictionaries(st.sampled_from(["headers", "body", "isBase64Encoded", "requestContext", "rawPath"]), absurd))
def test_no_event_without_a_token_does_more_than_be_refused(event: dict[str, Any]) -> None:
    refused(event, 401)


@MANY
@given(st.text(max_size=60).filter(lambda text: text.strip() not in {CURRENT, PREVIOUS}))
def test_no_other_token_opens(token: str) -> None:
    refused(post(GOOD, token=token), 401)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _changed(body: Any, path: tuple[Any, ...], *values: object) -> Any:
    changed = deepcopy(body)
    at = changed
    for key in path[:-1]:
        at = at[key]
    if values:
        at[path[-1]] = values[0]
    else:
        del at[path[-1]]
    return changed


@settings(max_examples=500)
@given(st.data())
def test_a_real_body_with_one_place_changed_is_understood_or_refused(data: st.DataObject) -> None:
    body = sample(data.draw(st.sampled_from(SAMPLES)))
    path = data.draw(st.sampled_from(list(_places(body))))
    deleted = data.draw(st.booleans())
    changed = _changed(body, path) if deleted else _changed(body, path, data.draw(json_values))
    front = Front()
    status, told = front.ask(post(json.dumps(changed), token=CURRENT))
    assert status in (200, 400)
    assert front.looked == (status == 200 and "watchdog" not in told)
    if status == 400:
        refused(post(json.dumps(changed), token=CURRENT), 400)
        return
    for _, facts in front.at.reconcile.looks:
        assert len(facts) <= MAX_FACTS
        assert all(len(fact.subject.encode()) <= 129 for fact in facts), "a byte a character: the state item is small"


REPLACEMENTS: tuple[tuple[object, ...], ...] = (
    (None,), (True,), (4,), (1.5,), ("",), ([],), ({},), ([[]],), ({"": ""},), ()
)  # fmt: skip
"""Values to put into a place; the empty row deletes it."""


@pytest.mark.parametrize("name", SAMPLES)
def test_every_part_of_a_real_body_replaced_by_every_type(name: str) -> None:
    """Exhaustive where hypothesis draws: each place deleted, and each place made each type."""
    body, tried, refusals = sample(name), 0, 0
    for path in _places(body):
        for values in REPLACEMENTS:
            status, _ = Front().ask(post(json.dumps(_changed(body, path, *values)), token=CURRENT))
            tried += 1
            refusals += status == 400
            assert status in (200, 400)
    assert tried > 250
    assert 30 < refusals < tried


# ------------------------------------------------------------------------------------------------------------- tokens


def test_tokens_change_without_a_gap_and_without_a_deployment() -> None:
    front = Front()

    def status(token: str) -> int:
        return front.ask(post(GOOD, token=token))[0]

    assert [status(token) for token in (CURRENT, PREVIOUS, "next")] == [200, 200, 401]
    front.value = f"next\n{CURRENT}\n"
    front.now_s += MIN_REFRESH_S
    assert [status(token) for token in ("next", CURRENT)] == [200, 200], "the new one at once"
    assert status(PREVIOUS) == 401, "the parameter was read: what it does not list is refused"
    assert front.reads == 2
    front.value = "next"
    front.now_s += 299
    assert status(CURRENT) == 200, "known for five minutes"
    front.now_s += 2
    assert [status(token) for token in (CURRENT, "next")] == [401, 200]
    assert front.reads == 3
    front.value = None
    assert status("guess") == 401, "read a moment ago"
    front.now_s += MIN_REFRESH_S
    assert [status("guess"), status("guess"), status("next")] == [503, 503, 200]
    assert front.reads == 4, "nor do guesses ask again and again while it cannot be read"
    front.now_s += 300
    assert status("next") == 503


def test_every_listed_token_is_compared_whole_and_in_constant_time() -> None:
    """By the source: one hmac.compare_digest for each listed token, all made before any is looked at, and no `==`.

    The tokens' bytes are compared: compare_digest refuses text that is not ASCII.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(WebhookTokens)))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    names = {node.attr for part in compared for node in ast.walk(part) if isinstance(node, ast.Attribute)}
    assert names <= {"_name", "_read_at", "_age_s", "_failed", "_monotonic"}, "no token stands in a comparison"
    digests = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "hmac.compare_digest"]
    assert len(digests) == 1
    (whole,) = [n for n in ast.walk(tree) if isinstance(n, ast.ListComp) and digests[0] in ast.walk(n)]
    (loop,) = whole.generators
    assert (ast.unparse(loop.iter), loop.ifs) == ("self._tokens", []), "every one, whatever the others gave"
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.GeneratorExp) and digests[0] in ast.walk(n)]


@pytest.mark.parametrize("listed", ["schlüssel-für-alle", "ключ-от-всех-дверей", "鍵" * 20])
def test_a_token_of_any_letters_is_a_token(listed: str) -> None:
    front = Front()
    front.value = f"{listed}\nold"
    assert [front.ask(post(GOOD, token=token))[0] for token in (listed, f"{listed}x", "old")] == [200, 401, 200]

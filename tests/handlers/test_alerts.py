"""The webhook: what is turned away before anything is evaluated, what is looked at, what may be tried again."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.aws.idempotency import NotNow, Once
from autoscaler.aws.parameters import ParameterUnavailable
from autoscaler.ports import FleetUnavailable, StateMalformed, StoreUnavailable
from autoscaler.reconcile import Busy
from autoscaler.webhook import BODY_LIMIT_BYTES
from handlers.alerts import handle
from tests.aws.table import IDEMPOTENCY, create_tables
from tests.handlers.support import DOCUMENT, NOW, TOKEN, Desk, FakeContext, desk, post, sample

FIRING = sample("firing")


def always(key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """No memory: every webhook is new."""
    del key, context
    return work(), False


def ask(at: Desk, event: dict[str, Any], once: Any = always) -> tuple[int, dict[str, Any]]:
    answer = handle(at.app, once, event, FakeContext(), now_s=NOW)
    assert answer["headers"]["content-type"] == "application/json"
    return answer["statusCode"], json.loads(answer["body"])


def changed(**fields: Any) -> dict[str, Any]:
    return FIRING | fields


def alert(**fields: Any) -> dict[str, Any]:
    first: dict[str, Any] = FIRING["alerts"][0]
    return first | fields


HUGE = "x" * (BODY_LIMIT_BYTES + 1)
GOOD = json.dumps(FIRING)


@pytest.mark.parametrize(
    ("event", "status", "says"),
    [
        # Size first, whoever asks.
        pytest.param(post(HUGE), 413, "262144 bytes", id="too large"),
        pytest.param(post(HUGE, token=None), 413, "262144", id="too large and no token"),
        pytest.param(post("é" * (BODY_LIMIT_BYTES // 2 + 1)), 413, "262144", id="too large in bytes, not in letters"),
        pytest.param(post("!" * 360_000, isBase64Encoded=True, token=None), 413, "262144", id="too large, encoded"),
        # Then the token, whatever the body.
        pytest.param(post(FIRING, token=None), 401, "no bearer token", id="no token"),
        pytest.param(post(FIRING, token="wrong"), 401, "not accepted", id="wrong token"),
        pytest.param(post(FIRING, token=""), 401, "no bearer token", id="empty token"),
        pytest.param(post(FIRING, token=TOKEN + "x"), 401, "not accepted", id="longer token"),
        pytest.param(post(FIRING, token=TOKEN[:-1]), 401, "not accepted", id="shorter token"),
        pytest.param(post(FIRING, token="\udcff"), 401, "not accepted", id="token of broken text"),
        pytest.param(post(FIRING, headers={"authorization": TOKEN}), 401, "no bearer", id="bare token"),
        pytest.param(post(FIRING, headers={"authorization": f"Basic {TOKEN}"}), 401, "no bearer", id="basic"),
        pytest.param(post(FIRING, headers=None), 401, "no bearer", id="no headers"),
        pytest.param(post("{", token="wrong"), 401, "not accepted", id="bad token and bad body"),
        # Then the body.
        pytest.param(post(None), 400, "no body", id="no body"),
        pytest.param(post(""), 400, "no body", id="empty body"),
        pytest.param(post(None) | {"body": {"a": 1}}, 400, "no body", id="body of another type"),
        pytest.param(post("hello"), 400, "not JSON", id="text"),
        pytest.param(post(GOOD[:-1]), 400, "not JSON", id="cut JSON"),
        pytest.param(post(GOOD + "x"), 400, "not JSON", id="more than JSON"),
        pytest.param(post("\ud800"), 400, "base64 or UTF-8", id="broken text"),
        pytest.param(post("%%%", isBase64Encoded=True), 400, "base64", id="broken base64"),
        pytest.param(post("////", isBase64Encoded=True), 400, "not JSON", id="base64 of no text"),
        pytest.param(post("null"), 400, "not Alertmanager's webhook", id="null"),
        pytest.param(post("[]"), 400, "not Alertmanager's webhook", id="a list"),
        pytest.param(post("{}"), 400, "version is missing", id="empty object"),
        pytest.param(post(changed(version="3")), 400, "version is '3'", id="older version"),
        pytest.param(post(changed(version="5", alerts="new")), 400, "version is '5'", id="newer version"),
        pytest.param(post(changed(version=4)), 400, "version is 4", id="version as a number"),
        pytest.param(post(changed(alerts=[])), 400, "alerts", id="no alerts"),
        pytest.param(post(changed(alerts={})), 400, "alerts", id="alerts of another type"),
        pytest.param(post(changed(status="burning")), 400, "status", id="unknown status"),
        pytest.param(post(changed(groupKey="")), 400, "groupKey", id="empty group"),
        pytest.param(post({k: v for k, v in FIRING.items() if k != "groupKey"}), 400, "groupKey", id="no group"),
        pytest.param(post(changed(alerts=[alert(labels=None)])), 400, "labels", id="no labels"),
        pytest.param(post(changed(alerts=[alert(labels={"a": 1})])), 400, "labels", id="a label that is a number"),
        pytest.param(post(changed(alerts=[alert(fingerprint="")])), 400, "fingerprint", id="no fingerprint"),
        pytest.param(post(changed(alerts=[alert(fingerprint="f" * 65)])), 400, "fingerprint", id="endless fingerprint"),
        pytest.param(post(changed(alerts=[alert(startsAt=1)])), 400, "startsAt", id="a time that is a number"),
        pytest.param(post('{"version": "4", "x": ' + "[" * 90_000 + "]" * 90_000 + "}"), 400, "nested", id="deep"),
    ],
)
def test_what_is_turned_away_is_not_evaluated(event: dict[str, Any], status: int, says: str) -> None:
    at = desk()
    answered, body = ask(at, event)
    assert (answered, list(body)) == (status, ["error"])
    assert says in body["error"]
    assert body["error"].endswith(".")
    assert at.reconcile.looks == []
    assert [line["http_status"] for line in at.told] == [status]
    assert TOKEN not in at.log.getvalue()


def test_a_401_names_the_scheme() -> None:
    answer = handle(desk().app, always, post(FIRING, token=None), FakeContext(), now_s=NOW)
    assert answer["headers"]["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(post(FIRING), id="as it comes"),
        pytest.param(post(sample("firing-repeat")), id="repeated"),
        pytest.param(post(sample("firing-truncated")), id="truncated"),
        pytest.param(post(sample("resolved")), id="resolved"),
        pytest.param(post(changed(newField={"a": [1]}, notificationReason="new group")), id="a newer Alertmanager's"),
        pytest.param(post(base64.b64encode(GOOD.encode()).decode(), isBase64Encoded=True), id="encoded"),
        pytest.param(post(FIRING, headers={"Authorization": f"bearer  {TOKEN} "}), id="header in other letters"),
        pytest.param(post(GOOD[:-1] + ', "status": "firing"}'), id="a key twice"),
        pytest.param(post(changed(x=json.loads("[" * 100 + "]" * 100))), id="nested"),
        pytest.param(post(changed(alerts=FIRING["alerts"] * 3)), id="an alert three times"),
    ],
)
def test_a_valid_webhook_is_one_look(event: dict[str, Any]) -> None:
    at = desk()
    assert ask(at, event) == (200, DOCUMENT)
    ((trigger, _),) = at.reconcile.looks
    assert (trigger.kind, trigger.correlation_id) == ("alert", "gateway-1")
    assert trigger.detail
    (line,) = at.told
    assert line["correlation_id"] == "gateway-1"
    assert (line["message"], line["action"], line["decision_id"]) == (DOCUMENT["message"], "scale_up", "01abc")


UP = {"alertname": "K3sUnschedulablePods", "scale": "up"}


@pytest.mark.parametrize(
    ("alerts", "subjects"),
    [
        ([alert(labels=UP)], ["b5c6faefc20142bc@2026-11-23T19:53:40Z"]),
        ([alert(labels=UP), alert(labels=UP)], ["b5c6faefc20142bc@2026-11-23T19:53:40Z"]),
        ([alert(labels=UP, status="resolved"), alert(labels=UP, fingerprint="ab")], ["ab@2026-11-23T19:53:40Z"]),
        ([alert(labels={"scale": "down"})], []),
        ([alert(labels={"alertname": "K3sUnschedulablePods"})], []),
        (
            [alert(labels=UP, fingerprint=f"{n:02}") for n in range(50)],
            [f"{n:02}@2026-11-23T19:53:40Z" for n in range(10)],
        ),
    ],
)
def test_firing_scale_up_alerts_become_facts(alerts: list[dict[str, Any]], subjects: list[str]) -> None:
    at = desk()
    ask(at, post(changed(alerts=alerts)))
    ((_, facts),) = at.reconcile.looks
    assert [(fact.kind, fact.subject, fact.received_at_s, fact.handled) for fact in facts] == [
        ("blind_alert", subject, NOW, False) for subject in subjects
    ]


def test_the_watchdog_is_a_sign_of_life_and_no_reason_to_look() -> None:
    at = desk()
    status, body = ask(at, post(changed(alerts=[alert(labels={"alertname": "Watchdog"})])))
    assert (status, body["reason"], at.reconcile.looks) == (200, "watchdog", [])
    assert [line["Conditions"] for line in at.metrics] == [[0.0]]


def test_a_watchdog_beside_another_alert_does_not_hide_it() -> None:
    at = desk()
    assert ask(at, post(changed(alerts=[alert(labels={"alertname": "Watchdog"}), alert()])))[0] == 200
    assert len(at.reconcile.looks) == 1


SECRET_DETAIL = "arn:aws:iam::123456789012:role/secret"


@pytest.mark.parametrize(
    "error",
    [
        Busy("held"),
        StoreUnavailable(SECRET_DETAIL, effect_unknown=True),
        StateMalformed(SECRET_DETAIL),
        FleetUnavailable(SECRET_DETAIL, code="RequestLimitExceeded"),
    ],
)
def test_what_may_work_a_moment_later_is_a_503(error: Exception) -> None:
    at = desk(error)
    status, body = ask(at, post(FIRING))
    assert (status, list(body)) == (503, ["error"])
    assert SECRET_DETAIL not in body["error"]


def test_tokens_that_cannot_be_read_are_a_503_and_nothing_is_evaluated() -> None:
    def unreadable(_: str) -> bool:
        raise ParameterUnavailable(f"AWS refused to {SECRET_DETAIL}", code="AccessDeniedException")

    at = desk(accept_token=unreadable)
    status, body = ask(at, post(FIRING))
    assert (status, at.reconcile.looks) == (503, [])
    assert SECRET_DETAIL not in body["error"], "a stranger learns nothing"
    assert not at.metrics, "nobody looked"


def test_a_fault_of_ours_is_logged_with_its_trace_and_raised() -> None:
    at = desk(ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        ask(at, post(FIRING))
    (line,) = at.told
    assert (line["level"], line["error"], line["correlation_id"]) == ("ERROR", "ZeroDivisionError", "gateway-1")
    assert "Traceback" in line["exception"]
    assert TOKEN not in at.log.getvalue()


# ------------------------------------------------------------------------------------------------------- idempotency


@pytest.fixture
def once(clients: Clients, _moto: None) -> Once:
    create_tables(clients)
    return Once(clients.dynamodb(), table=IDEMPOTENCY)


def records(clients: Clients) -> list[dict[str, Any]]:
    return list(clients.dynamodb().scan(TableName=IDEMPOTENCY)["Items"])


def test_a_duplicate_has_one_effect_and_the_same_answer(once: Once, clients: Clients) -> None:
    at = desk()
    first, second = ask(at, post(FIRING), once), ask(at, post(FIRING), once)
    assert first == second == (200, DOCUMENT)
    assert len(at.reconcile.looks) == 1
    assert at.told[-1]["reason"] == "repeated"
    (record,) = records(clients)
    assert record["status"] == {"S": "COMPLETED"}
    assert record["id"]["S"].startswith("webhook#")


def test_the_order_of_the_alerts_makes_no_other_message(once: Once) -> None:
    at = desk()
    alerts = sample("firing-truncated")["alerts"]
    ask(at, post(changed(alerts=alerts)), once)
    ask(at, post(changed(alerts=alerts[::-1])), once)
    assert len(at.reconcile.looks) == 1


@pytest.mark.parametrize(
    "other",
    [
        changed(groupKey="other"),
        changed(status="resolved"),
        changed(alerts=[alert(startsAt="2026-11-23T20:00:00Z")]),
        changed(alerts=[alert(fingerprint="c0ffee")]),
        changed(alerts=[alert(), alert(fingerprint="c0ffee")]),
    ],
)
def test_another_message_is_looked_at(once: Once, other: dict[str, Any]) -> None:
    at = desk()
    ask(at, post(FIRING), once)
    ask(at, post(other), once)
    assert len(at.reconcile.looks) == 2


@pytest.mark.parametrize("error", [Busy("held"), StoreUnavailable("down"), FleetUnavailable("down")])
def test_a_failure_does_not_stick(once: Once, clients: Clients, error: Exception) -> None:
    at = desk(error, DOCUMENT)
    assert ask(at, post(FIRING), once)[0] == 503
    assert records(clients) == []
    assert ask(at, post(FIRING), once) == (200, DOCUMENT)
    assert len(at.reconcile.looks) == 2


def test_a_record_lives_shorter_than_alertmanager_repeats(once: Once, clients: Clients) -> None:
    at = desk()
    ask(at, post(FIRING), once)
    (record,) = records(clients)
    aged = record | {"expires_at": {"N": str(int(record["expires_at"]["N"]) - 7)}}
    clients.dynamodb().put_item(TableName=IDEMPOTENCY, Item=aged)
    ask(at, post(FIRING), once)
    assert len(at.reconcile.looks) == 2, "seven seconds later the same alert is a new reason to look"


def test_the_same_webhook_under_way_is_a_503_until_its_function_is_dead(once: Once, clients: Clients) -> None:
    at = desk()
    seen: list[tuple[int, dict[str, Any]]] = []

    def meet(key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        def slow() -> dict[str, Any]:
            seen.append(ask(at, post(FIRING), once))
            return work()

        return once(key, context, slow)

    assert ask(at, post(FIRING), meet)[0] == 200
    assert [status for status, _ in seen] == [503]
    assert len(at.reconcile.looks) == 1

    (record,) = records(clients)
    died = {"status": {"S": "INPROGRESS"}, "in_progress_expiration": {"N": "1"}}
    clients.dynamodb().put_item(TableName=IDEMPOTENCY, Item={**record, **died})
    assert ask(at, post(FIRING), once)[0] == 200, "killed half-way: its record ends with its time"
    assert len(at.reconcile.looks) == 2


@pytest.mark.usefixtures("_moto")
def test_an_idempotency_table_that_fails_is_a_503_and_nothing_is_evaluated(clients: Clients) -> None:
    at = desk()
    assert ask(at, post(FIRING), Once(clients.dynamodb(), table="no-such-table"))[0] == 503
    assert at.reconcile.looks == []
    assert at.told[-1]["error"] == NotNow.__name__


def test_in_progress_lasts_as_long_as_the_invocation(once: Once, clients: Clients) -> None:
    def half_way() -> dict[str, Any]:
        (record,) = records(clients)
        started_ms = (int(record["expires_at"]["N"]) - 5) * 1000
        assert 0 <= int(record["in_progress_expiration"]["N"]) - started_ms - 25_000 <= 1000
        return DOCUMENT

    once("key", FakeContext(remaining_ms=25_000), half_way)

"""Of what is news, what people are told."""

from typing import Any

import msgspec
import pytest

from autoscaler.conditions import CONDITIONS
from autoscaler.in_words import MOST_ROWS, plain_text
from autoscaler.model import Notified
from autoscaler.notifications import TRIED_ANEW, Notify, Severity, severity_of, telling
from autoscaler.policy_text import PolicyError, parse_policy

NOW_S = 1_000_000
CALM: dict[str, Any] = {"action": "scale_up", "reason": "unschedulable_pods", "metrics_status": "ok"}
AT_MAX: dict[str, Any] = {"action": "held_back", "reason": "at_max", "metrics_status": "ok", "conditions": ["at_max"]}
COOLING: dict[str, Any] = {"action": "held_back", "reason": "capacity_backoff", "metrics_status": "ok"}


@pytest.mark.parametrize(
    ("document", "severity"),
    [
        (CALM, "info"),
        (CALM | {"failures": ["terminate of i-1: no"]}, "warning"),
        (CALM | {"metrics_status": "unavailable"}, "warning"),
        (CALM | {"metrics_status": "partial"}, "warning"),
        (CALM | {"metrics_status": "not_asked"}, "info"),
        (COOLING, "warning"),
        *((CALM | {"conditions": [name]}, "critical") for name in CONDITIONS if name not in TRIED_ANEW),
        *((CALM | {"conditions": [name]}, "warning") for name in sorted(TRIED_ANEW)),
        (CALM | {"conditions": [*sorted(TRIED_ANEW), "at_max"]}, "critical"),
    ],
)
def test_severity(document: dict[str, Any], severity: Severity) -> None:
    assert severity_of(document) == severity


@pytest.mark.parametrize(
    ("rules", "document", "told"),
    [
        (Notify(), CALM, True),
        (Notify(least="warning"), CALM, False),
        (Notify(least="warning"), COOLING, True),
        (Notify(least="critical"), COOLING, False),
        (Notify(least="critical"), AT_MAX, True),
        (Notify(only=("at_max",)), CALM, False),
        (Notify(only=("at_max",)), AT_MAX, True),
        (Notify(never=("at_max",)), AT_MAX, False),
        (Notify(never=("at_max",)), CALM, True),
    ],
)
def test_filters(rules: Notify, document: dict[str, Any], told: bool) -> None:
    judged = telling(document, rules, None, NOW_S)
    assert judged.told is told
    assert (judged.notified is None) is not told, "what nobody wants to hear is no message of the hour"


def test_so_many_an_hour_and_the_rest_is_counted_and_told_later() -> None:
    rules, memory, told = Notify(most_an_hour=2), None, []
    for minute in range(5):
        judged = telling(CALM, rules, memory, NOW_S + 60 * minute)
        memory = judged.notified
        told.append(judged.told)
    assert told == [True, True, False, False, False]
    assert memory == Notified(hour_began_s=NOW_S, told=2, withheld=3)
    critical = telling(AT_MAX, rules, memory, NOW_S + 300)
    assert (critical.told, critical.withheld) == (True, 3), "what cannot go on without people comes through"
    later = telling(CALM, rules, memory, NOW_S + 3600)
    assert (later.told, later.withheld) == (True, 3)
    assert later.notified == Notified(hour_began_s=NOW_S + 3600, told=1)


def test_a_clock_that_runs_behind_begins_a_new_hour() -> None:
    judged = telling(CALM, Notify(most_an_hour=1), Notified(hour_began_s=NOW_S, told=1), NOW_S - 30)
    assert judged.told


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("{least: loud}", "least"),
        ("{only: [At Max]}", "only"),
        ("{most_an_hour: 0}", "most_an_hour"),
        ("{only: [at_max], never: [at_max]}", "both name at_max"),
    ],
)
def test_what_cannot_be_is_refused(notify: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        parse_policy(f"version: 1\nnotify: {notify}\n")


def test_the_memory_is_stored_with_the_state() -> None:
    memory = Notified(hour_began_s=NOW_S, told=2, withheld=3)
    assert msgspec.json.decode(msgspec.json.encode(memory), type=Notified) == memory


def test_a_mail_is_a_few_plain_lines() -> None:
    document = AT_MAX | {
        "message": "Not launched: 3 pods wait and workers.max is 10.",
        "decision_id": "d-1",
        "cluster_id": "shop",
        "mode": "active",
        "nodes": {"ready": 10, "joining": 0, "draining": None, "min": 2, "max": 10},
        "cost": {"usd_per_hour": 0.24, "unknown_workers": 1},
        "blocked": [
            {"subject": f"shop/web-{n}", "code": "unfittable", "text": "asks 4 CPU"} for n in range(MOST_ROWS + 2)
        ],
        "failures": ["terminate of i-1: no"],
        "withheld": 4,
    }
    text = plain_text(document)
    assert text.startswith("Not launched: 3 pods wait and workers.max is 10.\n\ncluster   shop, mode active\n")
    assert "workers   10 ready, 0 joining, unknown draining; min 2, max 10\n" in text
    assert "cost      $0.2400 an hour, and 1 of unknown price\n" in text
    assert "failed    terminate of i-1: no\n" in text
    assert "held back shop/web-0: unfittable: asks 4 CPU\n" in text
    assert "and 2 more: the log has them" in text
    assert "4 messages were not sent" in text
    assert "explain --decision d-1\n" in text
    assert "{" not in text


def test_a_document_of_which_little_is_known_is_still_a_mail() -> None:
    assert plain_text({}).startswith("No message.\n")

"""Every query - saved, on the dashboard, in the docs - is run on what real handlers wrote, and finds its answer."""

import json
import re
from collections.abc import Sequence
from inspect import getsource
from typing import Any

import pytest

from autoscaler.decide import words as sentences
from autoscaler.decide.removal.holds import all_holds
from autoscaler.decide.removal.shrink import plan_shrink
from tests.service.conftest import ROOT, Template
from tests.service.dashboard import log_queries
from tests.service.insights import Fields, Filter, NotUnderstood, Parse, Stats, fields_read, read_query
from tests.service.insights_run import Line, Row, discovered, run, value_of

QUERIES = re.findall(r"^  (\w+Query):$", (ROOT / "cloudformation/queries.yml").read_text(), re.MULTILINE)
DOCS = ("docs/logs-insights.md", "docs/operations.md")
BLOCK = re.compile(r"^```\n((?:fields|filter|stats|parse)\b.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = [
    pytest.param(recipe, id=f"{path} {place}")
    for path in DOCS
    for place, recipe in enumerate(BLOCK.findall((ROOT / path).read_text()))
]


def text_of(template: Template, name: str) -> str:
    found: str = template.properties(name)["QueryString"]
    return found


def unknown_fields(text: str, rows: Sequence[Row]) -> set[str]:
    known = {name for row in rows for name in row}
    return fields_read(read_query(text)) - known


def columns_of(text: str) -> list[str]:
    commands = read_query(text)
    grouped = [command for command in commands if isinstance(command, Stats)]
    if grouped:
        return [column.name for column in (*grouped[-1].groups, *grouped[-1].columns)]
    return [column.name for command in commands if isinstance(command, Fields) for column in command.columns]


def test_there_are_queries() -> None:
    assert len(QUERIES) == 17
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("name", QUERIES)
def test_a_saved_query_names_only_fields_that_are_written(template: Template, rows: list[Row], name: str) -> None:
    assert not unknown_fields(text_of(template, name), rows)


@pytest.mark.parametrize("name", QUERIES)
def test_a_saved_query_tells_some_lines_from_others(template: Template, rows: list[Row], name: str) -> None:
    commands = read_query(text_of(template, name))
    filters = [command for command in commands if isinstance(command, Filter)]
    parsed = run([command for command in commands if isinstance(command, Parse)], rows)
    kept = run([command for command in commands if isinstance(command, Fields | Filter)], parsed)
    assert filters
    assert 0 < len(kept) < len(rows)
    for one in filters:
        kept_by_it = [row for row in parsed if value_of(one.condition, row)]
        assert len(kept_by_it) < len(rows), "a filter that every line passes"


@pytest.mark.parametrize("name", QUERIES)
def test_every_column_of_a_saved_query_has_a_value_somewhere(template: Template, rows: list[Row], name: str) -> None:
    text = text_of(template, name).rpartition("| limit")[0] or text_of(template, name)  # on all of many days
    answer = run(read_query(text), rows)
    assert not [column for column in columns_of(text) if all(row.get(column) in {None, ""} for row in answer)]


def test_the_queries_have_a_folder_for_each_cluster_and_read_the_three_functions(
    template: Template, full_template: Template
) -> None:
    groups = [{"Ref": f"{name}LogGroup"} for name in ("Alerts", "Sweep", "Lifecycle")]
    for generated, cluster in ((template, "demo"), (full_template, "shop")):
        found = generated.of_type("AWS::Logs::QueryDefinition")
        assert list(found) == QUERIES
        names = [entry["Properties"]["Name"] for entry in found.values()]
        assert all(re.fullmatch(rf"k3s-autoscaler/{cluster}/\d\d [a-z A-Z-]+", name) for name in names)
        assert [name.rpartition("/")[2][:2] for name in names] == [f"{n:02}" for n in range(1, len(names) + 1)]
        assert all(entry["Properties"]["LogGroupNames"] == groups for entry in found.values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_the_docs_works(rows: list[Row], recipe: str) -> None:
    assert not unknown_fields(recipe, rows)
    assert run(read_query(recipe), rows)


def test_the_dashboard_asks_what_is_written(full_template: Template, rows: list[Row]) -> None:
    asked = log_queries(full_template)
    assert len(asked) == 8
    for title, (groups, text) in asked.items():
        wanted = {
            full_template.properties(f"{name}LogGroup")["LogGroupName"] for name in ("Alerts", "Sweep", "Lifecycle")
        }
        assert groups == wanted, title
        assert not unknown_fields(text, rows), title
        answer = run(read_query(text), rows)
        for column in columns_of(text):
            assert any(row.get(column) for row in answer), f"{title}: {column} is never anything"


def test_the_docs_explain_every_reason_for_which_nobody_comes_or_goes() -> None:
    """As the sources name them: where sentences are made of refusals, and where nobody is removed."""
    page = (ROOT / DOCS[0]).read_text()
    told = getsource(sentences.in_words) + getsource(sentences._limit) + getsource(sentences.not_launched)
    refused = re.findall(r'(?:HELD_BACK,|return|case|limit ==|reason =|else) "([a-z_]+)"', told)
    stays = re.findall(r'(?:Why\(|\breason=)"([a-z_]+)"', getsource(all_holds) + getsource(plan_shrink))
    assert {"never_seen", "at_cost_cap", "launch_refused", "no_subnet"} <= set(refused)
    assert {"at_min", "blackout", "no_candidate", "unseen"} <= set(stays)
    beginnings = {"above_max"}
    assert not [
        code for code in {*refused, *stays, "join_backoff", "replacing"} - beginnings if f"`{code}`" not in page
    ]


def only(rows: list[Row], **wanted: Any) -> Row:
    (found,) = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    return found


def test_what_the_answers_say(template: Template, rows: list[Row]) -> None:
    """One row of each story that tests/service/captured.py plays, as a reader would find it."""

    def answer(name: str) -> list[Row]:
        return run(read_query(text_of(template, name)), rows)

    changes = answer("FleetChangesQuery")
    assert any(row["trigger_kind"] == "alert" and row["action"] == "scale_up" for row in changes)
    assert any("is interrupted by EC2" in row["trigger.detail"] for row in changes)
    why_not_up = {row["reason"] for row in answer("NoScaleUpQuery")}
    assert why_not_up >= {"at_max", "join_backoff", "capacity_backoff", "metrics_unavailable", "paused"}
    assert any("asks 12 CPU" in row.get("blocked.0.text", "") for row in answer("NoScaleUpQuery"))
    why_not_down = {row["reason"] for row in answer("NoScaleDownQuery")}
    assert why_not_down >= {"no_candidate", "at_min", "metrics_partial", "at_max"}
    ready = answer("TimeToReadyQuery")
    assert all(row["worker"].startswith("worker-i-") and 30 <= int(row["seconds_to_ready"]) <= 600 for row in ready)
    failed = " ".join(row["message"] for row in answer("FailedDrainsAndJoinsQuery"))
    for words in ("drain blocked_by_budget", "did not join within 600 s", "EC2 gave 0 of", "the drain never reported"):
        assert words in failed
    errors = answer("ErrorsByTriggerQuery")
    assert only(errors, trigger_kind="alert", error="StoreUnavailable")["errors"] == 1
    assert any("Task timed out" in row["last_sentence"] for row in errors)
    refused = {(row["reason"], row.get("http_status")): row["answers"] for row in answer("WebhookRefusalsQuery")}
    assert refused == {
        ("rejected", 401): 2,
        ("rejected", 400): 1,
        ("rejected", 413): 1,
        ("busy", None): 1,
        ("failed", None): 1,
    }
    slowest = [row["duration_ms"] for row in answer("SlowestEvaluationsQuery")]
    assert slowest == sorted(slowest, reverse=True)
    under_way = answer("OpenOperationsQuery")
    assert {row["operations.0.phase"] for row in under_way} >= {"terminating"}
    assert any(row["operations.0.stuck"] for row in under_way)


def test_what_the_answers_say_of_the_policys_parts(template: Template, rows: list[Row]) -> None:
    """Of the stories that tests/service/captured_policy.py plays."""

    def answer(name: str) -> list[Row]:
        return run(read_query(text_of(template, name)), rows)

    why_not_up = answer("NoScaleUpQuery")
    assert {row["reason"] for row in why_not_up} >= {"at_cost_cap"}
    assert any(
        row.get("blocked.0.code") == "pool_at_max" and row["blocked.0.text"].startswith("pool large has")
        for row in why_not_up
    )
    assert {row["conditions.0"] for row in answer("NeedsAPersonQuery")} >= {"signal_lost", "policy_refused", "at_max"}
    versions = {(row.get("policy_version"), bool(row["policy_problem"])) for row in answer("PolicyQuery")}
    assert versions == {(None, False), (1, False), (1, True)}
    (lost,) = answer("CustomSignalsQuery")
    assert (lost["signal"], lost["last_said"]) == ("orders_queue", "the query has no answer now")
    (forecast,) = answer("ForecastErrorQuery")
    assert 0 < forecast["error_workers"] < 1 < forecast["error_percent"] < 100
    left_out = answer("LeftOutQuery")
    assert {row.get("zone") for row in left_out} == {"us-east-1a", None}
    for said in ("is launched on demand", "is not launched on demand: cost.max_usd_per_hour has no room for 1 of 1"):
        assert any(row["message"].startswith(f"what Spot did not give {said}") for row in left_out)


def test_cost_is_computed_as_lambda_bills_it(template: Template) -> None:
    """512 MB for 100 ms, a thousand times: 50 GB-seconds."""
    billed = "Billed Duration: 100 ms\tMemory Size: 512 MB\t"
    report = f"REPORT RequestId: r\tDuration: 99.10 ms\t{billed}Max Memory Used: 98 MB\t"
    rows = [discovered(Line("/aws/lambda/x", 1_800_000_000_000 + n, report)) for n in range(1000)]
    (day,) = run(read_query(text_of(template, "FunctionCostQuery")), rows)
    assert (day["requests"], round(day["gb_seconds"], 9)) == (1000, 50.0)
    assert day["dollars"] == pytest.approx(1000 * 0.20 / 1e6 + 50 * 0.0000133334)


def test_a_long_list_hides_no_field_that_a_query_filters_by(lines: list[Line]) -> None:
    """Logs Insights discovers 200 fields of a line: a decision passes over hundreds of pods when a cluster is full."""
    whole = next(line for line in lines if '"decision_id"' in line.text and '"stuck":true' in line.text)
    crowd = [{"subject": "shop/web", "code": "unfittable", "text": "x"}] * 300
    crowded = json.dumps(json.loads(whole.text) | {"blocked": crowd})  # the fields keep their order
    row = discovered(Line(whole.log_group, whole.at_ms, crowded))
    assert "blocked.0.code" in row
    assert "blocked.299.code" not in row
    for name in (
        "decision_id",
        "action",
        "reason",
        "mode",
        "duration_ms",
        "calls.ec2",
        "metrics_status",
        "nodes.ready",
    ):
        assert name in row
    assert row["operations.0.stuck"] is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fields @timestamp | explode x", "no command begins with 'explode'"),
        ("filter ispresent(decision_id", r"'\)' is missing"),
        ("filter median(duration_ms) > 1", "median is no known function"),
        ("stats count(*) as looks by action | sort reason", "after stats"),
        ("stats sum(duration_ms) / reason by action", "outside of an aggregate"),
        ('parse message "a * b *" as one', "has not one"),
    ],
)
def test_what_the_reader_does_not_know_it_refuses(text: str, why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        read_query(text)

"""The filters and the sizing beside the answers of the real scheduler and autoscaler (tests/data/verdicts)."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from autoscaler.decide.scheduling.filters import refusals
from bench import verdicts
from bench.verdict_cases import (
    EXPLAINED,
    FILTERS,
    SIZING,
    Outcome,
    cluster_of,
    compare_filters,
    compare_sizing,
    load,
    pod_rules,
    storage,
    tallies,
)
from tests.summary import VERDICTS, send_home


@pytest.fixture(scope="module")
def filters() -> list[Outcome]:
    return [outcome for case in load(verdicts.DATA, FILTERS) for outcome in compare_filters(case)]


@pytest.fixture(scope="module")
def sizing() -> list[Outcome]:
    return [outcome for case in load(verdicts.DATA, SIZING) for outcome in compare_sizing(case)]


def test_every_verdict_of_the_real_scheduler(filters: list[Outcome], request: pytest.FixtureRequest) -> None:
    send_home(request, VERDICTS, tallies(filters))
    assert [outcome for outcome in filters if not outcome.agrees] == []
    first = [outcome for outcome in filters if outcome.kind.startswith("first: ")]
    apart = {outcome.kind for outcome in filters if outcome.kind.startswith("apart: ")}
    assert (len(first), len(apart)) == (4133, 11), "the recorded data is whole"


def test_never_more_nodes_than_the_estimator_and_zones_as_safe(
    sizing: list[Outcome], request: pytest.FixtureRequest
) -> None:
    send_home(request, VERDICTS, tallies(sizing))
    assert [outcome for outcome in sizing if not outcome.agrees and not outcome.explained] == []
    assert sum(outcome.kind.startswith("size: ") for outcome in sizing) >= 208, "the recorded data is whole"


def test_each_reason_to_differ_is_needed(sizing: list[Outcome]) -> None:
    assert {outcome.explained for outcome in sizing if not outcome.agrees} == set(EXPLAINED)
    assert sum(bool(outcome.explained) for outcome in sizing) <= 3, "an explanation is an exception"


def test_where_1_36_2_and_the_documentation_part_the_scheduler_is_followed() -> None:
    quirks = [case for case in load(verdicts.DATA, FILTERS) if "documented" in case]
    assert len(quirks) == 2
    for case in quirks:
        cluster, rules = cluster_of(case), pod_rules(case["pending"], storage(case))
        ours = {
            name: [str(plugin) for plugin in refusals(rules, node, cluster)] for name, node in cluster.nodes.items()
        }
        assert ours != case["documented"]


# ----------------------------------------------------------------------------------------------------- the bench itself


def write(folder: Path, filters: list[Any], sizing: list[Any]) -> None:
    for name, cases in ((FILTERS, filters), (SIZING, sizing)):
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            json.dump({"format": 1, "cases": cases}, file)


@pytest.fixture
def one_of_each() -> tuple[Any, Any]:
    refused = next(c for c in load(verdicts.DATA, FILTERS) if any(c["verdicts"].values()))
    return refused, next(c for c in load(verdicts.DATA, SIZING) if c["expect"].get("new_nodes", 0) > 1)


def test_the_bench_tells_agreements(
    one_of_each: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [one_of_each[0]], [one_of_each[1]])
    assert verdicts.main([str(tmp_path)]) == 0
    assert "differs" not in capsys.readouterr().out


def test_the_bench_names_each_disagreement(
    one_of_each: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, sized = one_of_each
    node = next(name for name, verdict in refused["verdicts"].items() if verdict)
    refused["verdicts"][node] = None
    sized["expect"]["new_nodes"] -= 1
    write(tmp_path, [refused], [sized])
    assert verdicts.main([str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert f"differs: first: fits: {refused['id']} {node}: recorded None, ours " in told
    assert f"{sized['id']}: recorded {sized['expect']['new_nodes']} nodes" in told


def test_a_case_that_cannot_be_read_differs(
    one_of_each: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, sized = one_of_each
    refused["nodes"][0]["status"]["allocatable"]["cpu"] = "much"
    write(tmp_path, [refused, "no object"], [sized])
    assert verdicts.main([str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "'much' is no quantity of cpu" in told
    assert "a case that is no object" in told


@pytest.mark.parametrize("text", [None, "no gzip", '{"format": 2, "cases": [{}]}', '{"format": 1, "cases": []}', "[]"])
def test_a_folder_that_does_not_hold_them_gets_one_sentence(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text == "no gzip":
        (tmp_path / FILTERS).write_text(text, encoding="utf-8")
    elif text is not None:
        (tmp_path / FILTERS).write_bytes(gzip.compress(text.encode()))
    assert verdicts.main([str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("The verdicts cannot be compared: ")
    assert told.count("\n") == 1

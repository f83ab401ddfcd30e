"""`make bench-check`: what fails, and that the committed results are within what the documents promise."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import check
from bench.crowds import MIXES
from bench.invocation.__main__ import tables
from bench.results import path_of

BEFORE: dict[str, Any] = {"ratios": {"cold": 1.0, "look": 2.0}, "exact": {"calls": {"ec2": 1}}}


@pytest.mark.parametrize(
    ("ratios", "exact", "told"),
    [
        ({"cold": 1.25, "look": 2.5}, {"calls": {"ec2": 1}}, []),
        ({"cold": 0.1, "look": 2.0, "new": 9.0}, {"calls": {"ec2": 1}, "new": 1}, []),
        ({"cold": 1.26, "look": 2.0}, {"calls": {"ec2": 1}}, ["cold is 1.26 and was 1.00: 26% worse"]),
        (
            {"look": 2.0},
            {"calls": {"ec2": 1}},
            ["cold is no longer measured: run the bench with --json, and commit the results"],
        ),
        ({"cold": 1.0, "look": 2.0}, {"calls": {"ec2": 2}}, ["calls is {'ec2': 2} and was {'ec2': 1}"]),
        ({"cold": 1.0, "look": 2.0}, {}, ["calls is None and was {'ec2': 1}"]),
    ],
)
def test_a_quarter_worse_fails_and_so_does_another_count(
    ratios: dict[str, float], exact: dict[str, Any], told: list[str]
) -> None:
    assert list(check.faults(BEFORE, {"ratios": ratios, "exact": exact})) == told


@pytest.mark.parametrize(
    ("runs", "told", "ran"),
    [
        ([{"cold": 1.0, "look": 2.0}], [], 1),
        ([{"cold": 1.3, "look": 2.0}, {"cold": 1.1, "look": 2.9}], [], 2),
        ([{"cold": 1.3, "look": 2.0}, {"cold": 1.3, "look": 2.0}, {"cold": 1.2, "look": 2.0}], [], 3),
        (
            [{"cold": 1.4, "look": 2.0}, {"cold": 1.3, "look": 2.9}, {"cold": 1.5, "look": 2.0}],
            ["cold is 1.30 and was 1.00: 30% worse"],
            3,
        ),
    ],
)
def test_what_is_worse_in_every_run_fails(runs: list[dict[str, float]], told: list[str], ran: int) -> None:
    asked: list[str] = []

    def run(name: str) -> dict[str, Any]:
        asked.append(name)
        return {"ratios": runs[len(asked) - 1], "exact": BEFORE["exact"]}

    assert check.lasting(BEFORE, "it", run) == told
    assert len(asked) == ran


def test_a_bench_without_a_baseline_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(["policy"])
    assert ended.value.code == 2
    assert "no results of policy are committed: name some of" in capsys.readouterr().err


def test_the_committed_results_are_put_back_whatever_the_bench_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = tmp_path / "gone.json"
    committed.write_text(json.dumps(BEFORE))
    monkeypatch.setattr(check, "path_of", lambda name: tmp_path / f"{name}.json")
    with pytest.raises(SystemExit, match=r"bench\.gone failed: nothing was compared\."):
        check.fresh("gone")
    assert json.loads(committed.read_text()) == BEFORE


def test_the_document_tells_the_committed_figures() -> None:
    found = json.loads(path_of("invocation").read_text())
    document = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    for line in tables(found).splitlines():
        assert line in document
    assert f"{found['ratios']['import of the sweep, over bare boto3']:.2f} times that of bare boto3" in document


def test_the_committed_figures_are_within_the_targets() -> None:
    """docs/performance.md promises them; `make bench-check` holds a fresh run to these."""
    found = json.loads(path_of("invocation").read_text())
    for handler in ("sweep", "lifecycle", "alerts"):
        assert found["ratios"][f"cold start, {handler}"] <= 1.10
    assert found["sizes"]["package_bytes"] <= 4_000_000
    assert found["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert found["exact"]["requests of a calm look"] == ["DescribeInstances", "GetItem", "query"], "no write"
    assert found["warm_look_ms"] <= 25


def test_one_decision_at_size_takes_no_second() -> None:
    """Of the committed run, with 5,000 workers, 150,000 pods and 20,000 that wait: docs/performance.md tells it."""
    found = json.loads(path_of("decide_size").read_text())["seconds"]
    longest = {mix: found[f"{mix}_5000_longest"] for mix in MIXES}
    assert max(longest.values()) <= 1, longest
    document = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert f"`constrained` {longest['constrained']:.2f} s" in document

"""`make bench-policy` end to end on a short workload, what it judges, and what the document says of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.policy import Policy, ScaleDown, Workers, policy_hash
from bench.policy import __main__ as command
from bench.policy.expectations import EXPECTATIONS, decides, judge
from bench.policy.picture import draw
from bench.policy.results import (
    BOUND,
    BRIEF,
    DEFAULT,
    MARKS,
    OTHERS,
    SPOT,
    STATIC,
    Idle,
    Results,
    Row,
    Workload,
    in_document,
    judged_table,
    table,
)
from bench.policy.run import play_fleet, run
from tests.bench.plans import SHORT, plan, to, web

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "bench" / "results"
EAGER = Policy(version=1, scale_down=ScaleDown(cool_down_s=60, max_empty_step=15))


def columns(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_short_workload_gives_every_row_the_same_each_time(tmp_path: Path) -> None:
    policies = {DEFAULT: Policy(version=1), "eager": EAGER}
    results, series = run([SHORT], policies, processes=2)

    # The table.
    lines = columns(table(results.workloads))
    assert [line[1] for line in lines[2:]] == [DEFAULT, "eager", BRIEF, STATIC, BOUND]
    assert lines[0] == ["workload", "fleet", "node-hours", "dollars", "waiting pod-minutes", "evictions", "launches"]
    (workload,) = results.workloads
    assert {"0", "0.0"} >= {lines[2 + 4][column] for column in (4, 5)}, "of the bound nobody waits and nothing moves"

    # What it says makes sense: more is paid than by who knows all, and less waits than where nobody grows enough.
    default, bound = workload.row(DEFAULT), workload.row(BOUND)
    assert bound.usd < default.usd
    assert 0 < default.waiting_pod_minutes < workload.row(BRIEF).waiting_pod_minutes
    assert workload.row(STATIC).node_hours == 5 * SHORT.hours
    assert workload.row("eager").node_hours <= default.node_hours
    assert default.launches >= 3

    # The JSON, strictly: what is not in the type is an error.
    data = command.encode(results)
    assert msgspec.json.decode(data, type=Results) == results
    raw = msgspec.json.decode(data)
    assert set(raw) == {"format", "seed", "policies", "workloads", "idle", "expectations"}
    assert set(raw["workloads"][0]["rows"][0]) == set(Row.__struct_fields__)
    assert raw["policies"] == {name: policy_hash(policy) for name, policy in policies.items()}

    # The same again, and the same bytes of it.
    for fleet in (*policies, *OTHERS):
        again = play_fleet(SHORT, fleet, policies.get(fleet, policies[DEFAULT]), policies[DEFAULT])
        assert again == (workload.row(fleet), series["small", fleet])
    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in pictures:
        draw(results.workloads, series, file)
    one, two = (file.read_bytes() for file in pictures)
    assert one == two
    assert b"small" in one
    assert b"eager" in one


# ------------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small workload under the name of the day."""
    day = msgspec.structs.replace(plan(web(6), hours=0.2, changes=(to(60, 12),)), name="ecommerce-day")
    monkeypatch.setattr(command, "WORKLOADS", {"ecommerce-day": lambda: day})


@pytest.mark.usefixtures("quick")
def test_the_command_plays_a_file_beside_writes_and_fails_where_the_default_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "eager.yml"
    other.write_text("version: 1\nscale_down: {cool_down_s: 60, max_empty_step: 15}\n", encoding="utf-8")
    code = command.main(["--policy", str(other), "--out", str(tmp_path / "out"), "--processes", "1"])
    told = capsys.readouterr()
    results = msgspec.json.decode((tmp_path / "out" / "policy.json").read_bytes(), type=Results)
    assert results.policies["eager"] == policy_hash(EAGER)
    assert table(results.workloads) in told.out
    assert judged_table(results.expectations) in told.out
    assert (tmp_path / "out" / "policy.svg").stat().st_size > 1000
    assert results.policies[SPOT] == policy_hash(command.read_policies([])[SPOT]), "the bench's own is always beside"
    failed = [judged for judged in results.expectations if decides(judged) and not judged.met]
    assert {judged.fleet for judged in results.expectations if decides(judged)} == {DEFAULT, SPOT}
    assert code == int(bool(failed))
    assert (f"{len(failed)} of what is expected" in told.err) == bool(failed)


@pytest.mark.usefixtures("quick")
def test_a_default_that_is_too_small_for_a_workload_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Policy(version=1, workers=Workers(max=3))
    monkeypatch.setattr(command, "read_policies", lambda _files, _presets: {DEFAULT: small})
    with pytest.raises(SystemExit):
        command.main(["--out", str(tmp_path), "--processes", "1"])
    assert "ecommerce-day needs 4 workers after 60 s, and the default's workers.max is 3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bound.yml", "version: 1\n", "would be called bound"),
        ("wrong.yml", "version: 1\nworkers: {min: 3, max: 2}\n", "workers.min is 3 and workers.max is 2"),
        ("type.yml", "version: 1\nworkers: {instance_types: [x9.huge]}\n", "x9.huge"),
        (
            "size.yml",
            "version: 1\nworkers:\n  instance_types: [x9.huge]\n"
            "  sizes: {x9.huge: {cpu_millicores: 4000, memory_mib: 8000}}\n",
            "x9.huge, whose price nobody knows",
        ),
        ("absent.yml", None, "No such file"),
    ],
)
def test_a_policy_that_cannot_be_played_is_refused_in_one_sentence(
    name: str, text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        command.main(["--policy", str(tmp_path / name)])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- expectations


def row(fleet: str, **figures: Any) -> Row:
    fine = {"node_hours": 100.0, "usd": 2.0, "waiting_pod_minutes": 20.0, "evictions": 30, "launches": 8}
    return Row(fleet=fleet, **{**fine, **figures})


def results(*, seconds: float | None = 100.0, name: str = "ecommerce-day", **figures: Any) -> Results:
    rows = (row(DEFAULT, **figures), row(SPOT, **figures), row(STATIC, usd=2.5), row(BOUND, usd=2.0))
    return Results(
        seed=1,
        policies={},
        workloads=(Workload(name=name, about="", hours=24, rows=rows),),
        idle=(Idle(fleet=DEFAULT, seconds=seconds),),
    )


def met(found: Results, fleet: str = DEFAULT) -> dict[str, bool]:
    return {judged.expectation: judged.met for judged in judge(found, [fleet])}


@pytest.mark.parametrize(
    ("words", "fine", "wrong"),
    [
        ("dollars, as a multiple of the bound's", {"usd": 2.30}, {"usd": 2.31}),
        ("waiting pod-minutes", {"waiting_pod_minutes": 30.0}, {"waiting_pod_minutes": 30.1}),
        ("evictions", {"evictions": 40}, {"evictions": 41}),
        ("15 idle workers", {"seconds": 180.0}, {"seconds": 180.5}),
        ("15 idle workers", {"seconds": -10.0}, {"seconds": None}),
        (
            "more dollars than five static",
            {"usd": 2.6, "waiting_pod_minutes": 20.0},
            {"usd": 2.6, "waiting_pod_minutes": 20.1},
        ),
        (
            "more dollars than five static",
            {"usd": 2.5, "waiting_pod_minutes": 99.0},
            {"usd": 2.51, "waiting_pod_minutes": 99.0},
        ),
    ],
)
def test_each_expectation_is_met_and_fails(words: str, fine: Mapping[str, Any], wrong: Mapping[str, Any]) -> None:
    (text,) = [one.text for one in EXPECTATIONS if words in one.text and not one.fleet]
    assert met(results(**fine))[text]
    assert not met(results(**wrong))[text]


@pytest.mark.parametrize(
    ("name", "words", "fine", "wrong"),
    [
        ("ecommerce-day", "as a multiple of five static workers'", {"usd": 1.375}, {"usd": 1.38}),
        ("spot-storm", "waiting pod-minutes", {"waiting_pod_minutes": 10.0}, {"waiting_pod_minutes": 10.1}),
    ],
)
def test_what_is_expected_of_spot_alone(
    name: str, words: str, fine: Mapping[str, Any], wrong: Mapping[str, Any]
) -> None:
    (text,) = [one.text for one in EXPECTATIONS if words in one.text and one.fleet == SPOT]
    assert met(results(name=name, **fine), SPOT)[text]
    assert not met(results(name=name, **wrong), SPOT)[text]
    assert text not in met(results(name=name, **fine))


def test_what_was_not_played_is_not_judged() -> None:
    judged = met(results(name="steady"))
    assert len(judged) == len([one for one in EXPECTATIONS if not one.fleet]) - 3
    assert not [text for text in judged if "ecommerce-day" in text]


def test_a_failure_is_told_with_its_figure() -> None:
    lines = judged_table(judge(results(evictions=77, seconds=None), [DEFAULT]))
    assert "| **FAILED** | default | ecommerce-day: evictions" in lines
    assert re.search(r"evictions +\| +77 \| +40 \|", lines)
    assert re.search(r"idle workers.* \| +never \| +180 \|", lines)


# ------------------------------------------------------------------------------------------------------------ document


def test_results_go_between_the_marks_and_nowhere_else() -> None:
    document = f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n"
    once = in_document(document, results())
    assert once.startswith(f"before\n{MARKS[0]}\n| workload")
    assert once.endswith(f"|\n{MARKS[1]}\nafter\n")
    assert "old" not in once
    assert in_document(once, results()) == once
    with pytest.raises(ValueError, match="lacks one of the marks"):
        in_document("before\n", results())


def test_the_document_holds_what_was_committed_and_names_every_workload() -> None:
    text = (ROOT / "docs" / "policy" / "bench.md").read_text(encoding="utf-8")
    committed = msgspec.json.decode((RESULTS / "policy.json").read_bytes(), type=Results)
    assert [workload.name for workload in committed.workloads] == list(WORKLOADS)
    assert in_document(text, committed) == text, "run `make bench-policy` and commit what it writes"
    assert table(committed.workloads) in text
    for name, make in WORKLOADS.items():
        assert f"`{name}`: {make().about}" in " ".join(text.split()), name
    assert (RESULTS / "policy.svg").is_file()


@pytest.mark.parametrize("name", ["batch-burst", "zone-outage", "spot-storm"])
def test_the_committed_figures_are_what_is_measured_today(name: str) -> None:
    committed = msgspec.json.decode((RESULTS / "policy.json").read_bytes(), type=Results)
    (of_it,) = [workload for workload in committed.workloads if workload.name == name]
    policies = command.read_policies([])
    for fleet in (DEFAULT, SPOT, BRIEF, BOUND):
        policy = policies.get(fleet, policies[DEFAULT])
        played, _ = play_fleet(WORKLOADS[name](), fleet, policy, policies[DEFAULT])
        assert played == of_it.row(fleet), "run `make bench-policy` and commit what it writes"

"""`history`: from when until when, of which worker, by what, and who changed the mode."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.history.chosen import names
from autoscaler.cli.main import app
from autoscaler.cli.times import moment, utc
from autoscaler.model import State
from autoscaler.ports import StoreUnavailable
from tests.aws.table import STATE, create_tables

NOW = int(time.time())


@pytest.fixture
def store(clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DynamoStateStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTER_ID", "demo")
    monkeypatch.setenv("STATE_TABLE", STATE)
    create_tables(clients)
    return DynamoStateStore(clients, table=STATE, cluster_id="demo", history_days=30)


def record(store: DynamoStateStore, at_s: int, name: str, kind: str = "sweep", **fields: Any) -> None:
    document = {"decision_id": name, "action": "scale_up", "reason": name, "message": "m", "trigger": {"kind": kind}}
    store.record(at_s, name, document | fields)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def reasons(*arguments: str) -> list[str]:
    return [row["reason"] for row in json.loads(run("history", "--json", *arguments))]


def test_the_newest_first_as_far_back_and_as_many_as_asked_for(store: DynamoStateStore) -> None:
    record(store, NOW - 10, "new")
    record(store, NOW - 7200, "old")
    assert reasons() == ["new", "old"]
    assert reasons("--since", "1h") == ["new"]
    assert reasons("--until", "1h") == ["old"]
    assert len(run("history", "--limit", "1").splitlines()) == 1
    run("history", "--limit", "0", code=2)


def test_what_happened_between_two_and_three_last_night(store: DynamoStateStore) -> None:
    today = datetime.fromtimestamp(NOW).astimezone()
    two = int(today.replace(hour=2, minute=0, second=0, microsecond=0, tzinfo=None).timestamp())
    two -= 86_400 if two + 3600 > NOW else 0
    for at_s, name in ((two - 1, "before"), (two, "first"), (two + 1800, "middle"), (two + 3600, "last")):
        record(store, at_s, name)
    record(store, two + 3601, "after")
    day = datetime.fromtimestamp(two).astimezone().strftime("%Y-%m-%d")
    assert reasons("--since", f"{day} 02:00", "--until", f"{day} 03:00") == ["last", "middle", "first"]
    assert reasons("--since", utc(two), "--until", utc(two + 3600)) == ["last", "middle", "first"]
    rows = run("history", "--since", f"{day} 02:00", "--until", f"{day} 03:00").splitlines()
    assert [row.split("\t")[1] for row in rows] == [moment(two + 3600), moment(two + 1800), moment(two)]


def test_of_one_worker_and_by_one_trigger(store: DynamoStateStore) -> None:
    record(store, NOW - 30, "removed", operations=[{"instance_ids": ["i-1"], "node": "k3s-i-1"}])
    record(store, NOW - 20, "other", "alert", events=["draining k3s-i-12"])
    record(store, NOW - 10, "stays", blocked=[{"subject": "k3s-i-1", "code": "local_volume", "text": "x"}])
    assert reasons("--worker", "i-1") == ["stays", "removed"]
    assert reasons("--worker", "k3s-i-1") == ["stays", "removed"]
    assert reasons("--worker", "i-12") == ["other"]
    assert reasons("--worker", "i-2") == []
    assert reasons("--trigger", "alert") == ["other"]
    assert reasons("--worker", "i-1", "--limit", "1") == ["stays"], "counted after they are chosen"
    assert run("history", "--worker", "i-2") == "decisions        none recorded\n"


def test_who_changed_the_mode_and_when(store: DynamoStateStore) -> None:
    store.save(State(), 0)
    record(store, NOW - 10, "new")
    said = run("pause", "--for", "2h")
    before, after = said.removeprefix("demo: ").rstrip().split(" -> ")
    assert before == "the policy's mode"
    row = run("history", "--trigger", "operator").rstrip().split("\t")
    assert row[2:4] == ["mode", "paused"]
    assert row[4] == f"user/moto: {before} -> {after}"
    (told,) = json.loads(run("history", "--trigger", "operator", "--json"))
    assert (told["kind"], told["by"], told["before"]) == ("mode", "user/moto", None)
    assert (told["after"]["mode"], told["after"]["until_s"] - told["after"]["set_at_s"]) == ("paused", 7200)
    run("resume")
    newest, *_ = json.loads(run("history", "--trigger", "operator", "--json"))
    assert (newest["before"]["mode"], newest["after"]["mode"]) == ("paused", "active")
    assert set(reasons()) == {"active", "paused", "new"}


def test_a_mode_that_could_not_be_recorded_is_changed_all_the_same(
    store: DynamoStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailable("AWS refused to record", code="AccessDeniedException")

    monkeypatch.setattr(DynamoStateStore, "record", refuse)
    store.save(State(), 0)
    ended = CliRunner().invoke(app, ["pause"])
    assert ended.exit_code == 0
    assert ended.stderr == "The mode is changed, but the history does not tell of it: AWS refused to record.\n"
    assert store.load()[0].mode is not None


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "yesterday"], "'yesterday' is no time: write how long ago (30m, 2h, 7d), a time of day (14:00)"),
        (["--until", "25:00"], "'25:00' is no time"),
        (["--since", "1h", "--until", "2h"], "--since ("),
        (["--trigger", "alerts"], "'alerts' is no trigger: sweep, alert, lifecycle, operator, teardown are."),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str) -> None:
    said = run("history", *arguments, code=2)
    assert said.startswith(says)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "word", "holds"),
    [
        ("draining k3s-i-1", "i-1", True),
        ("i-12", "i-1", False),
        ("xi-1", "i-1", False),
        ("i-1-a", "i-1", False),
        ("i-12, i-1: gone", "i-1", True),
        ({"a": [{"b": "i-1"}]}, "i-1", True),
        ({"i-1": 1}, "i-1", False),
        (None, "i-1", False),
    ],
)
def test_a_name_is_no_part_of_a_longer_one(value: object, word: str, holds: bool) -> None:
    assert names(value, word) is holds

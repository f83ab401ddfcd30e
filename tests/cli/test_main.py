"""The command line as a person uses it, on an emulated table."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.main import app
from autoscaler.model import Mode, State
from tests.aws.loopback import closed_url
from tests.aws.table import STATE, create_tables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DynamoStateStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTER_ID", "demo")
    monkeypatch.setenv("STATE_TABLE", STATE)
    monkeypatch.delenv("POLICY_FILE", raising=False)
    create_tables(clients)
    return DynamoStateStore(clients, table=STATE, cluster_id="demo", history_days=30)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_pause_for_a_while_resume_and_observe(store: DynamoStateStore) -> None:
    store.save(State(fence=3), 0)
    code, out, err = run("pause", "--for", "2h")
    assert (code, err) == (0, "")
    assert out.startswith("demo: the policy's mode -> paused until ")
    assert "(2h left)" in out
    assert out.endswith(", then the policy's mode\n")
    state, version = store.load()
    assert state.mode is not None
    assert (state.fence, version, state.mode.mode) == (3, 2, Mode.PAUSED)
    assert state.mode.until_s is not None
    assert 7195 <= state.mode.until_s - int(time.time()) <= 7200
    assert state.mode.by == "user/moto", "the AWS principal"

    code, out, _ = run("resume")
    assert code == 0
    assert out.startswith("demo: paused until ")
    assert " -> active, set " in out
    state, _ = store.load()
    assert state.mode is not None
    assert (state.mode.mode, state.mode.until_s) == (Mode.ACTIVE, None)

    code, out, _ = run("observe")
    assert out.startswith("demo: active, set ")
    assert " -> observe, set " in out
    assert run("pause", "--for", "1h")[1].endswith(", then observe\n")


def test_a_cluster_that_never_scaled_can_be_stopped_and_the_name_is_questioned(store: DynamoStateStore) -> None:
    code, out, err = run("pause")
    assert (code, store.load()[1]) == (0, 1)
    assert "paused, set" in out
    assert "No state was stored for demo" in err


@pytest.mark.parametrize("command", ["pause", "observe"])
@pytest.mark.parametrize("duration", ["soon", "0s", "-2h", "400d"])
def test_bad_durations_change_nothing(store: DynamoStateStore, command: str, duration: str) -> None:
    code, out, err = run(command, "--for", duration)
    assert (code, out) == (2, "")
    assert (
        err
        == f"{duration!r} is not a duration: write a positive one such as 45s, 30m, 2h, 1h30m or 1d, at most 365d.\n"
    )
    assert store.load() == (State(), 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "--cluster", ""], "Give --cluster (or CLUSTER_ID) as well, or --stage: a table may hold several"),
        (["pause", "--cluster", "a b"], "'a b' is no cluster id"),
        (["history", "--since", "yesterday"], "'yesterday' is no time: write how long ago (30m, 2h, 7d)"),
    ],
)
@pytest.mark.usefixtures("store")
def test_bad_input_is_one_sentence(arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(says)
    assert err.count("\n") == 1


@pytest.mark.usefixtures("store")
def test_aws_failures_are_one_sentence() -> None:
    code, out, err = run("status", "--table", "no-such-table")
    assert (code, out) == (1, "")
    assert err.startswith("AWS refused to read the state of demo: ResourceNotFoundException")
    assert err.count("\n") == 1


def test_a_malformed_state_is_told_and_left_alone(store: DynamoStateStore, clients: Clients) -> None:
    del store
    item: dict[str, Any] = {"cluster_id": {"S": "demo"}, "record": {"S": "STATE"}, "version": {"N": "x1"}}
    item["version"] = {"S": "x1"}
    clients.dynamodb().put_item(TableName=STATE, Item=item)
    code, _, err = run("pause")
    assert code == 1
    assert "`version`" in err
    assert clients.dynamodb().scan(TableName=STATE)["Items"] == [item]


def test_the_script_runs_from_anywhere_and_ends_with_its_code(tmp_path: Path) -> None:
    environ = {**os.environ, "AWS_ENDPOINT_URL": closed_url(), "CLUSTER_ID": "demo", "STATE_TABLE": "t"}
    link = tmp_path / "k3s-autoscaler"
    link.symlink_to(ROOT / "bin" / "k3s-autoscaler")
    ended = subprocess.run([link, "status"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    helped = subprocess.run([link, "--help"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert "Usage: k3s-autoscaler " in helped.stdout
    assert ended.stderr.startswith("Could not read the state of demo: EndpointConnectionError")
    assert ended.stderr.count("\n") == 1

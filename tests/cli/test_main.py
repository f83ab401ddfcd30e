"""The command line as a person uses it, on an emulated table."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.main import app
from autoscaler.cli.report import say_cost, show_status
from autoscaler.model import Backoff, Lease, Mode, ModeSetting, Notice, Pool, Refusal, SpotReturn, State, ZoneJoins
from autoscaler.state.backoffs import LAUNCH_PATH
from tests.aws.loopback import closed_url
from tests.aws.table import STATE, create_tables
from tests.aws.test_dynamodb import FULL

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000


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
    assert "@" in state.mode.by

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
        (["history", "--since", "yesterday"], "'yesterday' is not a duration"),
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


def busy(now_s: int) -> State:
    return State(
        fence=7,
        lease=Lease(owner="01abc", expires_at_s=now_s + 20),
        mode=ModeSetting(mode=Mode.PAUSED, set_at_s=now_s - 60, until_s=now_s - 1, by="ada@desk"),
        launches=FULL.launches,
        removals=FULL.removals,
        notices=(Notice(kind="interruption", subject="i-3", received_at_s=now_s - 30),),
        backoffs=(
            Backoff(
                pool=Pool(instance_type="t3.small", zone="z1"), error_code="NoRoom", until_s=now_s + 90, failures=1
            ),
            Backoff(pool=LAUNCH_PATH, error_code="Blocked", until_s=now_s + 90, failures=1),
        ),
        refusals=(Refusal(node_name="n9", reason="local-volume", until_s=now_s + 600),),
        zones=(ZoneJoins(zone="z1", failures=2, until_s=now_s + 90), ZoneJoins(zone="z2", joined_at_s=now_s)),
        spot_return=SpotReturn(failures=3, until_s=now_s + 90),
        node_count=4,
    )


def test_status_in_a_pipe_is_plain_and_complete(store: DynamoStateStore) -> None:
    store.save(busy(int(time.time())), 0)
    store.record(
        int(time.time()),
        "01x",
        {"decision_id": "01x", "action": "scale_up", "reason": "r", "message": "Launched [red]2."},
    )
    code, out, err = run("status")
    assert (code, err) == (0, "")
    for piece in (
        "demo", "paused ended", "held by 01abc", "4 (at the last write)", "op1", "op2", "draining", "interruption\ti-3",
        "t3.small z1 on-demand\tNoRoom\t1m", "every launch\tBlocked\t1m", "n9\tlocal-volume",
        "scale_up\tr\tLaunched [red]2.", "z1\t2\t1m", "return to Spot", "3 in a row were in vain, none is begun for 1m",
    ):  # fmt: skip
        assert piece in out, piece
    assert "\x1b" not in out
    assert "│" not in out


def test_status_names_the_policys_mode_where_a_policy_is(store: DynamoStateStore, tmp_path: Path) -> None:
    del store
    (tmp_path / "policy.yml").write_text("version: 1\nmode: observe\n")
    assert "the policy's mode (observe)" in run("status")[1]
    assert json.loads(run("status", "--json")[1])["mode"] == "observe"
    (tmp_path / "policy.yml").write_text("version: 1\nmode: asleep\n")
    code, _, err = run("status")
    assert code == 2
    assert "mode" in err


def test_status_as_json(store: DynamoStateStore) -> None:
    store.save(busy(int(time.time())), 0)
    document = json.loads(run("status", "--json")[1])
    assert document["mode"] is None, "the pause is over and no policy is here: unknown, not a guess"
    assert document["mode_setting"]["mode"] == "paused"
    assert [operation["operation_id"] for operation in document["operations"]] == ["op1", "op2"]
    assert document["lease"]["owner"] == "01abc"
    assert document["ready_workers"] == 4
    assert [(zone["zone"], zone["failures"]) for zone in document["zones"]] == [("z1", 2), ("z2", 0)]
    assert document["spot_return"]["failures"] == 3


def test_a_terminal_gets_tables() -> None:
    console = Console(force_terminal=True, width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    show_status(console, busy(NOW), cluster_id="demo", stored=True, policy_mode="active", now_s=NOW, decisions=[])
    text = console.export_text(clear=False)
    assert "━" in text or "─" in text
    assert "op1" in text
    assert "\x1b[1m" in console.export_text(styles=True)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ([], "unknown: no recorded decision tells it"),
        ([None, "?"], "unknown: no recorded decision tells it"),
        ([(0.0624, 3, 0, None)], "$0.0624 an hour for 3 workers (recorded then)"),
        ([(0.0208, 1, 2, None)], "$0.0208 an hour for 1 worker, and 2 of unknown price (recorded then)"),
        ([(0.0208, 1, None, None)], "$0.0208 an hour for 1 worker, and others of unknown price (recorded then)"),
        ([(0.0624, 3, 0, 0.0416)], "$0.0624 an hour for 3 workers, $0.0416 less than the baseline (recorded then)"),
        ([(0.0624, 3, 0, -0.02)], "$0.0624 an hour for 3 workers, $0.0200 more than the baseline (recorded then)"),
        ([None, (0.0624, 3, 0, None), (9, 9, 9, 9)], "$0.0624 an hour for 3 workers (recorded then)"),
    ],
)
def test_status_says_what_the_workers_cost(costs: list[Any], said: str) -> None:
    fields = ("usd_per_hour", "known_workers", "unknown_workers", "saved_usd_per_hour")
    told = [dict(zip(fields, cost, strict=True)) if isinstance(cost, tuple) else cost for cost in costs]
    assert say_cost([{"decided_at": "then", "cost": cost} for cost in told]) == said


def test_status_has_the_cost_of_the_last_recorded_decision(store: DynamoStateStore) -> None:
    cost = {"usd_per_hour": 0.0416, "known_workers": 2, "unknown_workers": 0, "saved_usd_per_hour": None}
    store.save(State(), 0)
    store.record(int(time.time()), "d1", {"decision_id": "d1", "action": "scale_up", "cost": cost})
    line = next(line for line in run("status")[1].splitlines() if line.startswith("cost "))
    assert "$0.0416 an hour for 2 workers (recorded 20" in line


def test_history(store: DynamoStateStore) -> None:
    for age_s, name in ((10, "new"), (7200, "old")):
        store.record(
            int(time.time()) - age_s, name, {"decision_id": name, "action": "scale_up", "reason": name, "message": "m"}
        )
    assert [row["reason"] for row in json.loads(run("history", "--json")[1])] == ["new", "old"]
    assert [row["reason"] for row in json.loads(run("history", "--since", "1h", "--json")[1])] == ["new"]
    assert len(run("history", "--limit", "1")[1].splitlines()) == 1
    assert run("history", "--limit", "0")[0] == 2


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

"""`status` on an emulated account: what people and programs see of a cluster that works, and of one that does not."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.main import app
from autoscaler.cli.status.looks import Looks, Seen, read_looks
from autoscaler.cli.status.shown import say_cost, show_status
from autoscaler.cli.status.values import Gathered, cost_of
from autoscaler.cli.target import Target
from autoscaler.cli.times import moment
from autoscaler.model import State
from autoscaler.policy import Policy, policy_hash
from tests.aws.table import STATE, create_tables
from tests.cli.logs import lines, looked, write
from tests.cli.status.busy import busy
from tests.cli.test_target import deploy

NOW = int(time.time())


@pytest.fixture
def store(clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DynamoStateStore:
    """The stage main, as its stack tells it; nothing has run yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("CLUSTER_ID", "STATE_TABLE", "STAGE", "POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("autoscaler.cli.status.command.time", SimpleNamespace(time=lambda: float(NOW)))
    create_tables(clients)
    deploy(
        clients,
        "main",
        "demo",
        StateTableName=STATE,
        DeployedVersion="0.1.0+bf85dc6",
        PolicyHash="0123456789ab",
        SweepRate="rate(2 minutes)",
    )
    return DynamoStateStore(clients, table=STATE, cluster_id="demo", history_days=30)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["status", *arguments])
    assert (result.exit_code, result.stderr) == (code, ""), result.output
    return result.stdout


def named(said: str, name: str) -> str:
    """The line of that name."""
    return next(line for line in said.splitlines() if line.startswith(f"{name} "))


def works(clients: Clients, **fields: Any) -> None:
    """Each function looked lately."""
    write(clients, "sweep", (NOW - 160, looked("sweep")), (NOW - 40, looked("sweep", **fields)))
    watchdog = lines("alert", lambda telemetry: telemetry.watchdog())
    write(clients, "alerts", (NOW - 4000, looked("alert", message="Launched 2.")), (NOW - 20, watchdog))
    write(clients, "lifecycle")


def test_is_it_alive_and_what_does_it_cost(store: DynamoStateStore, clients: Clients) -> None:
    works(clients)
    store.save(State(), 0)
    said = run("--check")
    assert said.splitlines()[0] == "demo             alive: the sweep looked 40s ago"
    assert f", {moment(NOW - 40)}: Nothing to do." in named(said, "last sweep")
    assert f", {moment(NOW - 4000)}: Launched 2." in named(said, "last alert")
    assert named(said, "last lifecycle").endswith("none for 2d")
    assert f", {moment(NOW - 20)}: The alert path lives" in named(said, "Watchdog")
    assert named(said, "deployed").endswith("0.1.0+bf85dc6")
    assert named(said, "policy").endswith("policy_hash 0123456789ab, in the last look")
    assert named(said, "workers").endswith("3 ready, 4 desired, 1 joining, min 2, max 10")
    assert named(said, "metrics").endswith("ok")
    assert "$0.0624 an hour, $45.55 a month for 3 workers (as of " in named(said, "cost")
    assert "unknown: the deployed policy is not here" in named(said, "cool-down")


def test_it_is_not_alive_and_a_script_hears_it(store: DynamoStateStore, clients: Clients) -> None:
    write(clients, "sweep", (NOW - 30_000, looked("sweep")))
    write(clients, "alerts")
    write(clients, "lifecycle")
    store.save(State(), 0)
    first = run("--check", code=1).splitlines()[0]
    assert first.startswith("demo             not alive: the last sweep looked 8h20m ago, and one is due every 2m")
    assert run() != "", "shown is shown: 0 without --check"
    document = json.loads(run("--json", "--check", code=1))
    assert (document["health"], document["is_alive"]) == ("not alive", False)


def test_logs_that_may_not_be_read_are_unknown_and_no_error(
    store: DynamoStateStore, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(busy(NOW), 0)
    assert "not known: there is no log group /aws/lambda/k3s-autoscaler-main-sweep" in run("--check", code=1)
    works(clients)

    def refused(self: Clients, service: str, read_timeout_s: float = 4.0) -> Any:
        if service == "logs":
            error = {
                "Error": {"Code": "AccessDeniedException", "Message": "not authorized to perform: logs:FilterLogEvents"}
            }
            raise ClientError(error, "FilterLogEvents")  # type: ignore[arg-type]
        return real(self, service, read_timeout_s)

    real = Clients.client
    monkeypatch.setattr(Clients, "client", refused)
    said = run("--check", code=1)
    assert "demo             not known: AWS refused to read the log" in said.splitlines()[0]
    assert named(said, "workers").endswith("unknown: no look is known")
    assert "op1" in said
    assert json.loads(run("--json"))["last_looks"]["sweep"]["unknown"].startswith("AWS refused to read the log")


def test_a_cluster_without_a_known_stage_is_shown_as_far_as_it_is_known(
    store: DynamoStateStore, clients: Clients
) -> None:
    store.save(busy(NOW), 0)
    clients.client("cloudformation").delete_stack(StackName="k3s-autoscaler-main")
    said = run("--cluster", "demo", "--table", STATE)
    assert "not known: no stack is known that runs the cluster demo: give --stage as well" in said.splitlines()[0]
    assert named(said, "deployed").endswith("unknown: give --stage, whose stack tells it")
    assert "op1" in said


def test_another_clusters_life_is_none_of_this_one(store: DynamoStateStore, clients: Clients) -> None:
    works(clients)
    del store
    first = run("--cluster", "till", "--table", STATE, "--stage", "main").splitlines()[0]
    assert first == "till             not known: the stage main runs the cluster demo, not till"


def test_a_stage_that_was_named_by_its_cluster_is_read_too(store: DynamoStateStore, clients: Clients) -> None:
    works(clients)
    store.save(State(), 0)
    said = run("--cluster", "demo", "--table", STATE)
    assert "alive: " in said.splitlines()[0]
    assert named(said, "deployed").endswith("0.1.0+bf85dc6")


def test_what_is_stuck_and_what_waits_by_the_policy_that_is_deployed(store: DynamoStateStore, clients: Clients) -> None:
    policy = Policy(version=1)
    works(clients, policy_hash=policy_hash(policy))
    store.save(busy(NOW), 0)
    Path("policy.yml").write_text("version: 1\n")
    said = run()
    assert said.splitlines()[0].startswith("demo             alive, with trouble: launch op1 is stuck")
    rows = [line.split("\t") for line in said.splitlines() if line.startswith("open operations\t")]
    assert [(row[1], row[2]) for row in rows] == [("launch", "op1"), ("removal", "op2")]
    assert all(row[4].endswith(" STUCK") for row in rows)
    assert "removals wait 9m more: the last launch" in named(said, "cool-down")
    assert "launches wait 5m more: 2 in a row gave no worker that stayed" in named(said, "join back-off")
    operations = json.loads(run("--json"))["operations"]
    assert [(one["operation_id"], one["stuck"]) for one in operations] == [("op1", True), ("op2", True)]


def test_another_policy_here_judges_nothing(store: DynamoStateStore, clients: Clients) -> None:
    works(clients, operations=[{"operation_id": "op2", "phase": "draining", "stuck": False}])
    store.save(busy(NOW), 0)
    Path("policy.yml").write_text("version: 1\nworkers: {max: 30}\n")
    said = run()
    assert named(said, "policy").endswith("; the policy file here is another one")
    rows = [line.split("\t") for line in said.splitlines() if line.startswith("open operations\t")]
    assert rows[0][4].endswith(" (stuck: unknown)")
    assert not {"(stuck:", "STUCK"} & set(rows[1][4].split()), "the last look knew that it was not"


def test_in_a_pipe_it_is_plain_and_complete(store: DynamoStateStore, clients: Clients) -> None:
    works(clients)
    store.save(busy(NOW), 0)
    store.record(NOW, "01x", {"decision_id": "01x", "action": "scale_up", "reason": "r", "message": "Launched [red]2."})
    said = run()
    for piece in (
        "demo", "paused ended", "3 ready", "op1", "op2", "draining", "interruption\ti-3",
        "t3.small z1 on-demand\tNoRoom\t1m", "every launch\tBlocked\t1m", "n9\tlocal-volume",
        "scale_up\tr\tLaunched [red]2.", "z1\t2\t1m", "return to Spot", "3 in a row were in vain, none is begun for 1m",
    ):  # fmt: skip
        assert piece in said, piece
    assert "\x1b" not in said
    assert "│" not in said


def test_as_json(store: DynamoStateStore, clients: Clients) -> None:
    works(clients)
    store.save(busy(NOW), 0)
    document = json.loads(run("--json"))
    assert document["mode"] is None, "the pause is over and no policy is here: unknown, not a guess"
    assert document["mode_setting"]["mode"] == "paused"
    assert [operation["operation_id"] for operation in document["operations"]] == ["op1", "op2"]
    assert document["lease"]["owner"] == "01abc"
    assert document["ready_workers"] == 4
    assert [(zone["zone"], zone["failures"]) for zone in document["zones"]] == [("z1", 2), ("z2", 0)]
    assert document["spot_return"]["failures"] == 3
    assert document["last_looks"]["sweep"]["at"].endswith("Z")
    assert document["deployed_version"] == "0.1.0+bf85dc6"
    assert document["nodes"]["desired"] == 4
    assert (document["cost"]["usd_per_hour"], document["cost"]["usd_per_month"]) == (0.0624, 45.55)


def test_the_policys_mode_is_named_where_a_policy_is(store: DynamoStateStore, tmp_path: Path) -> None:
    del store
    (tmp_path / "policy.yml").write_text("version: 1\nmode: observe\n")
    assert "the policy's mode (observe)" in run()
    assert json.loads(run("--json"))["mode"] == "observe"
    (tmp_path / "policy.yml").write_text("version: 1\nmode: asleep\n")
    ended = CliRunner().invoke(app, ["status"])
    assert ended.exit_code == 2
    assert "mode" in ended.stderr


def test_the_newest_line_is_looked_for_in_ever_longer_spans(store: DynamoStateStore, clients: Clients) -> None:
    del store
    write(clients, "sweep", (NOW - 100, ["no JSON", '["a list"]', '{"reason": "step", "of_decision": "d"}']),
          (NOW - 20_000, looked("sweep", message="old")), (NOW - 7200, looked("sweep", message="newer")),
          stage="x")  # fmt: skip
    write(clients, "alerts", (NOW - 86_400, lines("alert", lambda telemetry: telemetry.watchdog())), stage="x")
    write(clients, "lifecycle", (NOW - 50, lines("lifecycle", lambda t: t.failed(ValueError("broken")))), stage="x")
    looks = read_looks(Target(cluster_id="demo", table=STATE, region=None, stage="x", outputs={}, clients=clients), NOW)
    sweep = looks.by_trigger["sweep"]
    assert (sweep.at_s, sweep.line["message"]) == (NOW - 7200, "newer")
    assert looks.watchdog.at_s == NOW - 86_400
    assert looks.by_trigger["alert"] == Seen()
    assert looks.by_trigger["lifecycle"].failed
    assert looks.newest == sweep.line, "an error is no decision"


def gathered(**fields: Any) -> Gathered:
    looks = Looks(by_trigger=dict.fromkeys(("sweep", "alert", "lifecycle"), Seen(unknown="denied")), watchdog=Seen())
    return Gathered(cluster_id="demo", now_s=NOW, state=busy(NOW), stored=True, decisions=[], looks=looks, **fields)


def test_a_terminal_of_80_columns_gets_tables_that_fit() -> None:
    long = {
        "decided_at": "2026-11-26T13:00:05Z",
        "action": "scale_up",
        "reason": "unschedulable",
        "message": "word " * 40,
    }
    console = Console(force_terminal=True, width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    show_status(
        console, Gathered(**{f: getattr(gathered(), f) for f in Gathered.__struct_fields__} | {"decisions": [long]})
    )
    text = console.export_text(clear=False)
    assert "━" in text or "─" in text
    assert "op1" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[33mnot known: denied" in console.export_text(styles=True)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ([], "unknown: no decision tells it"),
        ([None, "?"], "unknown: no decision tells it"),
        ([(0.0624, 3, 0, None)], "$0.0624 an hour, $45.55 a month for 3 workers (as of then)"),
        ([(0.0208, 1, 2, None)], "$0.0208 an hour, $15.18 a month for 1 worker, and 2 of unknown price (as of then)"),
        ([(0.0208, 1, None, None)],
         "$0.0208 an hour, $15.18 a month for 1 worker, and others of unknown price (as of then)"),
        ([(0.0624, 3, 0, 0.0416)],
         "$0.0624 an hour, $45.55 a month for 3 workers, $0.0416 an hour less than the baseline (as of then)"),
        ([(0.0624, 3, 0, -0.02)],
         "$0.0624 an hour, $45.55 a month for 3 workers, $0.0200 an hour more than the baseline (as of then)"),
        ([None, (0.0624, 3, 0, None), (9, 9, 9, 9)], "$0.0624 an hour, $45.55 a month for 3 workers (as of then)"),
    ],
)  # fmt: skip
def test_it_says_what_the_workers_cost(costs: list[Any], said: str) -> None:
    fields = ("usd_per_hour", "known_workers", "unknown_workers", "saved_usd_per_hour")
    told = [dict(zip(fields, cost, strict=True)) if isinstance(cost, tuple) else cost for cost in costs]
    assert say_cost(cost_of([{"decided_at": "then", "cost": cost} for cost in told])) == said

"""`teardown` as a person meets it: asked, told, refused; and its real ports on moto."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.cli.main import app
from autoscaler.cli.target import Target
from autoscaler.cli.teardown.command import Manner, _ports, conduct
from autoscaler.cli.teardown.memory import Wishes
from autoscaler.cli.teardown.run import POLL_S, End, Teardown
from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG
from autoscaler.ports import Ports
from autoscaler.simulator.cluster import SimCluster
from tests.aws.table import STATE, create_tables
from tests.cli.teardown.teardowns import ME, POLICY, run
from tests.simulator.worlds import SERVER_ID, bare

# ---------------------------------------------------------------------------------------------------------- the command


def command(
    cluster: SimCluster, *, read: Callable[[str], str] | None = None, ports: Callable[[], Ports] | None = None, **m: Any
) -> int:
    return conduct(
        ports or cluster.ports,
        cluster_id=cluster.cluster_id,
        policy=cluster.policy,
        wishes=Wishes(force=m.pop("force", False)),
        manner=Manner(**m),
        read=read,
        sleep=cluster.run,
        by=lambda: "ada@desk",
    )


def test_a_dry_run_tells_and_changes_nothing(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(cluster, dry_run=True, force=True) == 0
    out = capsys.readouterr().out
    for worker in cluster.workers():
        assert worker in out
    assert "2 workers to drain and terminate, one after another" in out
    assert "node-local volumes are lost" in out
    assert f"First: a server is asked what {cluster.workers()[0]} holds" in out
    assert "what could still run is drained" in out
    assert cluster.item.version == 0
    assert command(cluster, dry_run=True, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["instance_id"] for row in document["workers"]] == cluster.workers()
    assert document["first"] == [f"a server is asked what {cluster.workers()[0]} holds"]


@pytest.mark.parametrize("answer", ["", "yes", "y", "simx"])
def test_anything_but_the_clusters_id_changes_nothing(
    cluster: SimCluster, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        command(cluster, read=lambda _: answer)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "Nothing was changed.\n"
    assert cluster.item.version == 0


def test_the_clusters_id_goes_on(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(cluster, read=lambda _: f"{cluster.cluster_id}\n") == 0
    captured = capsys.readouterr()
    assert "make down STAGE=" in captured.err
    assert "No worker of ours is left in sim: 2 removed" in captured.err


def test_nobody_to_ask_is_no_yes(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        command(cluster)
    assert ended.value.exit_code == 2
    assert "--yes" in capsys.readouterr().err
    assert cluster.item.version == 0


def test_without_a_running_server_nothing_is_touched(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.ec2.end(SERVER_ID)
    cluster.run(120)
    with pytest.raises(typer.Exit) as ended:
        command(cluster, yes=True)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.startswith("Nothing was changed: no server of the cluster is running")
    assert cluster.item.version == 0, "not even paused"


def test_json_stands_alone_on_standard_output(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(cluster, yes=True, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["end"], len(document["removed"]), document["left"]) == ("done", 2, [])


def test_a_refusal_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = SimCluster(POLICY, workers=1)
    cluster.apply(bare())
    cluster.run(60)
    assert command(cluster, yes=True) == 1
    err = capsys.readouterr().err
    assert "bare-pod" in err
    assert "1 worker of sim left" in err
    assert "--force" in err


def test_ctrl_c_says_what_stands(cluster: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    naps: Iterator[int] = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(naps) == 2:
            raise KeyboardInterrupt
        cluster.run(seconds)

    with pytest.raises(typer.Exit) as ended:
        conduct(
            cluster.ports,
            cluster_id=cluster.cluster_id,
            policy=cluster.policy,
            wishes=Wishes(),
            manner=Manner(yes=True),
            read=None,
            sleep=sleep,
            by=lambda: "ada@desk",
        )
    assert ended.value.exit_code == 130
    assert "run teardown again" in capsys.readouterr().err
    cluster.run(POLL_S)
    assert run(cluster).end is End.DONE


# ------------------------------------------------------------------------------------------- the real ports, on moto


def launched(clients: Clients, **tags: str) -> str:
    rows = clients.ec2().run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )["Instances"]
    return rows[0].get("InstanceId", "")


def state_of(clients: Clients, instance_id: str) -> str:
    rows = clients.ec2().describe_instances(InstanceIds=[instance_id])["Reservations"][0].get("Instances", [])
    return str(rows[0].get("State", {}).get("Name"))


@pytest.fixture
def fleet(clients: Clients, _moto: None) -> tuple[str, str]:
    """One worker of ours and one of another cluster."""
    create_tables(clients)
    ours = launched(clients, **{MANAGED_BY_TAG: "autoscaler", CLUSTER_TAG: "demo"})
    return ours, launched(clients, **{MANAGED_BY_TAG: "autoscaler", CLUSTER_TAG: "other"})


def test_the_command_looks_through_the_real_ports(
    fleet: tuple[str, str], clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("POLICY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yml").write_text("version: 1\n")
    options = ["teardown", "--cluster", "demo", "--table", STATE, "--document", "doc"]
    shown = CliRunner().invoke(app, [*options, "--dry-run"])
    assert (shown.exit_code, fleet[0] in shown.stdout, fleet[1] in shown.stdout) == (0, True, False)
    refused = CliRunner().invoke(app, [*options, "--yes"])
    assert (refused.exit_code, "no server of the cluster is running" in refused.stderr) == (1, True)
    assert state_of(clients, fleet[0]) == "running"


def test_the_real_ports_end_our_workers_only(fleet: tuple[str, str], clients: Clients) -> None:
    ours, foreign = fleet
    report = Teardown(
        _ports(
            Target(cluster_id="demo", table=STATE, region=None, stage=None, outputs={}, clients=clients), document="doc"
        ),
        cluster_id="demo",
        policy=POLICY,
        wishes=Wishes(force=True),
        tell=lambda _: None,
        sleep=lambda _: None,
    ).run(by=ME)
    assert (report.end, report.removed) == (End.DONE, (ours,))
    assert (state_of(clients, ours), state_of(clients, foreign)) == ("terminated", "running")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--table", "t"], "Give --cluster (or CLUSTER_ID) as well, or --stage"),
        (["--cluster", "a", "--table", "t"], "Give --document (or NODE_COMMAND_DOCUMENT), or --stage"),
        (["--cluster", "a b", "--table", "t", "--document", "d"], "'a b' is no cluster id"),
        (["--cluster", "a", "--table", "t", "--document", "d", "--json"], "--json asks nobody"),
        (["--cluster", "a", "--table", "t", "--document", "d", "--policy", "none.yml"], "There is no policy none.yml"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_asked(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLUSTER_ID", "STATE_TABLE", "NODE_COMMAND_DOCUMENT", "POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    ended = CliRunner().invoke(app, ["teardown", *arguments])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(says)
    assert ended.stderr.count("\n") == 1

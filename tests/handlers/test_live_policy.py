"""A change by hand in Parameter Store, through the service as it is wired: event, parameter, state, command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.cli.main import app as command_line
from autoscaler.runtime import App, build
from handlers import lifecycle, sweep
from tests.aws.conftest import REGION, _no_real_account
from tests.aws.loopback import closed_url
from tests.aws.table import IDEMPOTENCY, STATE, create_tables
from tests.handlers.support import NOW, FakeContext

__all__ = ["_no_real_account"]
NAME = "/k3s/demo/policy"
CHANGED = {
    "id": "event-3",
    "detail-type": "Parameter Store Change",
    "source": "aws.ssm",
    "detail": {"operation": "Update", "name": NAME, "type": "String"},
}


@pytest.fixture
def clients() -> Iterator[Clients]:
    with mock_aws():
        made = Clients(Calls(), region=REGION)
        create_tables(made)
        yield made


def wired(tmp_path: Path) -> App:
    """A function that starts cold."""
    (tmp_path / "policy.yml").write_text("version: 1\nworkers: {min: 0, max: 20}\n")
    return build(
        {
            "CLUSTER_ID": "demo",
            "STATE_TABLE": STATE,
            "IDEMPOTENCY_TABLE": IDEMPOTENCY,
            "PROMETHEUS_URL": closed_url(),
            "LAUNCH_TEMPLATE_ID": "lt-1",
            "SUBNET_IDS": "subnet-1",
            "NODE_COMMAND_DOCUMENT": "doc",
            "POLICY_FILE": str(tmp_path / "policy.yml"),
        }
    )


def written(clients: Clients, text: str, tmp_path: Path) -> dict[str, Any]:
    """Somebody writes the parameter, and its event comes."""
    clients.ssm().put_parameter(Name=NAME, Value=text, Type="String", Overwrite=True)
    return lifecycle.handle(wired(tmp_path), CHANGED, FakeContext(), now_s=NOW)


def test_a_change_by_hand_holds_for_every_function_and_a_bad_one_leaves_the_last_good_one(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = written(clients, "workers: {max: 30}", tmp_path)
    assert (document["policy_version"], document["nodes"]["max"]) == (1, 30)
    assert document["calls"]["ssm"] == 1

    document = sweep.handle(wired(tmp_path), {"id": "event-4"}, FakeContext())
    assert (document["policy_version"], document["nodes"]["max"], document["policy_problem"]) == (1, 30, "")
    assert "ssm" not in document["calls"], "a function that starts cold has it without asking"

    document = written(clients, "workers: {max: ten}", tmp_path)
    assert (document["policy_version"], document["nodes"]["max"]) == (1, 30)
    assert "version 2 of the policy's parameter is refused, and version 1 stays" in document["policy_problem"]
    document = sweep.handle(wired(tmp_path), {"id": "event-5"}, FakeContext())
    assert "workers.max is 'ten'" in document["policy_problem"]

    for name, value in {
        "CLUSTER_ID": "demo",
        "STATE_TABLE": STATE,
        "POLICY_FILE": str(tmp_path / "policy.yml"),
    }.items():
        monkeypatch.setenv(name, value)
    assert "version 2 refused" in CliRunner().invoke(command_line, ["status"]).stdout
    done = CliRunner().invoke(command_line, ["policy", "rollback", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["version"]) == (0, 3)
    document = sweep.handle(wired(tmp_path), {"id": "event-6"}, FakeContext())
    assert (document["policy_version"], document["nodes"]["max"], document["policy_problem"]) == (3, 30, "")

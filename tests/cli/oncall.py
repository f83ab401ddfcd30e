"""The command line on a simulated cluster: the real handler behind Lambda's Invoke, the history in moto's table."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.main import app
from autoscaler.simulator.cluster import SimCluster
from tests.ask.asked import Asked, only_read
from tests.aws.table import STATE, create_tables
from tests.cli.functions import lambda_serving

FUNCTION = "k3s-autoscaler-demo-sweep"


@dataclass
class OnCall:
    """Somebody at night, with this cluster."""

    cluster: SimCluster
    store: DynamoStateStore

    def run(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Code, standard output and standard error of a command that may only read."""

        def command() -> tuple[int, str, str]:
            result = CliRunner().invoke(app, list(arguments), input=stdin)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            return result.exit_code, result.stdout, result.stderr

        done: tuple[int, str, str] = only_read(self.cluster, command)
        return done

    def lines(self, *arguments: str, stdin: str | None = None) -> list[str]:
        """What a command that succeeds prints."""
        code, out, err = self.run(*arguments, stdin=stdin)
        assert (code, err) == (0, ""), err
        return out.splitlines()

    def json(self, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        """What it prints for programs."""
        found: dict[str, Any] = json.loads("\n".join(self.lines(*arguments, "--json", stdin=stdin)))
        return found

    def refused(self, *arguments: str, code: int = 1, stdin: str | None = None) -> str:
        """The one sentence of a command that ends with this code."""
        ended, out, err = self.run(*arguments, stdin=stdin)
        assert (ended, out) == (code, ""), (ended, out, err)
        assert len(err.splitlines()) == 1, err
        assert err.endswith(".\n"), err
        return err.removesuffix("\n")

    def sweep(self) -> dict[str, Any]:
        """A look, recorded in the table as the deployed function would."""
        before = len(self.cluster.decisions)
        document = self.cluster.sweep()
        for row in list(self.cluster.decisions)[before:]:
            self.store.record(int(self.cluster.now_s), row["decision_id"], row)
        return document


@contextmanager
def on_call(cluster: SimCluster, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCall]:
    """With the environment of a person who has exported the stack's outputs."""
    create_tables(clients)
    store = DynamoStateStore(clients, table=STATE, cluster_id=cluster.cluster_id, history_days=30)
    monkeypatch.setenv("CLUSTER_ID", cluster.cluster_id)
    monkeypatch.setenv("STATE_TABLE", STATE)
    monkeypatch.setenv("STAGE", "demo")
    monkeypatch.setenv("TZ", "UTC")
    with lambda_serving({FUNCTION: Asked(cluster).event}) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", server.url)
        yield OnCall(cluster, store)

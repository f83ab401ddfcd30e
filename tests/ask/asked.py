"""A simulated cluster behind the real handler: `Asked(cluster).ask("next")`, and whether anything was changed."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.model import Mode
from autoscaler.runtime import App
from autoscaler.simulator.cluster import SimCluster
from autoscaler.telemetry import Telemetry
from handlers import sweep
from tests.handlers.support import SETTINGS, FakeContext, accept_test_token

READS = {("prometheus", "query"), ("ec2", "describe"), ("ec2", "look_up"), ("ec2", "launch_context")} | {
    ("ssm", "result"),
    ("dynamodb", "load"),
    ("dynamodb", "rules"),
}


@dataclass
class Asked:
    """The deployed sweep function of this cluster."""

    cluster: SimCluster
    start_mode: Mode | None = None
    log: io.StringIO = field(default_factory=io.StringIO)

    def app(self) -> App:
        def ports(_: Context) -> Any:
            return self.cluster.ports()

        return App(
            settings=msgspec.structs.replace(SETTINGS, cluster_id=self.cluster.cluster_id, start_mode=self.start_mode),
            policy=self.cluster.policy,
            telemetry=Telemetry(cluster_id=self.cluster.cluster_id, stream=self.log),
            ports=ports,
            ours_among=lambda _: frozenset(),
            accept_token=accept_test_token,
            clients=Clients(Calls(), region="eu-central-1"),
            begin=lambda: None,
        )

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """What the function answers, as JSON brings it."""
        answered: dict[str, Any] = json.loads(json.dumps(sweep.handle(self.app(), event, FakeContext())))
        return answered

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """The answer. A problem fails the test."""
        answered = self.event({"ask": {"question": question, **arguments}})
        assert set(answered) == {"answer"}, answered
        found: dict[str, Any] = answered["answer"]
        return found

    def problem(self, question: str, **arguments: Any) -> str:
        """Why it is not answered."""
        answered = self.event({"ask": {"question": question, **arguments}})
        assert set(answered) == {"problem"}, answered
        return str(answered["problem"])


def only_read(cluster: SimCluster, asking: Callable[[], Any]) -> Any:
    """What is asked, once it is certain that asking made no call that could change anything."""
    cluster.wires.log.clear()
    found = asking()
    assert set(cluster.wires.log) <= READS, set(cluster.wires.log) - READS
    return found

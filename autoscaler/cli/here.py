"""The same core, run here: against a Prometheus that is given, with the caller's own credentials for what is read.

For a function that cannot be asked, or a policy that is not deployed yet. What would be launched is thought through in
the subnets of the workers that there are.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from autoscaler.ask.looking import Service
from autoscaler.ask.questions import answer
from autoscaler.aws.background import ThreadBackground
from autoscaler.aws.calls import Calls
from autoscaler.aws.clock import LambdaClock, SortableIds
from autoscaler.aws.ec2 import Ec2Fleet
from autoscaler.aws.prometheus import Prometheus
from autoscaler.aws.sns import NoNotifier
from autoscaler.aws.ssm import SsmNodeCommands
from autoscaler.cli.asked import ask
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, in_a_sentence
from autoscaler.cli.target import Target
from autoscaler.model import ALIVE, LaunchContext, LaunchRequest, LaunchResult, PoolTemplate
from autoscaler.observe.instances import parse_instances
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.ports import FleetUnavailable, Ports
from autoscaler.runtime import read_policy

PATIENCE_S = 60.0
"""A person waits longer than a function may."""
Here = Annotated[
    str,
    typer.Option("--prometheus", help="Run the core here, against this Prometheus; else the function is asked."),
]
LocalPolicy = Annotated[
    str, typer.Option("--policy", envvar="POLICY_FILE", help="With --prometheus: the policy to judge by.")
]


def answered_by(target: Target, prometheus: str, policy_file: str, question: str, **arguments: Any) -> dict[str, Any]:
    """The deployed function's answer, or with a `prometheus` the one found here; ends with one sentence without one."""
    if not prometheus:
        return ask(target, question, **arguments)
    if not prometheus.startswith(("http://", "https://")):
        end(f"--prometheus is {prometheus!r}: write http(s)://host:port.", WRONG_INPUT)
    try:
        policy = read_policy(policy_file)
    except (PolicyError, OSError) as error:
        end(str(error), WRONG_INPUT)
    told = answer(_service(target, prometheus, policy), {"question": question, **arguments})
    if "problem" in told:
        end(in_a_sentence(str(told["problem"])), FAILED)
    found: dict[str, Any] = told["answer"]
    return found


def source(target: Target, prometheus: str) -> str:
    """Who answered, in words."""
    return f"run here, {prometheus}" if prometheus else f"asked of {target.function('sweep')}"


@dataclass
class _Person:
    """In the place of Lambda's context: somebody waits."""

    began_s: float
    aws_request_id: str = ""
    function_name: str = ""

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.began_s + PATIENCE_S - time.monotonic()) * 1000))


def _service(target: Target, prometheus: str, policy: Policy) -> Service:
    calls = Calls()
    ports = Ports(
        metrics=Prometheus(prometheus, timeout_s=policy.metrics.timeout_s, calls=calls),
        fleet=_Fleet(target, policy),
        commands=SsmNodeCommands(target.clients, document_name=target.outputs.get("NodeCommandDocumentName", "")),
        store=target.store(),
        notifier=NoNotifier(),
        background=ThreadBackground(),
        clock=LambdaClock(_Person(began_s=time.monotonic())),
        ids=SortableIds(),
        calls=calls.so_far,
    )
    return Service(ports=ports, cluster_id=target.cluster_id, policy=policy)


class _Fleet:
    """EC2, where the environment of the functions is not known: launches go where workers are."""

    def __init__(self, target: Target, policy: Policy) -> None:
        self._template_id = target.outputs.get("LaunchTemplateId", "lt-unknown")
        self._cluster_id, self._policy = target.cluster_id, policy
        self._fleet = Ec2Fleet(
            target.clients, cluster_id=target.cluster_id, template_id=self._template_id, subnet_ids=()
        )

    def describe(self) -> Sequence[Mapping[str, Any]]:
        return self._fleet.describe()

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        return self._fleet.look_up(instance_ids)

    def launch_context(self) -> LaunchContext:
        rows = parse_instances(self.describe(), self._cluster_id)
        places = sorted({(row.subnet_id, row.zone) for row in rows if row.state in ALIVE and not row.server})
        if not places:
            raise FleetUnavailable("no worker shows in which subnets workers are launched: ask the function instead")
        templates = tuple(
            PoolTemplate(
                pool=pool.name,
                arch=arch,
                template_id=self._template_id,
                template_version="1",
                subnet_zones=tuple(places),
            )
            for pool in self._policy.pools
            for arch in pool.archs
        )
        return LaunchContext(
            template_id=self._template_id, template_version="1", subnet_zones=tuple(places), templates=templates
        )

    def launch(self, request: LaunchRequest) -> LaunchResult:
        raise FleetUnavailable(f"nothing is launched from here ({request.client_token})")

    def terminate(self, instance_id: str) -> None:
        raise FleetUnavailable(f"nothing is terminated from here ({instance_id})")

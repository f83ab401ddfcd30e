"""Asking the deployed function, over HTTP: the real handler behind it, and everything that may stand in its place."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from moto import mock_aws

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.cli.asked import ask
from autoscaler.cli.target import Target
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from tests.ask.asked import Asked
from tests.aws.loopback import Answer, closed_url, reply, serving
from tests.cli.functions import lambda_serving, refuse

NAME = "k3s-autoscaler-demo-sweep"


def aimed_at(clients: Clients) -> Target:
    return Target(cluster_id="sim", table="", region=None, stage="demo", outputs={}, clients=clients)


@pytest.fixture
def target(clients: Clients) -> Target:
    return aimed_at(clients)


def refused(target: Target, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that the command ends with."""
    with pytest.raises(typer.Exit) as ended:
        ask(target, "next")
    assert ended.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.endswith(".\n")
    assert "Traceback" not in err
    return err.removesuffix("\n")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.delenv("AWS_ENDPOINT_URL_LAMBDA", raising=False)

    def point(url: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)

    return point


def test_the_deployed_function_answers(target: Target, there: Callable[[str], None]) -> None:
    cluster = SimCluster(Policy(version=1), workers=2)
    with lambda_serving({NAME: Asked(cluster).event}) as server:
        there(server.url)
        answer = ask(target, "next")
    assert answer["decision"]["cluster_id"] == "sim"
    (asked,) = server.asked
    assert json.loads(asked.body) == {"ask": {"question": "next"}}


def test_a_problem_is_its_sentence(
    target: Target, there: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = SimCluster(Policy(version=1), workers=2)
    cluster.fail("ec2", "describe", times=None)
    with lambda_serving({NAME: Asked(cluster).event}) as server:
        there(server.url)
        assert refused(target, capsys).startswith("The service could not look: ec2 describe failed")


def test_a_function_that_fails(
    target: Target, there: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: dict[str, Any]) -> Any:
        raise ZeroDivisionError("no\nnumber")

    with lambda_serving({NAME: broken}) as server:
        there(server.url)
        told = refused(target, capsys)
    assert told == f"The function {NAME} failed: ZeroDivisionError no number; its log says more."


PAGE = "<html><body>Sign in</body></html>"
IN_ITS_PLACE: dict[str, tuple[Answer, str]] = {
    "denied": (
        refuse(403, "AccessDeniedException", "User: ann is not authorized"),
        f"You may not ask {NAME}: lambda:InvokeFunction on it is all that is needed (User: ann is not authorized).",
    ),
    "no function": (
        refuse(404, "ResourceNotFoundException", "Function not found"),
        f"There is no function {NAME} in this account and region: check the stage",
    ),
    "throttled": (refuse(429, "TooManyRequestsException", "Rate Exceeded."), f"The function {NAME} is throttled ("),
    "expired": (refuse(403, "ExpiredTokenException", "It is expired"), "Your AWS credentials have expired"),
    "unknown": (refuse(403, "UnrecognizedClientException", "It is invalid"), "AWS does not know these credentials"),
    "another refusal": (
        refuse(502, "SubnetIPAddressLimitReachedException", "no address"),
        f"AWS refused to ask {NAME}: SubnetIPAddressLimitReachedException: no address.",
    ),
    "a proxy's refusal": (reply(403, PAGE), "What answered in the place of Lambda is not AWS"),
    "a proxy's page": (reply(200, PAGE), f"What answered in the place of {NAME} is not it"),
    "null": (reply(200, "null"), f"What answered in the place of {NAME} is not it"),
    "an older function": (
        reply(200, json.dumps({"action": "none"})),
        f"The function {NAME} is of a version that answers no questions: deploy it again.",
    ),
}


@pytest.mark.parametrize(("answer", "told"), IN_ITS_PLACE.values(), ids=IN_ITS_PLACE)
def test_what_stands_in_its_place(
    answer: Answer, told: str, target: Target, there: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answer) as server:
        there(server.url)
        assert refused(target, capsys).startswith(told)


def test_nobody_there(target: Target, there: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    there(closed_url())
    assert refused(target, capsys).startswith(f"The function {NAME} cannot be reached: ")


def test_a_stage_that_nobody_knows(
    clients: Clients, there: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    there(closed_url())
    with mock_aws():
        target = Target(cluster_id="sim", table="t", region=None, stage=None, outputs={}, clients=clients)
        assert refused(target, capsys) == "No stack is known that runs the cluster sim: give --stage as well."


def test_no_credentials(
    there: Callable[[str], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    there(closed_url())
    told = refused(aimed_at(Clients(Calls(), region="eu-central-1")), capsys)
    assert told.startswith("No AWS credentials are found")

"""What scripts/up asks between its steps."""

from typing import Any

import botocore.session
import pytest
import typer
from botocore.stub import Stubber

from autoscaler.deploy.stack import find_stack, outputs, problem_of


def stubbed() -> tuple[Any, Stubber]:
    session = botocore.session.get_session()
    client = session.create_client(
        "cloudformation", region_name="eu-central-1", aws_access_key_id="emulated", aws_secret_access_key="emulated"
    )
    return client, Stubber(client)


def test_a_stack_that_is_not_there_is_no_failure() -> None:
    client, stubber = stubbed()
    stubber.add_client_error("describe_stacks", "ValidationError", "Stack with id k3s-cluster-x does not exist")
    with stubber:
        assert find_stack(client, "k3s-cluster-x") is None


def test_a_refusal_ends_with_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client, stubber = stubbed()
    stubber.add_client_error("describe_stacks", "AccessDenied", "not authorized to perform: cloudformation:Describe")
    monkeypatch.setattr("autoscaler.deploy.stack._client", lambda *_: client)
    with stubber, pytest.raises(typer.Exit) as ended:
        outputs("k3s-cluster-x", region="eu-central-1")
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("The stack k3s-cluster-x could not be looked at: ")
    assert "AccessDenied" in said[0]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("CREATE_COMPLETE", None),
        ("UPDATE_COMPLETE", None),
        ("UPDATE_ROLLBACK_COMPLETE", None),
        ("ROLLBACK_COMPLETE", "delete-stack --stack-name cluster"),
        ("CREATE_FAILED", "delete-stack --stack-name cluster"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name cluster"),
        ("UPDATE_IN_PROGRESS", "somebody is changing it"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "somebody is changing it"),
    ],
)
def test_a_stack_that_cannot_be_deployed_to_says_what_to_do(status: str, sentence: str | None) -> None:
    problem = problem_of("cluster", status)
    assert (problem is None) == (sentence is None)
    assert (sentence or "") in (problem or "")

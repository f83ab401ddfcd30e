"""What somebody with a role of ours might try, and IAM's answer to it in every reading of AWS' reference."""

from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.service.conftest import ROOT
from tests.service.iam.attacks import ATTACKS, OTHER_MACHINES, OTHER_PROFILE, Attack
from tests.service.iam.calls import FUNCTIONS
from tests.service.iam.evaluator import Answer, Request, judge
from tests.service.iam.rendered import ACCOUNT, REGION, Rendered
from tests.service.iam.requests import ATTACHING, requests_of
from tests.service.iam.world import READINGS, World, world_of

ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"


@pytest.fixture(scope="module")
def world(full_service: Rendered) -> World:
    ours = world_of(full_service, "shop")
    return replace(ours, tags={**ours.tags, **OTHER_MACHINES}, profiles={OTHER_PROFILE: ADMIN})


def overall(answers: list[Answer]) -> Answer:
    """A call goes through when everything that it asks for does."""
    for answer in (Answer.FORBIDDEN, Answer.DENIED):
        if answer in answers:
            return answer
    return Answer.ALLOWED


def answers(attack: Attack, service: Rendered, cluster: Rendered, world: World) -> set[Answer]:
    where = cluster if attack.role == "ServerRole" else service
    call, documents = attack.make(service, world), where.policies(attack.role)
    return {
        overall([judge(documents, request) for request in requests_of(call, world, reading)]) for reading in READINGS
    }


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_iam_answers_as_the_table_says_in_every_reading(
    attack: Attack, full_service: Rendered, full_cluster: Rendered, world: World
) -> None:
    assert answers(attack, full_service, full_cluster, world) == {attack.answer}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_sdk_would_send_it(attack: Attack, full_service: Rendered, world: World) -> None:
    operation, fields = attack.make(full_service, world)
    service, _, name = operation.partition(":")
    shape = botocore.session.get_session().get_service_model(service).operation_model(name).input_shape
    assert shape is not None
    report = ParamValidator().validate(dict(fields), shape)
    missing = [said for said in report.generate_report().splitlines() if "Missing required" not in said]
    assert not missing, "a field that the operation does not have"


@pytest.mark.parametrize("role", FUNCTIONS)
def test_the_functions_code_may_not_do_what_lambda_does_in_its_name(full_service: Rendered, role: str) -> None:
    name = full_service.template.properties(FUNCTIONS[role])["FunctionName"]
    own = {"lambda:SourceFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"}
    for action in ATTACHING:
        expected = Answer.ALLOWED if ":Describe" in action else Answer.FORBIDDEN
        assert full_service.answers(role, Request(action, "*", own)) == {expected}


def test_the_document_has_every_attack_with_its_answer() -> None:
    words: dict[Any, str] = {Answer.ALLOWED: "**allowed**", Answer.DENIED: "denied", Answer.FORBIDDEN: "denied"}
    table = "\n".join(f"| {attack.name} | {words[attack.answer]} |" for attack in ATTACKS)
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert table in text, f"put this under the table's head:\n{table}"

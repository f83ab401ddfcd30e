"""What somebody with a role of ours might try, and IAM's answer to it in every reading of AWS' reference."""

import json
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.service.conftest import ROOT
from tests.service.iam.attacks import ATTACKS, OTHER_MACHINES, OTHER_PROFILE, OTHER_ROLE, Attack
from tests.service.iam.calls import FUNCTIONS
from tests.service.iam.evaluator import Answer, Request, judge
from tests.service.iam.rendered import ACCOUNT, REGION, Rendered
from tests.service.iam.requests import ATTACHING, requests_of
from tests.service.iam.world import READINGS, World, world_of


@pytest.fixture(scope="module")
def world(full_service: Rendered) -> World:
    ours = world_of(full_service, "shop")
    return replace(ours, tags={**ours.tags, **OTHER_MACHINES}, profiles={OTHER_PROFILE: OTHER_ROLE})


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


# Condition keys that no attack of the table needs, and why they stand there all the same.
SECOND_LOCKS = {
    "ec2:LaunchTemplate": "another template is refused by its own ARN first",
    "kms:GrantIsForAWSResource": "a grant that is asked for without EC2 lacks kms:ViaService first",
    "iam:PassedToService": "the functions may call no other service that takes a role",
}


def keys_that_limit(document: dict[str, Any]) -> set[str]:
    allowing = [row for row in document["Statement"] if row["Effect"] == "Allow"]
    return {key for row in allowing for keys in row.get("Condition", {}).values() for key in keys}


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The policy with one key less in its conditions."""
    changed: dict[str, Any] = json.loads(json.dumps(document))
    for statement in changed["Statement"]:
        for keys in statement.get("Condition", {}).values():
            keys.pop(key, None)
    return changed


def test_every_condition_stops_an_attack(full_service: Rendered, world: World) -> None:
    """Each key taken away, one at a time: some attack then goes through in some reading, or the key were for show."""
    refused = [attack for attack in ATTACKS if attack.role == "SweepRole" and attack.answer is Answer.DENIED]
    denied = [attack.make(full_service, world) for attack in refused]
    asked = [requests_of(call, world, reading) for call in denied for reading in READINGS]
    documents = full_service.policies("SweepRole")
    for document in documents:
        others = [row for row in documents if row is not document]
        for key in keys_that_limit(document):
            loose = [*others, without(document, key)]
            stopped = not any(all(judge(loose, r) is Answer.ALLOWED for r in requests) for requests in asked)
            assert stopped is (key in SECOND_LOCKS), key


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

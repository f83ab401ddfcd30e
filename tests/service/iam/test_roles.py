"""Each role is allowed what is asked of it, in every reading of AWS' reference, and is granted nothing else."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.service.conftest import Template
from tests.service.iam.attacks import KEY, OTHER_KEY
from tests.service.iam.calls import FUNCTIONS, calls_of
from tests.service.iam.evaluator import Answer, Request, applies, as_list
from tests.service.iam.launches import OF_ENCRYPTION, THROUGH_EC2
from tests.service.iam.rendered import Rendered
from tests.service.iam.roles import asked_of_function, asked_of_machine, calls_of_server, calls_of_worker, cluster_id
from tests.service.test_calls_and_roles import OF_THE_COMMAND_LINE, actions_in_code, actions_of_the_idempotency_layer

# IAM user guide, "IAM and AWS STS quotas": characters without white space.
LARGEST_MANAGED_POLICY = 6144
LARGEST_ROLES_OWN_POLICIES = 10_240
MOST_POLICIES_OF_A_ROLE = 10


@pytest.fixture(params=["service", "full_service"])
def a_service(request: pytest.FixtureRequest) -> Rendered:
    found: Rendered = request.getfixturevalue(request.param)
    return found


def asked(service: Rendered, cluster: Rendered, role: str, *, full: bool) -> list[Request]:
    if role == "WorkerRole":
        return asked_of_machine(service, calls_of_worker(cluster_id(service), registries=full))
    if role == "ServerRole":
        return asked_of_machine(service, calls_of_server(cluster_id(service), registries=full))
    del cluster
    return asked_of_function(service, role)


@pytest.fixture(params=[(role, full) for role in (*FUNCTIONS, "WorkerRole", "ServerRole") for full in (False, True)])
def role_and_requests(request: pytest.FixtureRequest) -> tuple[Rendered, str, list[Request]]:
    """(where the role stands, its name, what is asked of it)."""
    role, full = request.param
    prefix = "full_" if full else ""
    service, cluster = (request.getfixturevalue(prefix + name) for name in ("service", "cluster"))
    return cluster if role == "ServerRole" else service, role, asked(service, cluster, role, full=full)


def test_every_request_is_allowed(role_and_requests: tuple[Rendered, str, list[Request]]) -> None:
    where, role, requests = role_and_requests
    assert requests
    refused = [request for request in requests if where.answers(role, request) != {Answer.ALLOWED}]
    assert not refused


RDS = THROUGH_EC2 | {"kms:ViaService": "rds.eu-central-1.amazonaws.com"}
ELSEWHERE = THROUGH_EC2 | {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}
DIRECT = {"kms:CallerAccount": THROUGH_EC2["kms:CallerAccount"]}
OTHER_USES = {
    "another key, through EC2": (OTHER_KEY, THROUGH_EC2),
    "the key, without EC2": (KEY, DIRECT),
    "the key, through another service": (KEY, RDS),
    "the key, through EC2 of another region": (KEY, ELSEWHERE),
}


def uses(key: str, context: Mapping[str, str]) -> list[Request]:
    return [Request(action, key, {**context, **said}) for action, said in OF_ENCRYPTION.items()]


@pytest.mark.parametrize("role", [*FUNCTIONS, "WorkerRole"])
def test_the_launching_roles_may_use_the_key_that_is_named(
    service: Rendered, full_service: Rendered, role: str
) -> None:
    expected = Answer.ALLOWED if role in FUNCTIONS else Answer.DENIED
    assert full_service.answers(role, *uses(KEY, THROUGH_EC2)) == {expected}
    assert service.answers(role, *uses(KEY, THROUGH_EC2)) == {Answer.DENIED}, "no parameter, no right to any key"


@pytest.mark.parametrize(("key", "context"), OTHER_USES.values(), ids=OTHER_USES.keys())
def test_no_other_key_is_used_and_no_other_way(full_service: Rendered, key: str, context: dict[str, str]) -> None:
    for role in FUNCTIONS:
        assert full_service.answers(role, *uses(key, context)) == {Answer.DENIED}


def test_a_grant_is_made_for_ec2_only(full_service: Rendered) -> None:
    for said in ({}, {"kms:GrantIsForAWSResource": "false"}):
        assert full_service.answers("SweepRole", Request("kms:CreateGrant", KEY, {**THROUGH_EC2, **said})) == {
            Answer.DENIED
        }


def test_a_launch_asks_for_the_key_where_the_template_names_one(service: Rendered, full_service: Rendered) -> None:
    for rendered, keys in ((service, set()), (full_service, {KEY})):
        asked_for = asked_of_function(rendered, "SweepRole")
        assert {request.resource for request in asked_for if request.action.startswith("kms:")} == keys


@pytest.mark.parametrize("role", FUNCTIONS)
def test_what_is_asked_is_every_call_of_the_code(full_service: Rendered, role: str) -> None:
    called = actions_in_code() - OF_THE_COMMAND_LINE
    if role == "AlertsRole":
        called |= actions_of_the_idempotency_layer()
    assert {operation for operation, _ in calls_of(full_service, role)} == called


# Statements whose actions are not all called on all of their resources, and why that grants nothing more.
NOT_EVERY_PAIR = {
    "ReadItsParameters": "AmazonSSMManagedInstanceCore allows both calls on every parameter; ReadNoOtherParameter is "
    "what narrows them",
}


def grants(statement: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A statement cut into one action on one resource, or where it is excused, into each of its two lists."""
    actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
    if statement["Sid"] in NOT_EVERY_PAIR:
        yield from (statement | {"Action": action} for action in actions)
        yield from (statement | {"Resource": resource} for resource in resources)
    else:
        yield from (statement | {"Action": a, "Resource": r} for a in actions for r in resources)


def test_every_grant_is_used(role_and_requests: tuple[Rendered, str, list[Request]]) -> None:
    where, role, requests = role_and_requests
    for statement in where.own_statements(role):
        if statement["Effect"] == "Allow":
            unused = [g for g in grants(statement) if not any(applies(g, request) for request in requests)]
            assert not unused


def test_who_is_asked_for_less_is_granted_less(a_service: Rendered) -> None:
    """The token and the idempotency records are the webhook's alone, its log is each function's own."""
    webhook = set(map(repr, asked_of_function(a_service, "AlertsRole")))
    for role in ("SweepRole", "LifecycleRole"):
        own = set(map(repr, asked_of_function(a_service, role)))
        for request in asked_of_function(a_service, "AlertsRole"):
            if repr(request) in webhook - own:
                assert a_service.answers(role, request) == {Answer.DENIED}, request


def text(policy: Any) -> str:
    return "".join(json.dumps(policy).split())


def test_policies_fit_into_iams_quotas_with_the_longest_names_and_lists(full_template: Template) -> None:
    subnets = [{"Fn::Sub": f"arn:${{AWS::Partition}}:ec2:${{AWS::Region}}:*:subnet/subnet-{n:017x}"} for n in range(6)]
    groups = [
        {"Fn::Sub": f"arn:${{AWS::Partition}}:ec2:${{AWS::Region}}:*:security-group/sg-{n:017x}"} for n in range(16)
    ]
    replaced = json.loads(full_template.text.replace("shop", "s" * 32))
    launching = replaced["Resources"]["LaunchPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    launching["Resource"] = [r for r in launching["Resource"] if ":*:" not in r["Fn::Sub"]] + subnets + groups
    longest = Rendered(Template(body=replaced, text=""))
    for name, entry in longest.template.of_type("AWS::IAM::ManagedPolicy").items():
        policy = text(longest.value(entry["Properties"]["PolicyDocument"]))
        policy = policy.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-central-1", "ap-southeast-10")
        assert len(policy) < LARGEST_MANAGED_POLICY, name
    for name, entry in longest.template.of_type("AWS::IAM::Role").items():
        own = [row["PolicyDocument"] for row in entry["Properties"].get("Policies", ())]
        assert sum(len(text(longest.value(policy))) for policy in own) < LARGEST_ROLES_OWN_POLICIES, name
        assert len(entry["Properties"].get("ManagedPolicyArns", ())) <= MOST_POLICIES_OF_A_ROLE

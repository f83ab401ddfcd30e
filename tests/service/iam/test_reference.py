"""What is asked and what is granted, against AWS' service authorization reference.

The reference knows of each action whether it can be limited to resources, which types of resource a request needs, and
which condition keys a request for each of them carries: a grant that names too few types is refused, and so is one with
a condition on a key that AWS does not send.
"""

from collections import defaultdict
from typing import Any

import pytest

from tests.service.iam.calls import FUNCTIONS
from tests.service.iam.evaluator import Request, applies, as_list
from tests.service.iam.reference import action
from tests.service.iam.rendered import Rendered
from tests.service.iam.requests import ATTACHING
from tests.service.iam.roles import (
    asked_of_function,
    asked_of_machine,
    calls_of_server,
    calls_of_worker,
    cluster_id,
)

Asked = tuple[list[Request], list[dict[str, Any]]]

# Types that the reference does not list for the action, and who has them nevertheless.
BEYOND_THE_REFERENCE = {
    ("ec2:CreateFleet", kind): "Karpenter's controller policy grants CreateFleet on it: asked for in one reading only"
    for kind in ("network-interface", "security-group", "snapshot", "spot-instances-request")
}
# Lambda developer guide: asked for on "*" when a function is attached to a VPC, though the reference lists types.
ON_EVERYTHING = set(ATTACHING)


@pytest.fixture(params=[*FUNCTIONS, "WorkerRole", "ServerRole"])
def asked(request: pytest.FixtureRequest, full_service: Rendered, full_cluster: Rendered) -> Asked:
    """What is asked of a role, and its own statements."""
    name = cluster_id(full_service)
    if request.param == "WorkerRole":
        requests = asked_of_machine(full_service, calls_of_worker(name, registries=True))
    elif request.param == "ServerRole":
        requests = asked_of_machine(full_service, calls_of_server(name, registries=True))
    else:
        requests = asked_of_function(full_service, request.param)
    where = full_cluster if request.param == "ServerRole" else full_service
    return requests, where.own_statements(request.param)


def kind_of(request: Request) -> str:
    """The type that an ARN's last part begins with."""
    if request.resource == "*":
        return "*"
    return request.resource.split(":", 5)[5].partition("/")[0]


def test_every_resource_is_of_a_type_that_its_action_takes(asked: Asked) -> None:
    for request in asked[0]:
        row = action(request.action)
        if request.resource == "*":
            assert not row.types or request.action in ON_EVERYTHING, f"{request.action} can be limited to resources"
        elif (request.action, kind_of(request)) in BEYOND_THE_REFERENCE:
            assert row.type_of(request.resource) is None, "the reference has learnt of it: take it off the list"
        else:
            assert row.type_of(request.resource), request


def test_every_type_that_a_request_needs_is_asked_for(asked: Asked) -> None:
    touched = defaultdict(set)
    for request in asked[0]:
        kind = action(request.action).type_of(request.resource)
        touched[request.action].add(kind.name if kind else "")
    for name, kinds in touched.items():
        if name not in ON_EVERYTHING:
            assert {kind.name for kind in action(name).types if kind.required} <= kinds, name


def test_a_request_carries_only_keys_that_the_reference_knows(asked: Asked) -> None:
    for request in asked[0]:
        row = action(request.action)
        unknown = [key for key in request.context if not row.knows(key, row.type_of(request.resource))]
        assert not unknown or (request.action, kind_of(request)) in BEYOND_THE_REFERENCE, (request, unknown)


def needed_keys(statement: dict[str, Any]) -> list[str]:
    """Keys without which a statement never applies."""
    return [
        key
        for operator, keys in statement.get("Condition", {}).items()
        if not operator.startswith("ForAllValues:") and not operator.endswith("IfExists")
        for key in keys
    ]


def test_a_condition_stands_only_where_aws_sends_its_key(asked: Asked) -> None:
    requests, statements = asked
    for statement in statements:
        if statement["Effect"] == "Deny":
            continue
        unconditional = {name: value for name, value in statement.items() if name != "Condition"}
        for request in requests:
            if applies(unconditional, request):
                row = action(request.action)
                kind = row.type_of(request.resource)
                unsent = [key for key in needed_keys(statement) if not row.knows(key, kind)]
                beyond = kind is None and (request.action, kind_of(request)) in BEYOND_THE_REFERENCE
                assert not unsent or beyond, (statement["Sid"], request)


def test_the_reference_is_read_as_it_is_written() -> None:
    fleet = action("ec2:CreateFleet")
    assert {kind.name for kind in fleet.types if kind.required} == {"fleet", "instance"}, "the first make up launches"
    instance = fleet.type_of("arn:aws:ec2:eu-central-1:111122223333:instance/*")
    assert instance is not None
    assert fleet.knows("aws:RequestTag/k3s-autoscaler/cluster", instance)
    assert fleet.knows("ec2:Region", None)
    assert not fleet.knows("ec2:LaunchTemplate", instance), (
        "which is why RunInstances says what a fleet may not override"
    )
    run = action("ec2:RunInstances")
    assert run.knows("ec2:LaunchTemplate", run.type_of("arn:aws:ec2:eu-central-1::image/ami-1"))
    assert not run.knows("aws:ResourceTag/a", run.type_of("arn:aws:ec2:eu-central-1:1:instance/*"))
    assert not action("ssm:GetCommandInvocation").types
    with pytest.raises(KeyError):
        action("ec2:LaunchEverything")


def test_every_granted_action_exists(full_service: Rendered, full_cluster: Rendered) -> None:
    for role in (*FUNCTIONS, "WorkerRole"):
        for statement in full_service.own_statements(role):
            assert all(action(name) for name in as_list(statement["Action"]))
    assert all(action(name) for row in full_cluster.own_statements("ServerRole") for name in as_list(row["Action"]))

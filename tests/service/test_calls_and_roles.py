"""Both ways: what code and scripts call at AWS is allowed to their roles, and roles are allowed nothing else."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aws_lambda_powertools.utilities.idempotency.persistence.dynamodb as idempotency_layer
import botocore.session
import pytest
from botocore import xform_name

from tests.service.conftest import ROOT, Template

SERVICES = ("dynamodb", "ec2", "sns", "ssm")
SCRIPTS = ROOT / "cloudformation" / "scripts"

# The store's history is read by the command line alone, with the operator's own credentials.
OF_THE_COMMAND_LINE = {"dynamodb:Query"}
# action -> on whose behalf a function's role needs it although no code of ours calls it.
NOT_OUR_CALLS = {
    "ec2:RunInstances": "CreateFleet launches in its caller's name",
    "ec2:CreateTags": "CreateFleet tags in its caller's name",
    "iam:PassRole": "CreateFleet gives workers their role in its caller's name",
    "kms:CreateGrant": "EC2 encrypts volumes in its caller's name",
    "kms:Decrypt": "EC2 encrypts volumes in its caller's name",
    "kms:DescribeKey": "EC2 encrypts volumes in its caller's name",
    "kms:GenerateDataKeyWithoutPlaintext": "EC2 encrypts volumes in its caller's name",
    "kms:ReEncryptFrom": "EC2 encrypts volumes in its caller's name",
    "kms:ReEncryptTo": "EC2 encrypts volumes in its caller's name",
    "logs:CreateLogStream": "the Lambda service writes the log",
    "logs:PutLogEvents": "the Lambda service writes the log",
    "sqs:SendMessage": "the Lambda service sets failed events aside",
    "ec2:CreateNetworkInterface": "the Lambda service attaches functions to the VPC",
    "ec2:DescribeNetworkInterfaces": "the Lambda service attaches functions to the VPC",
    "ec2:DeleteNetworkInterface": "the Lambda service attaches functions to the VPC",
    "ec2:AssignPrivateIpAddresses": "the Lambda service attaches functions to the VPC",
    "ec2:UnassignPrivateIpAddresses": "the Lambda service attaches functions to the VPC",
}
FUNCTION_ROLES = ("AlertsRole", "SweepRole", "LifecycleRole")


def operations(service: str) -> dict[str, str]:
    """The SDK's method names of a service, and the operations' own."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def calls_on_clients(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(service, method) of every `<...>.<service>(...).<method>(...)`; a paginator counts as what it pages over."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        client = node.func.value
        if not (isinstance(client, ast.Call) and isinstance(client.func, ast.Attribute)):
            continue
        if client.func.attr in SERVICES:
            method = node.func.attr
            if method in {"get_paginator", "get_waiter"}:
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                method = str(argument.value)
            yield client.func.attr, method


def sources_of_the_functions() -> Iterable[Path]:
    yield from (ROOT / "handlers").glob("*.py")
    for path in (ROOT / "autoscaler").rglob("*.py"):
        if not {"simulator", "cli"} & set(path.relative_to(ROOT).parts):
            yield path


def actions_in_code() -> set[str]:
    """What handlers and core call."""
    return {
        f"{service}:{operations(service)[method]}"
        for path in sources_of_the_functions()
        for service, method in calls_on_clients(ast.parse(path.read_text()))
    }


def actions_of_the_idempotency_layer() -> set[str]:
    """What Powertools calls on the client that the webhook gives it."""
    known = operations("dynamodb")
    assert idempotency_layer.__file__ is not None
    tree = ast.parse(Path(idempotency_layer.__file__).read_text())
    return {
        f"dynamodb:{known[node.func.attr]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "client"
        and node.func.attr in known
    }


def allowed(template: Template, *policies: str) -> set[str]:
    return {
        action
        for policy in policies
        for row in template.statements(policy)
        if row["Effect"] == "Allow"
        for action in as_list(row["Action"])
    }


def policies_of(template: Template, role: str) -> list[str]:
    attached = template.properties(role).get("ManagedPolicyArns", ())
    return [role, *(policy["Ref"] for policy in attached if "Ref" in policy)]


def test_a_client_is_called_on_the_spot() -> None:
    """Else the search above would miss calls: nobody keeps a client in a variable, but for Powertools'."""
    kept = [
        (path.name, ast.unparse(node))
        for path in sources_of_the_functions()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.Return)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in SERVICES
    ]
    assert not kept


def test_the_functions_may_do_what_they_call_and_nothing_else(full_template: Template) -> None:
    granted = allowed(
        full_template, *{policy for role in FUNCTION_ROLES for policy in policies_of(full_template, role)}
    )
    called = actions_in_code() - OF_THE_COMMAND_LINE
    assert called | actions_of_the_idempotency_layer() | set(NOT_OUR_CALLS) == granted


def test_the_search_finds_calls() -> None:
    assert {"ec2:CreateFleet", "ssm:SendCommand", "dynamodb:PutItem", "sns:Publish"} <= actions_in_code()
    assert actions_in_code() >= OF_THE_COMMAND_LINE
    assert "dynamodb:DeleteItem" in actions_of_the_idempotency_layer()


def actions_in_scripts(*names: str) -> set[str]:
    """`aws <service> <command>` in scripts, as IAM names it."""
    text = "\n".join((SCRIPTS / name).read_text() for name in names)
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = re.findall(r"\baws ([a-z0-9]+) ([a-z-]+)\b", code)
    return {f"{service}:{operations(service)[command.replace('-', '_')]}" for service, command in found}


@pytest.mark.parametrize(
    ("role", "fixture", "scripts"),
    [
        ("ServerRole", "cluster_template", ("server-bootstrap.sh", "server-sync.sh", "machine.sh")),
        ("WorkerRole", "template", ("worker-bootstrap.sh", "machine.sh")),
    ],
)
def test_a_machine_may_do_what_its_scripts_call_and_nothing_else(
    request: pytest.FixtureRequest, role: str, fixture: str, scripts: tuple[str, ...]
) -> None:
    assert actions_in_scripts(*scripts) == allowed(request.getfixturevalue(fixture), role)


def test_node_commands_need_no_permission_at_aws() -> None:
    assert not actions_in_scripts("node-command.sh", "node-checks.sh", "node-drain.sh", "node-rules.sh")


def parameters_in(template: Template, role: str, action: str) -> set[str]:
    """The names behind /k3s/demo/ that a role may use."""
    return {
        resource["Fn::Sub"].rsplit(":parameter/k3s/demo/", 1)[1]
        for row in template.statements(role)
        if row["Effect"] == "Allow" and action in as_list(row["Action"])
        for resource in as_list(row["Resource"])
    }


def test_the_server_publishes_and_reads_the_parameters_that_its_role_names(cluster_template: Template) -> None:
    script = (SCRIPTS / "server-sync.sh").read_text()
    published = set(re.findall(r"^ *publish ([a-z-]+) ", script, re.MULTILINE))
    assert published == parameters_in(cluster_template, "ServerRole", "ssm:PutParameter")
    looked_at = re.search(r"names=\(([a-z -]+)\)", script)
    assert looked_at is not None
    assert parameters_in(cluster_template, "ServerRole", "ssm:GetParameter") == {*looked_at[1].split(), "bundle/*"}


def test_what_the_server_publishes_is_what_a_worker_reads(template: Template, cluster_template: Template) -> None:
    assert parameters_in(template, "WorkerRole", "ssm:GetParameter") == parameters_in(
        cluster_template, "ServerRole", "ssm:PutParameter"
    )


def test_what_the_stacks_write_is_what_the_server_reads(template: Template, cluster_template: Template) -> None:
    read = parameters_in(cluster_template, "ServerRole", "ssm:GetParameter")
    own = parameters_in(cluster_template, "ServerRole", "ssm:PutParameter")
    written = {
        entry["Properties"]["Name"].removeprefix("/k3s/demo/")
        for body in (template, cluster_template)
        for name, entry in body.of_type("AWS::SSM::Parameter").items()
        if name != "KeptParameters"  # read by who deploys
    }
    folded = {"bundle/*" if name.startswith("bundle/") else name for name in written}
    # The webhook's token is written by `k3s-autoscaler token`: CloudFormation writes no SecureString.
    assert read == own | folded | {"webhook-token"}

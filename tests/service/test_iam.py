"""The roles: every action that the code needs, on nothing more than it needs. What IAM answers to it: `iam/`."""

import json
from typing import Any

import pytest

from tests.service.conftest import Template

# AWS accepts nothing but "*" for these (Service Authorization Reference: no resource types).
ANY_RESOURCE_ONLY = {
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeSubnets",
    "ec2:DescribeNetworkInterfaces",
    "ssm:GetCommandInvocation",
}
# Checked on "*" by the Lambda service when it attaches a function to a VPC (Lambda Developer Guide); the functions' own
# code is denied them.
LAMBDA_NETWORK = {
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
}
LOOK = {
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeSubnets",
    "ec2:TerminateInstances",
    "ssm:GetCommandInvocation",
    "ssm:SendCommand",
}
LAUNCH = {"ec2:CreateFleet", "ec2:CreateTags", "ec2:RunInstances", "iam:PassRole"}
POLICIES = (
    "ReconcilePolicy",
    "LaunchPolicy",
    "VolumeKeyPolicy",
    "PrometheusAuthPolicy",
    "PrometheusCaPolicy",
    "NotifyPolicy",
    "NetworkPolicy",
    "AlertsRole",
    "SweepRole",
    "LifecycleRole",
    "WorkerRole",
)


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def resources(statement: dict[str, Any]) -> list[Any]:
    found = statement["Resource"]
    return found if isinstance(found, list) else [found]


def allowing(template: Template, policy: str, action: str) -> list[dict[str, Any]]:
    return [
        statement
        for statement in template.statements(policy)
        if statement["Effect"] == "Allow" and action in actions(statement)
    ]


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("policy", "expected"), [("ReconcilePolicy", LOOK), ("LaunchPolicy", LAUNCH)])
def test_the_shared_policies_hold_exactly_what_a_look_calls(
    template: Template, policy: str, expected: set[str]
) -> None:
    assert {action for row in template.statements(policy) for action in actions(row)} == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_no_action_has_a_wildcard_and_star_only_where_aws_wants_it(full_template: Template, policy: str) -> None:
    for statement in full_template.statements(policy):
        assert not [action for action in actions(statement) if "*" in action]
        if statement["Effect"] == "Allow" and "*" in resources(statement):
            assert set(actions(statement)) <= ANY_RESOURCE_ONLY | LAMBDA_NETWORK, statement["Sid"]


def test_only_our_workers_are_terminated(full_template: Template) -> None:
    statement = only(allowing(full_template, "ReconcilePolicy", "ec2:TerminateInstances"))
    assert statement["Condition"] == {
        "StringEquals": {"aws:ResourceTag/ManagedBy": "autoscaler", "aws:ResourceTag/k3s-autoscaler/cluster": "shop"}
    }


def test_a_launch_names_the_workers_own_subnets_groups_image_and_template(
    template: Template, full_template: Template
) -> None:
    for found, image in ((template, "${WorkerImage}"), (full_template, "ami-0a0a0a0a0a0a0a0a0")):
        data = found.properties("WorkerLaunchTemplate")["LaunchTemplateData"]
        environment = found.properties("SweepLambdaFunction")["Environment"]["Variables"]
        groups = data["SecurityGroupIds"]["Fn::Split"][1].split(",")
        assert data["ImageId"] in ({"Ref": "WorkerImage"}, image)
        (named,) = (row for row in found.statements("LaunchPolicy") if row["Sid"] == "LaunchWhereWorkersBelong")
        assert [entry["Fn::Sub"].rpartition(":")[2] for entry in resources(named)] == [
            "launch-template/${WorkerLaunchTemplate}",
            f"image/{image}",
            *(f"subnet/{subnet}" for subnet in environment["SUBNET_IDS"].split(",")),
            *(f"security-group/{group}" for group in groups),
        ]


def test_only_the_workers_role_is_passed_and_only_to_ec2(template: Template) -> None:
    statement = only(allowing(template, "LaunchPolicy", "iam:PassRole"))
    assert resources(statement) == [{"Fn::GetAtt": ["WorkerRole", "Arn"]}]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_only_our_document_is_sent_and_only_to_our_servers(full_template: Template) -> None:
    document, *servers = allowing(full_template, "ReconcilePolicy", "ssm:SendCommand")
    assert resources(document)[0]["Fn::Sub"].endswith(":document/${NodeCommandDocument}")
    for statement, key in zip(servers, ("aws:ResourceTag", "ssm:resourceTag"), strict=True):
        assert resources(statement)[0]["Fn::Sub"].endswith(":instance/*")
        assert statement["Condition"] == {
            "StringEquals": {f"{key}/k3s-autoscaler/cluster": "shop", f"{key}/k3s-autoscaler/role": "server"}
        }


def test_the_state_of_this_cluster_only(full_template: Template) -> None:
    statement = only(allowing(full_template, "ReconcilePolicy", "dynamodb:PutItem"))
    assert resources(statement) == [{"Fn::GetAtt": ["StateTable", "Arn"]}]
    assert statement["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["shop"]}}


def test_the_webhook_alone_knows_its_token_and_the_idempotency_records(template: Template) -> None:
    table = {"Fn::GetAtt": ["IdempotencyTable", "Arn"]}
    assert not allowing(template, "SweepRole", "ssm:GetParameter")
    policy = only(allowing(template, "LifecycleRole", "ssm:GetParameter"))
    assert [entry["Fn::Sub"].rsplit(":", 1)[1] for entry in resources(policy)] == ["parameter/k3s/demo/policy"]
    for role in ("SweepRole", "LifecycleRole"):
        assert not [row for row in template.statements(role) if table in resources(row)]
    token = only(allowing(template, "AlertsRole", "ssm:GetParameter"))
    assert resources(token)[0]["Fn::Sub"].endswith(":parameter/k3s/demo/webhook-token")
    records = only([row for row in template.statements("AlertsRole") if table in resources(row)])
    assert set(actions(records)) == {f"dynamodb:{verb}Item" for verb in ("Get", "Put", "Update", "Delete")}


@pytest.mark.parametrize("name", ["alerts", "sweep", "lifecycle"])
def test_each_function_writes_its_own_log_only(template: Template, name: str) -> None:
    statement = only(allowing(template, f"{name.capitalize()}Role", "logs:PutLogEvents"))
    group = template.properties(f"{name.capitalize()}LogGroup")["LogGroupName"]
    assert resources(statement)[0]["Fn::Sub"].endswith(f":log-group:{group}:*")


def test_the_lifecycle_function_may_set_failures_aside(template: Template) -> None:
    statement = only(allowing(template, "LifecycleRole", "sqs:SendMessage"))
    assert resources(statement) == [{"Fn::GetAtt": ["LifecycleFailures", "Arn"]}]


def test_a_worker_reads_how_to_join_and_nothing_else(template: Template, full_template: Template) -> None:
    statement = only(template.statements("WorkerRole"))
    assert actions(statement) == ["ssm:GetParameter"]
    names = {entry["Fn::Sub"].rsplit(":parameter", 1)[1] for entry in resources(statement)}
    assert names == {f"/k3s/demo/{name}" for name in ("server-url", "version", "ca-hash", "agent-token")}
    reading = only(allowing(full_template, "WorkerRole", "ssm:GetParameter"))
    (registries,) = [entry for entry in resources(reading) if "registries" in str(entry)]
    assert registries["Fn::Sub"].endswith(":parameter/k3s/shop/registries")
    assert "ManagedPolicyArns" not in template.properties("WorkerRole")
    (managed,) = full_template.properties("WorkerRole")["ManagedPolicyArns"]
    assert managed["Fn::Sub"].endswith(":policy/AmazonSSMManagedInstanceCore")


def test_optional_permissions_name_what_was_given(full_template: Template) -> None:
    def resource(policy: str) -> Any:
        return resources(only([row for row in full_template.statements(policy) if row["Effect"] == "Allow"]))[0]

    assert resource("NotifyPolicy") == "arn:aws:sns:eu-central-1:111122223333:news"
    assert resource("PrometheusAuthPolicy")["Fn::Sub"].endswith(":parameter/k3s/shop/prometheus-auth")
    assert resource("PrometheusCaPolicy")["Fn::Sub"].endswith(":parameter/k3s/shop/prometheus-ca")
    denied = only([row for row in full_template.statements("NetworkPolicy") if row["Effect"] == "Deny"])
    assert set(actions(denied)) == LAMBDA_NETWORK


def test_a_key_is_the_launching_roles_alone_and_only_where_one_is_named(
    template: Template, full_template: Template
) -> None:
    assert '"kms:' not in json.dumps(template.of_type("AWS::IAM::ManagedPolicy")), "no parameter, no right to any key"
    key = "arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"
    statements = full_template.statements("VolumeKeyPolicy")
    assert [resources(row) for row in statements] == [[key], [key]]
    assert all("kms:ViaService" in row["Condition"]["StringEquals"] for row in statements)
    for name, entry in full_template.of_type("AWS::IAM::Role").items():
        attached = {"Ref": "VolumeKeyPolicy"} in entry["Properties"].get("ManagedPolicyArns", ())
        assert attached is (name in {"AlertsRole", "SweepRole", "LifecycleRole"}), name
    for found, named in ((template, None), (full_template, key)):
        (disk,) = found.properties("WorkerLaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
        assert (disk["Ebs"].get("KmsKeyId"), disk["Ebs"]["Encrypted"]) == (named, True)


def test_every_role_has_the_shared_policy_and_only_lambda_assumes_it(full_template: Template) -> None:
    shared = [name for name in POLICIES if name.endswith("Policy")]
    for role in ("AlertsRole", "SweepRole", "LifecycleRole"):
        properties = full_template.properties(role)
        assert properties["ManagedPolicyArns"] == [{"Ref": name} for name in shared]
        (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}

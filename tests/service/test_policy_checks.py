"""Rules for every generated template: who may do what on what, who is let in, and what is encrypted.

Whatever stands against a rule stands in a list here, with its reason; an entry that nothing needs any longer fails too.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.conftest import Template

TEMPLATES = (
    "template",
    "full_template",
    "cluster_template",
    "full_cluster_template",
    "serverless_cluster_template",
)

# action -> why it stands on "*".
ANY_RESOURCE = {
    # AWS knows no resource for these (Service Authorization Reference).
    "ec2:DescribeInstances": "EC2's describe actions have no resource types",
    "ec2:DescribeLaunchTemplates": "EC2's describe actions have no resource types",
    "ec2:DescribeNetworkInterfaces": "EC2's describe actions have no resource types",
    "ec2:DescribeSubnets": "EC2's describe actions have no resource types",
    "ssm:GetCommandInvocation": "SSM has no resource type for it",
    # Lambda checks these on "*" when a function is attached to a VPC; a Deny takes them from the function's own code.
    "ec2:AssignPrivateIpAddresses": "Lambda's check",
    "ec2:CreateNetworkInterface": "Lambda's check",
    "ec2:DeleteNetworkInterface": "Lambda's check",
    "ec2:UnassignPrivateIpAddresses": "Lambda's check",
}
# Policies of resources name the resource that they are part of; in a key's policy "*" is the key itself (KMS developer
# guide, "Key policies").
KEY_ADMINISTRATION = "kms:*"

# group rule or subnet -> the parameter that opens it.
OPENED_BY_A_PARAMETER = {
    "PublicHttpToServer": "publicIngressCidr",
    "PublicHttpsToServer": "publicIngressCidr",
    "PublicHttpToWorkers": "publicIngressCidr",
    "PublicHttpsToWorkers": "publicIngressCidr",
    "PublicIpv6HttpToServer": "publicIngressIpv6Cidr",
    "PublicIpv6HttpsToServer": "publicIngressIpv6Cidr",
    "PublicIpv6HttpToWorkers": "publicIngressIpv6Cidr",
    "PublicIpv6HttpsToWorkers": "publicIngressIpv6Cidr",
    "ApiFromOutside": "apiIngressCidr",
}
AWS_POLICIES = {
    "ServerRole": "AmazonSSMManagedInstanceCore",  # node commands reach the server by the SSM agent
    "WorkerRole": "AmazonSSMManagedInstanceCore",  # with workerSessionManager only
}
READS_OF_PARAMETERS = {
    "ssm:GetParameter",
    "ssm:GetParameters",
    "ssm:GetParametersByPath",
    "ssm:GetParameterHistory",
}


@pytest.fixture(params=TEMPLATES)
def any_template(request: pytest.FixtureRequest) -> Template:
    found: Template = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def every_template(request: pytest.FixtureRequest) -> list[Template]:
    return [request.getfixturevalue(name) for name in TEMPLATES]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of what roles may do, with the resource that holds it."""
    for name, entry in template.body["Resources"].items():
        properties = entry.get("Properties", {})
        if entry["Type"] == "AWS::IAM::ManagedPolicy":
            yield from ((name, row) for row in properties["PolicyDocument"]["Statement"])
        for policy in properties.get("Policies", ()) if entry["Type"] == "AWS::IAM::Role" else ():
            yield from ((name, row) for row in policy["PolicyDocument"]["Statement"])


def resource_policies(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of what a queue, topic, key or bucket lets others do."""
    for name, entry in template.body["Resources"].items():
        for key in ("PolicyDocument", "KeyPolicy"):
            if entry["Type"] not in {"AWS::IAM::ManagedPolicy", "AWS::IAM::Role"} and key in entry.get(
                "Properties", {}
            ):
                yield from ((name, row) for row in entry["Properties"][key]["Statement"])


def test_no_role_is_allowed_an_action_with_a_wildcard(any_template: Template) -> None:
    found = [
        (name, action)
        for name, row in statements(any_template)
        for action in as_list(row.get("Action", "NotAction"))
        if row["Effect"] == "Allow" and ("*" in action or action == "NotAction")
    ]
    assert not found


def starred(template: Template) -> set[str]:
    return {
        action
        for _, row in statements(template)
        if row["Effect"] == "Allow" and ("*" in as_list(row.get("Resource", "*")))
        for action in as_list(row["Action"])
    }


def test_actions_on_everything_are_those_that_aws_takes_so_only(any_template: Template) -> None:
    assert starred(any_template) <= set(ANY_RESOURCE)


def test_the_list_of_actions_on_everything_holds_nothing_that_nobody_needs(every_template: list[Template]) -> None:
    assert set().union(*(starred(template) for template in every_template)) == set(ANY_RESOURCE)


def test_a_resource_name_ends_with_a_wildcard_only_where_a_part_of_it_is_not_known_before(
    any_template: Template,
) -> None:
    for name, row in statements(any_template):
        for resource in as_list(row.get("Resource", [])):
            text = resource["Fn::Sub"] if isinstance(resource, dict) and "Fn::Sub" in resource else str(resource)
            # A shared subnet's or group's ARN names its owner's account; the id after it is whole.
            text = re.sub(r":\*:(?=(subnet/subnet|security-group/sg)-[0-9a-f]+$)", ":", text)
            if "*" in text and text != "*":
                # Machines and what belongs to them, log streams, the pieces of the bundle.
                known = ("/*", ":*", "-*")
                assert text.endswith(known), (name, text)
                assert text.count("*") == 1, (name, text)


def test_roles_are_passed_to_one_service_each(any_template: Template) -> None:
    for name, row in statements(any_template):
        if "iam:PassRole" in as_list(row.get("Action", ())):
            assert row["Effect"] == "Allow"
            assert "*" not in str(row["Resource"]), name
            assert set(row["Condition"]["StringEquals"]) == {"iam:PassedToService"}, name


def test_roles_are_assumed_by_one_aws_service_each(any_template: Template) -> None:
    for name, entry in any_template.of_type("AWS::IAM::Role").items():
        (row,) = entry["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert row["Action"] == "sts:AssumeRole", name
        assert set(row["Principal"]) == {"Service"}, name


def test_policies_of_aws_are_attached_only_where_listed_and_their_reads_are_taken_back(any_template: Template) -> None:
    for name, entry in any_template.of_type("AWS::IAM::Role").items():
        for policy in entry["Properties"].get("ManagedPolicyArns", ()):
            if "Ref" in policy:
                assert policy["Ref"] in any_template.body["Resources"]
                continue
            assert policy["Fn::Sub"].endswith(f":iam::aws:policy/{AWS_POLICIES[name]}")
            # AmazonSSMManagedInstanceCore allows ssm:GetParameter and GetParameters on "*" (its policy document).
            denied = [row for row in any_template.statements(name) if row["Effect"] == "Deny"]
            assert [row for row in denied if set(as_list(row["Action"])) == READS_OF_PARAMETERS], name
            allowed = [
                resource
                for row in any_template.statements(name)
                if row["Effect"] == "Allow" and set(as_list(row["Action"])) & READS_OF_PARAMETERS
                for resource in as_list(row["Resource"])
            ]
            assert [row["NotResource"] for row in denied] == [allowed], name


def test_nobody_is_let_in_to_queues_topics_keys_and_buckets_but_by_a_condition(any_template: Template) -> None:
    for name, row in resource_policies(any_template):
        principal = row.get("Principal")
        if row["Effect"] == "Deny" or KEY_ADMINISTRATION in as_list(row["Action"]):
            assert principal == "*" or set(principal or ()) == {"AWS"}, name
            continue
        assert not [action for action in as_list(row["Action"]) if action.endswith(":*")], (name, row)
        assert isinstance(principal, dict), name
        assert set(principal) == {"Service"}, name
        assert "Condition" in row, name


def ways_in(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule that lets something in, of groups and beside them."""
    for name, entry in template.of_type("AWS::EC2::SecurityGroupIngress").items():
        yield name, entry["Properties"]
    for name, entry in template.of_type("AWS::EC2::SecurityGroup").items():
        yield from ((name, rule) for rule in entry["Properties"].get("SecurityGroupIngress", ()))


def test_whoever_comes_in_is_named_by_a_security_group_or_by_a_parameter(any_template: Template) -> None:
    for name, rule in ways_in(any_template):
        if name in OPENED_BY_A_PARAMETER:
            assert rule["Description"] == OPENED_BY_A_PARAMETER[name]
        else:
            assert "SourceSecurityGroupId" in rule, name
            assert not {"CidrIp", "CidrIpv6", "SourcePrefixListId"} & set(rule), name
        assert rule["IpProtocol"] in {"tcp", "udp"}, name
        assert rule["FromPort"] == rule["ToPort"] != 22, name


def test_without_those_parameters_nothing_comes_in_from_outside(cluster_template: Template) -> None:
    assert not set(OPENED_BY_A_PARAMETER) & set(cluster_template.body["Resources"])


def test_every_parameter_that_opens_something_is_tried(full_cluster_template: Template) -> None:
    assert {name for name, rule in ways_in(full_cluster_template) if "SourceSecurityGroupId" not in rule} == set(
        OPENED_BY_A_PARAMETER
    )


def test_a_group_says_what_goes_out_of_it(any_template: Template) -> None:
    for name, entry in any_template.of_type("AWS::EC2::SecurityGroup").items():
        rules = entry["Properties"]["SecurityGroupEgress"]
        # Nodes take images from anywhere; the functions talk TLS to AWS, and to Prometheus by a rule of its own.
        protocols = {(rule["IpProtocol"], rule.get("FromPort")) for rule in rules}
        assert protocols == ({("tcp", 443)} if name == "FunctionGroup" else {("-1", None)})


def machines(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in template.of_type("AWS::EC2::LaunchTemplate").items():
        yield name, entry["Properties"]["LaunchTemplateData"]
    for name, entry in template.of_type("AWS::EC2::Instance").items():
        yield name, entry["Properties"]


def test_machines_have_no_key_pair_and_a_metadata_service_that_pods_cannot_use(any_template: Template) -> None:
    for name, data in machines(any_template):
        assert "KeyName" not in data, name
        options = data["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1), name


def test_volumes_are_encrypted(any_template: Template) -> None:
    for name, data in machines(any_template):
        assert data["BlockDeviceMappings"], name
        for mapping in data["BlockDeviceMappings"]:
            assert mapping["Ebs"]["Encrypted"] is True, name
    for name, entry in any_template.of_type("AWS::EC2::Volume").items():
        assert entry["Properties"]["Encrypted"] is True, name


UNENCRYPTED_TOPICS = {"AlarmTopic"}
"""Its key is an option ($1 a month): alarms hold names and numbers, no secret (docs/operations.md)."""


def test_tables_queues_topics_and_buckets_are_encrypted(any_template: Template) -> None:
    for name, entry in any_template.of_type("AWS::DynamoDB::Table").items():
        assert entry["Properties"]["SSESpecification"] == {"SSEEnabled": True}, name
    for name, entry in any_template.of_type("AWS::SQS::Queue").items():
        assert entry["Properties"]["SqsManagedSseEnabled"] is True, name
    for name, entry in any_template.of_type("AWS::SNS::Topic").items():
        assert "KmsMasterKeyId" in entry["Properties"] or name in UNENCRYPTED_TOPICS, name
    for name, entry in any_template.of_type("AWS::S3::Bucket").items():
        assert entry["Properties"]["BucketEncryption"], name


def test_parameters_that_a_template_writes_are_no_secrets(any_template: Template) -> None:
    # CloudFormation writes no SecureString: what is secret is written by a command, or by the server.
    # No parameter of a deployment can hold a secret: the rules of scripts/*-settings.js refuse them.
    public = ("/webhook-url", "/bundle-info", "/parameters")
    for name, entry in any_template.of_type("AWS::SSM::Parameter").items():
        assert entry["Properties"]["Type"] == "String"
        assert entry["Properties"]["Name"].endswith(public) or "/bundle/" in entry["Properties"]["Name"], name


def test_every_template_is_looked_at_for_something(every_template: list[Template]) -> None:
    assert all(list(statements(template)) for template in every_template)
    assert [len(list(machines(template))) for template in every_template] == [1, 1, 1, 1, 0]
    assert [len(list(ways_in(template))) for template in every_template] == [0, 0, 8, 17, 8]

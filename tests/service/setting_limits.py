"""What AWS takes at most of what a template holds. Sources: the service's own API reference or quotas page."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.service.conftest import Template
from tests.service.iam.rendered import Rendered

USER_DATA_BYTES: Final = 16_384
"""EC2 user guide, "Run commands when you launch an EC2 instance": before the encoding."""
ENVIRONMENT_BYTES: Final = 4096
"""Lambda quotas: all environment variables of a function together."""
REFERENCE_CHARACTERS: Final = 255
"""A made-up name's length: DynamoDB's longest, and CloudFormation makes none longer for a document or a template."""
TEMPLATE_BYTES: Final = 1_048_576
"""CloudFormation quotas: in S3, where the framework puts it."""
MANAGED_POLICY_CHARACTERS: Final = 6144
ROLES_OWN_POLICIES_CHARACTERS: Final = 10_240
"""IAM quotas: whitespace does not count; all of a role's own policies together."""

LENGTHS: Final[dict[tuple[str, str], int]] = {
    ("AWS::ApiGatewayV2::Api", "Name"): 128,
    ("AWS::CloudWatch::Alarm", "AlarmName"): 255,
    ("AWS::CloudWatch::Alarm", "AlarmDescription"): 1024,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::EC2::NetworkInterface", "Description"): 255,
    ("AWS::EC2::SecurityGroup", "GroupDescription"): 255,
    ("AWS::Events::Rule", "Name"): 64,
    ("AWS::IAM::ManagedPolicy", "Description"): 1000,
    ("AWS::IAM::Role", "Description"): 1000,
    ("AWS::Lambda::Function", "Description"): 256,
    ("AWS::Lambda::Function", "FunctionName"): 64,
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::Logs::QueryDefinition", "Name"): 255,
    ("AWS::Logs::QueryDefinition", "QueryString"): 10_000,
    ("AWS::SNS::Topic", "TopicName"): 256,
    ("AWS::SSM::Document", "Content"): 65_536,
    ("AWS::SSM::Document", "Name"): 128,
    ("AWS::SSM::Parameter", "Description"): 1024,
    ("AWS::SSM::Parameter", "Name"): 1011 - len("arn:aws-us-gov:ssm:ap-southeast-10:111122223333:parameter"),
    ("AWS::SSM::Parameter", "Value"): 4096,
}
LISTS: Final[dict[tuple[str, str, str], int]] = {
    ("AWS::Lambda::Function", "VpcConfig", "SubnetIds"): 16,
    ("AWS::Lambda::Function", "VpcConfig", "SecurityGroupIds"): 5,
    ("AWS::EC2::LaunchTemplate", "LaunchTemplateData", "SecurityGroupIds"): 16,
}
TAG_CHARACTERS: Final = {"Key": 128, "Value": 256}


def texts(part: Any) -> Iterator[str]:
    """Every text and number of a part of a template."""
    match part:
        case Mapping():
            for key, value in part.items():
                yield str(key)
                yield from texts(value)
        case list():
            for item in part:
                yield from texts(item)
        case _:
            yield str(part)


def beyond(template: Template) -> list[str]:
    """What of a template AWS would not take, in words; nothing where all is well."""
    rendered = Rendered(template)
    found = [] if len(template.text.encode()) <= TEMPLATE_BYTES else ["the template"]
    for name, entry in template.body["Resources"].items():
        properties = entry.get("Properties", {})
        found += [f"{name}: {said}" for said in _of_resource(rendered, entry["Type"], properties)]
    for name, entry in template.body.get("Parameters", {}).items():
        found += (
            [f"the default of {name}"]
            if len(str(entry.get("Default", ""))) > LENGTHS["AWS::SSM::Parameter", "Value"]
            else []
        )
    return found


def _of_resource(rendered: Rendered, kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    for (of, name), most in LENGTHS.items():
        value = properties.get(name)
        if of == kind and len(value if isinstance(value, str) else json.dumps(value)) > most:
            yield name
    for (of, outer, inner), most in LISTS.items():
        if of == kind and outer in properties:
            given = rendered.value(properties[outer][inner])
            if not 0 < len(given) <= most or len(set(given)) < len(given):
                yield inner
    for tag in _tags(properties):
        yield from (f"tag {tag}" for part, most in TAG_CHARACTERS.items() if len(str(tag[part])) > most)
    if kind == "AWS::Lambda::Function":
        yield from _of_environment(properties["Environment"]["Variables"])
    elif kind == "AWS::CloudWatch::Alarm":
        yield from _of_alarm(properties)
    yield from _of_policies(rendered, kind, properties)


def _of_policies(rendered: Rendered, kind: str, properties: Mapping[str, Any]) -> Iterator[str]:
    most = MANAGED_POLICY_CHARACTERS if kind == "AWS::IAM::ManagedPolicy" else ROLES_OWN_POLICIES_CHARACTERS
    if kind in {"AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}:
        policies = [properties, *properties.get("Policies", ())]
        documents = [row["PolicyDocument"] for row in policies if "PolicyDocument" in row]
        if sum(_policy_characters(rendered, document) for document in documents) > most:
            yield f"policies of more than {most} characters"


def _tags(properties: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tags = properties.get("Tags", [])
    yield from tags if isinstance(tags, list) else ()
    for specification in properties.get("LaunchTemplateData", {}).get("TagSpecifications", ()):
        yield from specification["Tags"]


def _of_environment(variables: Mapping[str, Any]) -> Iterator[str]:
    lengths = {k: len(v) if isinstance(v, str) else REFERENCE_CHARACTERS for k, v in variables.items()}
    if sum(len(name) + length for name, length in lengths.items()) > ENVIRONMENT_BYTES:
        yield f"environment {lengths}"


def _policy_characters(rendered: Rendered, policy: Any) -> int:
    """With the longest names of a partition and a region that there are."""
    text = "".join(json.dumps(rendered.value(policy)).split())
    return len(text.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-central-1", "ap-southeast-10"))


def _of_alarm(properties: Mapping[str, Any]) -> Iterator[str]:
    """CloudWatch API reference, PutMetricAlarm, `EvaluationPeriods`: a day, or a week where periods have an hour."""
    periods = [properties.get("Period"), *(m.get("MetricStat", m).get("Period") for m in properties.get("Metrics", ()))]
    for period in filter(None, periods):
        longest_s = 7 * 86_400 if period >= 3600 else 86_400
        if period % 60 or period * properties["EvaluationPeriods"] > longest_s:
            yield f"{properties['EvaluationPeriods']} periods of {period} s"

"""The policies of a role as IAM would get them: a generated template with its references filled in."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from moto.iam.aws_managed_policies import aws_managed_policies_data

from tests.service.conftest import Template
from tests.service.iam.evaluator import Answer, Request, judge

ACCOUNT = "111122223333"
REGION = "eu-central-1"
IMAGE = "ami-0a0a0a0a0a0a0a0a0"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}

# What `Ref` gives, by type of resource; where a name is made up by AWS, ours holds the logical id.
REFERENCES = {
    "AWS::DynamoDB::Table": "{name}",
    "AWS::EC2::LaunchTemplate": "lt-{name}",
    "AWS::IAM::ManagedPolicy": f"arn:aws:iam::{ACCOUNT}:policy/{{name}}",
    "AWS::IAM::Role": "{name}",
}
ARNS = {
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{name}}",
    "AWS::IAM::InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/{{name}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
}


def arn(service: str, resource: str, *, account: str = ACCOUNT, region: str = REGION) -> str:
    """An ARN in the account of these tests."""
    return f"arn:aws:{service}:{region}:{account}:{resource}"


@cache
def _managed_by_aws() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(aws_managed_policies_data)
    return found


@dataclass(frozen=True, eq=False)
class Rendered:
    """A template whose references mean something."""

    template: Template

    def value(self, part: Any) -> Any:
        """A part of the template with its functions carried out. Raises LookupError for one that it does not know."""
        if isinstance(part, list):
            return [self.value(item) for item in part]
        if not isinstance(part, Mapping):
            return part
        if len(part) == 1:
            ((name, operand),) = part.items()
            if name == "Ref":
                return self._reference(operand)
            if name == "Fn::GetAtt":
                return self._attribute(*operand)
            if name == "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda match: self._named(match[1]), operand)
            if name == "Fn::Split":
                return self.value(operand[1]).split(operand[0])
            if name.startswith("Fn::"):
                raise LookupError(name)
        return {key: self.value(item) for key, item in part.items()}

    def reference(self, kind: str) -> str:
        """What `Ref` gives for the only resource of a type."""
        ((name, _),) = self.template.of_type(kind).items()
        return self._reference(name)

    def policies(self, role: str) -> list[dict[str, Any]]:
        """Every policy document of a role, those of AWS included."""
        properties = self.template.properties(role)
        documents = [entry["PolicyDocument"] for entry in properties.get("Policies", ())]
        for attached in properties.get("ManagedPolicyArns", ()):
            if "Ref" in attached:
                documents.append(self.template.properties(attached["Ref"])["PolicyDocument"])
            else:
                documents.append(_managed_by_aws()[self.value(attached).rpartition("/")[2]]["Document"])
        found: list[dict[str, Any]] = self.value(documents)
        return found

    def own_statements(self, role: str) -> list[dict[str, Any]]:
        """The statements that we wrote: ours are named, those of AWS' own policies here are not."""
        return [row for document in self.policies(role) for row in document["Statement"] if "Sid" in row]

    def answers(self, role: str, *requests: Request) -> set[Answer]:
        """What IAM answers to a role's requests."""
        documents = self.policies(role)
        return {judge(documents, request) for request in requests}

    def _named(self, name: str) -> str:
        resource, _, attribute = name.partition(".")
        return self._attribute(resource, attribute) if attribute else self._reference(resource)

    def _reference(self, name: str) -> str:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.template.body.get("Parameters", {}):
            assert self.template.body["Parameters"][name]["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
            return IMAGE
        entry = self.template.body["Resources"][name]
        if entry["Type"] == "AWS::SSM::Document":
            return str(entry["Properties"]["Name"])
        return REFERENCES[entry["Type"]].format(name=name)

    def _attribute(self, name: str, attribute: str) -> str:
        if attribute != "Arn":
            raise LookupError(f"{name}.{attribute}")
        return ARNS[self.template.body["Resources"][name]["Type"]].format(name=name)

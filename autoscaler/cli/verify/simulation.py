"""What a principal may do, as IAM itself judges it: requests, each with the answer that it must get.

IAM simulates identity policies and boundaries, on requests with their resources and context; it knows neither the
policies of resources (of roles' requests) nor those of an organisation. Source: IAM API reference,
SimulatePrincipalPolicy.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.cli.verify.checks import Account

TYPES: Final = {
    "aws:TagKeys": "stringList",
    "dynamodb:LeadingKeys": "stringList",
    "ec2:IsLaunchTemplateResource": "boolean",
    "kms:GrantIsForAWSResource": "boolean",
}
"""Of context keys that are not one string."""
ALLOWED: Final = "allowed"

Context = Mapping[str, Sequence[str]]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that differ in their action and resource alone."""

    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    context: Context = {}
    allowed: bool = True
    """What the answer must be."""

    @property
    def count(self) -> int:
        """Of requests."""
        return len(self.actions) * len(self.resources)


def wrong_answers(account: Account, principal: str, questions: Sequence[Question]) -> list[str]:
    """Where IAM's answer is not the wanted one, in words. Raises ClientError; ValueError where answers are missing."""
    wrong: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        answered = 0
        for row in _answers(account, principal, question):
            answered += 1
            if (row["EvalDecision"] == ALLOWED) is not question.allowed:
                would = "refuse" if question.allowed else "allow"
                resource = row.get("EvalResourceName", "*").rpartition(":")[2]
                wrong[f"IAM would {would} {row['EvalActionName']}"].append(resource)
        if answered < question.count:
            raise ValueError(f"IAM judged {answered} of {question.count} requests")
    return [f"{what} on {', '.join(resources)}" for what, resources in wrong.items()]


def principal_of(arn: str) -> str:
    """The role of an assumed role's session: what IAM simulates are principals, not sessions."""
    parts = arn.split(":")
    if parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        role = parts[5].split("/")[1]
        return f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{role}"
    return arn


def _answers(account: Account, principal: str, question: Question) -> Iterator[Mapping[str, Any]]:
    context = [
        {"ContextKeyName": key, "ContextKeyValues": list(values), "ContextKeyType": TYPES.get(key, "string")}
        for key, values in question.context.items()
    ]
    simulated = account.client("iam").get_paginator("simulate_principal_policy")
    for page in simulated.paginate(
        PolicySourceArn=principal,
        ActionNames=list(question.actions),
        ResourceArns=list(question.resources),
        ContextEntries=context,
    ):
        yield from page["EvaluationResults"]

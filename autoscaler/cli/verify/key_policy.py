"""Whether a KMS key's own policy lets the roles of an account use the key for volumes. Pure.

IAM's policies count for a key only where the key's policy hands the decision to the account. Source: KMS developer
guide, "Default key policy", "Allows access to the AWS account and enables IAM policies".
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

USES: Final = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""What EC2 does with a key for a volume, in its caller's name, besides kms:CreateGrant.

Which ones depends on the snapshot of the image. Source: EBS user guide, "Requirements for Amazon EBS encryption".
"""
ALL_USES: Final = (*USES, "kms:CreateGrant")


class Admits(StrEnum):
    """What a key's policy says of an account's roles."""

    YES = "yes"
    """IAM's policies decide."""
    NO = "no"
    """Nothing in it speaks of the account."""
    UNKNOWN = "unknown"
    """It depends on what is not judged here: other conditions, a Deny, roles that it names one by one."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and from where."""

    partition: str
    account_id: str
    region: str


def admits(policy: Mapping[str, Any], asking: Asking) -> Admits:
    """The answer for every use that EC2 makes of the key. Raises LookupError, TypeError for what is no policy."""
    answers = [_admits(_listed(policy["Statement"]), action, asking) for action in ALL_USES]
    for worst in (Admits.NO, Admits.UNKNOWN):
        if worst in answers:
            return worst
    return Admits.YES


def _admits(statements: Iterable[Mapping[str, Any]], action: str, asking: Asking) -> Admits:
    answers = {_of_statement(row, asking) for row in statements if _speaks_of(row, action)}
    if Admits.NO in answers:  # a Deny
        return Admits.UNKNOWN
    if Admits.YES in answers:
        return Admits.YES
    return Admits.UNKNOWN if answers else Admits.NO


def _speaks_of(statement: Mapping[str, Any], action: str) -> bool:
    if "Action" not in statement:
        return True  # NotAction: not judged, so it may
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _listed(statement["Action"]))


def _of_statement(statement: Mapping[str, Any], asking: Asking) -> Admits:
    """Of one that speaks of the action: a Deny is a NO."""
    if statement["Effect"] != "Allow":
        return Admits.NO
    if "Action" in statement and _everybody(statement, asking) and _holds(statement.get("Condition", {}), asking):
        return Admits.YES
    return Admits.UNKNOWN


def _everybody(statement: Mapping[str, Any], asking: Asking) -> bool:
    """Whether it admits all roles of the account."""
    principal = statement.get("Principal", {})
    named = ["*"] if principal == "*" else _listed(principal.get("AWS", ()))
    account = f"arn:{asking.partition}:iam::{asking.account_id}:root"
    return bool({"*", account, asking.account_id} & set(named))


def _holds(conditions: Mapping[str, Mapping[str, Any]], asking: Asking) -> bool:
    """Whether a condition surely holds when EC2 calls in the name of a role of the account."""
    known = {
        "kms:viaservice": f"ec2.{asking.region}.amazonaws.com",
        "kms:calleraccount": asking.account_id,
        "aws:principalaccount": asking.account_id,
    }
    return all(
        operator == "StringEquals" and known.get(key.lower()) in _listed(wanted)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _listed(value: Any) -> Sequence[Any]:
    """A policy takes one value for a list of one."""
    return value if isinstance(value, list | tuple) else [value]

"""What a key's own policy says of the roles of an account."""

from typing import Any

import pytest

from autoscaler.cli.verify.key_policy import ALL_USES, Admits, Asking, admits

ASKING = Asking(partition="aws", account_id="111122223333", region="eu-central-1")
ROOT = {"AWS": "arn:aws:iam::111122223333:root"}
THROUGH_EBS = {"kms:CallerAccount": "111122223333", "kms:ViaService": "ec2.eu-central-1.amazonaws.com"}


def allow(principal: Any, action: Any = "kms:*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


ADMINISTRATION = allow({"AWS": ["arn:aws:iam::111122223333:role/admin"]}, ["kms:Create*", "kms:Put*", "kms:Delete*"])
DEFAULT = allow(ROOT)
POLICIES = {
    "KMS' default policy": ([DEFAULT], Admits.YES),
    "the account by its number alone": ([allow({"AWS": ["999900001111", "111122223333"]})], Admits.YES),
    "AWS' own key for EBS": (
        [
            allow(
                {"AWS": "*"},
                ["kms:ReEncrypt*", "kms:Decrypt", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey"],
                Condition={"StringEquals": THROUGH_EBS},
            )
        ],
        Admits.YES,
    ),
    "each use in a statement of its own": ([allow("*", action) for action in ALL_USES], Admits.YES),
    "in another case": ([allow(ROOT, "KMS:*")], Admits.YES),
    "administrators only": ([ADMINISTRATION], Admits.NO),
    "another account": ([allow({"AWS": "arn:aws:iam::999900001111:root"}, "kms:List*")], Admits.NO),
    "the account's reading only": ([allow(ROOT, ["kms:Describe*", "kms:List*"])], Admits.NO),
    "one use is missing": (
        [allow(ROOT, [action for action in ALL_USES if action != "kms:GenerateDataKeyWithoutPlaintext"])],
        Admits.NO,
    ),
    "roles by name": (
        [allow({"AWS": "arn:aws:iam::111122223333:role/k3s-autoscaler-main-SweepRole-1"})],
        Admits.UNKNOWN,
    ),
    "through EC2 of another region": (
        [allow(ROOT, Condition={"StringEquals": {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}})],
        Admits.UNKNOWN,
    ),
    "a condition that is not judged": (
        [allow(ROOT, Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})],
        Admits.UNKNOWN,
    ),
    "a condition's negation": (
        [allow(ROOT, Condition={"StringNotEquals": {"kms:CallerAccount": "111122223333"}})],
        Admits.UNKNOWN,
    ),
    "everything but what is named": (
        [{"Effect": "Allow", "Principal": ROOT, "NotAction": "kms:Decrypt", "Resource": "*"}],
        Admits.UNKNOWN,
    ),
    "a Deny of a use": ([DEFAULT, allow("*", "kms:Decrypt") | {"Effect": "Deny"}], Admits.UNKNOWN),
    "a Deny of something else": ([DEFAULT, allow("*", "kms:ScheduleKeyDeletion") | {"Effect": "Deny"}], Admits.YES),
    "nothing": ([], Admits.NO),
}


@pytest.mark.parametrize(("statements", "answer"), POLICIES.values(), ids=POLICIES.keys())
def test_a_keys_own_policy(statements: list[dict[str, Any]], answer: Admits) -> None:
    assert admits({"Version": "2012-10-17", "Statement": statements}, ASKING) is answer


def test_one_statement_may_stand_without_a_list() -> None:
    assert admits({"Statement": DEFAULT}, ASKING) is Admits.YES


@pytest.mark.parametrize("page", [{}, {"Statement": [{}]}, {"Statement": ["<html>"]}])
def test_what_is_no_policy_is_no_answer(page: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError)):
        admits(page, ASKING)

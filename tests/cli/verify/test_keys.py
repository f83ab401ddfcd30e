"""What `verify-aws` says of the keys that encrypt volumes."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from autoscaler.cli.verify.checks import empty_account
from autoscaler.cli.verify.command import ACCOUNT_ONLY, conduct
from autoscaler.cli.verify.keys import DEFAULT, POLICY, WORKERS
from tests.cli.verify.fake_account import (
    GOOD,
    KEY,
    REGION,
    SUBJECT,
    FakeAccount,
    described_key,
    key_policy,
    only_refusing,
    simulated,
)
from tests.cli.verify.test_verify import verify

OTHER_KEY = KEY.rpartition("/")[0] + "/0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b"
FOREIGN_KEY = KEY.replace("111122223333", "999900001111")
WITHOUT_KEY = msgspec.structs.replace(SUBJECT, volume_key="")
CUSTOMERS_DEFAULT: dict[str, Any] = {"GetEbsDefaultKmsKeyId": {"KmsKeyId": OTHER_KEY}}


def key_that(key: str, **is_so: str) -> Any:
    """Of all keys, one that is otherwise than good."""
    return lambda request: described_key(request, **(is_so if request["KeyId"] == key else {}))


def test_a_customers_default_key_without_the_parameter_is_a_problem_with_its_mend() -> None:
    code, findings, _ = verify(WITHOUT_KEY, **CUSTOMERS_DEFAULT)
    assert (code, findings[WORKERS]["verdict"]) == (1, "problem")
    assert f"the account's default is {OTHER_KEY}, a customer's" in findings[WORKERS]["said"]
    assert findings[WORKERS]["todo"] == f"Deploy with --param=workerVolumeKeyArn={OTHER_KEY}"


@pytest.mark.parametrize("named", ["alias/aws/ebs", f"arn:aws:kms:{REGION}:111122223333:alias/aws/ebs", OTHER_KEY])
def test_aws_own_key_is_good_under_each_name(named: str) -> None:
    aws_own = key_that(OTHER_KEY, KeyManager="AWS")
    code, findings, _ = verify(WITHOUT_KEY, GetEbsDefaultKmsKeyId={"KmsKeyId": named}, DescribeKey=aws_own)
    assert (code, findings[WORKERS]["verdict"], findings[DEFAULT]["verdict"]) == (0, "ok", "ok")


def test_whether_the_account_encrypts_by_default_is_not_asked() -> None:
    """Our volumes ask to be encrypted: a right to ask would be for nothing."""
    assert "GetEbsEncryptionByDefault" not in {name for name, _ in verify(WITHOUT_KEY)[2].asked}


def test_another_default_than_the_workers_key_is_told_and_is_no_problem() -> None:
    code, findings, _ = verify(**CUSTOMERS_DEFAULT)
    assert code == 0
    assert f"the workers' volumes take another, {KEY}" in findings[DEFAULT]["said"]
    assert (findings[DEFAULT]["verdict"], findings[WORKERS]["verdict"]) == ("ok", "ok")
    _, findings, _ = verify(GetEbsDefaultKmsKeyId={"KmsKeyId": KEY})
    assert "take it by name" in findings[DEFAULT]["said"]


STATES = {
    "Disabled": f"aws kms enable-key --region {REGION} --key-id {KEY}",
    "PendingDeletion": f"aws kms cancel-key-deletion --region {REGION} --key-id {KEY} && aws kms enable-key",
    "PendingImport": "Import the key's material",
    "Unavailable": "See that the key store",
    "Creating": "Wait until it is usable",
}


@pytest.mark.parametrize("state", STATES)
def test_a_key_that_cannot_be_used_is_a_problem_with_its_mend(state: str) -> None:
    code, findings, account = verify(DescribeKey=key_that(KEY, KeyState=state))
    assert (code, findings[WORKERS]["verdict"]) == (1, "problem")
    assert f"its state is {state}" in findings[WORKERS]["said"]
    assert findings[WORKERS]["todo"].startswith(STATES[state])
    assert "GetKeyPolicy" not in {name for name, _ in account.asked}


def test_a_key_that_ebs_does_not_take_or_that_is_gone_is_a_problem() -> None:
    code, findings, _ = verify(DescribeKey=key_that(KEY, KeySpec="RSA_2048"))
    assert (code, "EBS takes SYMMETRIC_DEFAULT only" in findings[WORKERS]["said"]) == (1, True)
    code, findings, _ = verify(DescribeKey="NotFoundException")
    assert (code, findings[WORKERS]["said"]) == (1, f"there is no {KEY}")


def test_a_default_that_cannot_be_used_is_the_servers_matter_where_the_workers_have_a_key_of_their_own() -> None:
    disabled: dict[str, Any] = {**CUSTOMERS_DEFAULT, "DescribeKey": key_that(OTHER_KEY, KeyState="Disabled")}
    code, findings, _ = verify(**disabled)
    assert (code, findings[DEFAULT]["verdict"]) == (0, "warning")
    assert findings[DEFAULT]["todo"] == f"aws kms enable-key --region {REGION} --key-id {OTHER_KEY}"
    code, findings, _ = verify(WITHOUT_KEY, **disabled)
    assert (code, findings[DEFAULT]["verdict"]) == (1, "problem")


@pytest.mark.parametrize("operation", ["DescribeKey", "GetKeyPolicy", "GetEbsDefaultKmsKeyId"])
def test_what_may_not_be_asked_is_unknown_and_no_problem(operation: str) -> None:
    code, findings, _ = verify(
        WITHOUT_KEY if operation == "GetEbsDefaultKmsKeyId" else SUBJECT, **{operation: "AccessDeniedException"}
    )
    check = POLICY if operation == "GetKeyPolicy" else WORKERS
    assert (code, findings[check]["verdict"]) == (0, "warning")
    assert findings[check]["said"].startswith("not known: AWS answered AccessDeniedException")
    if operation == "GetKeyPolicy":
        assert findings[WORKERS]["verdict"] == "ok", "what is known is told all the same"


ADMINISTRATORS = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/admin"}, "Action": "kms:Put*"}
EVERYBODY = {"Effect": "Allow", "Principal": "*", "Action": "kms:*"}


def test_a_key_policy_that_keeps_iam_out_is_a_problem_and_one_that_is_not_judged_a_warning() -> None:
    code, findings, _ = verify(GetKeyPolicy=key_policy(ADMINISTRATORS))
    assert (code, findings[POLICY]["verdict"]) == (1, "problem")
    assert "arn:aws:iam::111122223333:root" in findings[POLICY]["todo"]
    code, findings, _ = verify(GetKeyPolicy=key_policy(EVERYBODY, EVERYBODY | {"Effect": "Deny"}))
    assert (code, findings[POLICY]["verdict"]) == (0, "warning")
    assert "a Deny" in findings[POLICY]["said"]


def test_of_another_accounts_key_neither_policy_nor_roles_are_judged() -> None:
    subject = msgspec.structs.replace(SUBJECT, volume_key=FOREIGN_KEY)
    code, findings, account = verify(subject)
    assert (code, findings[POLICY]["verdict"]) == (0, "warning")
    assert "belongs to account 999900001111" in findings[POLICY]["said"]
    simulations = [request for name, request in account.asked if name == "SimulatePrincipalPolicy"]
    assert not [request for request in simulations if FOREIGN_KEY in request["ResourceArns"]]
    assert "GetKeyPolicy" not in {name for name, _ in account.asked}
    _, findings, _ = verify(GetEbsDefaultKmsKeyId={"KmsKeyId": FOREIGN_KEY})
    assert "is for account 999900001111 to say" in findings[DEFAULT]["said"]


def test_roles_are_asked_about_the_key_through_ec2_and_without_it() -> None:
    code, findings, _ = verify(SimulatePrincipalPolicy=only_refusing("kms:CreateGrant"))
    role = findings["role of the function sweep"]
    assert (code, role["verdict"]) == (1, "problem")
    assert "IAM would refuse kms:CreateGrant on key/0a0a0a0a" in role["said"]

    def too_wide(request: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = simulated(request)["EvaluationResults"]
        return {
            "EvaluationResults": [
                row | {"EvalDecision": "allowed"} if row["EvalActionName"].startswith("kms:") else row for row in rows
            ]
        }

    code, findings, _ = verify(SimulatePrincipalPolicy=too_wide)
    assert (code, "IAM would allow kms:Decrypt" in findings["role of the function alerts"]["said"]) == (1, True)
    code, findings, account = verify(WITHOUT_KEY, SimulatePrincipalPolicy=too_wide)
    assert code == 0
    assert not [r for name, r in account.asked if name.startswith("Simulate") and "kms:Decrypt" in r["ActionNames"]]


def test_who_deploys_is_asked_about_a_customers_default_key_even_before_there_is_a_template() -> None:
    account, said = FakeAccount(GOOD | CUSTOMERS_DEFAULT), list[str]()
    subject = empty_account(region=REGION, policy=SUBJECT.policy)
    assert conduct(account, subject, as_json=False, tell=said.append, names=ACCOUNT_ONLY) == 0
    (line,) = [line for line in said if DEFAULT in line]
    assert line.startswith("ok")
    assert f"the service needs --param=workerVolumeKeyArn={OTHER_KEY}" in line
    refusing = FakeAccount(GOOD | CUSTOMERS_DEFAULT | {"SimulatePrincipalPolicy": only_refusing("kms:Decrypt")})
    said.clear()
    assert conduct(refusing, subject, as_json=False, tell=said.append, names=ACCOUNT_ONLY) == 0
    (line,) = [line for line in said if DEFAULT in line]
    assert line.startswith("warning")
    assert "IAM would refuse kms:Decrypt on key/0b0b0b0b" in line

"""Checks of the KMS keys that encrypt volumes: the account's default for EBS, and the one of the workers' volumes.

AWS' own key needs nobody's right. A customer's is used in the name of whoever has the volume made: CloudFormation's
caller for the server's volumes, the function for the workers'. An instant fleet has no service-linked role, for Spot
neither; only of an image that a customer's key encrypts AWS says that Spot's role needs a grant on that key.

Every volume of ours asks to be encrypted. So the default key counts also where the account does not encrypt by default,
and ec2:GetEbsEncryptionByDefault, which tells that, is not asked.

Sources: EBS user guide, "Requirements for Amazon EBS encryption", "How Amazon EBS encryption works", "Encryption
scenarios"; EC2 user guide, "EC2 Fleet prerequisites", "Service-linked role for Spot Instance requests". Seen in
aws/karpenter-provider-aws: #4935 (an instant fleet's refusal names the caller's role), #933 (grants to Spot's role
alone did not help), #1407 (a default key counts with encryption by default off).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from botocore.exceptions import ClientError

from autoscaler.aws.failures import error_code
from autoscaler.cli.verify.checks import (
    DENIED,
    Account,
    Finding,
    Subject,
    ok,
    problem,
    unknown,
    warning,
)
from autoscaler.cli.verify.key_policy import USES, Admits, Asking, admits
from autoscaler.cli.verify.simulation import Question, principal_of, wrong_answers

DEFAULT: Final = "default key for EBS"
WORKERS: Final = "key of the workers' volumes"
POLICY: Final = f"{WORKERS}: its own policy"
AWS_OWN: Final = "alias/aws/ebs"
"""What EC2 names where nobody chose a default."""
USABLE: Final = "Enabled"
SYMMETRIC: Final = "SYMMETRIC_DEFAULT"
"""EBS takes no other. Source: EC2 API reference, ModifyEbsDefaultKmsKeyId."""
MENDS: Final[Mapping[str, str]] = {
    "Disabled": "aws kms enable-key --region {region} --key-id {arn}",
    "PendingDeletion": (
        "aws kms cancel-key-deletion --region {region} --key-id {arn} && "
        "aws kms enable-key --region {region} --key-id {arn}"
    ),
    "PendingImport": "Import the key's material, which it waits for.",
    "Unavailable": "See that the key store, which the key's material is in, is connected.",
}
"""By state. Source: KMS developer guide, "Key states of AWS KMS keys"."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What KMS says of a key."""

    arn: str
    of_customer: bool
    state: str
    spec: str


def owner_of(key: str) -> str:
    """The account in a key's ARN."""
    return key.split(":")[4]


def asked_of_a_key(key: str) -> Iterator[Question]:
    """What EC2 asks of a key, in the name of whoever launches, of the key's own account."""
    through_ec2 = {
        "kms:ViaService": [f"ec2.{key.split(':')[3]}.amazonaws.com"],
        "kms:CallerAccount": [owner_of(key)],
    }
    yield Question(actions=USES, resources=(key,), context=through_ec2)
    for_ec2 = through_ec2 | {"kms:GrantIsForAWSResource": ["true"]}
    yield Question(actions=("kms:CreateGrant",), resources=(key,), context=for_ec2)


def check_default_key(account: Account, subject: Subject) -> Sequence[Finding]:
    """The account's default: the server's volumes take it, and who deploys the cluster stack needs a right to it."""
    key = _default_key(account)
    if key is None:
        return [ok(DEFAULT, "AWS' own, to which nobody needs a right")]
    said = f"{key.arn}, a customer's; {_of_workers(key, subject)}"
    against = _against(key, subject)
    if against is not None:
        # A service of its own, whose workers have another key, does without it.
        tell = warning if subject.volume_key else problem
        return [tell(DEFAULT, f"{said}; {against[0]}", against[1])]
    caller = account.client("sts").get_caller_identity()
    todo = "Whoever deploys the cluster stack needs it, through EC2; an attached cluster has no such stack."
    if owner_of(key.arn) != caller["Account"]:
        return [warning(DEFAULT, f"{said}; whether you may use it is for account {owner_of(key.arn)} to say", todo)]
    wrong = wrong_answers(account, principal_of(caller["Arn"]), tuple(asked_of_a_key(key.arn)))
    if wrong:
        return [warning(DEFAULT, f"{said}; for the server's volumes {'; '.join(wrong)}", todo)]
    return [ok(DEFAULT, f"{said}; IAM lets you have the server's volumes made with it")]


def check_volume_key(account: Account, subject: Subject) -> Sequence[Finding]:
    """The key that the launch template names, else the account's default: whether launches may use it."""
    if not subject.volume_key:
        default = _default_key(account)
        if default is None:
            return [ok(WORKERS, "the account's default, which is AWS' own")]
        said = (
            f"the account's default is {default.arn}, a customer's, which the functions may not use: no worker starts"
        )
        return [problem(WORKERS, said, f"Deploy with --param=workerVolumeKeyArn={default.arn}")]
    try:
        key = _described(account, subject.volume_key)
    except ClientError as error:
        if error_code(error) != "NotFoundException":
            raise
        return [problem(WORKERS, f"there is no {subject.volume_key}", "Name another with workerVolumeKeyArn.")]
    against = _against(key, subject)
    if against is not None:
        return [problem(WORKERS, f"{key.arn}: {against[0]}", against[1])]
    return [ok(WORKERS, f"{key.arn} is enabled"), _own_policy(account, key, subject)]


def _of_workers(default: Key, subject: Subject) -> str:
    if not subject.volume_key:
        return f"the service needs --param=workerVolumeKeyArn={default.arn}, or another key there"
    if subject.volume_key == default.arn:
        return "the workers' volumes take it by name"
    return f"the workers' volumes take another, {subject.volume_key}"


def _default_key(account: Account) -> Key | None:
    """The account's default key where it is a customer's; None where it is AWS' own. Raises ClientError."""
    named = account.client("ec2").get_ebs_default_kms_key_id()["KmsKeyId"]
    if named.endswith(AWS_OWN):
        return None
    key = _described(account, named)
    return key if key.of_customer else None


def _described(account: Account, named: str) -> Key:
    row: Mapping[str, Any] = account.client("kms").describe_key(KeyId=named)["KeyMetadata"]
    return Key(arn=row["Arn"], of_customer=row["KeyManager"] == "CUSTOMER", state=row["KeyState"], spec=row["KeySpec"])


def _against(key: Key, subject: Subject) -> tuple[str, str] | None:
    """Why no volume can be encrypted with it, whoever asks, and what to do; None where nothing stands against it."""
    if key.state != USABLE:
        mend = MENDS.get(key.state, "Wait until it is usable (`aws kms describe-key`), or choose another key.")
        return f"its state is {key.state}", mend.format(region=subject.region, arn=key.arn)
    if key.spec != SYMMETRIC:
        return f"it is {key.spec}, and EBS takes {SYMMETRIC} only", "Choose another key."
    return None


def _own_policy(account: Account, key: Key, subject: Subject) -> Finding:
    """Whether the key's own policy lets IAM's count. Not to be read is unknown, not a no."""
    caller = account.client("sts").get_caller_identity()
    asking = Asking(partition=caller["Arn"].split(":")[1], account_id=caller["Account"], region=subject.region)
    root = f"arn:{asking.partition}:iam::{asking.account_id}:root"
    todo = f"See that it allows {root} what the default key policy does, or name the functions' roles in it."
    if owner_of(key.arn) != asking.account_id:
        said = f"not known: the key belongs to account {owner_of(key.arn)}, which alone may read it"
        return warning(POLICY, said, f"Have it allow {root} {', '.join(USES)} and kms:CreateGrant.")
    try:
        text = account.client("kms").get_key_policy(KeyId=key.arn, PolicyName="default")["Policy"]
    except ClientError as error:
        if error_code(error) in DENIED:
            return unknown(POLICY, error)
        raise
    match admits(json.loads(text), asking):
        case Admits.YES:
            return ok(POLICY, "it lets IAM's policies of this account decide")
        case Admits.NO:
            return problem(POLICY, "it lets nobody of this account use the key for volumes", todo)
        case Admits.UNKNOWN:
            said = "not known: it depends on conditions, on a Deny or on roles that it names, which are not judged here"
            return warning(POLICY, said, todo)

"""What the caller may do, on what a deployment makes.

Physical names are CloudFormation's: it puts the stack's in front and something of its own behind.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, warning
from autoscaler.cli.verify.simulation import Question, principal_of, wrong_answers

ANYTHING: Final = "*"
DEPLOY_ACTIONS: Final[Mapping[str, str]] = {
    "cloudformation:CreateStack": "{arn}:cloudformation:{place}:stack/{stack}/0a0a0a0a",
    "cloudformation:UpdateStack": "{arn}:cloudformation:{place}:stack/{stack}/0a0a0a0a",
    # The bucket is the framework's, and named by it.
    "s3:CreateBucket": ANYTHING,
    "s3:PutObject": ANYTHING,
    "lambda:CreateFunction": "{arn}:lambda:{place}:function:{stack}-sweep",
    "apigateway:POST": "{arn}:apigateway:{region}::/apis",
    "events:PutRule": "{arn}:events:{place}:rule/{stack}-0A0A0A0A",
    "dynamodb:CreateTable": "{arn}:dynamodb:{place}:table/{stack}-StateTable-0A0A0A0A",
    "dynamodb:UpdateTable": "{arn}:dynamodb:{place}:table/{stack}-StateTable-0A0A0A0A",
    "iam:CreateRole": "{arn}:iam::{account}:role/{stack}-SweepRole-0A0A0A0A",
    "iam:PassRole": "{arn}:iam::{account}:role/{stack}-SweepRole-0A0A0A0A",
    "iam:CreatePolicy": "{arn}:iam::{account}:policy/{stack}-LaunchPolicy-0A0A0A0A",
    "iam:CreateInstanceProfile": "{arn}:iam::{account}:instance-profile/{stack}-WorkerInstanceProfile-0A0A0A0A",
    "ec2:CreateLaunchTemplate": "{arn}:ec2:{place}:launch-template/*",
    "ssm:CreateDocument": "{arn}:ssm:{place}:document/{document}",
    "ssm:GetParameter": "{arn}:ssm:{place}:parameter/k3s-autoscaler/{stack}/parameters",
    "ssm:PutParameter": "{arn}:ssm:{place}:parameter/k3s-autoscaler/{stack}/parameters",
    "sqs:CreateQueue": "{arn}:sqs:{place}:{stack}-LifecycleFailures-0A0A0A0A",
    "logs:CreateLogGroup": "{arn}:logs:{place}:log-group:/aws/lambda/{stack}-sweep",
}
"""On what each call is made."""
TO_LAMBDA: Final = {"iam:PassedToService": ["lambda.amazonaws.com"]}
NAME: Final = "deploy permissions"


def check_deployer(account: Account, subject: Subject) -> Sequence[Finding]:
    """What the caller may do, as IAM judges it (identity policies and boundaries; not organisation policies)."""
    caller = account.client("sts").get_caller_identity()
    by_resource: dict[str, list[str]] = defaultdict(list)
    for action, form in DEPLOY_ACTIONS.items():
        by_resource[_resource(form, caller, subject)].append(action)
    questions = [
        Question(actions=tuple(actions), resources=(arn,), context=TO_LAMBDA) for arn, actions in by_resource.items()
    ]
    wrong = wrong_answers(account, principal_of(caller["Arn"]), questions)
    if not wrong:
        return [ok(NAME, f"all {len(DEPLOY_ACTIONS)} actions asked for are allowed")]
    # Asked with little context, and of an empty account without names: what is allowed under conditions looks refused.
    todo = "Allow them, or check that your statements with conditions or resources of their own allow them."
    return [warning(NAME, "; ".join(wrong), todo)]


def _resource(form: str, caller: Mapping[str, str], subject: Subject) -> str:
    """The ARN that a call will name; before there is anything to deploy no name is known."""
    if not subject.stack:
        return ANYTHING
    return form.format(
        arn=f"arn:{caller['Arn'].split(':')[1]}",
        place=f"{subject.region}:{caller['Account']}",
        region=subject.region,
        account=caller["Account"],
        stack=subject.stack,
        document=subject.document,
    )

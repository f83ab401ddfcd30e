"""What `verify-aws` asks IAM about whoever deploys: each action on what a deployment will name."""

from autoscaler.cli.verify.checks import empty_account
from autoscaler.cli.verify.deployer import DEPLOY_ACTIONS, check_deployer
from tests.cli.verify.fake_account import GOOD, REGION, SUBJECT, FakeAccount, only_refusing


def asked(account: FakeAccount) -> dict[str, list[str]]:
    """Resources by action."""
    return {
        action: request["ResourceArns"]
        for name, request in account.asked
        if name == "SimulatePrincipalPolicy"
        for action in request["ActionNames"]
    }


def test_each_action_is_asked_about_on_what_the_stack_will_name() -> None:
    account = FakeAccount(GOOD)
    (finding,) = check_deployer(account, SUBJECT)
    assert (finding.verdict, finding.said) == ("ok", f"all {len(DEPLOY_ACTIONS)} actions asked for are allowed")
    found = asked(account)
    assert set(found) == set(DEPLOY_ACTIONS)
    assert found["lambda:CreateFunction"] == [
        f"arn:aws:lambda:{REGION}:111122223333:function:k3s-autoscaler-main-sweep"
    ]
    assert found["iam:CreateRole"] == ["arn:aws:iam::111122223333:role/k3s-autoscaler-main-SweepRole-0A0A0A0A"]
    assert found["ssm:CreateDocument"] == [f"arn:aws:ssm:{REGION}:111122223333:document/{SUBJECT.document}"]


def test_before_there_are_names_it_is_asked_about_on_everything() -> None:
    account = FakeAccount(GOOD | {"SimulatePrincipalPolicy": only_refusing("s3:PutObject")})
    (finding,) = check_deployer(account, empty_account(region=REGION, policy=SUBJECT.policy))
    assert (finding.verdict, finding.said) == ("warning", "IAM would refuse s3:PutObject on *")
    assert set(map(tuple, asked(account).values())) == {("*",)}

"""`verify-aws` reads the template that is really generated: its subject is what would be deployed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.cli.verify.checks import Subject, Verdict, read_subject
from autoscaler.cli.verify.roles import check_roles
from autoscaler.cli.verify.service import sample_events
from autoscaler.policy import Policy
from tests.cli.verify.fake_account import GOOD, FakeAccount, instances, matches
from tests.service.conftest import EVERY_PART, Template
from tests.service.iam.evaluator import Answer, Request, judge
from tests.service.iam.rendered import Rendered

POLICY = Policy(version=1)


def subject_of(template: Template, folder: Path, policy: Policy = POLICY) -> Subject:
    path = folder / "template.json"
    path.write_text(template.text)
    return read_subject(str(path), region="eu-central-1", policy=policy)


def test_the_least_deployment(template: Template, tmp_path: Path) -> None:
    subject = subject_of(template, tmp_path)
    assert (subject.cluster_id, subject.stack) == ("demo", "k3s-autoscaler-local")
    assert subject.image.startswith("/aws/service/ami-")
    assert (subject.function_subnet_ids, subject.dual_stack, subject.reserved_concurrency) == ((), False, 0)
    assert subject.volume_key == ""
    assert subject.document == template.body["Resources"]["NodeCommandDocument"]["Properties"]["Name"]


def test_every_part(full_template: Template, tmp_path: Path) -> None:
    subject = subject_of(full_template, tmp_path)
    assert subject.cluster_id == EVERY_PART["clusterId"]
    assert subject.image == EVERY_PART["workerImageId"]
    assert subject.volume_key == EVERY_PART["workerVolumeKeyArn"]
    assert subject.function_subnet_ids == tuple(EVERY_PART["functionSubnetIds"].split(","))
    assert (subject.dual_stack, subject.reserved_concurrency) == (True, 15)


def test_the_generated_rules_match_the_documented_events_and_no_others(template: Template, tmp_path: Path) -> None:
    subject = subject_of(template, tmp_path)
    for name, (event, expected) in sample_events(subject).items():
        found = [rule for rule, pattern in subject.rules if matches(json.loads(pattern), event)]
        assert bool(found) is expected, name


def iam_of(rendered: Rendered) -> FakeAccount:
    """An account whose IAM judges by the generated policies; physical names are the logical ones."""

    def simulate(request: Mapping[str, Any]) -> Mapping[str, Any]:
        documents = rendered.policies(request["PolicySourceArn"].rpartition("/")[2])
        context = {
            row["ContextKeyName"]: row["ContextKeyValues"]
            if row["ContextKeyType"] == "stringList"
            else row["ContextKeyValues"][0]
            for row in request["ContextEntries"]
        }
        answers = [
            (action, resource, judge(documents, Request(action, resource, context)))
            for action in request["ActionNames"]
            for resource in request["ResourceArns"]
        ]
        words = {Answer.ALLOWED: "allowed", Answer.DENIED: "implicitDeny", Answer.FORBIDDEN: "explicitDeny"}
        return {
            "EvaluationResults": [
                {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": words[answer]}
                for action, resource, answer in answers
            ]
        }

    named = (*rendered.template.of_type("AWS::EC2::LaunchTemplate"), "NodeCommandDocument")
    names = {name: rendered.value({"Ref": name}) for name in named}
    made = {name: names.get(name, name) for name in rendered.template.body["Resources"]}
    rows = [{"LogicalResourceId": name, "PhysicalResourceId": physical} for name, physical in made.items()]
    listed: dict[str, Any] = {"ListStackResources": {"StackResourceSummaries": rows}}
    return FakeAccount(GOOD | listed | {"SimulatePrincipalPolicy": simulate, "DescribeInstances": instances()})


@pytest.mark.parametrize("name", ["template", "full_template"])
def test_the_generated_roles_pass_what_verify_asks_of_them(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    template: Template = request.getfixturevalue(name)
    findings = check_roles(iam_of(Rendered(template)), subject_of(template, tmp_path))
    assert len(findings) == 4
    assert {finding.verdict for finding in findings} == {Verdict.OK}, findings


def test_a_right_that_is_missing_or_too_wide_is_found(full_template: Template, tmp_path: Path) -> None:
    def changed(policy: str, sid: str, **change: Any) -> Template:
        body = json.loads(full_template.text)
        statements = body["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]
        (found,) = (row for row in statements if row["Sid"] == sid)
        found.update(change)
        return Template(body=body, text=json.dumps(body))

    through_ec2, grant = ("VolumeKeyPolicy", "EncryptVolumesThroughEc2"), ("VolumeKeyPolicy", "LetEc2AttachTheVolumes")
    tagged = ("LaunchPolicy", "LaunchWhatIsTaggedAsOurs")
    for broken, says in (
        (changed(*tagged, Effect="Deny"), "IAM would refuse ec2:CreateFleet on instance/*"),
        (changed(*tagged, Condition={}), "IAM would allow ec2:CreateFleet on instance/*"),
        (changed("ReconcilePolicy", "TerminateOurWorkersOnly", Condition={}), "would allow ec2:TerminateInstances"),
        (changed("ReconcilePolicy", "SendTheNodeCommand", Resource="*"), "would allow ssm:SendCommand on instance/*"),
        (changed(*through_ec2, Resource=EVERY_PART["workerVolumeKeyArn"] + "0"), "would refuse kms:Decrypt on key/"),
        (changed(*through_ec2, Condition={}), "IAM would allow kms:Decrypt on key/"),
        (changed(*grant, Effect="Deny"), "IAM would refuse kms:CreateGrant on key/"),
        (changed(*grant, Condition={}), "IAM would allow kms:CreateGrant on key/"),
    ):
        findings = check_roles(iam_of(Rendered(broken)), subject_of(broken, tmp_path))
        assert [f.verdict for f in findings] == [Verdict.PROBLEM] * 3 + [Verdict.OK]
        assert all(says in f.said for f in findings[:3])

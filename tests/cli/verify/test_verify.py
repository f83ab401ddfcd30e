"""What `verify-aws` says. Every request is built and checked by the SDK itself; the answers are made up here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.session
import msgspec
import pytest
from typer.testing import CliRunner

from autoscaler.cli.main import app
from autoscaler.cli.verify.checks import Subject, SubjectError, Verdict, empty_account, read_subject, run_check
from autoscaler.cli.verify.command import ACCOUNT_ONLY, CHECKS, RealAccount, conduct
from autoscaler.cli.verify.simulation import principal_of
from autoscaler.windows import Window
from tests.aws.loopback import closed_url, serving
from tests.cli.verify.fake_account import (
    FUNCTION_SUBNETS,
    GOOD,
    KEY,
    PATTERNS,
    REGION,
    SERVER,
    SUBJECT,
    SUBNETS,
    FakeAccount,
    instances,
    only_refusing,
    parameter,
    route_tables,
    simulated,
)


def verify(subject: Subject = SUBJECT, **changes: Any) -> tuple[int, dict[str, dict[str, str]], FakeAccount]:
    outside = {name: changes.pop(name) for name in ("ipv6", "status") if name in changes}
    account = FakeAccount(GOOD | changes, **outside)
    said: list[str] = []
    code = conduct(account, subject, as_json=True, tell=said.append)
    document = json.loads("".join(said))
    assert document["counts"] == {
        verdict: sum(f["verdict"] == verdict for f in document["findings"]) for verdict in ("ok", "warning", "problem")
    }
    return code, {finding["check"]: finding for finding in document["findings"]}, account


def raised(name: str = "OSError") -> Any:
    def raiser(*_: str) -> Any:
        raise {"OSError": OSError, "TimeoutError": TimeoutError}[name]("no route")

    return raiser


def test_a_good_account_has_neither_problems_nor_warnings() -> None:
    code, findings, account = verify()
    assert code == 0
    assert {name: f for name, f in findings.items() if f["verdict"] != "ok"} == {}
    assert len(findings) > len(CHECKS)
    for operation, request in account.asked:
        if operation in {"RunInstances", "CreateLaunchTemplate", "CreateFleet"}:
            assert request["DryRun"] is True
        else:
            assert operation.startswith(("Get", "Describe", "List", "Simulate", "TestEventPattern")), "it may only read"


WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a caller who may not launch": (
        {"RunInstances": "UnauthorizedOperation"}, f"launch in {SUBNETS[0]}", "problem", "refuse it to you",
    ),
    "a security group of another VPC": (
        {"RunInstances": "InvalidParameter: the group"}, f"launch in {SUBNETS[1]}", "problem", "InvalidParameter: ",
    ),
    "an EC2 that is busy": (
        {"RunInstances": "RequestLimitExceeded"}, f"launch in {SUBNETS[0]}", "warning", "not known",
    ),
    "an EC2 that ignores the DryRun": ({"CreateLaunchTemplate": {}}, "launch template", "warning", "not known"),
    "a fleet that may not be made": (
        {"CreateFleet": "UnauthorizedOperation"}, "fleet request", "problem", "refuse it to you",
    ),
    "a service that is not deployed": (
        {"DescribeStacks": "ValidationError: Stack with id s does not exist"},
        "fleet request", "warning", "not deployed yet",
    ),
    "an IAM that may not be asked": (
        {"SimulatePrincipalPolicy": "AccessDenied"}, "deploy permissions", "warning", "AWS answered AccessDenied",
    ),
    "a role that may not create roles": (
        {"SimulatePrincipalPolicy": only_refusing("iam:CreateRole")},
        "deploy permissions", "warning", "would refuse iam:CreateRole on role/k3s-autoscaler-main-SweepRole-",
    ),
    "a function that may not launch": (
        {"SimulatePrincipalPolicy": only_refusing("ec2:CreateFleet")},
        "role of the function sweep", "problem", "IAM would refuse ec2:CreateFleet on fleet/*, instance/*, volume/*",
    ),
    "a function that may do everything": (
        {"SimulatePrincipalPolicy": lambda r: {"EvaluationResults": [
            row | {"EvalDecision": "allowed"} for row in simulated(r)["EvaluationResults"]
        ]}},
        "role of the function lifecycle", "problem", "IAM would allow ec2:TerminateInstances on instance/*",
    ),
    "workers that may not read how to join": (
        {"SimulatePrincipalPolicy": only_refusing("ssm:GetParameter")},
        "role of the workers", "problem", "refuse ssm:GetParameter on parameter/k3s/main/server-url, ",
    ),
    "a server whose agent takes no commands": (
        {"SimulatePrincipalPolicy": only_refusing("ssmmessages:OpenDataChannel")},
        f"role of the server {SERVER['InstanceId']}", "problem", "IAM would refuse ssmmessages:OpenDataChannel on *",
    ),
    "a server that does not publish": (
        {"SimulatePrincipalPolicy": only_refusing("ssm:PutParameter")},
        f"role of the server {SERVER['InstanceId']}, publishing", "warning", "may not write all of server-url, version",
    ),
    "a server without a profile": (
        {"DescribeInstances": instances({"InstanceId": "i-1", "InstanceType": "t3.medium"})},
        "role of the server i-1", "warning", "no instance profile",
    ),
    "roles that may not be asked about": (
        {"ListStackResources": "AccessDenied"}, "roles", "warning", "AWS answered AccessDenied",
    ),
    "an IAM that judges half of the questions": (
        {"SimulatePrincipalPolicy": {"EvaluationResults": []}}, "roles", "warning", "IAM judged 0 of 2 requests",
    ),
    "a service whose roles are not made yet": (
        {"DescribeStacks": "ValidationError: Stack with id s does not exist"}, "roles", "warning", "not deployed yet",
    ),
    "an account that never had Spot": (
        {"GetRole": "NoSuchEntity"}, "service-linked role for Spot", "warning", "does not exist",
    ),
    "workers in one zone": (
        {"DescribeSubnets": lambda r: {
            "Subnets": [{"SubnetId": s, "AvailabilityZone": "eu-central-1a", "VpcId": "vpc-1"} for s in r["SubnetIds"]]
        }},
        "zones", "warning", "all workers' subnets lie in eu-central-1a",
    ),
    "a type that one zone lacks": (
        {"DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": [{"Location": "eu-central-1a"}]}},
        "instance type t3.small", "warning", "not offered in eu-central-1b",
    ),
    "a type that no zone has": (
        {"DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": []}},
        "instance type t3.small", "problem", "eu-central-1a, eu-central-1b",
    ),
    "an image for another processor": (
        {"DescribeImages": {"Images": [{"ImageId": "ami-1", "Architecture": "arm64"}]}},
        "workers' image on t3.small", "problem", "is arm64, the type runs i386 and x86_64",
    ),
    "an image that is gone": (
        {"DescribeImages": "InvalidAMIID.NotFound"}, "workers' image", "problem", "there is no ami-0a0a0a0a0a0a0a0a0",
    ),
    "a proxy that answers in HTML": (
        {"DescribeImages": {}}, "workers' image", "warning", "the answer was not what AWS documents (KeyError",
    ),
    "too few vCPUs": (
        {"GetServiceQuota": {"Quota": {"Value": 5.0}}},
        "on-demand vCPU quota", "problem", "5, of which 2 are in use; workers.max needs 20",
    ),
    "no VPC left": (
        {"DescribeVpcs": {"Vpcs": [{"VpcId": f"vpc-{n}"} for n in range(5)]}},
        "VPC quota", "warning", "5 of 5 VPCs exist",
    ),
    "a new account's concurrency": (
        {"GetAccountSettings": {"AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}}},
        "Lambda concurrency", "warning", "10 for everything",
    ),
    "an endpoint without IPv6": (
        {"ipv6": lambda host: not host.startswith("ec2")},
        "dual-stack endpoint of ec2", "problem", "has no IPv6 address",
    ),
    "a VPC without a way to DynamoDB": (
        {"DescribeVpcEndpoints": {"VpcEndpoints": []}},
        f"way to DynamoDB from {FUNCTION_SUBNETS[0]}", "problem", "rtb-main has neither a gateway endpoint nor a way",
    ),
    "a gateway endpoint for other subnets only": (
        {"DescribeVpcEndpoints": {"VpcEndpoints": [{"VpcEndpointType": "Gateway", "RouteTableIds": ["rtb-main"]}]}},
        f"way to DynamoDB from {FUNCTION_SUBNETS[1]}", "problem", "rtb-functions has neither",
    ),
    "an interface endpoint without a private name": (
        {"DescribeVpcEndpoints": {"VpcEndpoints": [{"VpcEndpointType": "Interface", "PrivateDnsEnabled": False}]}},
        f"way to DynamoDB from {FUNCTION_SUBNETS[0]}", "problem", "has neither",
    ),
    "a desk without a way out": (
        {"status": raised()}, "dual-stack endpoint of ssm", "warning", "did not answer from here",
    ),
    "a webhook that is gone": ({"status": raised("TimeoutError")}, "webhook", "problem", "does not answer"),
    "a webhook that lets everybody in": ({"status": lambda *_: 200}, "webhook", "problem", "must answer 401"),
    "an event rule that EventBridge refuses": (
        {"TestEventPattern": "InvalidEventPatternException"}, "event rules", "warning", "InvalidEventPatternException",
    ),
    "no server": ({"DescribeInstances": instances()}, "servers", "problem", "carries the tags"),
    "a server without an agent": (
        {"DescribeInstanceInformation": {"InstanceInformationList": []}}, "servers", "problem", "none is online",
    ),
    "one agent of two": (
        {"DescribeInstances": instances(SERVER, SERVER | {"InstanceId": "i-0b0b0b0b0b0b0b0b0"})},
        "servers", "warning", "i-0b0b0b0b0b0b0b0b0 not online",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "check", "verdict", "says"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_and_what_to_do(changes: dict[str, Any], check: str, verdict: str, says: str) -> None:
    code, findings, _ = verify(**changes)
    finding = findings[check]
    assert finding["verdict"] == verdict
    assert says in finding["said"]
    assert (code == 1) is any(f["verdict"] == "problem" for f in findings.values())
    if verdict == "problem":
        assert finding["todo"]


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize("answer", [{}, {"message": "<html>Blocked</html>"}], ids=["nothing", "a page"])
def test_an_answer_that_is_not_aws_ends_in_no_traceback_and_in_no_false_ok(operation: str, answer: Any) -> None:
    code, findings, _ = verify(**{operation: answer})
    assert findings
    assert any(finding["verdict"] != "ok" for finding in findings.values())
    if operation == "GetCallerIdentity":
        assert (code, list(findings)) == (1, ["credentials"])


PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


@pytest.mark.parametrize("status", [200, 403, 407])
@pytest.mark.parametrize("name", CHECKS)
def test_a_proxys_page_is_told_in_one_line(name: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(request: Any, _: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(PAGE)))
        request.end_headers()
        request.wfile.write(PAGE)

    with serving(page) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        account = RealAccount(botocore.session.get_session(), REGION)
        findings = run_check(name, CHECKS[name], account, SUBJECT)
    assert findings
    assert all(finding.verdict is not Verdict.OK for finding in findings)
    assert all("\n" not in finding.said and len(finding.said) < 400 for finding in findings)


WAYS_TO_DYNAMODB: dict[str, dict[str, Any]] = {
    "NAT or the internet": {
        "DescribeVpcEndpoints": {"VpcEndpoints": []},
        "DescribeRouteTables": route_tables("rtb-main", None, ipv4="0.0.0.0/0"),
    },
    "an interface endpoint with the service's name": {
        "DescribeVpcEndpoints": {"VpcEndpoints": [{"VpcEndpointType": "Interface", "PrivateDnsEnabled": True}]},
    },
}


@pytest.mark.parametrize("changes", WAYS_TO_DYNAMODB.values(), ids=WAYS_TO_DYNAMODB.keys())
def test_another_way_to_dynamodb_is_as_good(changes: dict[str, Any]) -> None:
    code, findings, _ = verify(**changes)
    assert code == 0
    ways = {f["verdict"] for name, f in findings.items() if name.startswith("way to DynamoDB")}
    assert ways == {"ok"}


def test_functions_outside_a_vpc_need_no_endpoint() -> None:
    subject = msgspec.structs.replace(SUBJECT, function_subnet_ids=())
    _, findings, account = verify(subject)
    assert findings["way to DynamoDB"]["verdict"] == "ok"
    assert "DescribeVpcEndpoints" not in {name for name, _ in account.asked}


def test_dynamodb_needs_no_ipv6_address() -> None:
    code, findings, _ = verify(ipv6=lambda host: not host.startswith("dynamodb"))
    assert code == 0
    assert "dual-stack endpoint of dynamodb" not in findings


def test_before_the_deployment_missing_servers_and_parameters_are_no_problem() -> None:
    absent: dict[str, Any] = {
        "DescribeStacks": "ValidationError: Stack with id s does not exist",
        "DescribeInstances": instances(),
        "GetParameter": lambda r: "ParameterNotFound" if r["Name"].startswith("/k3s/") else parameter(r),
    }
    code, findings, _ = verify(**absent)
    assert code == 0
    assert {findings[name]["verdict"] for name in ("servers", "parameter /k3s/main/agent-token")} == {"warning"}
    del absent["DescribeStacks"]
    code, findings, _ = verify(**absent)
    assert code == 1
    assert findings["parameter /k3s/main/webhook-token"]["todo"] == "make token CLUSTER=main"


@pytest.mark.parametrize("rule", PATTERNS)
def test_a_rule_that_matches_nothing_or_too_much_is_found(rule: str) -> None:
    def with_rule(pattern: Mapping[str, Any]) -> Subject:
        rules = tuple((n, json.dumps(pattern if n == rule else p)) for n, p in PATTERNS.items())
        return Subject(**{f: getattr(SUBJECT, f) for f in SUBJECT.__struct_fields__} | {"rules": rules})

    code, findings, _ = verify(with_rule({"source": ["aws.nobody"]}))
    assert code == 1
    assert any("matched by no rule" in f["said"] for f in findings.values())
    if "detail" in PATTERNS[rule]:
        wide = {name: value for name, value in PATTERNS[rule].items() if name != "detail"}
        code, findings, _ = verify(with_rule(wide))
        assert code == 1
        assert any("must not be" in f["said"] for f in findings.values())


def test_the_quota_is_held_against_the_highest_max_of_all_schedules() -> None:
    sale = Window(name="sale", time_zone="UTC", min=3, max=50)
    policy = msgspec.structs.replace(SUBJECT.policy, schedules=(sale,))
    subject = Subject(**{f: getattr(SUBJECT, f) for f in SUBJECT.__struct_fields__} | {"policy": policy})
    _, findings, _ = verify(subject, GetServiceQuota={"Quota": {"Value": 64.0}})
    found = findings["on-demand vCPU quota"]
    assert (found["verdict"], found["todo"].endswith("or lower the highest max of the schedules.")) == ("problem", True)
    assert "the highest max of the schedules needs 100" in found["said"]


def buying_spot(**workers: Any) -> Subject:
    wanted = msgspec.structs.replace(SUBJECT.policy.workers, market="spot", **workers)
    policy = msgspec.structs.replace(SUBJECT.policy, workers=wanted)
    return Subject(**{f: getattr(SUBJECT, f) for f in SUBJECT.__struct_fields__} | {"policy": policy})


@pytest.mark.parametrize(
    ("workers", "quota", "running", "verdict", "says"),
    [
        pytest.param({}, 20.0, [], "ok", "may be need 20 (2 each)", id="enough for max"),
        pytest.param({}, 19.0, [], "warning", "may be need 20 (2 each)", id="too little"),
        pytest.param({"on_demand_base": 4}, 12.0, [], "ok", "may be need 12 (2 each)", id="the base is on demand"),
        pytest.param({}, 21.0, [SERVER | {"InstanceLifecycle": "spot"}], "ok", "of which 2 are in use", id="ours"),
    ],
)
def test_the_spot_quota_is_held_against_a_policy_that_buys_there(
    workers: dict[str, Any], quota: float, running: list[Any], verdict: str, says: str
) -> None:
    found = verify(
        buying_spot(**workers), GetServiceQuota={"Quota": {"Value": quota}}, DescribeInstances=instances(*running)
    )[1]["Spot vCPU quota"]
    assert found["verdict"] == verdict
    assert says in found["said"]
    assert ("will be on demand" in found["todo"]) is (verdict == "warning")


def test_a_policy_that_buys_on_spot_is_told_what_the_missing_role_means() -> None:
    found = verify(buying_spot(), GetRole="NoSuchEntity")[1]["service-linked role for Spot"]
    assert (found["verdict"], "until then every worker will be on demand" in found["said"]) == ("warning", True)
    assert "create-service-linked-role" in found["todo"]


def test_our_own_workers_are_not_counted_twice_against_the_quota() -> None:
    def describe(request: Mapping[str, Any]) -> Mapping[str, Any]:
        del request
        return instances(*[SERVER] * 10)

    code, findings, _ = verify(DescribeInstances=describe, GetServiceQuota={"Quota": {"Value": 20.0}})
    assert findings["on-demand vCPU quota"]["verdict"] == "ok", "twenty are in use, and all twenty are workers of ours"
    assert code == 0


def test_concurrency_that_cannot_be_reserved() -> None:
    subject = Subject(**{f: getattr(SUBJECT, f) for f in SUBJECT.__struct_fields__} | {"reserved_concurrency": 6})
    limits = {"AccountLimit": {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}}
    code, findings, _ = verify(subject, GetAccountSettings=limits)
    assert (code, findings["Lambda concurrency"]["verdict"]) == (1, "problem")


@pytest.mark.parametrize("answer", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_aws_does_not_know_end_it_at_once(answer: str) -> None:
    code, findings, account = verify(GetCallerIdentity=answer)
    assert (code, list(findings), len(account.asked)) == (1, ["credentials"], 1)


def test_a_session_is_judged_by_its_role() -> None:
    assert principal_of("arn:aws:sts::1:assumed-role/Deployer/ada") == "arn:aws:iam::1:role/Deployer"
    assert principal_of("arn:aws:iam::1:user/ada") == "arn:aws:iam::1:user/ada"


def test_the_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    account = FakeAccount(GOOD | {"GetRole": "NoSuchEntity"})
    assert conduct(account, SUBJECT, as_json=False, tell=print) == 0
    out = capsys.readouterr().out
    assert "\nwarning  service-linked role for Spot: " in out
    assert "\n         -> aws iam create-service-linked-role" in out
    assert out.endswith("\nmain in eu-central-1: no problem, 1 warning(s).\n")


# ------------------------------------------------------------------------------------------------------------- template


def template_file(folder: Path, **launch: Any) -> Path:
    variables = {"CLUSTER_ID": "main", "SUBNET_IDS": ",".join(SUBNETS), "AWS_USE_DUALSTACK_ENDPOINT": "true"}
    function = {
        "FunctionName": "k3s-autoscaler-main-sweep",
        "Environment": {"Variables": variables},
        "VpcConfig": {"SubnetIds": {"Fn::Split": [",", ",".join(FUNCTION_SUBNETS)]}},
        "ReservedConcurrentExecutions": "5",
    }
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": KEY}}
    data = {
        "BlockDeviceMappings": [disk],
        "ImageId": {"Ref": "WorkerImage"},
        "SecurityGroupIds": {"Fn::Split": [",", "sg-0a0a0a0a0a0a0a0a0"]},
    }
    resources: dict[str, Any] = {
        "SweepLambdaFunction": {"Type": "AWS::Lambda::Function", "Properties": function},
        "WorkerLaunchTemplate": {
            "Type": "AWS::EC2::LaunchTemplate",
            "Properties": {"LaunchTemplateData": data | launch},
        },
        "Schedule": {"Type": "AWS::Events::Rule", "Properties": {"ScheduleExpression": "rate(2 minutes)"}},
    }
    for name, pattern in PATTERNS.items():
        resources[name] = {"Type": "AWS::Events::Rule", "Properties": {"Name": name, "EventPattern": pattern}}
    path = folder / "template.json"
    parameters = {"WorkerImage": {"Default": SUBJECT.image}}
    path.write_text(json.dumps({"Resources": resources, "Parameters": parameters}))
    return path


def test_the_subject_is_read_from_the_template(tmp_path: Path) -> None:
    read = read_subject(str(template_file(tmp_path)), region=REGION, policy=SUBJECT.policy)
    expected = {f: getattr(SUBJECT, f) for f in SUBJECT.__struct_fields__} | {"reserved_concurrency": 5}
    assert read == Subject(**expected)
    fixed = read_subject(str(template_file(tmp_path, ImageId="ami-1")), region=REGION, policy=SUBJECT.policy)
    assert fixed.image == "ami-1"


@pytest.mark.parametrize(
    "content", [None, "nonsense", "{}", '{"Resources": {}}', '{"Resources": {"a": {"Type": "b"}}}']
)
def test_another_file_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SubjectError, match=r"^[^\n]*npx sls package[^\n]*\.$"):
        read_subject(str(path), region=REGION, policy=SUBJECT.policy)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["verify-aws", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_an_empty_account_is_asked_only_what_it_can_answer() -> None:
    account, said = FakeAccount(GOOD), list[str]()
    subject = empty_account(region=REGION, policy=SUBJECT.policy)
    assert conduct(account, subject, as_json=True, tell=said.append, names=ACCOUNT_ONLY) == 0
    document = json.loads("".join(said))
    assert {f["verdict"] for f in document["findings"]} == {"ok"}
    assert document["counts"]["ok"] >= len(ACCOUNT_ONLY)
    full = FakeAccount(
        GOOD | {"DescribeInstances": instances(*[SERVER] * 10), "GetServiceQuota": {"Quota": {"Value": 20.0}}}
    )
    assert conduct(full, subject, as_json=True, tell=lambda _: None, names=ACCOUNT_ONLY) == 1, "none of them is ours"
    assert not {"RunInstances", "DescribeStacks", "TestEventPattern"} & {name for name, _ in account.asked}


def test_the_command_without_a_template_a_region_or_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLICY_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("policy.yml").write_text("version: 1\n")
    code, _, err = run()
    assert (code, err.count("\n")) == (2, 1)
    assert "npx sls package" in err
    template = str(template_file(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    code, out, _ = run("--template", template)
    assert code == 1
    assert out.startswith("problem  credentials: AWS does not know who asks: ")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert run("--template", template)[2] == "No region is known: give --region, or set AWS_REGION.\n"
    code, _, err = run("--account-only", "--region", REGION)
    assert (code, err.startswith("There are no AWS credentials")) == (1, True), "no template is read"
    code, _, err = run("--template", template, "--region", REGION)
    assert (code, err.startswith("There are no AWS credentials")) == (1, True)

"""The generated template: what wakes the functions, what they are given, how the tables and workers are made."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from autoscaler.aws.parameters import policy_parameter
from autoscaler.cli.stacks import PREFIX
from autoscaler.cli.status.looks import TRIGGERS
from autoscaler.cli.status.verdict import rate_s
from autoscaler.policy import policy_hash
from autoscaler.runtime import read_policy
from tests.service.conftest import ROOT, Template, without_comments

FUNCTIONS = {"AlertsLambdaFunction": "alerts", "SweepLambdaFunction": "sweep", "LifecycleLambdaFunction": "lifecycle"}
CONTRACT = {  # DESIGN: the environment that the handlers read
    "CLUSTER_ID",
    "STATE_TABLE",
    "IDEMPOTENCY_TABLE",
    "PROMETHEUS_URL",
    "LAUNCH_TEMPLATE_ID",
    "POOL_LAUNCH_TEMPLATES",
    "SUBNET_IDS",
    "NODE_COMMAND_DOCUMENT",
    "ALERT_TOKEN_PARAMETER",
    "POLICY_FILE",
    "PROMETHEUS_AUTH_PARAMETER",
    "PROMETHEUS_CA_PARAMETER",
    "START_MODE",
    "NOTIFY_TOPIC_ARN",
}
LIBRARIES = {"AWS_USE_DUALSTACK_ENDPOINT"}
USER_DATA_LIMIT_BYTES = 16 * 1024


def test_cfn_lint_accepts_every_template() -> None:
    ran = subprocess.run([ROOT / "scripts" / "lint-template"], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("is clean") == 4


@pytest.mark.parametrize(("logical_id", "name"), FUNCTIONS.items())
def test_each_function_runs_its_handler_with_a_role_of_its_own(template: Template, logical_id: str, name: str) -> None:
    function = template.properties(logical_id)
    assert function["Handler"] == f"handlers.{name}.handler"
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["arm64"]
    assert function["Timeout"] < 30
    assert function["Role"] == {"Fn::GetAtt": [f"{name.capitalize()}Role", "Arn"]}
    assert (ROOT / "handlers" / f"{name}.py").exists()


@pytest.mark.parametrize("logical_id", FUNCTIONS)
def test_the_environment_is_the_contract(template: Template, logical_id: str) -> None:
    variables = template.properties(logical_id)["Environment"]["Variables"]
    assert set(variables) == CONTRACT | LIBRARIES
    assert variables["STATE_TABLE"] == {"Ref": "StateTable"}
    assert variables["LAUNCH_TEMPLATE_ID"] == {"Ref": "WorkerLaunchTemplate"}
    assert variables["NODE_COMMAND_DOCUMENT"] == {"Ref": "NodeCommandDocument"}
    assert variables["ALERT_TOKEN_PARAMETER"] == "/k3s/demo/webhook-token"


def test_the_framework_makes_no_role_of_its_own(template: Template) -> None:
    assert set(template.of_type("AWS::IAM::Role")) == {"AlertsRole", "SweepRole", "LifecycleRole", "WorkerRole"}


def test_the_webhook_is_the_only_route_and_is_throttled(template: Template) -> None:
    routes = template.of_type("AWS::ApiGatewayV2::Route").values()
    assert [route["Properties"]["RouteKey"] for route in routes] == ["POST /alerts"]
    settings = template.properties("HttpApiStage")["DefaultRouteSettings"]
    assert settings == {"ThrottlingRateLimit": 2, "ThrottlingBurstLimit": 20}


def test_the_sweep_comes_every_two_minutes_and_is_never_retried(template: Template, full_template: Template) -> None:
    assert template.properties("SweepEventsRuleSchedule1")["ScheduleExpression"] == "rate(2 minutes)"
    assert full_template.properties("SweepEventsRuleSchedule1")["ScheduleExpression"] == "rate(5 minutes)"
    assert template.properties("SweepLambdaEvConf")["MaximumRetryAttempts"] == 0


def test_lifecycle_events_are_filtered(template: Template) -> None:
    rules = [entry["Properties"] for entry in template.of_type("AWS::Events::Rule").values()]
    patterns = {
        (rule["EventPattern"]["source"][0], kind): rule["EventPattern"].get("detail")
        for rule in rules
        if "EventPattern" in rule
        for kind in rule["EventPattern"]["detail-type"]
    }
    assert set(patterns) == {
        ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
        ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
        ("aws.ec2", "EC2 Instance State-change Notification"),
        ("aws.health", "AWS Health Event"),
        ("aws.ssm", "EC2 Command Status-change Notification"),
        ("aws.ssm", "Parameter Store Change"),
    }
    assert patterns["aws.ec2", "EC2 Instance State-change Notification"] == {"state": ["shutting-down", "terminated"]}
    assert patterns["aws.health", "AWS Health Event"] == {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]}
    assert patterns["aws.ssm", "Parameter Store Change"] == {
        "name": [policy_parameter("demo")],
        "operation": ["Create", "Update", "Delete"],
    }
    command = patterns["aws.ssm", "EC2 Command Status-change Notification"]
    assert command is not None
    assert command["document-name"] == [template.properties("NodeCommandDocument")["Name"]]
    assert {"Success", "Failed", "TimedOut", "Cancelled"} <= set(command["status"])
    assert not {"Pending", "InProgress", "Delayed"} & set(command["status"])


def test_a_lifecycle_event_is_retried_twice_for_five_minutes_then_kept(template: Template) -> None:
    queue = {"Fn::GetAtt": ["LifecycleFailures", "Arn"]}
    invoke = template.properties("LifecycleLambdaEvConf")
    assert (invoke["MaximumRetryAttempts"], invoke["MaximumEventAgeInSeconds"]) == (2, 300)
    assert invoke["DestinationConfig"]["OnFailure"]["Destination"] == queue
    targets = [
        target
        for rule in template.of_type("AWS::Events::Rule").values()
        if "EventPattern" in rule["Properties"]
        for target in rule["Properties"]["Targets"]
    ]
    assert len(targets) == 5
    for target in targets:
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 300, "MaximumRetryAttempts": 2}
        assert target["DeadLetterConfig"] == {"Arn": queue}
    assert template.properties("LifecycleFailures")["SqsManagedSseEnabled"] is True


def test_the_queue_takes_what_our_rules_could_not_deliver(template: Template) -> None:
    statements = template.properties("LifecycleFailuresPolicy")["PolicyDocument"]["Statement"]
    allowed = next(statement for statement in statements if statement["Effect"] == "Allow")
    source = allowed["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"]
    prefix = source.rsplit("rule/", 1)[1].rstrip("*")
    for rule in template.of_type("AWS::Events::Rule").values():
        if "EventPattern" in rule["Properties"]:
            assert rule["Properties"]["Name"].startswith(prefix)


@pytest.mark.parametrize(
    ("table", "keys"), [("StateTable", {"cluster_id": "HASH", "record": "RANGE"}), ("IdempotencyTable", {"id": "HASH"})]
)
def test_tables_are_on_demand_encrypted_and_recoverable(template: Template, table: str, keys: dict[str, str]) -> None:
    properties = template.properties(table)
    assert {key["AttributeName"]: key["KeyType"] for key in properties["KeySchema"]} == keys
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}


@pytest.mark.parametrize("table", ["StateTable", "IdempotencyTable"])
def test_tables_are_protected_by_stage(template: Template, full_template: Template, table: str) -> None:
    local, kept = template.body["Resources"][table], full_template.body["Resources"][table]
    assert (local["DeletionPolicy"], local["UpdateReplacePolicy"]) == ("Delete", "Delete")
    assert local["Properties"]["DeletionProtectionEnabled"] is False
    # But not the tables of a first deployment that fails.
    assert (kept["DeletionPolicy"], kept["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert kept["Properties"]["DeletionProtectionEnabled"] is True


def test_logs_are_kept_for_a_time(template: Template) -> None:
    groups = template.of_type("AWS::Logs::LogGroup")
    assert len(groups) == len(FUNCTIONS)
    assert {group["Properties"]["RetentionInDays"] for group in groups.values()} == {30}


def test_workers_are_hard_to_abuse(template: Template) -> None:
    data = template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]
    assert data["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpProtocolIpv6": "enabled",
    }
    volumes = [mapping["Ebs"] for mapping in data["BlockDeviceMappings"]]
    assert [(volume["Encrypted"], volume["VolumeType"], volume["DeleteOnTermination"]) for volume in volumes] == [
        (True, "gp3", True)
    ]
    assert "KeyName" not in data
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["IamInstanceProfile"] == {"Arn": {"Fn::GetAtt": ["WorkerInstanceProfile", "Arn"]}}


def test_everything_launched_carries_the_tags_that_the_roles_demand(template: Template) -> None:
    data = template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]
    for specification in data["TagSpecifications"]:
        tags = {tag["Key"]: tag["Value"] for tag in specification["Tags"]}
        assert tags["ManagedBy"] == "autoscaler"
        assert tags["k3s-autoscaler/cluster"] == "demo"


def test_user_data_is_the_bootstrap_script_and_holds_no_secret(full_template: Template) -> None:
    data = full_template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]
    script = base64.b64decode(data["UserData"])
    assert len(script) < USER_DATA_LIMIT_BYTES
    lines = script.decode().splitlines()
    assert lines[:6] == [
        "#!/bin/bash",
        "export CLUSTER_ID='shop'",
        "export EXTRA_AGENT_ARGUMENTS='--node-taint=spot=true:NoSchedule --node-label=k3s-autoscaler/pool=general'",
        "export REGISTRIES_PARAMETER='/k3s/shop/registries'",
        "export K3S_RELEASES_URL='https://mirror.example/k3s'",
        "export JOIN_DEADLINE_S='480'",
    ]
    scripts = ROOT / "cloudformation" / "scripts"
    machine = (scripts / "machine.sh").read_text().splitlines()[1:]
    before, _, after = (scripts / "worker-bootstrap.sh").read_text().partition('. "${0%/*}/machine.sh"\n')
    assert lines[6:] == without_comments([*before.splitlines()[1:], *machine, *after.splitlines()])


def test_the_image_is_the_public_parameters_or_a_fixed_one(template: Template, full_template: Template) -> None:
    newest = template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]["ImageId"]
    fixed = full_template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]["ImageId"]
    assert newest == {"Ref": "WorkerImage"}
    assert template.body["Parameters"]["WorkerImage"]["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
    assert fixed == "ami-0a0a0a0a0a0a0a0a0"
    assert "Parameters" not in full_template.body


def test_what_is_not_asked_for_is_not_in_the_template(template: Template, full_template: Template) -> None:
    optional = {"PrometheusAuthPolicy", "PrometheusCaPolicy", "NotifyPolicy", "NetworkPolicy"}
    assert not optional & set(template.body["Resources"])
    assert optional <= set(full_template.body["Resources"])
    for body in (template.body, full_template.body):
        assert "Conditions" not in body
        assert "Fn::If" not in json.dumps(body)
    for logical_id in FUNCTIONS:
        assert "VpcConfig" not in template.properties(logical_id)
        assert "ReservedConcurrentExecutions" not in template.properties(logical_id)
        assert int(full_template.properties(logical_id)["ReservedConcurrentExecutions"]) == 5
        network = full_template.properties(logical_id)["VpcConfig"]
        assert str(network["Ipv6AllowedForDualStack"]).lower() == "true"
        variables = full_template.properties(logical_id)["Environment"]["Variables"]
        assert variables["AWS_USE_DUALSTACK_ENDPOINT"] == "true"


def test_the_outputs_name_what_operators_need(template: Template) -> None:
    assert {
        "WebhookUrl",
        "StateTableName",
        "IdempotencyTableName",
        "LaunchTemplateId",
        "NodeCommandDocumentName",
    } <= set(template.body["Outputs"])


def test_the_outputs_tell_status_what_is_deployed(template: Template, full_template: Template) -> None:
    told = {name: row["Value"] for name, row in template.body["Outputs"].items()}
    assert told["PolicyHash"] == policy_hash(read_policy(str(ROOT / "policy.yml")))
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+[0-9a-f]{7,}(\.dirty)?)?", told["DeployedVersion"])
    assert rate_s(told["SweepRate"]) == 120
    for function in TRIGGERS.values():
        group = template.properties(f"{function.capitalize()}LogGroup")["LogGroupName"]
        assert group == f"/aws/lambda/{PREFIX}local-{function}", "where status reads what it did last"
    assert rate_s(full_template.body["Outputs"]["SweepRate"]["Value"]) is not None


def test_the_lock_file_names_no_address() -> None:
    lock = json.loads(Path(ROOT / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)

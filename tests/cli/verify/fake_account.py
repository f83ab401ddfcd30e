"""A good account for `verify-aws`: the SDK's real clients, which check each request, and made-up answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session

from autoscaler.cli.verify.checks import Subject
from autoscaler.policy import Policy, Workers

REGION = "eu-central-1"
SUBNETS = ("subnet-0a0a0a0a0a0a0a0a0", "subnet-0b0b0b0b0b0b0b0b0")
FUNCTION_SUBNETS = ("subnet-0c0c0c0c0c0c0c0c0", "subnet-0d0d0d0d0d0d0d0d0")
KEY = f"arn:aws:kms:{REGION}:111122223333:key/0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"
DOCUMENT = "k3s-autoscaler-main-node-command"
PATTERNS: dict[str, dict[str, Any]] = {
    "notices": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"],
    },
    "states": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["shutting-down", "terminated"]},
    },
    "health": {
        "source": ["aws.health"],
        "detail-type": ["AWS Health Event"],
        "detail": {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]},
    },
    "commands": {
        "source": ["aws.ssm"],
        "detail-type": ["EC2 Command Status-change Notification"],
        "detail": {"document-name": [DOCUMENT], "status": ["Success", "Failed", "TimedOut"]},
    },
    "policy": {
        "source": ["aws.ssm"],
        "detail-type": ["Parameter Store Change"],
        "detail": {"name": ["/k3s/main/policy"], "operation": ["Create", "Update", "Delete"]},
    },
}
SUBJECT = Subject(
    cluster_id="main",
    region=REGION,
    stack="k3s-autoscaler-main",
    subnet_ids=SUBNETS,
    security_group_ids=("sg-0a0a0a0a0a0a0a0a0",),
    image="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    volume_key=KEY,
    function_subnet_ids=FUNCTION_SUBNETS,
    dual_stack=True,
    reserved_concurrency=0,
    rules=tuple((name, json.dumps(pattern)) for name, pattern in PATTERNS.items()),
    document=DOCUMENT,
    policy=Policy(version=1, workers=Workers(min=2, max=10)),
)
Answer = Mapping[str, Any] | str | Callable[[Mapping[str, Any]], Mapping[str, Any] | str]


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """The part of EventBridge's rules that these patterns use."""
    return all(
        matches(wanted, event.get(name, {})) if isinstance(wanted, dict) else event.get(name) in wanted
        for name, wanted in pattern.items()
    )


def route_tables(main: str, function: str | None = "rtb-functions", *, ipv4: str = "") -> Mapping[str, Any]:
    """The VPC's main table, and one that the second subnet of the functions is associated with."""
    routes = [{"DestinationCidrBlock": ipv4, "NatGatewayId": "nat-1"}] if ipv4 else []
    tables = [{"RouteTableId": main, "Associations": [{"Main": True}], "Routes": routes}]
    if function:
        tables += [{"RouteTableId": function, "Associations": [{"SubnetId": FUNCTION_SUBNETS[1]}], "Routes": []}]
    return {"RouteTables": tables}


def subnets(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "Subnets": [
            {"SubnetId": subnet_id, "AvailabilityZone": zone, "VpcId": "vpc-1"}
            for subnet_id, zone in zip(request["SubnetIds"], ("eu-central-1a", "eu-central-1b"), strict=True)
        ]
    }


def offerings(request: Mapping[str, Any]) -> Mapping[str, Any]:
    del request
    return {"InstanceTypeOfferings": [{"Location": "eu-central-1a"}, {"Location": "eu-central-1b"}]}


def instance_types(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """EC2 names every architecture that a type can run, 32 bits included."""
    rows = [
        {
            "InstanceType": kind,
            "VCpuInfo": {"DefaultVCpus": 2},
            "ProcessorInfo": {"SupportedArchitectures": ["arm64"] if "g." in kind else ["i386", "x86_64"]},
        }
        for kind in request["InstanceTypes"]
    ]
    return {"InstanceTypes": rows}


def quota(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"Quota": {"Value": {"L-1216C47A": 64.0, "L-34B43A08": 32.0, "L-F678F1CE": 5.0}[request["QuotaCode"]]}}


def parameter(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"Parameter": {"Name": request["Name"], "Value": "ami-0a0a0a0a0a0a0a0a0"}}


def instances(*rows: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"Reservations": [{"Instances": list(rows)}]}


def simulated(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """IAM's answers for roles as they are deployed, and for whoever deploys."""
    role = str(request["PolicySourceArn"]).rpartition("/")[2]
    context = {row["ContextKeyName"]: row["ContextKeyValues"] for row in request.get("ContextEntries", ())}
    tagged = {key.partition("/")[2]: values for key, values in context.items() if key.startswith("aws:ResourceTag/")}

    def refused(action: str, resource: str) -> bool:
        if "aws:RequestTag/k3s-autoscaler/role" in context:
            return True
        if action.startswith("kms:"):
            return "kms:ViaService" not in context
        if action == "ec2:CreateTags":
            return "ec2:CreateAction" not in context
        if action == "ec2:TerminateInstances":
            return "ManagedBy" not in tagged
        if action == "ssm:SendCommand" and resource.endswith("instance/*"):
            return tagged.get("k3s-autoscaler/role") != ["server"]
        if resource.endswith("/policy"):
            return (action, role) != ("ssm:GetParameter", "physical-LifecycleRole")
        if resource.endswith(("webhook-token", "table/physical-IdempotencyTable")):
            return role != "physical-AlertsRole"
        return resource.endswith("agent-token") and str(role) not in {"physical-WorkerRole", "server"}

    return {
        "EvaluationResults": [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "implicitDeny" if refused(action, resource) else "allowed",
            }
            for action in request["ActionNames"]
            for resource in request.get("ResourceArns", ("*",))
        ]
    }


def only_refusing(*refused: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """As `simulated`, with these actions refused whatever they touch."""

    def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = simulated(request)["EvaluationResults"]
        changed = [r | {"EvalDecision": "explicitDeny"} if r["EvalActionName"] in refused else r for r in rows]
        return {"EvaluationResults": changed}

    return answer


def described_key(request: Mapping[str, Any], **changes: str) -> Mapping[str, Any]:
    """A key that volumes may be encrypted with."""
    key = {"KeyId": "0a0a", "KeyManager": "CUSTOMER", "KeyState": "Enabled", "KeySpec": "SYMMETRIC_DEFAULT"}
    return {"KeyMetadata": key | {"Arn": request["KeyId"]} | changes}


def key_policy(*statements: Mapping[str, Any]) -> Mapping[str, Any]:
    """As a text, in the way KMS answers; without statements the one that KMS gives a new key."""
    default = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*"}
    policy = {"Version": "2012-10-17", "Statement": list(statements) or [default | {"Resource": "*"}]}
    return {"Policy": json.dumps(policy), "PolicyName": "default"}


STACK_RESOURCES = (
    "AlertsRole", "SweepRole", "LifecycleRole", "WorkerRole", "StateTable", "IdempotencyTable", "WorkerLaunchTemplate",
    "NodeCommandDocument",
)  # fmt: skip
OUTPUTS = [
    {"OutputKey": "LaunchTemplateId", "OutputValue": "lt-0a0a0a0a0a0a0a0a0"},
    {"OutputKey": "WebhookUrl", "OutputValue": "https://abc.execute-api.eu-central-1.amazonaws.com/alerts"},
]
SERVER = {
    "InstanceId": "i-0a0a0a0a0a0a0a0a0",
    "InstanceType": "t3.medium",
    "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2},
    "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/server"},
}
GOOD: dict[str, Answer] = {
    "GetCallerIdentity": {"Arn": "arn:aws:sts::111122223333:assumed-role/Deployer/ada", "Account": "111122223333"},
    "SimulatePrincipalPolicy": simulated,
    "ListStackResources": {
        "StackResourceSummaries": [
            {"LogicalResourceId": name, "PhysicalResourceId": f"physical-{name}"} for name in STACK_RESOURCES
        ]
    },
    "GetInstanceProfile": {
        "InstanceProfile": {"Roles": [{"RoleName": "server", "Arn": "arn:aws:iam::111122223333:role/server"}]}
    },
    "GetParameter": parameter,
    "RunInstances": "DryRunOperation",
    "CreateLaunchTemplate": "DryRunOperation",
    "CreateFleet": "DryRunOperation",
    "DescribeStacks": {"Stacks": [{"StackName": "s", "StackStatus": "CREATE_COMPLETE", "Outputs": OUTPUTS}]},
    "GetEbsDefaultKmsKeyId": {"KmsKeyId": "alias/aws/ebs"},
    "DescribeKey": described_key,
    "GetKeyPolicy": key_policy(),
    "GetRole": {"Role": {"RoleName": "AWSServiceRoleForEC2Spot"}},
    "DescribeSubnets": subnets,
    "DescribeRouteTables": route_tables("rtb-main"),
    "DescribeVpcEndpoints": {
        "VpcEndpoints": [{"VpcEndpointType": "Gateway", "RouteTableIds": ["rtb-main", "rtb-functions"]}]
    },
    "DescribeInstanceTypeOfferings": offerings,
    "GetServiceQuota": quota,
    "DescribeInstanceTypes": instance_types,
    "DescribeImages": {"Images": [{"ImageId": "ami-0a0a0a0a0a0a0a0a0", "Architecture": "x86_64"}]},
    "DescribeInstances": instances(SERVER),
    "DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}]},
    "GetAccountSettings": {"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 900}},
    "TestEventPattern": lambda r: {"Result": matches(json.loads(r["EventPattern"]), json.loads(r["Event"]))},
    "GetApis": {"Items": []},
    "DescribeInstanceInformation": {
        "InstanceInformationList": [{"InstanceId": SERVER["InstanceId"], "PingStatus": "Online"}]
    },
}  # fmt: skip


class _Response:
    def __init__(self, status: int) -> None:
        self.status_code = status


@dataclass
class FakeAccount:
    """The SDK's real clients, which check each request against AWS' own model; only the wire is missing."""

    answers: dict[str, Answer]
    ipv6: Callable[[str], bool] = lambda _: True
    status: Callable[[str, str], int] = lambda method, _: 401 if method == "POST" else 404
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client(self, service: str) -> Any:
        line = _line_of(service)
        line.account = self
        return line.client

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[_Response, dict[str, Any]]:
        self.asked.append((operation, request))
        given = self.answers[operation]
        made = given(request) if callable(given) else given
        if isinstance(made, str):
            return _Response(400), {"Error": {"Code": made.partition(":")[0], "Message": made}}
        return _Response(200), dict(made)

    def dual_stack_host(self, service: str) -> str:
        return f"{service}.{REGION}.api.aws"

    def has_ipv6(self, host: str) -> bool:
        return self.ipv6(host)

    def status_of(self, method: str, url: str) -> int:
        return self.status(method, url)


class _Line:
    """One client and who answers it; making a client takes the SDK a while, so that every test shares them."""

    def __init__(self, service: str) -> None:
        self.client: Any = botocore.session.get_session().create_client(service, region_name=REGION)
        self.account = FakeAccount({})
        self._request: dict[str, Any] = {}
        self.client.meta.events.register(f"provide-client-params.{service}", self._remember)
        self.client.meta.events.register("before-call", self._answer)

    def _remember(self, params: dict[str, Any], **_: Any) -> None:
        self._request = dict(params)

    def _answer(self, model: Any, **_: Any) -> Any:
        return self.account.answer(model.name, self._request)


@cache
def _line_of(service: str) -> _Line:
    return _Line(service)

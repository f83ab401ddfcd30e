"""A good deployment to examine: a simulated cluster behind the real function, and an account that fits it."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from autoscaler.cli.doctor.command import examine
from autoscaler.cli.verify.checks import Finding
from autoscaler.deploy.rules import Settings, rules_mark
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from tests.ask.asked import Asked
from tests.cli.verify.fake_account import GOOD, REGION, Answer, FakeAccount

POLICY = Policy(version=1)
VARIABLES = {
    "CLUSTER_ID": "sim",
    "LAUNCH_TEMPLATE_ID": "lt-0a0a0a0a0a0a0a0a0",
    "POOL_LAUNCH_TEMPLATES": "",
    "SUBNET_IDS": "subnet-0a0a0a0a0a0a0a0a0,subnet-0b0b0b0b0b0b0b0b0",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "NODE_COMMAND_DOCUMENT": "physical-NodeCommandDocument",
}
TEMPLATE = {
    "ImageId": "ami-0a0a0a0a0a0a0a0a0",
    "SecurityGroupIds": ["sg-0a0a0a0a0a0a0a0a0"],
    "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True}}],
}
BUILT = b"what build/ holds"


def function(**changes: Any) -> Mapping[str, Any]:
    """Lambda's description of the sweep function."""
    sha = base64.b64encode(hashlib.sha256(BUILT).digest()).decode()
    known = {"FunctionName": "k3s-autoscaler-main-sweep", "CodeSha256": sha, "LastModified": "2026-11-01T10:00:00.000"}
    vpc = {"SubnetIds": ["subnet-0c0c0c0c0c0c0c0c0", "subnet-0d0d0d0d0d0d0d0d0"]}
    return {**known, "Environment": {"Variables": VARIABLES}, "VpcConfig": vpc, **changes}


def watchdog(*ages_s: float) -> Mapping[str, Any]:
    """CloudWatch's points of the metric, so many seconds old."""
    now_s = datetime.now(UTC).timestamp()
    return {"Datapoints": [{"Timestamp": datetime.fromtimestamp(now_s - age, UTC), "Minimum": 0.0} for age in ages_s]}


def alarm(name: str, state: str) -> Mapping[str, Any]:
    return {"AlarmName": f"k3s-autoscaler-main-{name}", "StateValue": state, "AlarmDescription": f"what {name} means"}


DEPLOYED: dict[str, Answer] = GOOD | {
    "GetFunctionConfiguration": function(),
    "DescribeLaunchTemplateVersions": {"LaunchTemplateVersions": [{"LaunchTemplateData": TEMPLATE}]},
    "DescribeStackResource": {"StackResourceDetail": {"PhysicalResourceId": "k3s-autoscaler-main-sweep-rule"}},
    "DescribeRule": {
        "Name": "k3s-autoscaler-main-sweep-rule",
        "State": "ENABLED",
        "ScheduleExpression": "rate(2 minutes)",
    },
    "GetMetricStatistics": lambda _: watchdog(90, 30),
    "DescribeAlarms": {"MetricAlarms": [alarm("errors", "OK"), alarm("watchdog-missing", "OK")]},
}


@cache
def _healthy() -> SimCluster:
    return healthy()


def healthy(policy: Policy = POLICY) -> SimCluster:
    """A calm cluster whose Prometheus evaluates this policy's rules."""
    made = SimCluster(policy, workers=2)
    made.recorder.rendered = rules_mark(policy, Settings())
    made.run(120)
    return made


def examined(
    cluster: SimCluster | None = None,
    *,
    ask: Callable[[str], Any] | None = None,
    policy: Policy | None = POLICY,
    no_policy: str = "",
    artifact: Path = Path("/nonexistent"),
    ahead_s: int = 0,
    status: Callable[[str, str], int] = lambda *_: 401,
    **changes: Answer,
) -> list[Finding]:
    """Everything that is said of the deployment; without a cluster of its own, of a healthy one that nobody changes."""
    account = FakeAccount(DEPLOYED | changes, status=status)
    made = cluster or _healthy()
    found = examine(
        account,
        ask or Asked(made).ask,
        stage="main",
        region=REGION,
        policy=policy,
        policy_file="policy.yml",
        no_policy=no_policy,
        artifact=artifact,
        now_s=lambda: made.now_s + ahead_s,
    )
    return list(found)


def built(folder: Path) -> Path:
    """An artifact as it is deployed."""
    path = folder / "k3s-autoscaler.zip"
    path.write_bytes(BUILT)
    return path

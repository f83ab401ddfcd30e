"""`k3s-autoscaler doctor`: a healthy deployment has good findings only, and each ill has its own, with its mend."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.cli.asked import Unanswered
from autoscaler.cli.doctor.command import CHECKS, report
from autoscaler.cli.main import app
from autoscaler.cli.verify.checks import Finding, Verdict, problem
from autoscaler.model import Mode, ModeSetting, PolicyOverride
from autoscaler.policy import Policy, ScaleUp
from autoscaler.simulator.cluster import SimCluster
from tests.ask.asked import Asked
from tests.aws.loopback import closed_url
from tests.cli.doctor.patients import alarm, built, examined, function, healthy, watchdog
from tests.cli.oncall import on_call
from tests.cli.verify.fake_account import REGION, instances
from tests.simulator.worlds import deployment


def of(findings: list[Finding], check: str) -> Finding:
    """The one finding of this name."""
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def ills(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.verdict is not Verdict.OK}


def test_a_healthy_deployment_has_good_findings_only(tmp_path: Path) -> None:
    findings = examined(artifact=built(tmp_path))
    assert ills(findings) == {}
    assert len(findings) > len(CHECKS) + 7
    assert "rendered from the function's policy" in of(findings, "Prometheus' rules").said
    assert "GetItem answered in " in of(findings, "from the function: DynamoDB").said


# --------------------------------------------------------------------------------------------- from the function's side


def refusing(service: str, call: str) -> Callable[[SimCluster], None]:
    return lambda cluster: cluster.fail(service, call, times=None)


def metrics(**faults: Any) -> Callable[[SimCluster], None]:
    def spoil(cluster: SimCluster) -> None:
        for name, value in faults.items():
            setattr(cluster.metric_faults, name, value)

    return spoil


def mode(cluster: SimCluster) -> None:
    stored(cluster, mode=ModeSetting(mode=Mode.PAUSED, set_at_s=int(cluster.now_s), by="ann@laptop"))


def stored(cluster: SimCluster, **changes: Any) -> None:
    store = cluster.ports().store
    state, version = store.load()
    store.save(msgspec.structs.replace(state, **changes), version)


def other_rules(cluster: SimCluster) -> None:
    cluster.recorder.rendered = "0123456789ab"


def unmarked_rules(cluster: SimCluster) -> None:
    cluster.recorder.rendered = ""


def refused_change(cluster: SimCluster) -> None:
    override = PolicyOverride(invalid_version=3, invalid="scale_up.cpu_above is 70: write 0.70 or 70%.")
    stored(cluster, policy_override=override)


INSIDE: dict[str, tuple[Callable[[SimCluster], Any], str, str, str, str]] = {
    # what was done -> check, verdict, said, the mend
    "no way to DynamoDB": (
        refusing("dynamodb", "rules"), "from the function: DynamoDB, the scheduler's rules", "problem", "GetItem",
        "Give the function a way",
    ),
    "no way to EC2": (
        refusing("ec2", "launch_context"), "from the function: EC2, launch templates and subnets", "problem",
        "DescribeLaunchTemplates", "Give the function a way",
    ),
    "no way to SSM": (refusing("ssm", "result"), "from the function: SSM", "problem", "GetCommandInvocation",
                      "Give the function a way"),
    "Prometheus is down": (metrics(down=True), "from the function: Prometheus", "problem", "/api/v1/query",
                           "prometheusUrl"),
    "rules of another policy": (other_rules, "Prometheus' rules", "problem", "rendered from another policy",
                                "make rules"),
    "rules of before": (unmarked_rules, "Prometheus' rules", "warning", "before rules named themselves", "make rules"),
    "rules are not loaded": (lambda cluster: cluster.recorder.lose_history(), "Prometheus' rules", "problem",
                             "not loaded", "bring monitoring/rules/ to Prometheus"),
    "labels are hidden": (metrics(missing={"node_managed", "node_labels"}), "metrics for some features", "warning",
                          "labels of Nodes are not shown", "--metric-labels-allowlist"),
    "paused": (mode, "mode", "warning", "The mode is paused", "k3s-autoscaler resume"),
    "a live change is refused": (refused_change, "live policy", "problem", "cpu_above is 70",
                                 "k3s-autoscaler policy rollback"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "check", "verdict", "said", "todo"), INSIDE.values(), ids=INSIDE.keys())
def test_what_the_function_tells(
    spoil: Callable[[SimCluster], Any], check: str, verdict: str, said: str, todo: str
) -> None:
    cluster = healthy()
    spoil(cluster)
    found = of(examined(cluster), check)
    assert str(found.verdict) == verdict
    assert said in found.said
    assert todo in found.todo


def changed(answer: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A good answer with other parts; of a part that is a map, with other fields."""
    return answer | {k: answer[k] | v if isinstance(v, dict) and answer[k] else v for k, v in parts.items()}


RULES = {"group": "utilisation", "interval_s": "15", "age_s": 10}
ANSWERS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a clock far off": ({"metrics": {"clock_ahead_s": -400}}, "Prometheus' clock", "problem", "chrony"),
    "a clock somewhat off": ({"metrics": {"clock_ahead_s": 60}}, "Prometheus' clock", "warning", "chrony"),
    "rules that stopped": ({"rules": [RULES | {"rendered": "a" * 12, "age_s": 100}]}, "Prometheus' rules", "problem",
                           "page Rules"),
    "two generations": (
        {"rules": [RULES | {"rendered": mark * 12} for mark in "ab"]}, "Prometheus' rules", "problem", "one Prometheus",
    ),
    "an old generation that has ended": (
        {"rules": [RULES | {"rendered": ""}, RULES | {"rendered": "b" * 12, "age_s": 200}]}, "Prometheus' rules",
        "warning", "make rules",
    ),
    "two versions of K3s": ({"kubelets": {"v1.36.1+k3s1": 2, "v1.35.4+k3s1": 1}}, "K3s", "warning", "drift"),
    "a slow dependency": (
        {"reached": [{"what": "EC2", "call": "DescribeInstances", "ms": 3_000, "problem": "", "code": ""}]},
        "from the function: EC2", "warning", "VPC",
    ),
    "a denied call": (
        {"reached": [{"what": "EC2", "call": "DescribeInstances", "ms": 30, "problem": "EC2 said: You are not allowed",
                      "code": "UnauthorizedOperation"}]},
        "from the function: EC2", "problem", "role lacks it",
    ),
    "metrics of another cluster": (
        {"metrics": {"problems": ["the metrics may be another cluster's: see PROMETHEUS_URL"]}}, "metrics", "problem",
        "See PROMETHEUS_URL.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "check", "verdict", "todo"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_no_simulated_cluster_shows(parts: dict[str, Any], check: str, verdict: str, todo: str) -> None:
    desk = Asked(healthy())
    answers = {"reach": changed(desk.ask("reach"), **parts), "next": desk.ask("next")}
    found = of(examined(ask=answers.__getitem__), check)
    assert str(found.verdict) == verdict
    assert todo in found.todo


PROMETHEUS = {
    "answered with HTTP status 401": "prometheusAuthParameter",
    "cannot be reached: SSLError: certificate verify failed": "prometheusCaParameter",
    "did not answer within 5 s": "security group",
    "cannot be reached: ConnectionRefusedError: [Errno 111] Connection refused": "prometheusUrl names its port",
    "answered something that is no Prometheus JSON": "prometheusUrl names Prometheus itself",
}


@pytest.mark.parametrize(("said", "todo"), PROMETHEUS.items())
def test_each_way_in_which_prometheus_fails_has_its_own_mend(said: str, todo: str) -> None:
    row = {
        "what": "Prometheus",
        "call": "/api/v1/query",
        "ms": 5,
        "problem": f"Prometheus at http://10.0.1.10:30090/api/v1/query {said}",
        "code": "",
    }
    desk = Asked(healthy())
    answers = {"reach": changed(desk.ask("reach"), reached=[row]), "next": desk.ask("next")}
    assert todo in of(examined(ask=answers.__getitem__), "from the function: Prometheus").todo


def test_a_policy_file_that_is_not_the_deployed_one_and_none_at_all() -> None:
    other = Policy(version=1, scale_up=ScaleUp(cpu_above=0.5))
    found = of(examined(policy=other), "policy")
    assert (str(found.verdict), "and policy.yml is " in found.said) == ("warning", True)
    assert "--policy" in found.todo
    none = of(examined(policy=None, no_policy="there is no policy.yml here to compare"), "policy")
    assert (str(none.verdict), "there is no policy.yml here" in none.said) == ("warning", True)


def test_rules_of_the_deployed_policy_are_right_while_live_changes_hold() -> None:
    cluster = healthy()
    stored(cluster, policy_override=PolicyOverride(text="scale_up: {cpu_above: 0.6}", version=7))
    findings = examined(cluster)
    assert of(findings, "Prometheus' rules").verdict is Verdict.OK
    assert "version 7 of its live changes" in of(findings, "policy").said


@pytest.mark.parametrize(("ahead_s", "told"), [(0, False), (25, False), (40, True), (-400, True)])
def test_clocks_of_three_machines(ahead_s: int, told: bool) -> None:
    assert ("your clock" in ills(examined(ahead_s=ahead_s))) is told


def test_what_stands_in_the_way_now_is_said_of_the_decision() -> None:
    cluster = SimCluster(Policy(version=1), workers=2)
    cluster.apply(deployment(replicas=2, cpu=9000))
    cluster.run(120)
    findings = examined(cluster)
    told = " ".join(f.said for f in findings if f.check in {"decision now", "held back"})
    assert "9 CPU" in told or "9" in told
    assert all(finding.todo for finding in findings if finding.verdict is Verdict.PROBLEM)


@pytest.mark.usefixtures("_moto")
def test_what_stands_in_the_way_now(clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On call: `doctor`, over HTTP to the real handler: each ill on a line, what to do below it, and exit code 1."""
    cluster = healthy()
    mode(cluster)
    other_rules(cluster)
    with on_call(cluster, clients, monkeypatch) as person:
        wrong = tmp_path / "policy.yml"
        wrong.write_text("version: 2\n")
        code, out, err = person.run("doctor", "--region", REGION, "--policy", str(wrong))
    lines = out.splitlines()
    assert (code, err) == (1, "")
    told = {line: lines[number + 1] for number, line in enumerate(lines) if line.startswith(("problem", "warning"))}
    (rules,) = [line for line in told if line.startswith("problem  Prometheus' rules: evaluated ")]
    assert "make rules" in told[rules]
    (paused,) = [line for line in told if line.startswith("warning  mode: The mode is paused: ")]
    assert "k3s-autoscaler resume" in told[paused]
    assert [
        line for line in lines if line.startswith("ok       from the function: Prometheus: /api/v1/query answered in ")
    ]
    assert "policy.yml here is not valid" in next(line for line in lines if line.startswith("warning  policy: "))
    assert lines[-1].startswith("sim: 1 problem(s), ")


def test_a_function_that_does_not_answer_is_a_finding_and_the_account_is_looked_at_all_the_same() -> None:
    def silent(question: str) -> Any:
        raise Unanswered(f"There is no function to ask {question}.")

    findings = examined(ask=silent)
    assert "There is no function" in of(findings, "function").said
    assert of(findings, "Watchdog").verdict is Verdict.OK
    lost = examined(ask=silent, GetFunctionConfiguration="ResourceNotFoundException")
    assert "not looked at" in of(lost, "account").said
    old = examined(ask=lambda _: {"reached": []})
    assert "not of this version" in of(old, "function").said


# ------------------------------------------------------------------------------------------------------- what is around

AROUND: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "the schedule is off": (
        {"DescribeRule": {"Name": "sweep-rule", "State": "DISABLED", "ScheduleExpression": "rate(2 minutes)"}},
        "schedule of the sweep", "problem", "aws events enable-rule --name sweep-rule",
    ),
    "the Watchdog is old": ({"GetMetricStatistics": watchdog(900)}, "Watchdog", "problem", "Alertmanager's log"),
    "the Watchdog was never heard": ({"GetMetricStatistics": watchdog()}, "Watchdog", "problem", "the token"),
    "metrics may not be read": ({"GetMetricStatistics": "AccessDenied"}, "Watchdog", "warning", "credentials"),
    "an alarm rings": ({"DescribeAlarms": {"MetricAlarms": [alarm("errors", "ALARM")]}},
                       "alarm k3s-autoscaler-main-errors", "problem", "docs/operations.md"),
    "there are no alarms": ({"DescribeAlarms": {"MetricAlarms": []}}, "alarms", "warning", "alarms=true"),
    "another build is deployed": ({"GetFunctionConfiguration": function(CodeSha256="other")}, "version of the code",
                                  "warning", "make package"),
    "no token": ({"GetParameter": "ParameterNotFound"}, "parameter /k3s/sim/webhook-token", "problem", "make token"),
    "no server online": ({"DescribeInstanceInformation": {"InstanceInformationList": []}}, "servers", "problem",
                         "SSM agent"),
    "no server at all": ({"DescribeInstances": instances()}, "servers", "problem", "Tag each server"),
    "too little quota": ({"GetServiceQuota": {"Quota": {"Value": 5.0}}}, "on-demand vCPU quota", "problem", "raised"),
    "a role lost its rights": ({"SimulatePrincipalPolicy": "AccessDenied"}, "roles", "warning", "credentials"),
    "no Spot role": ({"GetRole": "NoSuchEntity"}, "service-linked role for Spot", "warning",
                     "create-service-linked-role"),
    "an image of another processor": (
        {"DescribeImages": {"Images": [{"ImageId": "ami-1", "Architecture": "arm64"}]}}, "workers' image on t3.small",
        "problem", "workerImageId",
    ),
    "no such function": ({"GetFunctionConfiguration": "ResourceNotFoundException"}, "deployed service", "warning", ""),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "check", "verdict", "todo"), AROUND.values(), ids=AROUND.keys())
def test_what_the_account_shows(changes: dict[str, Any], check: str, verdict: str, todo: str, tmp_path: Path) -> None:
    found = of(examined(artifact=built(tmp_path), **changes), check)
    assert str(found.verdict) == verdict
    assert todo in found.todo


def test_a_route_that_lets_strangers_in_or_is_not_there() -> None:
    assert "must answer 401" in of(examined(status=lambda *_: 200), "webhook").said

    def gone(*_: str) -> int:
        raise TimeoutError

    assert "does not answer" in of(examined(status=gone), "webhook").said


def test_credentials_that_aws_does_not_know_end_it_at_once() -> None:
    findings = examined(GetCallerIdentity="ExpiredToken")
    assert [(finding.check, str(finding.verdict)) for finding in findings] == [("credentials", "problem")]


# ----------------------------------------------------------------------------------------------------------- the report


def test_it_ends_with_1_if_there_is_a_problem_and_each_has_its_mend_below_it() -> None:
    said: list[str] = []
    findings = [problem("a", "b", "do c"), *examined()]
    assert report(iter(findings), "sim", as_json=False, tell=said.append) == 1
    assert said[0] == "problem  a: b\n         -> do c"
    assert said[-1].startswith("\nsim: 1 problem(s), ")
    document = json.loads("".join(json_of(findings)))
    assert document["counts"]["problem"] == 1
    assert document["findings"][0] == {"check": "a", "verdict": "problem", "said": "b", "todo": "do c"}
    assert report(iter(findings[1:]), "sim", as_json=True, tell=lambda _: None) == 0


def json_of(findings: list[Finding]) -> list[str]:
    said: list[str] = []
    report(iter(findings), "sim", as_json=True, tell=said.append)
    return said


def test_the_command_without_aws_is_a_finding_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    done = CliRunner().invoke(app, ["doctor", "--stage", "main", "--cluster", "sim", "--region", "eu-central-1"])
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.stdout.startswith("problem  credentials: AWS does not know who asks: ")

"""What the policy says about time is what every script does: each pair of a time of the policy and what keeps it."""

import re
from pathlib import Path
from typing import Final

import pytest
import yaml
from msgspec import inspect

from autoscaler.act.perform import LAUNCH_TIMEOUT_S
from autoscaler.asking.server import ACTING_S
from autoscaler.aws.ssm import DELIVERY_TIMEOUT_S
from autoscaler.decide.looking import START_WITHIN_S
from autoscaler.decide.progress.sending import GRACE_AFTER_DRAIN_S
from autoscaler.deploy.join_deadline import join_deadline_s
from autoscaler.metrics_policy import LONGEST_QUERY_S
from autoscaler.model import Notice, Trigger
from autoscaler.observe.history import LEAVES_S, TIMEOUT_S
from autoscaler.policy import Drain, Policy, Workers
from autoscaler.policy_text import parse_policy
from autoscaler.reconcile import reconcile
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.wires import PROMETHEUS
from tests.service.conftest import ROOT
from tests.service.sandbox import CA_HASH, SCRIPTS, TOKEN, VERSION, Machine

LONGEST_SSM_S: Final = 172_800
"""Systems Manager user guide, "aws:runShellScript", `timeoutSeconds`: two days."""
API_GATEWAY_S: Final = 30
"""API Gateway quotas, HTTP APIs: the longest that it waits for a function."""
SPOT_NOTICE_S: Final = 120
"""EC2 user guide, "Spot Instance interruption notices"."""
STATE_S: Final = 2.0
"""For what else an invocation does before it launches: it reads and writes the state, and describes the fleet."""


def stands(pattern: str, *path: str) -> int:
    """The number that a file of the project holds behind a pattern."""
    (found,) = re.findall(pattern, Path(ROOT, *path).read_text(encoding="utf-8"), re.MULTILINE)
    return int(found)


def in_script(pattern: str, name: str) -> int:
    return stands(pattern, "cloudformation", "scripts", name)


def most(kind: type, field: str) -> int:
    """The upper end of a field of the policy."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    (of,) = [row.type for row in found.fields if row.name == field]
    assert isinstance(of, inspect.IntType)
    assert of.le is not None
    return of.le


# ------------------------------------------------------------------------------------------- workers.join_timeout_s


@pytest.mark.parametrize(("join_timeout_s", "deadline_s"), [(1, 0), (60, 48), (600, 480), (86_400, 43_200)])
def test_a_worker_gives_up_before_it_is_replaced(join_timeout_s: int, deadline_s: int) -> None:
    policy = Policy(version=1, workers=Workers(join_timeout_s=join_timeout_s))
    assert join_deadline_s(policy) == deadline_s < join_timeout_s


def test_a_worker_tries_no_longer_than_its_token_lives() -> None:
    renewed_s = in_script(r"^TOKEN_TTL_S=(\d+)$", "server-sync.sh") // 2
    policy = Policy(version=1, workers=Workers(join_timeout_s=most(Workers, "join_timeout_s")))
    assert join_deadline_s(policy) <= renewed_s


def test_the_deadline_without_a_policy_is_that_of_the_shipped_one() -> None:
    policy = parse_policy((ROOT / "policy.yml").read_text(encoding="utf-8"))
    assert in_script(r"\{JOIN_DEADLINE_S:-(\d+)\}", "machine.sh") == join_deadline_s(policy)


def test_the_deadline_in_user_data_is_the_one_that_ends_the_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "world", "worker-bootstrap.sh")
    machine.parameter("server-url", "https://10.0.1.10:6443")
    machine.parameter("version", VERSION)
    machine.parameter("agent-token", f"K10{CA_HASH}::{TOKEN}")
    machine.write("active", "activating")
    machine.environment = {"BOOTSTRAP_DEADLINE_S": "", "JOIN_DEADLINE_S": "2"}
    assert machine.run().returncode == 1
    assert machine.exists("off")
    assert "did not join https://10.0.1.10:6443 within 2 s (activating)" in machine.read("console")


# ------------------------------------------------------------------------------------------------- drain.timeout_s


def test_the_document_lets_the_longest_drain_end_and_be_undone() -> None:
    """SSM ends a command at the document's time, whatever the drain was allowed."""
    document_s = stands(r'timeoutSeconds: "(\d+)"', "scripts", "embedded-scripts.js")
    call_s = in_script(r"^CALL_S=\$\{NODE_COMMAND_CALL_S:-(\d+)\}", "node-command.sh") + 5  # timeout --kill-after=5
    late_s = in_script(r"DEADLINE \+ (\d+)\)", "node-drain.sh")
    calls = 10 + 2 * 5  # before it at most: preflight; after it: five tries to look and give the Node back
    assert most(Drain, "timeout_s") + late_s + calls * call_s < document_s <= LONGEST_SSM_S


def test_a_drain_that_ran_out_of_time_has_said_so_before_it_counts_as_lost() -> None:
    late_s = in_script(r"DEADLINE \+ (\d+)\)", "node-drain.sh")
    poll_s = in_script(r"^POLL_S=\$\{NODE_COMMAND_POLL_S:-(\d+)\}", "node-command.sh")
    call_s = in_script(r"^CALL_S=\$\{NODE_COMMAND_CALL_S:-(\d+)\}", "node-command.sh")
    assert late_s + poll_s + call_s < GRACE_AFTER_DRAIN_S


def test_a_command_that_is_delivered_at_the_last_moment_may_still_start() -> None:
    assert DELIVERY_TIMEOUT_S < START_WITHIN_S


@pytest.mark.parametrize("name", ["timeoutSeconds", "graceSeconds"])
def test_the_documents_pattern_and_the_script_take_the_policys_longest(name: str) -> None:
    document = (ROOT / "scripts" / "embedded-scripts.js").read_text(encoding="utf-8")
    (pattern,) = re.findall(rf'{name}: {{.*allowedPattern: "(.*?)"', document)
    variable = {"timeoutSeconds": "TIMEOUT_S", "graceSeconds": "GRACE_S"}[name]
    script = (SCRIPTS / "node-command.sh").read_text(encoding="utf-8")
    (own,) = re.findall(rf"\[\[ \${variable} =~ (\S+) \]\]", script)
    assert own == pattern
    assert re.search(pattern, str(most(Drain, "timeout_s")))


# ------------------------------------------------------------------------------ interruption.grace_s, metrics.timeout_s


def test_pods_that_nobody_moved_end_before_ec2_takes_the_machine() -> None:
    """The drain of an interruption has `grace_s`; what is left then has this, and both are over at the notice's end."""
    shutdown_s = in_script(r"^write_kubelet_config (\d+) \d+ \d+$", "worker-bootstrap.sh")
    assert Policy(version=1).interruption.grace_s + shutdown_s <= SPOT_NOTICE_S


def test_a_look_that_waits_for_prometheus_as_long_as_it_may_still_launches() -> None:
    function_s = yaml.safe_load(provider())["provider"]["timeout"]
    assert LONGEST_QUERY_S + STATE_S + max(LAUNCH_TIMEOUT_S, LONGEST_QUERY_S + ACTING_S) <= function_s < API_GATEWAY_S
    with pytest.raises(ValueError, match="timeout_s"):
        parse_policy(f"version: 1\nmetrics: {{ timeout_s: {LONGEST_QUERY_S + 0.1} }}")


def test_the_operators_own_queries_never_take_the_time_of_a_launch() -> None:
    """And there is time for them after a look that waited for its answer as long as the default lets it."""
    function_s = yaml.safe_load(provider())["provider"]["timeout"]
    assert LEAVES_S >= LAUNCH_TIMEOUT_S + STATE_S
    assert function_s - Policy(version=1).metrics.timeout_s > LEAVES_S + TIMEOUT_S


@pytest.mark.parametrize(("answers_after_s", "launches"), [(LONGEST_QUERY_S, 1), (2 * LONGEST_QUERY_S, 0)])
def test_an_alert_grows_the_fleet_although_prometheus_used_its_whole_time(
    answers_after_s: float, launches: int
) -> None:
    """The second row is why there is an end: no look of such a policy would have launched anything."""
    cluster = SimCluster(Policy(version=1))
    cluster.sweep()
    cluster.metric_faults.down = True
    cluster.wires.latency_s = {PROMETHEUS: answers_after_s, "dynamodb": STATE_S / 10, "ec2": STATE_S / 10}
    alert = Notice(kind="blind_alert", subject="a", received_at_s=int(cluster.now_s))
    function_s = yaml.safe_load(provider())["provider"]["timeout"]
    reconcile(
        cluster.ports(timeout_s=function_s),
        cluster_id=cluster.cluster_id,
        policy=cluster.policy,
        trigger=Trigger(kind="alert"),
        facts=(alert,),
    )
    assert cluster.wires.totals["ec2", "launch"] == launches


def provider() -> str:
    """The first lines of the provider, in which no tag of CloudFormation stands."""
    text = (ROOT / "serverless.yml").read_text(encoding="utf-8")
    return "provider:" + text.split("\nprovider:", 1)[1].split("\n  stackTags:", 1)[0]

"""The command line asks the functions that serverless-offline runs: real Invoke, real Prometheus, real processes."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from autoscaler.simulator.stack.cloud import aws_environment
from autoscaler.simulator.stack.processes import repository_root
from tests.e2e.conftest import Played

pytestmark = pytest.mark.real_programs

SETTLES_WITHIN_S = 60
QUIET_S = 4

MANIFEST = """
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  replicas: 12
  template:
    spec:
      containers: [{name: app, resources: {requests: {cpu: 900m, memory: 64Mi}}}]
"""


def ask(played: Played, *arguments: str, stdin: str = "") -> str:
    """What `k3s-autoscaler` prints; its exit code is 0."""
    stack = played.stack
    lambda_url = stack.functions.invoke_url("sweep").partition("/2015-03-31")[0]
    env = {**os.environ, **aws_environment(stack.emulator), "AWS_ENDPOINT_URL_LAMBDA": lambda_url}
    env |= {"CLUSTER_ID": stack.settings.cluster_id, "STATE_TABLE": stack.state_table, "STAGE": "local"}
    command = [sys.executable, "-m", "autoscaler.cli.main", *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=env, cwd=repository_root(), check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def settled(played: Played) -> list[dict[str, Any]]:
    """The table once the story's last events are dealt with: nothing is under way, and nobody writes for a while."""
    ends_s = time.monotonic() + SETTLES_WITHIN_S
    before: list[dict[str, Any]] = []
    while time.monotonic() < ends_s:
        found = played.stack.account.records(played.stack.state_table)
        (state,) = (json.loads(row["document"]) for row in found if row["record"] == "STATE")
        if found == before and not state["launches"] and not state["removals"]:
            return found
        before = found
        time.sleep(QUIET_S)
    raise AssertionError("the story goes on")


def test_the_deployed_function_explains_itself_and_changes_nothing(played: Played) -> None:
    records = settled(played)
    found: dict[str, Any] = json.loads(ask(played, "explain", "--json"))
    assert found["decision"]["metrics_status"] == "ok"
    assert found["decision"]["nodes"]["ready"] == played.stack.policy.workers.min
    assert {verdict["name"] for verdict in found["signals"]} >= {"unschedulable_pods", "cpu_utilisation", "minimum"}
    assert "at_min" in {line["about"] for line in found["removals"]}
    assert played.stack.account.records(played.stack.state_table) == records


def test_the_same_core_run_here_comes_to_the_same(played: Played) -> None:
    there = json.loads(ask(played, "next", "--json"))["decision"]
    prometheus = ("--prometheus", played.stack.addresses.prometheus_url, "--policy", "demo/policy.yml")
    here = json.loads(ask(played, "next", "--json", *prometheus))["decision"]
    assert (here["action"], here["reason"], here["nodes"]) == (there["action"], there["reason"], there["nodes"])


def test_a_worker_and_manifests_are_thought_through(played: Played) -> None:
    stack = played.stack
    running = [row["InstanceId"] for row in stack.account.instances() if row["State"]["Name"] == "running"]
    worker = next(one for one in running if one != stack.emulator.server_instance_id)
    removal = ask(played, "simulate", "removal", worker)
    assert f"worker-{worker}: " in removal
    assert "  at_min: " in removal
    lines = ask(played, "simulate", "pods", "-", stdin=MANIFEST).splitlines()
    assert "  Deployment shop/checkout: 12 pods" in lines
    assert [line for line in lines if line.startswith("new workers: ")]

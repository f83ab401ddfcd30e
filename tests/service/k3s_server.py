"""A K3s server for node-command.sh: the script itself in a real shell, its folders, and the stand-in's world."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscaler.aws.ssm import OUTCOME_BY_EXIT_CODE
from autoscaler.model import CommandOutcome
from tests.service.conftest import ROOT
from tests.service.stand_in_kubectl import World

SCRIPT = ROOT / "cloudformation" / "scripts" / "node-command.sh"
STAND_IN = ROOT / "tests" / "service" / "stand_in_kubectl.py"
NODE = "worker-i-0123456789abcdef0"
PROVIDER_ID = "aws:///eu-central-1a/i-0123456789abcdef0"
PREFIX = "k3s-autoscaler"


def pod(name: str, owner: str = "ReplicaSet", **more: Any) -> dict[str, Any]:
    annotations = more.pop("annotations", {})
    owners = [{"kind": owner, "controller": True}] if owner else []
    return {
        "metadata": {"namespace": "shop", "name": name, "ownerReferences": owners, "annotations": annotations},
        "spec": {"nodeName": NODE},
        "status": {"phase": more.pop("phase", "Running")},
        **more,
    }


def local_volume(node: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "metadata": {"name": f"pvc-on-{node}"},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
    }


def zonal_volume() -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-central-1a"]}]}
    return {"metadata": {"name": "ebs"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}


@dataclass
class Server:
    """A K3s server: the script, its folders, and the stand-in's world."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        node = {
            "metadata": {
                "name": NODE,
                "uid": "uid-1",
                "resourceVersion": "100",
                "annotations": {"other": "kept"},
                "labels": {"kubernetes.io/hostname": NODE, "node.kubernetes.io/instance-type": "t3.small"},
            },
            "spec": {"providerID": PROVIDER_ID},
        }
        world = {"nodes": {NODE: node}, "pods": [], "volumes": [], "faults": {}, "eviction_s": 0.02}
        self.path.write_text(json.dumps({**world, "calls": [], "drains": [], "writes": []}))

    @property
    def path(self) -> Path:
        return self.folder / "world.json"

    @property
    def world(self) -> dict[str, Any]:
        with World(self.path).open() as world:
            found: dict[str, Any] = world
        return found

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        with World(self.path).open() as world:
            edit(world)

    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.world["nodes"][NODE]["metadata"]["annotations"]
        return {key.removeprefix(f"{PREFIX}/"): value for key, value in found.items() if key.startswith(PREFIX)}

    def cordoned(self) -> bool:
        return self.world["nodes"][NODE]["spec"].get("unschedulable") is True

    def begin(self, verb: str, **changes: str) -> "subprocess.Popen[str]":
        parameters = {
            "verb": verb,
            "node": NODE,
            "providerId": PROVIDER_ID,
            "operationId": "op1",
            "fence": "7",
            "notAfter": str(int(time.time()) + 600),
            "timeoutSeconds": "20",
            "graceSeconds": "-1",
            "reclaim": "false",
        } | changes
        environment = {
            "PATH": os.environ["PATH"],
            "NODE_COMMAND_KUBECTL": f"{sys.executable} -I -S {STAND_IN} {self.path}",
            "NODE_COMMAND_RESULTS": str(self.folder / "results"),
            "NODE_COMMAND_LOG": str(self.folder / "log"),
            "NODE_COMMAND_POLL_S": "0.05",
            "NODE_COMMAND_CALL_S": "5",
            "NODE_COMMAND_STOP_S": "10",
            **{f"SSM_{name}": value for name, value in parameters.items()},
            **self.environment,
        }
        return subprocess.Popen([SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, verb: str, **changes: str) -> dict[str, Any]:
        return ended(self.begin(verb, **changes))


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The result line, checked against the exit code and everything else that must hold of every run."""
    out, err = process.communicate(timeout=60)
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == 1, out
    assert len(out) < 24_000, "SSM keeps no more of it"
    result: dict[str, Any] = json.loads(lines[0])
    assert set(result) == {"operation", "verb", "outcome", "rule", "message", "evicted_pods"}
    expected = {0: CommandOutcome.SUCCEEDED, 1: CommandOutcome.FAILED, **OUTCOME_BY_EXIT_CODE}[process.returncode]
    assert result["outcome"] == expected
    assert result["message"]
    return result


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)

"""A K3s server for node-command.sh: the script itself in a real shell, the real kubectl, and a small API server."""

import copy
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscaler.aws.ssm import OUTCOME_BY_EXIT_CODE
from autoscaler.model import CommandOutcome
from tests.service.conftest import ROOT
from tests.service.kube.cluster import Cluster, Object
from tests.service.kube.server import ApiServer, Fault
from tests.service.kubectl import kubectl

SCRIPT = ROOT / "cloudformation" / "scripts" / "node-command.sh"
NODE = "worker-i-0123456789abcdef0"
PROVIDER_ID = "aws:///eu-central-1a/i-0123456789abcdef0"
PREFIX = "k3s-autoscaler"
HOSTNAME = "kubernetes.io/hostname"
LONG_S = 600.0
"""Longer than any drain of a test."""


def node(name: str = NODE, provider_id: str = PROVIDER_ID, **labels: str) -> Object:
    """A Ready Node. Its annotations are somebody else's."""
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastTransitionTime": "2026-11-01T08:00:30Z",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "resourceVersion": "100",
            "creationTimestamp": "2026-11-01T08:00:00Z",
            "annotations": {"other": "kept"},
            "labels": {HOSTNAME: name, "node.kubernetes.io/instance-type": "t3.small", **labels},
        },
        "spec": {"providerID": provider_id},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, ready]},
    }


def pod(
    name: str, owner: str = "ReplicaSet", *, namespace: str = "shop", controller: bool = True, **more: Any
) -> Object:
    """A pod on the Node: `metadata`, `spec` and `phase` may be given; its label `app` is its name."""
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": "owner", "uid": "uid-o", "controller": controller}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": {"app": name},
            "ownerReferences": owners if owner else [],
            "annotations": more.pop("annotations", {}),
            **more.pop("metadata", {}),
        },
        "spec": {"nodeName": NODE, "containers": [], **more.pop("spec", {})},
        "status": {"phase": more.pop("phase", "Running")},
        **more,
    }


def budget(name: str, app: str, *, allowed: int = 0) -> Object:
    """A PodDisruptionBudget over the pods of one label."""
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    }


def expression(key: str, operator: str, *values: str) -> Object:
    """One requirement of a NodeSelector."""
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def volume(name: str, *terms: Object, phase: str = "Bound") -> Object:
    """A PersistentVolume; without terms it may be used everywhere."""
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": list(terms)}}} if terms else {}
    return {"metadata": {"name": name}, "spec": affinity, "status": {"phase": phase}}


def local_volume(node_name: str) -> Object:
    return volume(f"pvc-on-{node_name}", {"matchExpressions": [expression(HOSTNAME, "In", node_name)]})


def zonal_volume(zone: str = "eu-central-1a") -> Object:
    return volume("ebs", {"matchExpressions": [expression("topology.kubernetes.io/zone", "In", zone)]})


@dataclass
class Server:
    """The script, its folders, and the API server that it asks."""

    folder: Path
    cluster: Cluster = field(default_factory=Cluster)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster.nodes[NODE] = node()
        self.api = ApiServer(self.cluster)
        self.environment["NODE_COMMAND_KUBECTL"] = (
            f"{kubectl()} --kubeconfig={os.devnull} --server=http://127.0.0.1:{self.api.port} "
            f"--cache-dir={self.folder / 'cache'}"
        )

    def fault(self, on: str, **how: Any) -> None:
        """Requests whose method and path begin so fail: once, or `times`."""
        self.api.faults.append(Fault(on=on, **how))

    @property
    def node(self) -> Object:
        """The Node as it is now."""
        with self.cluster.lock:
            return copy.deepcopy(self.cluster.nodes[NODE])

    def mark(self, **values: str | None) -> None:
        """Write our annotations, as somebody else."""
        self.cluster.edit_node(NODE, annotations={f"{PREFIX}/{name}": value for name, value in values.items()})

    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.node["metadata"]["annotations"]
        return {key.removeprefix(f"{PREFIX}/"): value for key, value in found.items() if key.startswith(PREFIX)}

    def cordoned(self) -> bool:
        return self.node["spec"].get("unschedulable") is True

    def cordon(self, *, on: bool = True) -> None:
        """A person's kubectl."""
        self.cluster.edit_node(NODE, spec={"unschedulable": True if on else None})

    def evicted(self) -> list[str]:
        """Pods that evictions were asked for, refused or not, in order."""
        return [row["metadata"]["name"] for row in self.cluster.evictions]

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
            "HOME": str(self.folder),
            "NODE_COMMAND_RESULTS": str(self.folder / "results"),
            "NODE_COMMAND_LOG": str(self.folder / "log"),
            "NODE_COMMAND_POLL_S": "0.1",
            "NODE_COMMAND_CALL_S": "5",
            "NODE_COMMAND_STOP_S": "10",
            **{f"SSM_{name}": value for name, value in parameters.items()},
            **self.environment,
        }
        return subprocess.Popen([SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints by itself."""
        command = [*self.environment["NODE_COMMAND_KUBECTL"].split(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    def run(self, verb: str, **changes: str) -> dict[str, Any]:
        return ended(self.begin(verb, **changes))

    def begin_stuck(self, verb: str = "drain", **changes: str) -> "subprocess.Popen[str]":
        """Begin a drain that waits for a pod that will not end."""
        self.cluster.add(pod("stuck"))
        self.cluster.lingering_s["stuck"] = LONG_S
        drain = self.begin(verb, **changes)
        until(lambda: "stuck" in self.evicted())
        return drain


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.api.stop()
    log = server.folder / "log"
    wrong = re.findall(r"^.*\.sh: line [0-9]+: .*$", log.read_text(), re.MULTILINE) if log.exists() else []
    assert wrong == [], "the shell itself complains"


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The result line, checked against the exit code and everything else that must hold of every run."""
    out, err = process.communicate(timeout=60)
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == 1, out
    assert len(out) < 24_000, "SSM keeps no more of it"
    result: dict[str, Any] = json.loads(lines[0])
    fields = {"operation", "verb", "outcome", "rule", "message", "evicted_pods"}
    if result["outcome"] == "succeeded":
        fields |= {"inspect": {"inspection"}, "rules": {"rules"}}.get(result["verb"], set())
    assert set(result) == fields
    expected = {0: CommandOutcome.SUCCEEDED, 1: CommandOutcome.FAILED, **OUTCOME_BY_EXIT_CODE}[process.returncode]
    assert result["outcome"] == expected
    assert result["message"]
    return result


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)

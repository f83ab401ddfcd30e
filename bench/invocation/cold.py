"""A cold start: everything from a fresh process to the three clients, again and again, all kinds in turn.

The machine's noise hits neighbours alike, so a ratio is made within each round; the median of those counts.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.figures import median
from bench.invocation.artifact import Artifact

CHILD: Final = Path(__file__).parent / "in_child.py"
FLOOR: Final = "floor"
BOTO3: Final = "import boto3"
KINDS: Final = (
    FLOOR, "sweep", "lifecycle", "alerts", "alerts and its first webhook", BOTO3, "import handlers.sweep",
)  # fmt: skip
ENVIRONMENT: Final = {
    "CLUSTER_ID": "demo",
    "STATE_TABLE": "state",
    "IDEMPOTENCY_TABLE": "idempotency",
    "LAUNCH_TEMPLATE_ID": "lt-1",
    "SUBNET_IDS": "subnet-1",
    "NODE_COMMAND_DOCUMENT": "node-command",
    "ALERT_TOKEN_PARAMETER": "/k3s/demo/webhook-token",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PATH": os.defpath,
}


class Cold(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of process."""

    cpu_s: tuple[float, ...]
    wall_s: tuple[float, ...]
    peak_mb: float
    modules: int

    def over(self, other: "Cold") -> list[float]:
        """CPU time over that of the other kind in the same round."""
        return sorted(ours / theirs for ours, theirs in zip(self.cpu_s, other.cpu_s, strict=True))


def measure(artifact: Artifact, rounds: int) -> Mapping[str, Cold]:
    """Every kind `rounds` times; the first round warms the files and is not counted."""
    told: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS:
            began = time.perf_counter()
            one = run_child(artifact, "cold", kind)
            if number:
                told[kind].append(one | {"wall_s": time.perf_counter() - began})
    return {
        kind: Cold(
            cpu_s=tuple(one["cpu_s"] for one in ones),
            wall_s=tuple(one["wall_s"] for one in ones),
            peak_mb=median([one["peak_mb"] for one in ones]),
            modules=ones[0]["modules"],
        )
        for kind, ones in told.items()
    }


def run_child(artifact: Artifact, *arguments: str, url: str = "http://127.0.0.1:9") -> dict[str, Any]:
    """Run in_child.py on the package's Python; returns what it tells. `url` stands for AWS and Prometheus."""
    environment = ENVIRONMENT | {"PROMETHEUS_URL": url, "AWS_ENDPOINT_URL": url}
    command = [artifact.python, "-I", "-S", str(CHILD), str(artifact.folder), *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(f"The measured process failed: {ran.stderr.strip()[-2000:]}")
    told: dict[str, Any] = json.loads(ran.stdout)
    return told

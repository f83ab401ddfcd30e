"""The service as it would be deployed: the generated template and the artifact, made without any credential."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.service import captured_policy
from tests.service.captured import SITUATIONS, capture
from tests.service.insights_run import Line, Row, discovered

ROOT = Path(__file__).parents[2]
CREDENTIAL_FREE = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ["HOME"],  # the framework keeps a cache there
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",  # a call to AWS would be refused, and packaging fail
    "SLS_TRACKING_DISABLED": "1",
    "SLS_NOTIFICATIONS_MODE": "off",
    "K3S_AUTOSCALER_KEEP_ARTIFACT": "1",
}
EVERY_PART = {
    "clusterId": "shop",
    "prometheusUrl": "https://10.0.1.10:30090",
    "functionSubnetIds": "subnet-0c0c0c0c0c0c0c0c0,subnet-0d0d0d0d0d0d0d0d0",
    "functionSecurityGroupIds": "sg-0c0c0c0c0c0c0c0c0",
    "functionDualStack": "true",
    "prometheusAuthParameter": "/k3s/shop/prometheus-auth",
    "prometheusCaParameter": "/k3s/shop/prometheus-ca",
    "notifyTopicArn": "arn:aws:sns:eu-central-1:111122223333:news",
    "slackWebhookParameter": "/k3s/shop/slack",
    "digestSchedule": "cron(0 6 * * ? *)",
    "alarmEmail": "oncall@example.org",
    "alarmTopicKey": "true",
    "dashboard": "true",
    "workerImageId": "ami-0a0a0a0a0a0a0a0a0",
    "workerVolumeKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a",
    "workerSessionManager": "true",
    "k3sAgentArguments": "--node-taint=spot=true:NoSchedule",
    "k3sRegistriesParameter": "/k3s/shop/registries",
    "k3sReleasesUrl": "https://mirror.example/k3s",
    "reservedConcurrency": "5",
    "sweepRate": "rate(5 minutes)",
    "keepTables": "true",
}

EVERY_CLUSTER_PART = {
    "clusterId": "shop",
    "vpcNetwork": "172.20",
    "zones": "eu-central-1c,eu-central-1a",
    "functionEgress": "existing",
    "publicIngressCidr": "0.0.0.0/0",
    "publicIngressIpv6Cidr": "::/0",
    "apiIngressCidr": "203.0.113.7/32",
    "flannelBackend": "wireguard-native",
    "k3sServerArguments": "--flannel-backend=wireguard-native",
    "k3sSha256Arm64": "a" * 64,
    "k3sRegistriesParameter": "/k3s/shop/registries",
    "architecture": "arm64",
    "serverInstanceType": "t4g.medium",
    "serverImageId": "ami-0a0a0a0a0a0a0a0a0",
}


@dataclass(frozen=True)
class Template:
    """A generated CloudFormation template."""

    body: dict[str, Any]
    text: str

    def properties(self, name: str) -> dict[str, Any]:
        """Of one resource."""
        found: dict[str, Any] = self.body["Resources"][name].get("Properties", {})
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every resource of one type, by logical id."""
        return {name: entry for name, entry in self.body["Resources"].items() if entry["Type"] == kind}

    def statements(self, policy: str) -> list[dict[str, Any]]:
        """Of a managed policy, or of a role's own policies."""
        properties = self.properties(policy)
        documents = [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        documents += [entry["PolicyDocument"] for entry in properties.get("Policies", [])]
        return [statement for document in documents for statement in document["Statement"]]


def without_comments(lines: list[str]) -> list[str]:
    """Of a script that a template embeds: no comment lines, nor what is said behind a function's name or a case."""
    kept = [line for line in lines if not line.lstrip().startswith("#")]
    return [re.sub(r"^(\w+\(\) \{| .* ;;) #.*", r"\1", line) for line in kept]


def sls_package(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sls package` with nothing in the environment that could reach AWS, beside whatever else runs."""
    command = [str(ROOT / "scripts" / "sls-apart"), "package", "--package", str(folder.relative_to(ROOT)), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=CREDENTIAL_FREE, capture_output=True, text=True, timeout=120, check=False
    )


def copy_project(folder: Path) -> None:
    """A folder that links to everything but the files of the top level, which are copies."""
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.suffix == ".yml":
            shutil.copy(entry, folder)
        elif not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)


def sls_package_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sls package` in such a folder, with nothing in the environment that could reach AWS."""
    command = [str(ROOT / "node_modules" / ".bin" / "sls"), "package", *arguments]
    return subprocess.run(
        command, cwd=folder, env=CREDENTIAL_FREE, capture_output=True, text=True, timeout=120, check=False
    )


def generate(folder: Path, *arguments: str) -> Template:
    """Package into a folder, and read the template."""
    ran = sls_package(folder, *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (folder / "cloudformation-template-update-stack.json").read_text()
    return Template(body=json.loads(text), text=text)


@pytest.fixture(scope="session")
def lines() -> list[Line]:
    """What the handlers log in many situations, under the names that the functions have in stage `local`."""
    return capture("k3s-autoscaler-local", (*SITUATIONS, *captured_policy.SITUATIONS))


@pytest.fixture(scope="session")
def rows(lines: list[Line]) -> list[Row]:
    """The same lines as Logs Insights sees them."""
    return [discovered(line) for line in lines]


@pytest.fixture(scope="session")
def build_folder() -> Iterator[Path]:
    """A folder inside the project, as the framework wants it, gone afterwards."""
    (ROOT / "build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".tests.", dir=ROOT / "build"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(build_folder: Path, artifact: Path) -> Template:
    """The template of stage `local`: nothing optional."""
    assert artifact.exists()
    return generate(build_folder / "local")


@pytest.fixture(scope="session")
def full_template(build_folder: Path, artifact: Path) -> Template:
    """The template with every optional part."""
    assert artifact.exists()
    return generate(build_folder / "full", *(f"--param={name}={value}" for name, value in EVERY_PART.items()))


def build_artifact(out: Path, *arguments: str) -> str:
    """Run scripts/package; returns the SHA-256 of what it made."""
    command = ["scripts/package", "--out", str(out), *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert digest in ran.stdout, "the printed SHA-256 is the file's"
    return digest


@pytest.fixture(scope="session")
def artifact() -> Path:
    """The artifact for Lambda, where the framework expects it."""
    path = ROOT / "build" / "k3s-autoscaler.zip"
    build_artifact(path)
    return path


@pytest.fixture(scope="session")
def cluster_template(build_folder: Path) -> Template:
    """The cluster stack of stage `local`: nothing optional."""
    return generate(build_folder / "cluster", "--config", "cluster.yml")


@pytest.fixture(scope="session")
def full_cluster_template(build_folder: Path) -> Template:
    """The cluster stack on arm64, with every way in open and every other choice taken."""
    parameters = (f"--param={name}={value}" for name, value in EVERY_CLUSTER_PART.items())
    return generate(build_folder / "full-cluster", "--config", "cluster.yml", *parameters)


@pytest.fixture(scope="session")
def serverless_cluster_template(build_folder: Path) -> Template:
    """The cluster stack between two machines: while the server is replaced."""
    return generate(build_folder / "no-server", "--config", "cluster.yml", "--param=serverPresent=false")

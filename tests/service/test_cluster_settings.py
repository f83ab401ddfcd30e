"""Wrong parameters of the cluster stack: one sentence each, at package time, and nothing is made."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import CREDENTIAL_FREE, ROOT, sls_package

WRONG = {
    "a cluster id with blanks": ("clusterId", "My Cluster", "lower-case letters, digits and hyphens"),
    "the network of K3s' pods": ("vpcNetwork", "10.42", "which K3s gives to pods and Services"),
    "a public network": ("vpcNetwork", "8.8", "a private network"),
    "one zone": ("zones", "eu-central-1a", "two zones of the region"),
    "a way out that is none": ("functionEgress", "nat", "ipv6, or existing"),
    "an address without its network": ("publicIngressCidr", "203.0.113.7", "an IPv4 network"),
    "an IPv4 network as IPv6": ("publicIngressIpv6Cidr", "0.0.0.0/0", "an IPv6 network"),
    "the Kubernetes API for everybody": ("apiIngressCidr", "0.0.0.0/0", "/16 to /32"),
    "a backend that flannel does not know": ("flannelBackend", "wireguard", "vxlan or wireguard-native"),
    "a version without its K3s part": ("k3sVersion", "v1.36.1", "such as v1.36.1+k3s1"),
    "a channel in place of a version": ("k3sVersion", "stable", "such as v1.36.1+k3s1"),
    "half a digest": ("k3sSha256Amd64", "abc123", "64 hexadecimal digits"),
    "a shell command as server arguments": ("k3sServerArguments", "--x=$(reboot)", "separated by single blanks"),
    "a registries file in place of a parameter": ("k3sRegistriesParameter", "registries.yaml", "an SSM parameter"),
    "a mirror without encryption": ("k3sReleasesUrl", "http://mirror.example", "an https address"),
    "an image by another digest": ("imageDigests", "prometheus=md5:abc", "sha256:"),
    "an architecture that K3s is not built for": ("architecture", "riscv", "x86_64 or arm64"),
    "a size without a family": ("serverInstanceType", "medium", "such as t3.medium"),
    "an image that is none": ("serverImageId", "amazon-linux", "an AMI id"),
    "a volume too small": ("serverDataVolumeGb", "7", "from 8 to 16384"),
    "a switch that is neither on nor off": ("serverPresent", "maybe", "true or false"),
}
TOGETHER = {
    "the same zone twice": (["zones=eu-central-1a,eu-central-1a"], "two different zones"),
    "a zone of elsewhere": (["zones=eu-central-1a,us-east-1b"], "us-east-1b is not in region eu-central-1"),
    "an arm64 type for x86_64": (["serverInstanceType=t4g.medium"], "t4g.medium is arm64"),
    "an x86_64 type for arm64": (["architecture=arm64"], "t3.medium is x86_64"),
    "an image of the other architecture": (
        [
            "architecture=arm64",
            "serverInstanceType=c7gn.large",
            "serverImageParameter=/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        ],
        "names an image for another architecture than arm64",
    ),
    "WireGuard's port without WireGuard": (["flannelBackend=wireguard-native"], "belong together"),
    "WireGuard without its port": (["k3sServerArguments=--flannel-backend=wireguard-native"], "belong together"),
    "a secret in user data": (["k3sServerArguments=--agent-token=abc"], "holds a secret"),
}


def refused(folder: Path, parameters: list[str], *options: str) -> list[str]:
    """What `sls package` says; it must fail and make nothing."""
    ran = sls_package(
        folder, "--config", "cluster.yml", *options, *(f"--param={parameter}" for parameter in parameters)
    )
    assert ran.returncode != 0, ran.stdout
    assert not folder.exists()
    return (ran.stdout + ran.stderr).splitlines()


@pytest.fixture(scope="module")
def refusals(build_folder: Path) -> list[str]:
    """What is said of all wrong values, each parameter once a run."""
    waiting = list(WRONG.values())
    said: list[str] = []
    while waiting:
        batch = {name: value for name, value, _ in waiting}
        waiting = [row for row in waiting if batch[row[0]] != row[1]]
        said += refused(build_folder / "refused", [f"{name}={value}" for name, value in batch.items()])
    return said


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_parameter_is_refused(refusals: list[str], name: str, value: str, sentence: str) -> None:
    about = f'Parameter {name} of stage "local" is "{value}": it must be '
    assert [line for line in refusals if line.startswith(about) and sentence in line]


def sentences(settings: dict[str, str], region: str) -> list[str]:
    """What the rules about several parameters say, by node itself: no packaging for each."""
    program = """
      const { together } = require("./scripts/cluster-settings.js");
      const { settings, region } = JSON.parse(process.argv[1]);
      console.log(JSON.stringify(together.map((rule) => rule(settings, { region })).filter(Boolean)));
    """
    command = ["node", "-e", program, json.dumps({"settings": settings, "region": region})]
    ran = subprocess.run(command, cwd=ROOT, env=CREDENTIAL_FREE, capture_output=True, text=True, timeout=60, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found


FITTING = {
    "functionEgress": "ipv6",
    "zones": "",
    "architecture": "x86_64",
    "serverInstanceType": "t3.medium",
    "serverImageParameter": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    "flannelBackend": "vxlan",
}


@pytest.mark.parametrize(("parameters", "sentence"), TOGETHER.values(), ids=TOGETHER.keys())
def test_parameters_that_do_not_fit_each_other(parameters: list[str], sentence: str) -> None:
    given = dict(parameter.split("=", 1) for parameter in parameters)
    assert [said for said in sentences(FITTING | given, "eu-central-1") if sentence in said]


def test_what_fits_is_not_spoken_of() -> None:
    assert not sentences(FITTING, "eu-central-1")
    arm = {"architecture": "arm64", "serverInstanceType": "im4gn.large", "serverImageParameter": "/mine/image"}
    assert not sentences(FITTING | arm, "eu-central-1")
    assert not sentences(FITTING | {"serverInstanceType": "g5.xlarge"}, "eu-central-1")


def test_a_region_without_dual_stack_endpoints_is_refused_for_ipv6_only(build_folder: Path) -> None:
    said = refused(build_folder / "refused", ["clusterId=shop"], "--region", "ca-west-1")
    assert [line for line in said if "region ca-west-1 is not known to have dual-stack endpoints" in line]
    assert not sentences(FITTING | {"functionEgress": "existing"}, "ca-west-1")


def test_a_stage_of_ones_own_needs_a_cluster_id_and_nothing_else(build_folder: Path) -> None:
    said = refused(build_folder / "refused", [], "--stage", "prod")
    assert [line for line in said if line.startswith("Parameter ")] == [
        line for line in said if 'Parameter clusterId of stage "prod" is not set' in line
    ]


def test_the_made_up_stage_is_not_deployed_to_aws() -> None:
    environment = {name: value for name, value in CREDENTIAL_FREE.items() if name != "AWS_ENDPOINT_URL"}
    command = [str(ROOT / "node_modules" / ".bin" / "sls"), "deploy", "--config", "cluster.yml"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode != 0
    assert "set AWS_ENDPOINT_URL to the emulator" in ran.stdout + ran.stderr

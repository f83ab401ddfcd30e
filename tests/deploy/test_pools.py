"""The launch templates of a policy's pools: which there are, what image each starts from, what its workers are told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autoscaler.deploy.pools import LaunchTemplate, templates
from autoscaler.policy import policy_hash
from autoscaler.policy_text import parse_policy
from tests.monitoring.programs import ROOT

AMAZON = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
AMAZON_ARM = AMAZON.replace("x86_64", "arm64")
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
UBUNTU_ARM = UBUNTU.replace("amd64", "arm64")


def of(workers: str, image: str = AMAZON) -> tuple[LaunchTemplate, ...]:
    return templates(parse_policy(f"version: 1\nworkers: {{{workers}}}\n"), image)


def test_a_policy_without_pools_needs_the_one_template_as_it_was() -> None:
    [only] = of("instance_types: [t3.small]")
    assert only == LaunchTemplate(
        suffix="", pool="general", arch="amd64", agent_arguments=("--node-label=k3s-autoscaler/pool=general",)
    )


def test_each_further_pool_and_architecture_has_one_of_its_own() -> None:
    found = of(
        "pools: [{name: gpu-a, instance_types: [g4dn.xlarge]}, {name: general, instance_types: [t3.small, t4g.small]}, "
        "{name: gpu-a1, instance_types: [g5g.xlarge]}]"
    )
    assert [(one.suffix, one.pool, one.arch) for one in found] == [
        ("", "general", "amd64"),
        ("OfGpuXaAmd64", "gpu-a", "amd64"),
        ("OfGeneralArm64", "general", "arm64"),
        ("OfGpuXa1Arm64", "gpu-a1", "arm64"),
    ]


@pytest.mark.parametrize(
    ("image", "arm"), [(AMAZON, AMAZON_ARM), (UBUNTU, UBUNTU_ARM), (AMAZON_ARM, ""), (UBUNTU_ARM, "")]
)
def test_another_architecture_starts_from_the_deployments_images_sibling(image: str, arm: str) -> None:
    first = "t4g.small" if "arm64" in image else "t3.small"
    both = of(f"pools: [{{name: a, instance_types: [{first}]}}, {{name: b, instance_types: [c7g.large]}}]", image)
    assert [(one.image_id, one.image_parameter) for one in both] == [("", ""), ("", arm)]


@pytest.mark.parametrize(("image", "amd"), [(AMAZON_ARM, AMAZON), (UBUNTU_ARM, UBUNTU)])
def test_the_sibling_of_an_arm64_image(image: str, amd: str) -> None:
    both = of("pools: [{name: a, instance_types: [t4g.small]}, {name: b, instance_types: [t3.small]}]", image)
    assert both[1].image_parameter == amd


def test_what_a_pool_states_reaches_its_template_and_its_workers() -> None:
    _, gpu = of(
        "pools: [{name: general, instance_types: [t3.small]}, {name: gpu, instance_types: [g4dn.xlarge], "
        "labels: {team: ml, a: ''}, taints: ['nvidia.com/gpu=true:NoSchedule'], image: /mine/gpu, volume_gb: 100, "
        "subnets: [subnet-0a0a0a0a], agent_args: ['--kubelet-arg=max-pods=50']}]"
    )
    assert gpu == LaunchTemplate(
        suffix="OfGpuAmd64",
        pool="gpu",
        arch="amd64",
        image_parameter="/mine/gpu",
        volume_gb=100,
        subnets=("subnet-0a0a0a0a",),
        agent_arguments=(
            "--kubelet-arg=max-pods=50",
            "--node-label=k3s-autoscaler/pool=gpu",
            "--node-label=a=",
            "--node-label=team=ml",
            "--node-taint=nvidia.com/gpu=true:NoSchedule",
        ),
    )


def test_the_command_prints_them_as_the_packaging_reads_them(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yml"
    command = [sys.executable, "-m", "autoscaler.deploy.pools", str(policy), AMAZON]

    def run(text: str) -> subprocess.CompletedProcess[str]:
        policy.write_text(text)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    ran = run("version: 1\nworkers: {pools: [{name: a, instance_types: [t3.small], image: ami-0a0a0a0a}]}\n")
    answer = json.loads(ran.stdout)
    assert answer["policyHash"] == policy_hash(parse_policy(policy.read_text()))
    [one] = answer["templates"]
    assert (one["imageId"], one["imageParameter"], one["volumeGb"], one["suffix"]) == ("ami-0a0a0a0a", "", None, "")
    refused = run("version: 1\nworkers: {minimum: 2}\n")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)

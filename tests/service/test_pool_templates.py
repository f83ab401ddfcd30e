"""The service packaged with a policy of several pools: templates, images, user data, rights, what functions read."""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoscaler.aws.ec2 import _fleet_request
from autoscaler.cli.verify.checks import Verdict
from autoscaler.cli.verify.roles import check_roles
from autoscaler.model import LaunchOverride, LaunchRequest
from autoscaler.policy_text import parse_policy
from autoscaler.pools import MOST_POOLS
from autoscaler.runtime import read_settings
from tests.service import setting_limits as limits
from tests.service.conftest import ROOT, Template, copy_project, sls_package_in
from tests.service.iam.evaluator import Answer
from tests.service.iam.rendered import Rendered
from tests.service.iam.requests import requests_of
from tests.service.iam.world import READINGS, world_of
from tests.service.test_verify_template import iam_of, subject_of

POOLS = """
version: 1
workers:
  pools:
    - {name: general, instance_types: [t3.small, t4g.small], labels: {tier: web}, volume_gb: 30}
    - name: gpu
      instance_types: [g4dn.xlarge]
      image: ami-0b0b0b0b0b0b0b0b0
      taints: ["nvidia.com/gpu=true:NoSchedule"]
      volume_gb: 100
      subnets: [subnet-0e0e0e0e0e0e0e0e0]
    - {name: graviton, instance_types: [c7g.large]}
"""
IDS = {
    "general/arm64": "WorkerLaunchTemplateOfGeneralArm64",
    "gpu/amd64": "WorkerLaunchTemplateOfGpuAmd64",
    "graviton/arm64": "WorkerLaunchTemplateOfGravitonArm64",
}


def packaged(folder: Path, policy: str) -> Template:
    copy_project(folder)
    (folder / "policy.yml").write_text(policy)
    ran = sls_package_in(folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (folder / ".serverless" / "cloudformation-template-update-stack.json").read_text()
    return Template(body=json.loads(text), text=text)


@pytest.fixture(scope="module")
def pools() -> Iterator[Template]:
    folder = Path(tempfile.mkdtemp())
    yield packaged(folder / "project", POOLS)
    shutil.rmtree(folder)


def data_of(template: Template, name: str) -> dict[str, Any]:
    found: dict[str, Any] = template.properties(name)["LaunchTemplateData"]
    return found


def arguments_of(template: Template, name: str) -> str:
    script = base64.b64decode(data_of(template, name)["UserData"]).decode()
    return next(line for line in script.splitlines() if line.startswith("export EXTRA_AGENT_ARGUMENTS="))


def test_the_general_pool_keeps_the_template_that_there_always_was(pools: Template, template: Template) -> None:
    assert set(pools.of_type("AWS::EC2::LaunchTemplate")) == {"WorkerLaunchTemplate", *IDS.values()}
    ours, before = data_of(pools, "WorkerLaunchTemplate"), data_of(template, "WorkerLaunchTemplate")
    changed = {key for key in ours if ours[key] != before[key]}
    assert changed == {"UserData", "BlockDeviceMappings"}
    assert ours["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 30


def test_the_others_differ_in_what_their_pool_states_alone(pools: Template) -> None:
    first = data_of(pools, "WorkerLaunchTemplate")
    for name in IDS.values():
        own = data_of(pools, name)
        assert own.keys() == first.keys()
        assert {key for key in own if own[key] != first[key]} <= {"ImageId", "UserData", "BlockDeviceMappings"}
    gpu, graviton = data_of(pools, IDS["gpu/amd64"]), data_of(pools, IDS["graviton/arm64"])
    assert gpu["ImageId"] == "ami-0b0b0b0b0b0b0b0b0"
    assert gpu["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 100
    assert graviton["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 20
    assert graviton["ImageId"] == {"Ref": "WorkerImageOfGravitonArm64"}
    image = pools.body["Parameters"]["WorkerImageOfGravitonArm64"]
    assert image["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
    assert image["Default"].endswith("-arm64")


def test_labels_and_taints_reach_the_bootstrap(pools: Template) -> None:
    assert "--node-label=tier=web" in arguments_of(pools, "WorkerLaunchTemplate")
    assert "--node-label=tier=web" in arguments_of(pools, IDS["general/arm64"])
    gpu = arguments_of(pools, IDS["gpu/amd64"])
    assert gpu == (
        "export EXTRA_AGENT_ARGUMENTS="
        "' --node-label=k3s-autoscaler/pool=gpu --node-taint=nvidia.com/gpu=true:NoSchedule'"
    )


def test_the_functions_are_told_of_every_template(pools: Template) -> None:
    environment = pools.properties("SweepLambdaFunction")["Environment"]["Variables"]
    values = Rendered(pools).value(environment)
    settings = read_settings(values)
    assert {f"{pool}/{arch}": one for pool, arch, one in settings.pool_templates} == {
        key: f"lt-{name}" for key, name in IDS.items()
    }


def test_a_policy_of_its_own_names_every_further_template_image_and_subnet_and_nothing_else(
    pools: Template, template: Template
) -> None:
    first, images = pools.statements("PoolLaunchPolicy")
    found = [one["Fn::Sub"].rsplit(":", 1)[1].removeprefix("${AWS::AccountId}:") for one in first["Resource"]]
    templates = [f"launch-template/${{{name}}}" for name in IDS.values()]
    assert sorted(found) == sorted(
        [
            *templates,
            "image/${WorkerImageOfGeneralArm64}",
            "image/${WorkerImageOfGravitonArm64}",
            "image/ami-0b0b0b0b0b0b0b0b0",
            "subnet/subnet-0e0e0e0e0e0e0e0e0",
        ]
    )
    named = [one["Fn::Sub"].rsplit(":", 1)[1] for one in images["Condition"]["ArnEquals"]["ec2:LaunchTemplate"]]
    assert named == templates
    assert images["Condition"]["Bool"] == {"ec2:IsLaunchTemplateResource": "true"}
    assert pools.statements("LaunchPolicy") == template.statements("LaunchPolicy"), "what there was stays as it was"
    for role in ("AlertsRole", "SweepRole", "LifecycleRole"):
        assert {"Ref": "PoolLaunchPolicy"} in pools.properties(role)["ManagedPolicyArns"]
        assert {"Ref": "PoolLaunchPolicy"} not in template.properties(role)["ManagedPolicyArns"]


@pytest.mark.parametrize("name", ["WorkerLaunchTemplate", *IDS.values()])
def test_iam_allows_a_launch_from_every_pools_template_with_its_tag(pools: Template, name: str) -> None:
    rendered = Rendered(pools)
    world = world_of(rendered, "demo", name)
    tags = {
        "Name": "k3s-worker-demo",
        "ManagedBy": "autoscaler",
        "k3s-autoscaler/cluster": "demo",
        "k3s-autoscaler/operation": "o",
        "k3s-autoscaler/pool": "gpu",
    }
    fields = _fleet_request(
        LaunchRequest(
            client_token="o",
            template_id=f"lt-{name}",
            template_version="1",
            count=1,
            overrides=(LaunchOverride(instance_type="g4dn.xlarge", subnet_id="subnet-0e0e0e0e0e0e0e0e0", zone="z"),),
            tags=tuple(tags.items()),
        )
    )
    asked = [one for reading in READINGS for one in requests_of(("ec2:CreateFleet", fields), world, reading)]
    assert len(asked) > 100
    refused = {
        one.action + " " + one.resource for one in asked if rendered.answers("SweepRole", one) != {Answer.ALLOWED}
    }
    assert not refused
    stranger = {**tags, "k3s-autoscaler/role": "server"}
    fields["TagSpecifications"] = [
        {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in stranger.items()]}
    ]
    asked = [one for reading in READINGS for one in requests_of(("ec2:CreateFleet", fields), world, reading)]
    assert any(rendered.answers("SweepRole", one) != {Answer.ALLOWED} for one in asked), "a server's tag is refused"


def test_verify_looks_at_every_template(pools: Template, tmp_path: Path) -> None:
    subject = subject_of(pools, tmp_path, parse_policy(POOLS))
    assert {f"{one.pool}/{one.arch}": (one.logical_id, one.image[:6]) for one in subject.further} == {
        "general/arm64": (IDS["general/arm64"], "/aws/s"),
        "gpu/amd64": (IDS["gpu/amd64"], "ami-0b"),
        "graviton/arm64": (IDS["graviton/arm64"], "/aws/s"),
    }
    findings = check_roles(iam_of(Rendered(pools)), subject)
    assert {finding.verdict for finding in findings} == {Verdict.OK}, findings
    body = json.loads(pools.text)
    del body["Resources"]["PoolLaunchPolicy"]["Properties"]["PolicyDocument"]["Statement"][1]
    lacking = Template(body=body, text=json.dumps(body))
    said = " ".join(finding.said for finding in check_roles(iam_of(Rendered(lacking)), subject))
    assert "IAM would refuse ec2:RunInstances on image/*" in said


def test_as_many_pools_as_there_may_be_stay_within_aws_limits() -> None:
    both = "instance_types: [t3.small, t4g.small]"
    subnets = [f"[subnet-{n:08x}, subnet-{n + 100:08x}]" for n in range(6)]
    lines = "\n".join(
        f"    - {{name: p{n}, {both}, subnets: {subnets[n] if n < 6 else '[]'}}}" for n in range(MOST_POOLS)
    )
    folder = Path(tempfile.mkdtemp())
    made = packaged(folder / "project", f"version: 1\nworkers:\n  pools:\n{lines}\n")
    shutil.rmtree(folder)
    assert len(made.of_type("AWS::EC2::LaunchTemplate")) == 2 * MOST_POOLS
    assert limits.beyond(made) == []


def test_cfn_lint_accepts_a_template_with_pools(pools: Template, tmp_path: Path) -> None:
    packed, unfolded = tmp_path / "packed.json", tmp_path / "unfolded.json"
    packed.write_text(pools.text)
    for command in (
        [sys.executable, "scripts/unfold_template.py", str(packed), str(unfolded)],
        [str(Path(sys.executable).parent / "cfn-lint"), str(unfolded)],
    ):
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

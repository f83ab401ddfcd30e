"""What packaging refuses of a policy, of rules, and of an image: all at once, one sentence each."""

import json
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from autoscaler.deploy.architecture import of_image_name, of_instance_type, of_workers
from autoscaler.deploy.check import problems
from autoscaler.deploy.rules import RULES, Settings, render, write
from autoscaler.policy import Policy, Workers
from autoscaler.policy_text import PolicyError, parse_policy
from tests.monitoring.programs import ROOT, program

X86_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
ARM_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"


def checked(
    folder: Path, policy: str, *, image: str = X86_IMAGE, stale: bool = False, local: bool = False
) -> list[str]:
    """What is said of a policy whose rules were rendered, unless they are stale."""
    path = folder / "policy.yml"
    path.write_text(f"version: 1\n{policy}")
    try:
        decoded = parse_policy("version: 1\n" if stale else path.read_text())
    except PolicyError:
        decoded = Policy(version=1)
    write(render(decoded, Settings(local=local)), folder)
    return problems(path, folder, image)


def test_the_committed_policy_and_rules_may_be_deployed() -> None:
    assert problems(ROOT / "policy.yml", ROOT / "monitoring", X86_IMAGE) == []


@pytest.mark.real_programs
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rate(up)", "expected type range vector"),
        ("1 + 1", "expected type instant vector in aggregation expression, got scalar"),
        ("sum(up) by by", "unexpected"),
        ("sum(rate(up[5m])) # (", None),
        ('max by (pod) (up{job=~"a|b"})', None),
    ],
)
def test_queries_that_prometheus_would_refuse_are_found(tmp_path: Path, query: str, words: str | None) -> None:
    program("promtool")
    signals = json.dumps([{"name": "mine", "query": query, "above": 1}])
    found = checked(tmp_path, f"signals: {signals}\n")
    assert len(found) == (words is not None)
    assert words is None or (words in found[0] and "The policy's signals.mine has a query" in found[0])


def test_without_promtool_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checked(tmp_path, 'signals: [{name: mine, query: "rate(up)", above: 1}]\n') == []


REFUSED = {
    "a field that nobody knows": ("workers: { minimum: 2 }\n", {}, "is not a valid policy"),
    "a type without a size": ("workers: { instance_types: [x9.huge] }\n", {}, "whose size is not in the catalogue"),
    "rules of another policy": ("scale_up: { window_s: 90 }\n", {"stale": True}, "run `make rules`"),
    "arm64 types on an x86_64 image": (
        "workers: { instance_types: [t4g.small] }\n",
        {},
        f"are arm64 and the workers' image is x86_64 ({X86_IMAGE})",
    ),
    "x86_64 types on an arm64 image": ("", {"image": ARM_IMAGE}, "are x86_64 and the workers' image is arm64"),
    "types of both, and an image by its id": (
        "workers: { instance_types: [t3.small, t4g.small] }\n",
        {"image": ""},
        "workers.instance_types has types of arm64, and the deployment's image is one of another architecture",
    ),
    "a pool of another architecture, and an image whose name says nothing": (
        "workers: { pools: [{name: a, instance_types: [t3.small]}, {name: b, instance_types: [t4g.small]}] }\n",
        {"image": "/mine/golden"},
        "workers.pools.b has types of arm64, and the deployment's image is one of another architecture (/mine/golden)",
    ),
    "one image for two architectures": (
        "workers: { pools: [{name: a, instance_types: [t3.small, t4g.small], image: ami-0a0a0a0a}] }\n",
        {},
        "workers.pools.a has types of amd64 and arm64 and one image",
    ),
    "a pool's image of another architecture": (
        "workers: { pools: [{name: a, instance_types: [t3.small], image: /mine/arm64}] }\n",
        {},
        "workers.pools.a has types of amd64, and the image /mine/arm64 is of another",
    ),
}


@pytest.mark.parametrize(("policy", "how", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_stands_against_a_deployment_is_one_sentence(
    tmp_path: Path, policy: str, how: dict[str, bool], sentence: str
) -> None:
    (said,) = checked(tmp_path, policy, **how)  # type: ignore[arg-type]
    assert sentence in said
    assert "\n" not in said


ACCEPTED = {
    "arm64 types on an arm64 image": ("workers: { instance_types: [t4g.small, c7g.large] }\n", {"image": ARM_IMAGE}),
    "an image whose name says nothing": ("workers: { instance_types: [t4g.small] }\n", {"image": "/mine/image"}),
    "an image by its id": ("workers: { instance_types: [t4g.small] }\n", {"image": ""}),
    "types of both on an image with a sibling": ("workers: { instance_types: [t3.small, t4g.small] }\n", {}),
    "a pool with an image of its own": (
        "workers: { pools: [{name: a, instance_types: [t3.small]}, "
        "{name: b, instance_types: [t4g.small], image: ami-0a0a0a0a}] }\n",
        {"image": ""},
    ),
    "rules for a Prometheus of one cluster": ("metrics: { matchers: { cluster: shop } }\n", {"local": True}),
    "another policy with its own rules": ("scale_up: { window_s: 90 }\n", {}),
}


@pytest.mark.parametrize(("policy", "how"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_fits_is_not_spoken_of(tmp_path: Path, policy: str, how: dict[str, bool]) -> None:
    assert checked(tmp_path, policy, **how) == []  # type: ignore[arg-type]


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    said = checked(tmp_path, "workers: { instance_types: [t3.small, x9g.huge] }\n", stale=True, image=ARM_IMAGE)
    (tmp_path / RULES[0]).unlink()
    assert len(said) == 2
    said = problems(tmp_path / "policy.yml", tmp_path, ARM_IMAGE)
    assert len(said) == 3
    assert f"monitoring/{RULES[0]} are not what" in " ".join(said)


def every_type() -> list[str]:
    shape: Any = botocore.session.get_session().get_service_model("ec2").shape_for("InstanceType")
    return list(shape.enum)


def test_graviton_is_told_by_the_types_name() -> None:
    families = {kind.partition(".")[0] for kind in every_type() if of_instance_type(kind) == "arm64"}
    assert families >= {"a1", "t4g", "m7gd", "c7gn", "im4gn", "is4gen", "x2gd", "g5g", "hpc7g", "i8ge"}
    assert not families & {"t3", "g4dn", "g5", "g6e", "p5en", "m7i-flex", "c6in", "x2iedn", "u7i-12tb", "trn1", "mac2"}


def test_the_server_is_judged_by_the_same_rule() -> None:
    """scripts/cluster-settings.js has it in JavaScript: every type that EC2 knows comes out the same."""
    program = """
      const { together } = require("./scripts/cluster-settings.js");
      const said = (serverInstanceType) =>
        together.map((rule) => rule({ architecture: "arm64", serverInstanceType }, { region: "eu-central-1" })).join();
      const types = JSON.parse(process.argv[1]);
      console.log(JSON.stringify(types.filter((type) => !said(type).includes("do not fit"))));
    """
    command = ["node", "-e", program, json.dumps(every_type())]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout) == [kind for kind in every_type() if of_instance_type(kind) == "arm64"]


def test_an_images_name_may_say_its_architecture() -> None:
    assert of_image_name(X86_IMAGE) == "x86_64"
    assert (
        of_image_name("/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id") == "arm64"
    )
    assert of_image_name("/mine/golden") is None
    assert of_workers(Policy(version=1, workers=Workers(instance_types=("c7g.large",)))) == "arm64"

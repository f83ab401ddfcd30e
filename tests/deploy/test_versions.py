"""versions.yml is the only place that names what runs in a cluster, and everything that is deployed is equal to it."""

import re
import subprocess
from pathlib import Path

import pytest

from autoscaler.deploy.versions import VERSIONS, VersionsError, read_versions
from tests.monitoring.programs import ROOT

DEPLOYED = (
    "autoscaler/deploy",
    "cloudformation",
    "monitoring/templates",
    "scripts",
    "cluster.yml",
    "serverless.yml",
    "Makefile",
)
"""Where no version of these may stand beside the one place."""


def test_the_manifests_name_the_versions() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "monitoring" / "manifests").glob("*.yaml")))
    images = dict(re.findall(r"image: \S+/([a-z-]+):(\S+)", text))
    versions = read_versions()
    assert images == {name: version for name, version in versions.items() if name != "k3s"}


def test_no_other_place_pins_one() -> None:
    versions = "|".join(re.escape(version) for version in read_versions().values())
    command = ["git", "grep", "-nE", versions, "--", *DEPLOYED]
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    ).stdout.splitlines()
    examples = re.compile(r"such as v1\.|example = |\(SemVer")
    assert [line for line in found if not examples.search(line)] == []


def test_kube_state_metrics_tells_what_the_queries_read() -> None:
    major, minor, _ = read_versions()["kube-state-metrics"].removeprefix("v").split(".")
    assert (int(major), int(minor)) >= (2, 19)


WRONG = {
    "a missing one": ("k3s: v1.36.1+k3s1\n", "a version for each of k3s, "),
    "a channel": (
        VERSIONS.read_text().replace("v1.36.1+k3s1", "stable"),
        "k3s: stable, which is no version such as v1.",
    ),
    "one without its v": (re.sub("prometheus: v", "prometheus: ", VERSIONS.read_text()), "prometheus: "),
    "no YAML": ("a: [", "could not be read"),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_version_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "versions.yml"
    path.write_text(text)
    with pytest.raises(VersionsError) as refused:
        read_versions(path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)

"""The bundle: what comes out on the server is what went in, and the parameters are as the server expects them."""

import base64
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from autoscaler.deploy.bundle import PIECE_CHARACTERS, SYNC_SCRIPT, pack
from autoscaler.deploy.rules import MANIFESTS, render_manifests
from autoscaler.policy_text import parse_policy
from tests.monitoring.programs import ROOT

POLICY = ROOT / "policy.yml"
DIGEST = f"sha256:{7:064x}"
# What the framework hands to a variable file, and no more.
DRIVER = """
const given = JSON.parse(process.argv[1]);
const resolveVariable = async (text) => given[text.replace(/^param:/, "")];
require("./cloudformation/cluster/bundle.js")({ resolveVariable })
  .then((template) => console.log(JSON.stringify(template)))
  .catch((error) => { console.error(error.stack || error.message); process.exit(1); });
"""


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoscaler.deploy.bundle", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def template(*, clusterId: str, imageDigests: str = "") -> subprocess.CompletedProcess[str]:  # noqa: N803 - as in cluster.yml
    parameters = {"clusterId": clusterId, "imageDigests": imageDigests, "policyFile": "policy.yml"}
    return subprocess.run(
        ["node", "-e", DRIVER, json.dumps(parameters)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def unpacked(pieces: list[str]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(pieces), validate=True)), mode="r:gz") as tar:
        return {member.name: file.read() for member in tar.getmembers() if (file := tar.extractfile(member))}


@pytest.fixture(scope="module")
def shop() -> dict[str, Any]:
    """The bundle of the cluster `shop`, as the command prints it."""
    done = command("--cluster-id", "shop")
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_what_comes_out_is_what_went_in(shop: dict[str, Any]) -> None:
    rendered = render_manifests(parse_policy(POLICY.read_text(encoding="utf-8")), "shop", {})
    expected = {path: text.encode() for path, text in rendered.items()} | {"server-sync.sh": SYNC_SCRIPT.read_bytes()}
    assert unpacked(shop["pieces"]) == expected
    assert sorted(expected) == sorted([*MANIFESTS, "server-sync.sh"])


def test_info_tells_how_many_pieces_and_what_they_make(shop: dict[str, Any]) -> None:
    text = "".join(shop["pieces"])
    assert shop["info"] == f"{len(shop['pieces'])} {hashlib.sha256(text.encode()).hexdigest()}"
    # The names end in two digits.
    assert len(shop["pieces"]) < 100


def test_it_stays_small(shop: dict[str, Any]) -> None:
    """Each piece is a standard parameter, which holds 4,096 characters."""
    assert PIECE_CHARACTERS == 4096
    assert {len(piece) for piece in shop["pieces"][:-1]} == {PIECE_CHARACTERS}
    assert 0 < len(shop["pieces"][-1]) <= PIECE_CHARACTERS
    assert len(shop["pieces"]) <= 6


def test_the_server_unpacks_it_with_its_own_tools(shop: dict[str, Any], tmp_path: Path) -> None:
    tools = ["bash", "-c", "base64 --decode | tar -xz --no-same-owner"]
    subprocess.run(tools, input="".join(shop["pieces"]).encode(), cwd=tmp_path, check=True)
    found = {str(file.relative_to(tmp_path)): file for file in tmp_path.rglob("*") if file.is_file()}
    assert sorted(found) == sorted([*MANIFESTS, "server-sync.sh"])
    assert os.access(found["server-sync.sh"], os.X_OK)
    assert not any(file.stat().st_mode & 0o111 for name, file in found.items() if name.endswith(".yaml"))


def test_the_same_input_gives_the_same_bytes_in_another_process(shop: dict[str, Any]) -> None:
    again = command("--cluster-id", "shop", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    assert json.loads(again.stdout) == shop


def test_order_and_time_leave_no_trace() -> None:
    files = {"b.yaml": b"b", "a/c.sh": b"#!"}
    assert pack(files) == pack(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(pack(files).pieces))), mode="r:gz") as tar:
        members = tar.getmembers()
    assert [(member.name, member.mode) for member in members] == [("a/c.sh", 0o755), ("b.yaml", 0o644)]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }


@pytest.mark.parametrize("size", [0, 1, 3000, 3072, 100_000])
def test_any_content_is_cut_into_pieces_that_fit(size: int) -> None:
    content = random.Random(size).randbytes(size)  # noqa: S311 - what cannot be compressed
    bundle = pack({"x": content})
    assert all(0 < len(piece) <= PIECE_CHARACTERS for piece in bundle.pieces)
    assert unpacked(list(bundle.pieces)) == {"x": content}


def test_a_changed_policy_or_script_is_another_bundle(shop: dict[str, Any], tmp_path: Path) -> None:
    policy, script = tmp_path / "policy.yml", tmp_path / "server-sync.sh"
    policy.write_text("version: 1\nscale_up: { pending_for_s: 7 }\n", encoding="utf-8")
    script.write_text("#!/bin/bash\n", encoding="utf-8")
    infos = {
        json.loads(command("--cluster-id", "shop", *arguments).stdout)["info"]
        for arguments in (
            ("--policy", str(policy)),
            ("--sync-script", str(script)),
            ("--image-digest", f"prometheus={DIGEST}"),
        )
    }
    assert len(infos | {shop["info"]}) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cluster-id", "a b"), "The cluster id 'a b' cannot be a label"),
        (
            ("--cluster-id", "shop", "--policy", "/nowhere.yml"),
            "/nowhere.yml could not be read: No such file or directory.",
        ),
        (
            ("--cluster-id", "shop", "--sync-script", "/nowhere.sh"),
            "/nowhere.sh could not be read: No such file or directory.",
        ),
        (("--cluster-id", "shop", "--image-digest", "prometheus"), "The image digest prometheus= cannot be used"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------------------------------------------- as CloudFormation


def test_the_template_holds_a_parameter_for_each_piece_and_tells_of_them_last(shop: dict[str, Any]) -> None:
    done = template(clusterId="shop")
    assert done.returncode == 0, done.stderr
    resources = json.loads(done.stdout)["Resources"]
    info = resources.pop("BundleInfo")
    assert list(resources) == [f"Bundle{index:02}" for index in range(len(shop["pieces"]))]
    assert {entry["Properties"]["Name"]: entry["Properties"]["Value"] for entry in resources.values()} == {
        f"/k3s/shop/bundle/{index:02}": piece for index, piece in enumerate(shop["pieces"])
    }
    assert (info["Properties"]["Name"], info["Properties"]["Value"]) == ("/k3s/shop/bundle-info", shop["info"])
    assert info["DependsOn"] == list(resources)
    for entry in [*resources.values(), info]:
        assert entry["Type"] == "AWS::SSM::Parameter"
        assert (entry["Properties"]["Type"], entry["Properties"]["Tier"]) == ("String", "Standard")


def test_image_digests_reach_the_manifests() -> None:
    done = template(clusterId="shop", imageDigests=f"prometheus={DIGEST},node-exporter={DIGEST}")
    resources = json.loads(done.stdout)["Resources"]
    pieces = [entry["Properties"]["Value"] for name, entry in resources.items() if name != "BundleInfo"]
    text = b"".join(unpacked(pieces).values()).decode()
    assert text.count(f"@{DIGEST}") == 3  # the init container is Prometheus' image too


def test_an_unknown_image_stops_the_packaging_with_a_sentence() -> None:
    done = template(clusterId="shop", imageDigests=f"grafana={DIGEST}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"The image digest grafana={DIGEST} cannot be used: name one of alertmanager,")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"clusterId": "Not_A_Cluster"}, {"clusterId": "shop", "imageDigests": "latest"}])
def test_what_the_settings_refuse_is_left_to_them(wrong: dict[str, str]) -> None:
    assert json.loads(template(**wrong).stdout) == {"Resources": {}}

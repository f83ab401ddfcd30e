"""The command line as a package: built, installed into an environment of its own, and run from there."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; what it depends on comes from the clone's own environment."""
    place = tmp_path_factory.mktemp("wheel")
    uv = str(ROOT / ".venv" / "bin" / "uv")
    environment = place / "environment"
    for command in (
        ["build", "--wheel", "--offline", "--out-dir", str(place), str(ROOT)],
        ["venv", "--offline", "--python", sys.executable, str(environment)],
        ["pip", "install", "--offline", "--no-deps", "--no-index", "--find-links", str(place), "--python",
         str(environment / "bin" / "python"), PROJECT["name"]],
    ):  # fmt: skip
        done = subprocess.run([uv, "--quiet", *command], capture_output=True, text=True, check=False, cwd=place)
        assert done.returncode == 0, done.stderr
    return environment


def run(installed: Path, *arguments: str, program: str = "k3s-autoscaler") -> str:
    environ = {name: value for name, value in os.environ.items() if name not in {"POLICY_FILE", "PYTHONPATH"}}
    done = subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=installed,
        env=environ | {"PYTHONPATH": sysconfig.get_paths()["purelib"], "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_command_runs_far_from_a_clone(installed: Path) -> None:
    where = run(installed, "-c", "import autoscaler; print(autoscaler.__file__)", program="python")
    assert Path(where.strip()).is_relative_to(installed), "the wheel's package, not the clone's"
    assert run(installed, "--version") == f"k3s-autoscaler {PROJECT['version']}\n"
    assert "Usage: k3s-autoscaler " in run(installed, "--help")


def test_presets_catalogue_and_prices_come_with_it(installed: Path) -> None:
    (installed / "policy.yml").write_text("extends: default\nworkers: {instance_types: [c5.large]}\n")
    said = run(installed, "validate", "policy.yml", "--region", "us-east-1")
    assert re.search(r"c5\.large +amd64 +2 +4 .* 0\.\d{4}", said), said


def test_its_dependencies_are_the_locked_ones() -> None:
    listed = [
        line
        for name in ("runtime.in", "cli.in")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
        if line and not line.startswith(("#", "-r"))
    ]
    assert PROJECT["dependencies"] == sorted(listed)
    locked = (ROOT / "requirements" / "dev.txt").read_text()
    assert all(f"\n{name}==" in f"\n{locked}" for name in listed)

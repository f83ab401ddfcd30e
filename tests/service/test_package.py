"""The artifact: the same bytes every time, nothing too much, and everything that the handlers import.

Its C extensions are for arm64 and are not run here: the import test builds a second artifact for this machine, by the
same script with another platform.
"""

import ast
import json
import os
import platform
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from autoscaler.presets import NAMES
from tests.service.conftest import ROOT, Template, build_artifact

CUT = runpy.run_path(str(ROOT / "scripts" / "package_tree.py"))
OPERATIONS: dict[str, frozenset[str]] = CUT["OPERATIONS"]
SERVICES: frozenset[str] = CUT["SERVICES"]
HANDLERS = ("alerts", "sweep", "lifecycle")
HOST_PLATFORM = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28"}.get(platform.machine(), "")
RUNTIME_PYTHON = "cpython-313"
UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024


@pytest.fixture(scope="session")
def names(artifact: Path) -> set[str]:
    with zipfile.ZipFile(artifact) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def unpacked(build_folder: Path) -> Path:
    """The artifact for this machine."""
    if not HOST_PLATFORM or sys.platform != "linux":
        pytest.skip(f"no artifact can be imported on {sys.platform} {platform.machine()}")
    path, folder = build_folder / "host.zip", build_folder / "host"
    build_artifact(path, "--platform", HOST_PLATFORM)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def run_isolated(unpacked: Path, code: str) -> Any:
    """Run code on the runtime's Python with nothing but the unpacked artifact; returns the JSON that it prints."""
    python = subprocess.run(
        [ROOT / "scripts" / "find-python", "3.13"], capture_output=True, text=True, check=True
    ).stdout.strip()
    preamble = f"import sys; sys.path.insert(0, {str(unpacked)!r}); sys.dont_write_bytecode = True\n"
    environment = {"PATH": os.defpath, "AWS_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true"}
    ran = subprocess.run(
        [python, "-I", "-S", "-c", preamble + code],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_two_builds_are_the_same_to_the_byte(artifact: Path, build_folder: Path) -> None:
    again = build_folder / "again.zip"
    build_artifact(again)
    assert again.read_bytes() == artifact.read_bytes()


PRESETS = {f"autoscaler/presets/{name}.yml" for name in NAMES}
TABLES = {f"autoscaler/decide/capacity/{name}.json" for name in ("catalogue", "prices")}


def test_it_holds_our_code_and_no_more_of_it_than_runs(names: set[str]) -> None:
    assert {
        "policy.yml",
        "autoscaler/reconcile.py",
        *TABLES,
        *PRESETS,
        *(f"handlers/{name}.py" for name in HANDLERS),
    } <= names
    for unwanted in (
        "autoscaler/simulator/",
        "autoscaler/cli/",
        "autoscaler/deploy/",
        "tests/",
        "bench/",
        "scripts/",
        "bin/",
    ):
        assert not [name for name in names if name.startswith(unwanted)]
    assert not [name for name in names if name.endswith(("/RECORD", "/INSTALLER"))]
    assert not [name for name in names if name.startswith(("moto/", "pytest/", "mypy", "rich/"))]


def test_every_module_has_the_runtimes_bytecode_that_is_never_checked(artifact: Path, names: set[str]) -> None:
    modules = [name for name in names if name.endswith(".py")]
    with zipfile.ZipFile(artifact) as archive:
        for module in modules:
            folder, _, file = module.rpartition("/")
            compiled = f"{folder}/__pycache__/{file[:-3]}.{RUNTIME_PYTHON}.pyc".lstrip("/")
            assert archive.read(compiled)[4:8] == b"\x01\x00\x00\x00", f"{compiled} is not an unchecked-hash pyc"


def test_its_extensions_are_for_the_functions_architecture(artifact: Path, names: set[str]) -> None:
    extensions = [name for name in names if name.endswith(".so")]
    assert [name for name in extensions if name.startswith("msgspec/")]
    with zipfile.ZipFile(artifact) as archive:
        for name in extensions:
            machine = int.from_bytes(archive.read(name)[18:20], "little")
            assert machine == 183, f"{name} is not for aarch64 (ELF machine {machine})"


def test_it_fits_lambda(artifact: Path) -> None:
    with zipfile.ZipFile(artifact) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < UNZIPPED_LIMIT_BYTES
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} <= {0o100644, 0o100755}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_imports_from_the_artifact_alone(unpacked: Path, name: str) -> None:
    code = f"""
import importlib, json
handlers_module = importlib.import_module("handlers.{name}")
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
outside = [file for file in files if "site-packages" in file]
print(json.dumps([callable(handlers_module.handler), outside]))
"""
    assert run_isolated(unpacked, code) == [True, []]


def test_every_question_is_answered_from_the_artifact_alone(unpacked: Path) -> None:
    """A question's module is loaded when it is asked, so no import of a handler shows that it is there."""
    code = """
import importlib, json
from autoscaler.ask.questions import QUESTIONS
answering = [callable(importlib.import_module(name).answer) for name in QUESTIONS.values()]
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
print(json.dumps([all(answering), len(answering) > 3, [file for file in files if "site-packages" in file]]))
"""
    assert run_isolated(unpacked, code) == [True, True, []]


def test_time_zones_come_with_the_artifact(unpacked: Path) -> None:
    """Lambda's system may have no time zone data: a policy with schedules is valid there all the same."""
    code = """
import json, zoneinfo
zoneinfo.reset_tzpath(to=[])
from autoscaler.policy import parse_policy
window = "{name: a, time_zone: America/New_York, from: 09:00, to: 22:00, min: 3}"
policy = parse_policy("version: 1\\nschedules:\\n  - " + window)
print(json.dumps([policy.schedules[0].zone.key, zoneinfo.TZPATH]))
"""
    assert run_isolated(unpacked, code) == ["America/New_York", []]


def test_the_cut_botocore_makes_every_client_and_call(unpacked: Path) -> None:
    operations = {service: sorted(xform_name(name) for name in kept) for service, kept in OPERATIONS.items()}
    code = f"""
import json
import botocore.session
session = botocore.session.get_session()
keys = dict(region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
missing = []
for service in {sorted(SERVICES)!r}:
    client = session.create_client(service, **keys)
    missing += [name for name in {operations!r}.get(service, []) if not hasattr(client, name)]
    for operation in client.meta.service_model.operation_names:
        model = client.meta.service_model.operation_model(operation)
        shapes = [model.input_shape, model.output_shape, *model.error_shapes]
        seen = set()
        while shapes:
            shape = shapes.pop()
            if shape is None or shape.name in seen:
                continue
            seen.add(shape.name)
            if shape.type_name == "structure":
                shapes += shape.members.values()
            elif shape.type_name == "list":
                shapes.append(shape.member)
            elif shape.type_name == "map":
                shapes += [shape.key, shape.value]
ec2 = session.create_client("ec2", **keys)
print(json.dumps([missing, ec2.can_paginate("describe_instances"), ec2.meta.endpoint_url]))
"""
    assert run_isolated(unpacked, code) == [[], True, "https://ec2.eu-central-1.amazonaws.com"]


def test_dual_stack_endpoints_survive_the_cut(unpacked: Path) -> None:
    code = """
import json, botocore.session
from botocore.config import Config
session = botocore.session.get_session()
config = Config(use_dualstack_endpoint=True)
make = lambda name: session.create_client(
    name, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x", config=config
)
print(json.dumps({name: make(name).meta.endpoint_url for name in ("dynamodb", "ec2", "ssm", "sns")}))
"""
    endpoints = run_isolated(unpacked, code)
    assert endpoints == {name: f"https://{name}.eu-central-1.api.aws" for name in ("dynamodb", "ec2", "ssm", "sns")}


def calls_in_code() -> dict[str, set[str]]:
    """Operations of the cut services that our code names, as a method or as a paginator's string."""
    models = {service: botocore.session.get_session().get_service_model(service) for service in OPERATIONS}
    known = {(service, xform_name(name)): name for service, model in models.items() for name in model.operation_names}
    found: dict[str, set[str]] = {service: set() for service in models}
    sources = [*(ROOT / "handlers").glob("*.py"), *(ROOT / "autoscaler").rglob("*.py")]
    for source in sources:
        if {"simulator", "cli", "deploy"} & set(source.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            name = (
                node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
            )
            for service in models:
                if isinstance(name, str) and (service, name) in known:
                    found[service].add(known[service, name])
    return found


def test_the_operations_kept_are_those_that_the_code_calls() -> None:
    assert calls_in_code() == {service: set(kept) for service, kept in OPERATIONS.items()}


def test_the_roles_allow_the_operations_kept(template: Template) -> None:
    allowed = {
        action
        for policy in ("ReconcilePolicy", "LaunchPolicy", "AlertsRole")
        for statement in template.statements(policy)
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    kept = {f"{service}:{name}" for service, names in OPERATIONS.items() for name in names}
    # What a fleet does in its caller's name stands in no call of ours.
    on_behalf = {"ec2:RunInstances", "ec2:CreateTags"}
    assert kept | on_behalf == {action for action in allowed if action.startswith(("ec2:", "ssm:"))}


def test_no_python_of_the_runtime_ends_with_one_sentence(build_folder: Path, tmp_path: Path) -> None:
    for program in ("bash", "dirname", "mkdir", "mktemp", "rm"):
        (tmp_path / program).symlink_to(
            f"/bin/{program}" if Path(f"/bin/{program}").exists() else f"/usr/bin/{program}"
        )
    ran = subprocess.run(
        [ROOT / "scripts" / "package", "--out", build_folder / "never.zip"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHON": "/nowhere/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        pytest.skip("scripts/find-python found a Python 3.13 outside PATH and HOME")
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "No working Python 3.13" in ran.stderr
    assert not (build_folder / "never.zip").exists()

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
from email import message_from_string
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from aws_lambda_powertools.utilities.idempotency.persistence import dynamodb as powertools_table
from botocore import xform_name

from autoscaler.policyfile import units
from autoscaler.presets import NAMES
from tests.service.conftest import ROOT, Template, build_artifact


def script(name: str) -> dict[str, Any]:
    """The names of one of scripts/, which finds the others beside it."""
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        return runpy.run_path(f"{folder}/{name}.py")
    finally:
        sys.path.remove(folder)


CUT = script("package_tree")
OPERATIONS: dict[str, frozenset[str]] = CUT["OPERATIONS"]
HANDLERS = ("alerts", "sweep", "lifecycle")
HOST_PLATFORM = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28"}.get(platform.machine(), "")
RUNTIME_PYTHON = "cpython-313"
UNZIPPED_LIMIT_BYTES = 250 * 1024 * 1024
LIMIT_BYTES = 4_000_000
NOT_SHIPPED = {"simulator", "cli", "deploy", "backtest"}
OURS = ("autoscaler/", "handlers/")
BY_CHOICE = {"botocore.crt.auth", "dateutil.tz.win", "urllib3.contrib.socks", "yaml.cyaml"}
"""Modules that their own packages try and go on without: for awscrt, for Windows, for a SOCKS proxy, for libyaml."""


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
        "autoscaler/backtest/",
        "plotly/",
        "tests/",
        "bench/",
        "scripts/",
        "bin/",
    ):
        assert not [name for name in names if name.startswith(unwanted)]
    assert not [name for name in names if name.endswith(("/RECORD", "/INSTALLER"))]
    assert not [name for name in names if name.startswith(("moto/", "pytest/", "mypy", "rich/"))]


def test_every_module_has_the_runtimes_bytecode_that_is_never_checked(artifact: Path, names: set[str]) -> None:
    """Ours beside its source, a library's in place of it."""
    sources = {name for name in names if name.endswith(".py")}
    compiled = {name for name in names if name.endswith(".pyc")}
    assert sources
    assert all(name.startswith(OURS) for name in sources)
    beside = {name.replace("/__pycache__/", "/").replace(f".{RUNTIME_PYTHON}.pyc", ".py") for name in compiled}
    assert sources == {name for name in beside if name.endswith(".py")}
    with zipfile.ZipFile(artifact) as archive:
        for name in compiled:
            assert archive.read(name)[4:8] == b"\x01\x00\x00\x00", f"{name} is not an unchecked-hash pyc"


def test_its_extensions_are_for_the_functions_architecture(artifact: Path, names: set[str]) -> None:
    extensions = [name for name in names if name.endswith(".so")]
    assert [name for name in extensions if name.startswith("msgspec/")]
    with zipfile.ZipFile(artifact) as archive:
        for name in extensions:
            machine = int.from_bytes(archive.read(name)[18:20], "little")
            assert machine == 183, f"{name} is not for aarch64 (ELF machine {machine})"


def test_of_what_a_library_says_of_itself_the_fields_are_there_and_no_page(artifact: Path, names: set[str]) -> None:
    with zipfile.ZipFile(artifact) as archive:
        told = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    fields = [message_from_string(text) for text in told]
    assert {"boto3", "requests", "msgspec"} <= {one["Name"] for one in fields}
    assert all(one["Version"] and not one.get_payload() for one in fields)


def test_it_is_small_and_fits_lambda(artifact: Path) -> None:
    assert artifact.stat().st_size <= LIMIT_BYTES
    with zipfile.ZipFile(artifact) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < UNZIPPED_LIMIT_BYTES
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} <= {0o100644, 0o100755}


LIBRARIES = {
    "aws_lambda_powertools", "botocore", "certifi", "charset_normalizer", "dateutil", "idna",
    "jmespath", "msgspec", "packaged_patterns", "requests", "six", "typing_extensions", "urllib3",
}  # fmt: skip
"""What each handler begins by importing: boto3 comes with Powertools' idempotency, PyYAML with a policy that is new."""
UTILITIES = ["aws_lambda_powertools.utilities.jmespath_utils"]
"""Of Powertools' utilities: its Logger's. Idempotency is none of them."""
BEGUN = """
import gc, importlib, json, sys
{before}
files = {{name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}}
libraries = {{name.partition(".")[0] for name, file in files.items() if file.startswith(sys.path[0])}}
utilities = [name for name in files if name.startswith("aws_lambda_powertools.utilities.")]
outside = [file for file in files.values() if "site-packages" in file]
collector = [gc.isenabled(), gc.get_freeze_count() > 0]
print(json.dumps([sorted(libraries - {{"autoscaler", "handlers"}}), utilities, outside, collector, done]))
"""
ENVIRONMENT = """
import os
os.environ.update(
    CLUSTER_ID="demo", STATE_TABLE="s", IDEMPOTENCY_TABLE="i", PROMETHEUS_URL="http://127.0.0.1:9",
    LAUNCH_TEMPLATE_ID="lt-1", SUBNET_IDS="subnet-1", NODE_COMMAND_DOCUMENT="d", ALERT_TOKEN_PARAMETER="/t",
    AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_ENDPOINT_URL="http://127.0.0.1:1",
    AWS_DEFAULT_REGION="eu-central-1",
)
"""
ALERTS = f"""{ENVIRONMENT}
from handlers import alerts
class context:
    aws_request_id = "r"
    get_remaining_time_in_millis = staticmethod(lambda: 25_000)
"""
REFUSED = f"""{ALERTS}
sys.stdout, out = open(os.devnull, "w"), sys.stdout
headers = [{{}}, {{"authorization": "Bearer guess"}}]
done = [alerts.handler({{"headers": one, "body": "{{}}"}}, context)["statusCode"] for one in headers]
sys.stdout = out
"""


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_begins_by_importing_these_from_the_artifact_alone(unpacked: Path, name: str) -> None:
    code = BEGUN.format(before=f"done = callable(importlib.import_module('handlers.{name}').handler)")
    libraries, utilities, outside, collector, is_handler = run_isolated(unpacked, code)
    assert (set(libraries), utilities, outside) == (LIBRARIES, UTILITIES, [])
    assert collector == [True, True], "the garbage collector works on, and passes over what was imported"
    assert is_handler


def test_nothing_more_is_imported_before_a_webhook_has_shown_its_token(unpacked: Path) -> None:
    """Neither for a request without a token nor for one whose token is looked up, in vain."""
    libraries, utilities, _, _, answers = run_isolated(unpacked, BEGUN.format(before=REFUSED))
    assert answers == [401, 503]
    assert (set(libraries), utilities) == (LIBRARIES, UTILITIES)


def test_the_first_webhook_with_a_token_is_deduplicated_by_what_is_left_of_powertools(unpacked: Path) -> None:
    code = f"""{ALERTS}
import json
from botocore.awsrequest import AWSResponse
asked = []
class Raw:
    stream = staticmethod(lambda: iter([b"{{}}"]))
def answer(request, **_):
    asked.append(request.headers["X-Amz-Target"])
    return AWSResponse(request.url, 200, {{}}, Raw)
alerts._app().clients.dynamodb().meta.events.register("before-send.dynamodb", answer)
answered = alerts._once()("key", context, lambda: {{"action": "none"}})
print(json.dumps([answered, [str(one, "ascii") if isinstance(one, bytes) else one for one in asked]]))
"""
    answered, asked = run_isolated(unpacked, code)
    assert answered == [{"action": "none"}, False]
    assert [target.rpartition(".")[2] for target in asked] == ["PutItem", "UpdateItem"]


def test_every_module_that_is_left_can_be_imported(unpacked: Path) -> None:
    """What the cut took away is missed by none of them, whatever imports them and however late."""
    code = """
import importlib, json, pathlib, sys
root = pathlib.Path(sys.path[0])
failed = []
for path in sorted(root.rglob("*")):
    stem = path.name.partition(".")[0]
    if path.suffix not in {".py", ".pyc", ".so"} or "__pycache__" in path.parts or path.name == "__init__.so":
        continue
    parts = [*path.relative_to(root).parts[:-1], *([] if stem == "__init__" else [stem])]
    try:
        importlib.import_module(".".join(parts))
    except ImportError:
        failed.append(".".join(parts))
print(json.dumps([failed, len(sys.modules)]))
"""
    failed, imported = run_isolated(unpacked, code)
    assert set(failed) == BY_CHOICE
    assert imported > 500


def test_the_reading_of_imports_misses_none_that_python_makes(tmp_path: Path) -> None:
    """A module whose import another one makes late, in a `try`, by name or within a package is kept; others are not."""
    sources = {
        "ours/__init__.py": "",
        "ours/main.py": "def late():\n    from lib import late\n    import lib.a.deep as d\n",
        "lib/__init__.py": "from . import always\ntry:\n    from lib.maybe import x\nexcept ImportError:\n    pass\n",
        "lib/always.py": "import typing\nif typing.TYPE_CHECKING:\n    from lib import types_only\nelse:\n"
        "    from lib import otherwise\n",
        "lib/otherwise.py": "",
        "lib/maybe.py": "CALL = 'lib.named.function'\n",
        "lib/named.py": "import _c",
        "lib/types_only.py": "",
        "lib/late.py": "def f():\n    from lib.needs import g\n",
        "lib/needs.py": "import nowhere_installed\nimport lib.behind\n",
        "lib/behind.py": "",
        "lib/a/__init__.py": "",
        "lib/a/deep.py": "from ..b import (c as d)\n",
        "lib/b/__init__.py": "c = 1\n",
        "lib/b/unused.py": "",
        "other/__init__.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "_c.cpython-313-x86_64-linux-gnu.so").write_bytes(b"")
    reached = script("package_imports")["Tree"](tmp_path).reached(["ours"])
    wanted = "ours ours.main lib lib.always lib.otherwise lib.maybe lib.named lib.late lib.a lib.a.deep lib.b _c"
    assert reached == set(wanted.split())


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
from autoscaler.policy_text import parse_policy
window = "{name: a, time_zone: America/New_York, from: 09:00, to: 22:00, min: 3}"
policy = parse_policy("version: 1\\nschedules:\\n  - " + window)
print(json.dumps([policy.schedules[0].zone.key, zoneinfo.TZPATH]))
"""
    assert run_isolated(unpacked, code) == ["America/New_York", []]


def test_the_packaged_policies_need_no_parser(unpacked: Path) -> None:
    """Packaging parsed them: the functions have of each what the parser makes of it, and only another one loads it."""
    code = """
import importlib, json, pathlib, sys
from autoscaler.policyfile import text
root = pathlib.Path(sys.path[0])
files = [*root.glob("policy*.yml"), *root.glob("autoscaler/presets/*.yml")]
known = [text.read_yaml(file.read_text(encoding="utf-8")) for file in files]
before = "yaml" in sys.modules
parsing = importlib.import_module("autoscaler.policyfile.parsing")
scalar = lambda value, quoted: text.Scalar(value, quoted=quoted)
parsed = [parsing.parse(file.read_text(encoding="utf-8"), scalar) for file in files]
changed = text.read_yaml(files[0].read_text(encoding="utf-8") + "\\nother: 'x'")
print(json.dumps([len(files), before, known == parsed, changed["other"] == text.Scalar("x", quoted=True)]))
"""
    count, loaded, same, other = run_isolated(unpacked, code)
    assert count >= 1 + len(PRESETS)
    assert (loaded, same, other) == (False, True, True)


COMPILED = """
import re
from re import _compiler
compiled, compile_pattern = [], _compiler.compile
def compiling(pattern, flags=0):
    compiled.append(pattern)
    return compile_pattern(pattern, flags)
_compiler.compile = compiling
"""


@pytest.mark.parametrize("name", HANDLERS)
def test_a_start_compiles_no_patterns_but_ours(unpacked: Path, name: str) -> None:
    """Neither the libraries nor the making of clients: packaging did it for them."""
    code = f"""{COMPILED}{ENVIRONMENT}
from handlers import {name}
clients = {name}._app().clients
clients.dynamodb(), clients.ec2(), clients.ssm()
import json
print(json.dumps(compiled))
"""
    compiled = run_isolated(unpacked, code)
    texts = "\n".join(path.read_text(encoding="utf-8") for path in (unpacked / "autoscaler").rglob("*.py"))
    ours = {pattern for pattern in compiled if f'"{pattern}"' in texts} | {units._FORM.pattern}
    assert len(ours) > 1
    assert set(compiled) == ours


def test_the_packaged_patterns_are_what_the_runtimes_python_makes_of_them(unpacked: Path) -> None:
    code = f"""{COMPILED}
from autoscaler import patterns
import packaged_patterns
count = patterns.remember()
import json
kept = [re.compile(row[0], row[1]) for row in packaged_patterns.PATTERNS]
before = len(compiled)
re.purge()
fresh = [re.compile(row[0], row[1]) for row in packaged_patterns.PATTERNS]
names = [one.groupindex == other.groupindex for one, other in zip(kept, fresh)]
print(json.dumps([count, before, len(compiled), len(kept), kept == fresh, all(names), len(re._cache)]))
"""
    count, before, after, packaged, same, names, remembered = run_isolated(unpacked, code)
    assert (before, after, packaged, remembered) == (0, count, count, count)
    assert same
    assert names
    assert 100 < count < 400, "re keeps 512: what is packaged must leave room for what a process compiles itself"


def test_the_cut_botocore_makes_every_client_and_call(unpacked: Path) -> None:
    operations = {service: sorted(xform_name(name) for name in kept) for service, kept in OPERATIONS.items()}
    code = f"""
import json
import botocore.session
session = botocore.session.get_session()
keys = dict(region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
missing = []
for service in {sorted(OPERATIONS)!r}:
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
    """Operations that our code, and Powertools for it, names as a method or as a paginator's string."""
    models = {service: botocore.session.get_session().get_service_model(service) for service in OPERATIONS}
    known = {(service, xform_name(name)): name for service, model in models.items() for name in model.operation_names}
    found: dict[str, set[str]] = {service: set() for service in models}
    shipped = [
        path for path in (ROOT / "autoscaler").rglob("*.py") if not NOT_SHIPPED & {*path.relative_to(ROOT).parts}
    ]
    for source in [*(ROOT / "handlers").glob("*.py"), *shipped, Path(powertools_table.__file__)]:
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
    # No topic is given in this template; decisions are read back by an operator, with rights of their own.
    not_here = {"sns:Publish", "dynamodb:Query"}
    called = {action for action in allowed - on_behalf if action.partition(":")[0] in OPERATIONS}
    assert called <= kept <= called | not_here


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

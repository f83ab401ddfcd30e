"""The rooms and their doors: imports run one way, and the core does no I/O."""

import ast
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = (
    "model",
    "time_zones",
    "windows",
    "signals",
    "forecast",
    "presets",
    "policyfile",
    "instance_types",
    "requirements",
    "pools",
    "pool_faults",
    "spot",
    "ranges",
    "metrics_policy",
    "notifications",
    "policy",
    "policy_text",
    "ports",
    "observe",
    "decide",
    "state",
    "act",
    "conditions",
    "document",
    "launching",
    "live_policy",
    "asking",
    "news",
    "in_words",
    "reconcile",
    "ask",
)
ALLOWED = {
    "model": set(),
    "time_zones": set(),
    "windows": {"time_zones"},
    "signals": set(),
    "forecast": {"time_zones"},
    "presets": set(),
    "policyfile": {"presets"},
    "instance_types": set(),
    "requirements": {"instance_types"},
    "pools": {"model", "instance_types", "requirements"},
    "pool_faults": {"model", "instance_types", "requirements", "pools"},
    "spot": set(),
    "notifications": {"model"},
    "ranges": set(),
    "metrics_policy": {"ranges", "policyfile"},
    "policy_text": {"policy", "policyfile", "pool_faults"},
    "in_words": set(),
    "policy": {
        "model",
        "notifications",
        "metrics_policy",
        "ranges",
        "policyfile",
        "instance_types",
        "requirements",
        "pools",
        "pool_faults",
        "windows",
        "signals",
        "forecast",
        "spot",
    },
    "ports": {"model"},
    "observe": {"model", "signals", "forecast", "policy", "ports"},
    "state": {"model", "policy"},
    "decide": {"model", "windows", "signals", "forecast", "instance_types", "pools", "policy", "state", "ports"},
    "act": {"model", "policy", "ports", "state"},
    "conditions": {"model", "state"},
    "document": {"model", "policy", "state", "conditions"},
    "launching": {"model", "policy", "ports", "decide", "state"},
    "live_policy": {"model", "policy", "policy_text", "policyfile", "pools", "instance_types", "document", "decide"},
    "asking": {"model", "policy", "ports", "observe", "state"},
    "news": {"model", "notifications", "ports"},
    "reconcile": {
        "model",
        "news",
        "policy",
        "ports",
        "observe",
        "decide",
        "state",
        "act",
        "asking",
        "document",
        "launching",
        "live_policy",
    },
    "ask": {
        "model",
        "policy",
        "ports",
        "observe",
        "decide",
        "state",
        "act",
        "asking",
        "document",
        "launching",
        "live_policy",
    },
    "redaction": set(),
    "aws": {"model", "policy", "ports", "redaction", "state", "observe", "in_words"},
}
IO_MODULES = {
    "asyncio", "boto3", "botocore", "datetime.datetime.now", "http", "os", "pathlib", "random", "requests", "secrets",
    "socket", "ssl", "subprocess", "threading", "time", "urllib", "uuid",
}  # fmt: skip


def _modules(room: str) -> list[Path]:
    file = ROOT / "autoscaler" / f"{room}.py"
    return [file] if file.exists() else sorted((ROOT / "autoscaler" / room).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room: str) -> None:
    assert _modules(room)
    for path in _modules(room):
        inner = {name.split(".")[1] for name in _imports(path) if name.startswith("autoscaler.")}
        assert inner <= ALLOWED[room] | {room}, f"{path.name} opens a door that leads the wrong way"


@pytest.mark.parametrize("room", CORE)
def test_the_core_does_no_io_and_reads_no_clock(room: str) -> None:
    for path in _modules(room):
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & IO_MODULES, f"{path.name}: time, chance and I/O are passed in"


def test_production_code_never_imports_the_simulator_or_the_cli() -> None:
    rooms = (*CORE, "aws", "runtime", "telemetry", "webhook")
    files = [path for room in rooms for path in _modules(room)] + sorted((ROOT / "handlers").glob("*.py"))
    for path in files:
        assert not any(
            name.startswith(("autoscaler.simulator", "autoscaler.cli", "autoscaler.deploy", "autoscaler.backtest"))
            for name in _imports(path)
        ), path


def test_a_look_loads_nothing_that_only_a_question_needs() -> None:
    code = "import sys, handlers.sweep; print([name for name in sys.modules if name.startswith('autoscaler.ask.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "[]\n"


def test_no_handler_knows_another() -> None:
    for path in (ROOT / "handlers").glob("*.py"):
        assert not any(name.startswith("handlers.") for name in _imports(path)), path
        assert path.read_text(encoding="utf-8").count("from handlers import") == (path.name != "__init__.py"), path


# ---------------------------------------------------------------------------------------------------- what ruff forbids

PURE = (
    "autoscaler/model/x.py", "autoscaler/policy.py", "autoscaler/policyfile/x.py", "autoscaler/ports.py",
    "autoscaler/reconcile.py",
    "autoscaler/document.py", "autoscaler/launching.py", "autoscaler/webhook.py", "autoscaler/redaction.py",
    "autoscaler/runtime.py", "autoscaler/telemetry.py", "autoscaler/observe/x.py", "autoscaler/decide/x.py",
    "autoscaler/state/x.py", "autoscaler/act/x.py", "autoscaler/ask/x.py", "autoscaler/simulator/world/world.py",
    "autoscaler/simulator/cluster.py", "autoscaler/simulator/soak/run.py", "autoscaler/backtest/run.py",
)  # fmt: skip
"""Where the rule holds: the core, and the simulator's virtual time, in which it must play the same way twice."""
PLANTED = {
    "time.time()": "import time\n\nNOW = time.time()\n",
    "from time import monotonic": "from time import monotonic\n\nNOW = monotonic()\n",
    "datetime.now()": "import datetime\n\nNOW = datetime.datetime.now(tz=datetime.UTC)\n",
    "datetime.now(), imported": "from datetime import UTC, datetime\n\nNOW = datetime.now(tz=UTC)\n",
    "random.random()": "import random\n\nDICE = random.random()  # noqa: S311\n",
    "random.choice": "from random import choice\n\nDICE = choice\n",
    "uuid4": "import uuid\n\nID = uuid.uuid4()\n",
    "secrets": "import secrets\n\nID = secrets.token_hex()\n",
    "os.environ": "import os\n\nHOME = os.environ\n",
    "os.urandom": "from os import urandom\n\nID = urandom(8)\n",
    "threads": "import threading\n\nLOCK = threading.Lock()\n",
}


def _ruff(path: str, source: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "ruff"),
        "check",
        "--no-cache",
        "--output-format=concise",
        "--stdin-filename",
        path,
        "-",
    ]
    return subprocess.run(command, input=source, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_clock_or_dice_makes_the_lint_fail(planted: str) -> None:
    source = f'"""A module."""\n\n{PLANTED[planted]}'
    found = _ruff("autoscaler/decide/planted.py", source)
    assert (found.returncode, found.stderr) == (1, "")
    assert "TID251" in found.stdout
    assert "TID251" not in _ruff("autoscaler/aws/planted.py", source).stdout, "the shell's rooms have the real ones"


@pytest.mark.parametrize("path", PURE)
def test_the_rule_holds_there(path: str) -> None:
    assert "TID251" in _ruff(path, PLANTED["time.time()"]).stdout


def test_every_exception_has_a_room_and_a_reason() -> None:
    """A room that is forgotten in the list would be linted away with a wider glob: each one is named, and says why."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignores = tomllib.loads(text)["tool"]["ruff"]["lint"]["per-file-ignores"]
    excepted = [glob for glob, rules in ignores.items() if "TID251" in rules]
    assert excepted
    for glob in excepted:
        assert not [path for path in PURE for part in _spelt_out(glob) if fnmatch(path, part)]
        (line,) = [line for line in text.splitlines() if line.startswith(f'"{glob}"')]
        assert "  # " in line, f"{glob} says no reason"
        assert any(ROOT.glob(part) for part in _spelt_out(glob)), f"{glob} matches no file any more"
    noted = [p for p in (ROOT / "autoscaler").rglob("*.py") if "noqa: TID251" in p.read_text(encoding="utf-8")]
    assert noted == []


def _spelt_out(glob: str) -> list[str]:
    """`a/{b,c}.py` as two globs."""
    head, brace, rest = glob.partition("{")
    if not brace:
        return [glob]
    middle, _, tail = rest.partition("}")
    return [f"{head}{part}{tail}" for part in middle.split(",")]

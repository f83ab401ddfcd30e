"""The rooms and their doors: imports run one way, and the core does no I/O."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ("model", "policy", "ports", "observe", "decide", "state", "act", "document", "reconcile")
ALLOWED = {
    "model": set(),
    "policy": {"model"},
    "ports": {"model"},
    "observe": {"model", "policy", "ports"},
    "state": {"model", "policy"},
    "decide": {"model", "policy", "state", "ports"},
    "act": {"model", "policy", "ports", "state"},
    "document": {"model", "policy"},
    "reconcile": {"model", "policy", "ports", "observe", "decide", "state", "act", "document"},
    "redaction": set(),
    "aws": {"model", "policy", "ports", "redaction"},
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
        assert not any(name.startswith(("autoscaler.simulator", "autoscaler.cli")) for name in _imports(path)), path


def test_no_handler_knows_another() -> None:
    for path in (ROOT / "handlers").glob("*.py"):
        assert not any(name.startswith("handlers") for name in _imports(path)), path

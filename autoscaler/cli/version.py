"""Which version this is: the clone's, with its commit, or the installed package's."""

import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "k3s-autoscaler"


def version() -> str:
    """`0.1.0+bf85dc6` in a clone, `0.1.0` where it is installed."""
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        return metadata.version(PACKAGE)
    number = str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    commit = _commit()
    return f"{number}+{commit}" if commit else number


def _commit() -> str:
    """This clone's own, not that of a repository which it lies in; empty without git."""
    if not (ROOT / ".git").exists():
        return ""
    clone = ["git", "--no-optional-locks", "--git-dir", str(ROOT / ".git"), "--work-tree", str(ROOT)]
    try:
        told = subprocess.run(
            [*clone, "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return ""
    return told.stdout.strip().replace("-", ".") if told.returncode == 0 else ""

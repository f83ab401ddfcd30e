"""The package: the one for Lambda, for its size, and the same for this machine, unpacked, to be run."""

import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
RUNTIME: Final = "3.13"
"""serverless.yml's."""
PLATFORMS: Final = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28"}


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An unpacked package, and what runs it."""

    folder: Path
    python: str
    minor: str
    """The runtime's, or this process' where that one is not to be had."""
    zip_bytes: int
    """Of the package for Lambda."""
    unpacked_bytes: int


@contextmanager
def unpacked() -> Iterator[Artifact]:
    """Make both packages; the folder is gone afterwards.

    Raises SystemExit with a sentence where this machine cannot run one.
    """
    try:
        wheel_platform = PLATFORMS[platform.machine()]
    except KeyError:
        raise SystemExit(f"No package can be made for {platform.machine()}: run this on x86_64 or aarch64.") from None
    python, minor = _python()
    with TemporaryDirectory(prefix="k3s-autoscaler-bench-") as name:
        lambdas, here, folder = Path(name, "lambda.zip"), Path(name, "here.zip"), Path(name, "task")
        _package("--python", minor, "--out", str(lambdas))
        _package("--python", minor, "--platform", wheel_platform, "--out", str(here))
        with zipfile.ZipFile(here) as archive:
            archive.extractall(folder)
            size = sum(entry.file_size for entry in archive.infolist())
        yield Artifact(folder=folder, python=python, minor=minor, zip_bytes=lambdas.stat().st_size, unpacked_bytes=size)


def _python() -> tuple[str, str]:
    for minor in (RUNTIME, f"{sys.version_info.major}.{sys.version_info.minor}"):
        found = subprocess.run(["scripts/find-python", minor], cwd=ROOT, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip(), minor
    raise SystemExit(found.stderr.strip())


def _package(*arguments: str) -> None:
    ran = subprocess.run(["scripts/package", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(f"The package could not be made: {ran.stderr.strip()}")

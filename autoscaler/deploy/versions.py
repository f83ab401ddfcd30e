"""What a clone deploys, from versions.yml: the one place that is edited to patch it."""

import re
from pathlib import Path
from typing import Final

import yaml

IMAGES: Final = ("alertmanager", "kube-state-metrics", "node-exporter", "prometheus")
"""The images of the manifests, by their own names."""
VERSIONS: Final = Path(__file__).resolve().parents[2] / "versions.yml"
_IMAGE: Final = re.compile(r"v\d+\.\d+\.\d+")
_K3S: Final = re.compile(r"v1\.\d+\.\d+\+k3s\d+")


class VersionsError(ValueError):
    """versions.yml cannot be used; the message says why and what to write."""


def read_versions(path: Path = VERSIONS) -> dict[str, str]:
    """Version by name: `k3s` and every image of the manifests. Raises VersionsError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise VersionsError(f"{path} could not be read: {' '.join(str(error).split())}.") from error
    wanted = {"k3s": _K3S} | dict.fromkeys(IMAGES, _IMAGE)
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise VersionsError(f"{path} must hold a version for each of {', '.join(wanted)}, and nothing else.")
    for name, form in wanted.items():
        if not form.fullmatch(str(found[name])):
            example = "v1.36.1+k3s1" if name == "k3s" else "v1.2.3"
            raise VersionsError(f"{path} says {name}: {found[name]}, which is no version such as {example}.")
    return {name: str(version) for name, version in found.items()}

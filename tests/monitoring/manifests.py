"""The in-cluster manifests as objects, and what stands in them."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.monitoring.programs import ROOT

FOLDER = ROOT / "monitoring" / "manifests"
WORKLOADS = ("Deployment", "DaemonSet")

Manifest = dict[str, Any]


def load(text: str) -> list[Manifest]:
    return list(yaml.safe_load_all(text))


def committed() -> Iterator[tuple[str, Manifest]]:
    """Every object with its file's name, in the order in which K3s applies them."""
    for file in sorted(FOLDER.iterdir()):
        for manifest in load(file.read_text(encoding="utf-8")):
            yield file.name, manifest


OBJECTS = tuple(committed())


def of_kind(*kinds: str) -> list[Manifest]:
    return [manifest for _, manifest in OBJECTS if manifest["kind"] in kinds]


def one(kind: str, name: str) -> Manifest:
    [found] = [manifest for manifest in of_kind(kind) if manifest["metadata"]["name"] == name]
    return found


def pod(workload: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def containers(workload: Manifest) -> list[dict[str, Any]]:
    spec = pod(workload)
    return [*spec.get("initContainers", []), *spec["containers"]]


def container(name: str) -> dict[str, Any]:
    """The container that is called as its workload is."""
    found: dict[str, Any]
    [found] = [
        entry
        for workload in of_kind(*WORKLOADS)
        if workload["metadata"]["name"] == name
        for entry in pod(workload)["containers"]
        if entry["name"] == name
    ]
    return found


def argument(name: str, flag: str) -> str:
    """The value of one `--flag=value` of a container."""
    parts = [str(text).partition("=") for text in container(name)["args"]]
    [value] = [value for key, _, value in parts if key == f"--{flag}"]
    return value


def allow_list(name: str, flag: str) -> dict[str, list[str]]:
    """`nodes=[a,b],pods=[c]` by resource."""
    return {resource: keys.split(",") for resource, keys in re.findall(r"(\w+)=\[([^\]]*)\]", argument(name, flag))}

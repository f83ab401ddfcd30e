"""What an API server says of itself: kubectl learns from it where each resource stands."""

from typing import Any

_ALL = ["create", "delete", "get", "list", "patch", "update", "watch"]


def _resource(name: str, kind: str, *, namespaced: bool, verbs: list[str] | None = None, **more: str) -> dict[str, Any]:
    return {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs or _ALL, **more}


_GROUPS: dict[str, list[dict[str, Any]]] = {
    "v1": [
        _resource("namespaces", "Namespace", namespaced=False),
        _resource("nodes", "Node", namespaced=False),
        _resource("secrets", "Secret", namespaced=True),
        _resource("persistentvolumes", "PersistentVolume", namespaced=False),
        _resource("persistentvolumeclaims", "PersistentVolumeClaim", namespaced=True),
        _resource("pods", "Pod", namespaced=True),
        _resource("pods/eviction", "Eviction", namespaced=True, verbs=["create"], group="policy", version="v1"),
    ],
    "apps/v1": [
        _resource("daemonsets", "DaemonSet", namespaced=True),
        _resource("deployments", "Deployment", namespaced=True),
    ],
    "storage.k8s.io/v1": [_resource("storageclasses", "StorageClass", namespaced=False)],
    "policy/v1": [_resource("poddisruptionbudgets", "PodDisruptionBudget", namespaced=True)],
}


def answer(path: str) -> dict[str, Any] | None:
    """The document at a path of discovery; None for any other path."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _GROUPS if "/" in name]}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version in _GROUPS:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version,
            "resources": _GROUPS[version],
        }
    return None


def _group(version: str) -> dict[str, Any]:
    entry = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [entry], "preferredVersion": entry}

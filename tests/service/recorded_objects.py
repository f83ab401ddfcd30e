"""The recorded clusters of tests/data/verdicts as objects of one API server: each case's names made its own."""

import copy
from typing import Any

from bench.verdict_cases import Json
from tests.service.kube.cluster import Cluster

Object = dict[str, Any]


def own_names(case: Json) -> Object:
    """The case with names of Nodes, pods, claims, volumes and classes that no other case has."""
    prefix, own = f"{case['id']}-", copy.deepcopy(dict(case))
    pods = [*own["pods"], *_listed(own["pending"])]
    storage = [*own.get("pvs", ()), *own.get("pvcs", ()), *own.get("storageclasses", ())]
    for found in (*own["nodes"], *pods, *storage):
        found["metadata"]["name"] = prefix + found["metadata"]["name"]
    for pod in pods:
        if "nodeName" in pod["spec"]:
            pod["spec"]["nodeName"] = prefix + pod["spec"]["nodeName"]
        for volume in pod["spec"].get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"]["claimName"] = prefix + volume["persistentVolumeClaim"]["claimName"]
    for found in storage:
        for field in ("volumeName", "storageClassName"):
            if found.get("spec", {}).get(field):
                found["spec"][field] = prefix + found["spec"][field]
    return own


def put(case: Json, cluster: Cluster) -> None:
    """Its objects beside what is there; the pending pods wait."""
    cluster.nodes |= {node["metadata"]["name"]: _complete(node, "Node") for node in case["nodes"]}
    for pod in case["pods"]:
        cluster.add(_complete(pod, "Pod", {"phase": "Running"}))
    for pod in _listed(case["pending"]):
        cluster.add(_complete(pod, "Pod", {"phase": "Pending"}))
    for namespace in case["namespaces"]:
        cluster.namespaces[namespace["metadata"]["name"]] = "Active"
        cluster.namespace_labels[namespace["metadata"]["name"]] = namespace["metadata"].get("labels", {})
    cluster.volumes += [_complete(found, "PersistentVolume") for found in case.get("pvs", ())]
    cluster.claims += [_complete(found, "PersistentVolumeClaim") for found in case.get("pvcs", ())]
    cluster.classes += [_complete(found, "StorageClass") for found in case.get("storageclasses", ())]


def _listed(pending: Any) -> list[Object]:
    """A filter case has one, a sizing case several."""
    return pending if isinstance(pending, list) else [pending]


def _complete(found: Object, kind: str, status: Object | None = None) -> Object:
    version = "storage.k8s.io/v1" if kind == "StorageClass" else "v1"
    whole = {"apiVersion": version, "kind": kind} | found
    return whole if status is None else whole | {"status": status | found.get("status", {})}

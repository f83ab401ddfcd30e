"""A grown cluster for the verb `rules`: many owners that differ in what they ask, with the noise of real objects."""

import hashlib
from collections.abc import Iterator
from typing import Any

from tests.service.kube.cluster import Cluster

Object = dict[str, Any]
ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of the suffixes that Kubernetes gives."""
DEFAULT_TOLERATIONS = [
    {"effect": "NoExecute", "key": f"node.kubernetes.io/{what}", "operator": "Exists", "tolerationSeconds": 300}
    for what in ("not-ready", "unreachable")
]


def put_crowd(cluster: Cluster, *, owners: int, pods_each: int, nodes: int, waiting_owners: int = 0) -> None:
    """Deployments in 20 namespaces, 6 DaemonSets, a budget for every fourth Deployment. The same at every call."""
    cluster.nodes = {node["metadata"]["name"]: node for node in _nodes(nodes)}
    names = list(cluster.nodes)
    for number in range(20):
        cluster.namespaces[f"team-{number}"] = "Active"
        cluster.namespace_labels[f"team-{number}"] = {"kubernetes.io/metadata.name": f"team-{number}", "tier": "back"}
    for number in range(6):
        metadata = {"namespace": "kube-system", "name": f"agent-{number}"}
        template = {"metadata": {"labels": {"app": f"agent-{number}"}}, "spec": _spec(f"agent-{number}", number + 1)}
        cluster.daemon_sets["kube-system", f"agent-{number}"] = {"metadata": metadata, "spec": {"template": template}}
    for number in range(owners):
        _put_owner(cluster, number, pods_each, [] if number >= owners - waiting_owners else names)


def _drawn(what: str) -> int:
    """A number that looks like chance, and is the same at every call."""
    return int.from_bytes(hashlib.sha256(what.encode()).digest())


def _suffix(what: str, length: int) -> str:
    return "".join(LETTERS[_drawn(f"{what}/{place}") % len(LETTERS)] for place in range(length))


def _nodes(count: int) -> Iterator[Object]:
    for number in range(count):
        name = f"worker-i-0{_drawn(f'node {number}') % 2**64:016x}"
        size = ("t3.small", "t3.medium", "m6g.large")[_drawn(name) % 3]
        labels = {
            "beta.kubernetes.io/arch": "amd64",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
            HOST: name,
            "node.kubernetes.io/instance-type": size,
            "k3s-autoscaler/managed": "true",
            "topology.kubernetes.io/region": "eu-central-1",
            ZONE: ZONES[number % 3],
        }
        allocatable = {"cpu": "1930m", "ephemeral-storage": "18242267924", "memory": "3391372Ki", "pods": "110"}
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"providerID": f"aws:///{labels[ZONE]}/{name[7:]}"},
            "status": {"allocatable": allocatable},
        }


def _spec(app: str, number: int) -> Object:
    requests = {
        "cpu": f"{_drawn(f'{app} cpu') % 40 * 25 + 25}m",
        "memory": f"{_drawn(f'{app} memory') % 32 * 64 + 64}Mi",
    }
    container = {
        "name": app,
        "image": f"registry.example.com/{app}:1.{number}",
        "env": [{"name": f"SETTING_{n}", "value": _suffix(f"{app} {n}", 20)} for n in range(12)],
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
        "resources": {"requests": requests, "limits": {"memory": requests["memory"]}},
    }
    spec: Object = {"containers": [container], "schedulerName": "default-scheduler", "priority": 0}
    selector = {"matchLabels": {"app": app}}
    if number % 3 == 0:
        term = {"labelSelector": selector, "topologyKey": HOST}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    if number % 5 == 0:
        constraint = {
            "topologyKey": ZONE,
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector,
        }
        spec["topologySpreadConstraints"] = [constraint]
    if number % 7 == 0:
        spec["nodeSelector"] = {"node.kubernetes.io/instance-type": "m6g.large"}
    return spec


def _put_owner(cluster: Cluster, number: int, pods: int, nodes: list[str]) -> None:
    app, namespace, revision = f"service-{number}", f"team-{number % 20}", _suffix(f"revision {number}", 10)
    spec = _spec(app, number)
    labels = {
        "app": app,
        "app.kubernetes.io/instance": app,
        "app.kubernetes.io/managed-by": "Helm",
        "pod-template-hash": revision,
    }
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-{revision}", "controller": True}
    message = f"0/{len(cluster.nodes)} nodes are available: {len(cluster.nodes)} Insufficient cpu. preemption: none."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    for replica in range(pods):
        name = f"{app}-{revision}-{_suffix(f'{app} {replica}', 5)}"
        where = {"nodeName": nodes[_drawn(name) % len(nodes)]} if nodes else {}
        token = {"name": f"kube-api-access-{_suffix(name, 5)}", "projected": {"defaultMode": 420}}
        own = {"tolerations": DEFAULT_TOLERATIONS, "volumes": [token]} | where
        uid = f"{_drawn(f'{name} uid'):064x}"[:32]
        cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "namespace": namespace,
                    "name": name,
                    "uid": uid,
                    "labels": labels,
                    "ownerReferences": [owner | {"uid": uid}],
                },
                "spec": spec | own,
                "status": {"phase": "Running"} if nodes else {"phase": "Pending", "conditions": [condition]},
            }
        )
    if number % 4 == 0:
        cluster.budgets.append(
            {
                "metadata": {"namespace": namespace, "name": app},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
                "status": {"disruptionsAllowed": pods - 1},
            }
        )

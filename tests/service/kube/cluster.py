"""What the API server holds and what becomes of it: versions, budgets, grace periods, finalizers, ending namespaces."""

import copy
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.service.kube import status

Object = dict[str, Any]
Selector = Callable[[Object], bool]


class Cluster:
    """Objects as the API writes them. Everything happens under one lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.nodes: dict[str, Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}
        self.daemon_sets: dict[tuple[str, str], Object] = {}
        self.volumes: list[Object] = []
        self.namespaces: dict[str, str] = {"shop": "Active"}
        """Phase by name."""
        self.namespace_labels: dict[str, dict[str, str]] = {}
        self.claims: list[Object] = []
        self.classes: list[Object] = []
        self.budgets: list[Object] = []
        self.lingering_s: dict[str, float] = {}
        """How long a pod takes to end once it is told to, by name; without an entry it takes no time."""
        self.evictions: list[Object] = []
        """Bodies of the evictions that were meant, the refused ones among them."""
        self.tried: list[Object] = []
        """Bodies of the dry runs."""
        self.writes: list[Object] = []
        """Patches that were done."""
        self.before: dict[str, Callable[[], object]] = {}
        """By method and path: what happens, once, just before that request is answered."""
        self.documents: dict[str, Object] = {}
        """Further objects, by path: they can be read."""
        self.after_eviction: Callable[[Object], object] = lambda _pod: None

    # ------------------------------------------------------------------------------------------------ what tests change

    def add(self, *pods: Object) -> None:
        with self.lock:
            for pod in pods:
                self.pods[_key(pod)] = pod

    def remove(self, *names: str) -> None:
        """Pods end, whatever held them."""
        with self.lock:
            for key in [key for key in self.pods if key[1] in names]:
                del self.pods[key]

    def edit_node(self, name: str, *, spec: Object | None = None, **metadata: Object) -> None:
        """Merge into a Node as somebody else's write would."""
        with self.lock:
            merge(self.nodes[name], {"metadata": metadata, "spec": spec or {}})
            touch(self.nodes[name])

    def pod_names(self) -> list[str]:
        with self.lock:
            self._settle()
            return sorted(name for _, name in self.pods)

    # ------------------------------------------------------------------------------------------------ what kubectl asks

    def node(self, name: str) -> Object:
        if name not in self.nodes:
            raise status.not_found("nodes", name)
        return self.nodes[name]

    def patch_node(self, name: str, *, change: Object, dry: bool) -> Object:
        node = self.node(name)
        change = copy.deepcopy(change)
        expected = change.get("metadata", {}).pop("resourceVersion", None)
        if expected not in (None, node["metadata"]["resourceVersion"]):
            raise status.conflict("nodes", name, status.MODIFIED)
        target = copy.deepcopy(node) if dry else node
        merge(target, change)
        if not dry:
            touch(node)
            self.writes.append(change)
        return target

    def delete_node(self, name: str, *, options: Object) -> Object:
        node = self.node(name)
        wanted = options.get("preconditions", {}).get("uid", node["metadata"]["uid"])
        if wanted != node["metadata"]["uid"]:
            words = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {node['metadata']['uid']}"
            raise status.conflict("nodes", name, words)
        del self.nodes[name]
        return node

    def list_pods(self, selects: Selector) -> list[Object]:
        self._settle()
        return [pod for pod in self.pods.values() if selects(pod)]

    def pod(self, namespace: str, name: str) -> Object:
        self._settle()
        if (namespace, name) not in self.pods:
            raise status.not_found("pods", name)
        return self.pods[namespace, name]

    def evict(self, namespace: str, name: str, *, body: Object) -> Object:
        options = body.get("deleteOptions") or {}
        dry = bool(options.get("dryRun"))
        (self.tried if dry else self.evictions).append(body)
        if self.namespaces.get(namespace) == "Terminating":
            raise status.ending_namespace(name, namespace)
        pod = self.pod(namespace, name)
        self._ask_budgets(pod, dry=dry)
        if not dry:
            self._end(pod, options)
            self.after_eviction(pod)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def delete_pod(self, namespace: str, name: str, *, options: Object) -> Object:
        pod = self.pod(namespace, name)
        self._end(pod, options)
        return pod

    def _ask_budgets(self, pod: Object, *, dry: bool) -> None:
        if "deletionTimestamp" in pod["metadata"] or pod["status"]["phase"] != "Running":
            return  # nothing that a budget counts
        labels = pod["metadata"].get("labels", {}).items()
        namespace = pod["metadata"]["namespace"]
        budgets = [
            budget
            for budget in self.budgets
            if budget["metadata"]["namespace"] == namespace
            and budget["spec"]["selector"]["matchLabels"].items() <= labels
        ]
        if len(budgets) > 1:
            raise status.TWO_BUDGETS
        for budget in budgets:
            title = budget["metadata"]["name"]
            if budget["status"].get("settling"):
                raise status.over_budget(title, settling=True)
            if budget["status"]["disruptionsAllowed"] == 0:
                raise status.over_budget(title)
            if not dry:
                budget["status"]["disruptionsAllowed"] -= 1

    def _end(self, pod: Object, options: Object) -> None:
        meta = pod["metadata"]
        if "deletionTimestamp" not in meta:
            grace_s = options.get("gracePeriodSeconds", pod["spec"].get("terminationGracePeriodSeconds", 30))
            meta["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            meta["deletionGracePeriodSeconds"] = grace_s
            lingers_s = min(self.lingering_s.get(meta["name"], 0.0), math.inf if grace_s else 0.0)
            pod["ends_at"] = time.monotonic() + lingers_s
        self._settle()

    def _settle(self) -> None:
        """Pods whose time is over go, unless a finalizer holds them."""
        for key, pod in list(self.pods.items()):
            if pod.get("ends_at", math.inf) <= time.monotonic() and not pod["metadata"].get("finalizers"):
                del self.pods[key]


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def touch(node: Object) -> None:
    node["metadata"]["resourceVersion"] = str(int(node["metadata"]["resourceVersion"]) + 1)


def merge(target: Object, change: Object) -> None:
    """RFC 7386, which is all that these patches need of a strategic merge, too."""
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value

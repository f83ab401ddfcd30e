"""The verb `rules` asked as the functions ask, and pods with an owner."""

import base64
import gzip
from typing import Any

from autoscaler.model.rules import (
    SchedulingRules,
)
from autoscaler.observe.rules import parse_rules
from tests.service.k3s_server import Server, pod
from tests.service.kube.cluster import Object

NOW_S = 1_793_520_000


def asked(server: Server, **changes: str) -> dict[str, Any]:
    """As the functions ask: of no Node, with no fence."""
    return server.run("rules", **{"node": "", "providerId": "", "fence": "0"} | changes)


def told(server: Server) -> SchedulingRules:
    result = asked(server)
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 0)
    return parse_rules(result["rules"], answered_at_s=NOW_S)


def lines(result: dict[str, Any]) -> list[list[str]]:
    text = gzip.decompress(base64.b64decode(result["rules"])).decode()
    return [line.split("\t") for line in text.splitlines()]


def owned(name: str, kind: str = "ReplicaSet", owner: str = "web", **more: Any) -> Object:
    made = pod(name, kind, **more)
    made["metadata"]["ownerReferences"][0]["name"] = owner
    made["metadata"]["labels"] = {"app": owner, **more.get("metadata", {}).get("labels", {})}
    return made


def waiting(made: Object, message: str = "", **status_fields: Any) -> Object:
    """The pod before it has a Node."""
    del made["spec"]["nodeName"]
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    made["status"] = {"phase": "Pending", "conditions": [condition], **status_fields}
    return made


def container(**requests: str) -> Object:
    return {"name": "main", "resources": {"requests": requests}}

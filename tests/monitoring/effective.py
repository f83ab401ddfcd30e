"""What the pods of a scrape ask, summed without PromQL: what the query's sums are held against."""

from collections import defaultdict
from collections.abc import Sequence

from tests.monitoring.scrape import Series


def effective(sample: Sequence[Series]) -> dict[str, float]:
    """Of each Node, over its unfinished pods: app + sidecars + max(0, largest init - app) + overhead."""
    alive = {
        one.labels["uid"]
        for one in sample
        if one.name == "kube_pod_status_phase" and one.labels["phase"] in {"Pending", "Running"} and one.value == "1"
    }
    infos = [one.labels for one in sample if one.name == "kube_pod_info" and one.labels["uid"] in alive]
    node_of = {labels["uid"]: labels["node"] for labels in infos if "node" in labels}
    sidecars = {
        (one.labels["uid"], one.labels["container"])
        for one in sample
        if one.name == "kube_pod_init_container_info" and one.labels.get("restart_policy") == "Always"
    }
    app: dict[tuple[str, str], float] = defaultdict(float)
    beside: dict[tuple[str, str], float] = defaultdict(float)
    largest: dict[tuple[str, str], float] = defaultdict(float)
    for one in sample:
        key = (one.labels.get("uid", ""), one.labels.get("resource", ""))
        if one.name == "kube_pod_container_resource_requests":
            app[key] += float(one.value)
        elif one.name == "kube_pod_init_container_resource_requests":
            if (key[0], one.labels["container"]) in sidecars:
                beside[key] += float(one.value)
            else:
                largest[key] = max(largest[key], float(one.value))
        elif one.name == "kube_pod_overhead_cpu_cores":
            beside[key[0], "cpu"] += float(one.value)
        elif one.name == "kube_pod_overhead_memory_bytes":
            beside[key[0], "memory"] += float(one.value)
    found: dict[str, float] = defaultdict(float)
    for uid, resource in {*app, *beside, *largest}:
        if uid in node_of and resource in {"cpu", "memory"}:
            asks = app[uid, resource] + beside[uid, resource] + max(0.0, largest[uid, resource] - app[uid, resource])
            found[f'{{node="{node_of[uid]}",resource="{resource}"}}'] += asks
    for labels in infos:
        if "node" in labels:
            stays = ',stays="true"' if labels.get("created_by_kind") in {"DaemonSet", "Node"} else ""
            found[f'{{node="{labels["node"]}"{stays}}}'] += 1
    return {key: round(value, 4) for key, value in found.items()}

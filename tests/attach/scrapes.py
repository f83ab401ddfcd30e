"""Scrapes as people have them: ours, kube-prometheus-stack's, and those of a store that several clusters share."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.attach.pages import LAB, SHOP, nodes

# What the operator puts on each target of a ServiceMonitor, beside `instance`.
_STACK_KSM: Final = {
    "namespace": "monitoring",
    "service": "kube-prometheus-stack-kube-state-metrics",
    "endpoint": "http",
    "pod": "kube-prometheus-stack-kube-state-metrics-5c8b7d4f9-x2x7k",
    "container": "kube-state-metrics",
}
_STACK_MACHINE: Final = {
    "namespace": "monitoring",
    "service": "kube-prometheus-stack-prometheus-node-exporter",
    "endpoint": "http-metrics",
    "pod": "kube-prometheus-stack-prometheus-node-exporter-9xk2l",
    "container": "node-exporter",
}

Scrapes = dict[str, Any]


def plain(target: str) -> Scrapes:
    """As `monitoring/prometheus.yml` scrapes."""
    return _configuration(target, [(SHOP, {})], stack=False)


def stack(target: str) -> Scrapes:
    """As kube-prometheus-stack scrapes; node-exporter's `instance` is the Node's name, as many have relabelled it."""
    return _configuration(target, [(SHOP, {})], stack=True)


def without_rules(scrapes: Scrapes) -> Scrapes:
    """The same, for a store whose rules are evaluated for real."""
    kept = [job for job in scrapes["scrape_configs"] if job["job_name"] != "rules"]
    return {**scrapes, "scrape_configs": kept}


def shared(target: str) -> Scrapes:
    """Two clusters in one store, one of them by two replicas that nobody has made one."""
    return _configuration(
        target,
        [
            (SHOP, {"cluster": SHOP, "prometheus_replica": "a"}),
            (SHOP, {"cluster": SHOP, "prometheus_replica": "b"}),
            (LAB, {"cluster": LAB, "prometheus_replica": "a"}),
        ],
        stack=True,
    )


def _configuration(target: str, copies: Iterable[tuple[str, Mapping[str, str]]], *, stack: bool) -> Scrapes:
    jobs: dict[str, list[dict[str, Any]]] = {
        "kube-state-metrics": [], "kube-state-metrics-telemetry": [], "node-exporter": [], "rules": []
    }  # fmt: skip

    def add(job: str, path: str, labels: Mapping[str, str]) -> None:
        jobs[job].append({"targets": [target], "labels": {"__metrics_path__": path, **labels}})

    for cluster, external in copies:
        ksm, machine = (_STACK_KSM, _STACK_MACHINE) if stack else ({}, {})
        add("kube-state-metrics", f"/{cluster}/ksm", {"instance": "10.42.0.5:8080", **ksm, **external})
        add("kube-state-metrics-telemetry", f"/{cluster}/telemetry", {"instance": "10.42.0.5:8081", **external})
        add("rules", f"/{cluster}/recorded", external)
        for number, node in enumerate(nodes(cluster)):
            instance = node if stack else f"10.0.9.{number}:9100"
            add("node-exporter", f"/{cluster}/machine/{node}", {"instance": instance, **machine, **external})
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            # Rules leave no label of a target on what they record.
            {
                "job_name": job,
                "honor_labels": job == "kube-state-metrics",
                "static_configs": targets,
                "metric_relabel_configs": [{"regex": "job|instance", "action": "labeldrop"}] if job == "rules" else [],
            }
            for job, targets in jobs.items()
        ],
    }

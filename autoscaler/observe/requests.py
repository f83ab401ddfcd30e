"""Effective resource requests of a pod: what the scheduler reserves for it."""

from collections.abc import Mapping

from autoscaler.model import Resources

PARTS = frozenset({"app", "init", "sidecar", "overhead"})


def effective(parts: Mapping[str, float]) -> float:
    """`max(app + sidecar, init + sidecar) + overhead` of one resource, in its own unit.

    `app` and `sidecar` are sums over containers, `init` the largest init container. Every sidecar counts beside the
    init containers although the earlier ones may run without the later: an upper bound.
    Source: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/ (resource sharing within containers).
    """
    sidecar = parts.get("sidecar", 0.0)
    return max(parts.get("app", 0.0) + sidecar, parts.get("init", 0.0) + sidecar) + parts.get("overhead", 0.0)


def pod_resources(cpu_parts: Mapping[str, float], memory_parts: Mapping[str, float]) -> Resources:
    """Combine both resources; `cpu_parts` in cores, `memory_parts` in bytes. An absent part asks nothing."""
    return Resources(
        cpu_millicores=round(effective(cpu_parts) * 1000), memory_bytes=round(effective(memory_parts)), pods=1
    )

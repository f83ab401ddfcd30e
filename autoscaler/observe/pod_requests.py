"""Effective requests from a pod's spec: what the scheduler reserves, resource by resource.

Source: k8s.io/component-helpers, resource.PodRequests (1.36), and
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/ (resource sharing within containers).
"""

from collections.abc import Iterable, Sequence

import msgspec

from autoscaler.model.rules import Amounts


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What one container asks."""

    requests: Amounts = ()
    sidecar: bool = False
    """An init container that goes on running (`restartPolicy: Always`)."""


def pod_requests(
    containers: Iterable[Container],
    init_containers: Sequence[Container] = (),
    *,
    pod_level: Amounts = (),
    overhead: Amounts = (),
) -> Amounts:
    """The larger of what runs at the end and of what runs while each init container does; pod level; overhead.

    `init_containers` in their order: an init container runs beside the sidecars that stand before it. What is asked for
    the pod as a whole stands in for the sum of that resource (CPU, memory, huge pages); overhead comes on top.
    """
    running = _sum(container.requests for container in containers)
    started: dict[str, int] = {}
    starting: dict[str, int] = {}
    for container in init_containers:
        if container.sidecar:
            started = _sum((tuple(started.items()), container.requests))
            beside = started
        else:
            beside = _sum((tuple(started.items()), container.requests))
        starting = largest(starting, beside)
    effective = largest(_sum((tuple(running.items()), tuple(started.items()))), starting)
    effective |= {name: value for name, value in pod_level if _of_the_pod(name)}
    return tuple(sorted(_sum((tuple(effective.items()), overhead)).items()))


def largest(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    """The larger of both, resource by resource; so a pod that is being resized holds what it had and what it gets."""
    return {name: max(left.get(name, 0), right.get(name, 0)) for name in left | right}


def _sum(parts: Iterable[Amounts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part:
            total[name] = total.get(name, 0) + value
    return total


def _of_the_pod(resource: str) -> bool:
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")

"""What a Prometheus with kube-state-metrics and node-exporter has recorded of a cluster, as a Recording.

Only series that every such Prometheus has are asked for: none of our rules has to have run. The questions are range
queries; whoever asks them hands their answers back here.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.backtest.recording import DaemonSet, Group, Recording
from autoscaler.observe.promql import SIDECAR, Raw
from autoscaler.observe.requested import INIT_REQUESTS
from autoscaler.policy import Policy

GROUPS: Final = "pods"
USED: Final = "use"
NODES: Final = "nodes"
WORKERS: Final = "workers"
WAITING: Final = "waiting"
DAEMON_SETS: Final = "DaemonSets"
SLOWEST_SCRAPE_S: Final = 60
"""Of node-exporter: Prometheus' own default. A machine is measured once it was scraped a step ago, give or take two."""
NO_REQUEST: Final = "0"
_NONE: Final = frozenset({"", "<none>"})
"""What kube-state-metrics calls the owner of a bare pod, by version."""

NOTES: Final = (
    "A pod's requests are those of its containers and sidecars: what init containers ask on top, and a runtime's "
    "overhead, are left out.",
    "What workers used is their measured share of what they can give to pods, so it is a little low where much is "
    "reserved for the system.",
)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One series of an answer."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


def questions(policy: Policy, step_s: int) -> dict[str, str]:
    """PromQL by name. `metrics.matchers` of the policy tell the cluster from others in the same store."""
    raw = Raw(policy.metrics.matchers)
    on_server = f"on (node) {raw.control_plane}"
    info = raw.state("kube_pod_info", 'created_by_kind!~"DaemonSet|Node"')
    pods = (
        f"max by (uid, namespace, created_by_kind, node) ({info}) and on (uid) {raw.alive} "
        f"unless on (uid) {raw.gated} unless {on_server}"
    )
    use = raw.node_utilisation(step_s, SLOWEST_SCRAPE_S)
    daemons = raw.state("kube_pod_info", 'created_by_kind="DaemonSet"')
    owned = f"max by (uid, namespace, created_by_name) ({daemons} unless {on_server})"
    return {
        NODES: f"count({raw.state('kube_node_info')})",
        WORKERS: f"count({raw.ready} == 1 unless {on_server})",
        GROUPS: f"count by (namespace, created_by_kind, cpu, memory) ({_sized(raw, pods)})",
        USED: f"sum by (resource) ({raw.allocatable} * on (node, resource) ({use}) unless {on_server})",
        WAITING: f"count({raw.waiting})",
        DAEMON_SETS: f"count by (namespace, created_by_name, cpu, memory) ({_sized(raw, owned)})",
    }


def _sized(raw: Raw, pods: str) -> str:
    """The pods with what they request as labels `cpu` (cores) and `memory` (bytes)."""
    rows = f"({pods})"
    for resource in ("cpu", "memory"):
        where = f'resource="{resource}"'
        app = raw.state("kube_pod_container_resource_requests", where)
        sidecars = raw.state("kube_pod_init_container_info", SIDECAR)
        init = f"{raw.state(INIT_REQUESTS, where)} and on (uid, container) {sidecars}"
        asked = f"sum by (uid) (max by (uid, container) ({app} or {init}))"
        sizes = f"({asked} or on (uid) 0 * max by (uid) ({pods}))"
        rows += f' * on (uid) group_left ({resource}) count_values by (uid) ("{resource}", {sizes})'
    return rows


def recording_of(answers: Mapping[str, Sequence[Series]], *, begin_s: int, step_s: int, steps: int) -> Recording:
    """Put the answers together. Where kube-state-metrics told nothing, nothing is known; else what it lacks is none."""

    def of(series: Series) -> dict[int, float]:
        return {round((at_s - begin_s) / step_s): float(text) for at_s, text in series.values}

    told = {step for series in answers[NODES] for step in of(series)}
    used = {series.metric.get("resource", ""): of(series) for series in answers[USED]}

    def counted(name: str) -> tuple[int | None, ...]:
        found: dict[int, int] = {}
        for series in answers[name]:
            for step, value in of(series).items():
                found[step] = found.get(step, 0) + round(value)
        return tuple(found.get(step, 0) if step in told else None for step in range(steps))

    grouped: dict[tuple[str, str, int, int], dict[int, int]] = {}
    for series in answers[GROUPS]:
        kind = series.metric.get("created_by_kind", "")
        own = grouped.setdefault(
            (series.metric.get("namespace", ""), "" if kind in _NONE else kind, *_size(series)), {}
        )
        for step, value in of(series).items():
            own[step] = own.get(step, 0) + round(value)
    missing = sum(step in told and (step not in used.get("cpu", {}) or step not in used.get("memory", {}))
                  for step in range(steps))  # fmt: skip
    notes = list(NOTES)
    if missing:
        notes.append(
            f"At {missing} of {len(told)} moments node-exporter told nothing of any worker: these are gaps "
            "(docs/metrics.md says what has to be scraped)."
        )
    return Recording(
        begin_s=begin_s,
        step_s=step_s,
        groups=tuple(
            Group(
                namespace=namespace,
                kind=kind,
                cpu_millicores=millicores,
                memory_bytes=size_bytes,
                pods=tuple(found.get(step, 0) if step in told else None for step in range(steps)),
            )
            for (namespace, kind, millicores, size_bytes), found in sorted(grouped.items())
        ),
        daemon_sets=_daemon_sets(answers[DAEMON_SETS]),
        used_cores=tuple(used.get("cpu", {}).get(step) for step in range(steps)),
        used_bytes=tuple(used.get("memory", {}).get(step) for step in range(steps)),
        workers=counted(WORKERS),
        waiting=counted(WAITING),
        notes=tuple(notes),
    )


def _size(series: Series) -> tuple[int, int]:
    """Millicores and bytes, rounded up as Kubernetes does."""
    cpu, memory = (float(series.metric.get(resource, NO_REQUEST)) for resource in ("cpu", "memory"))
    return -int(-cpu * 1000 // 1), -int(-memory // 1)


def _daemon_sets(rows: Sequence[Series]) -> tuple[DaemonSet, ...]:
    """The largest of each: workers have to hold it."""
    largest: dict[tuple[str, str], tuple[int, int]] = {}
    for series in rows:
        key = (series.metric.get("namespace", ""), series.metric.get("created_by_name", ""))
        before, now = largest.get(key, (0, 0)), _size(series)
        largest[key] = (max(before[0], now[0]), max(before[1], now[1]))
    return tuple(
        DaemonSet(namespace=namespace, name=name, cpu_millicores=millicores, memory_bytes=size_bytes)
        for (namespace, name), (millicores, size_bytes) in sorted(largest.items())
    )

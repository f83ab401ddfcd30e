"""Ways in which Prometheus' answer can be wrong, as switches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from autoscaler.model import Sample
from autoscaler.observe.query import NAMED
from autoscaler.observe.series import (
    FAMILY,
    HISTORY_FAMILIES,
    KUBE_STATE_METRICS,
    NODE_EXPORTER,
    SIGNAL_FAMILIES,
    UTILISATION_GROUP,
)
from autoscaler.ports import MetricsUnavailable
from autoscaler.simulator.metrics.elsewhere import abroad, merged, native
from autoscaler.simulator.metrics.exposition import PROOF_NODE
from autoscaler.simulator.metrics.promql import Question, Sight
from autoscaler.simulator.metrics.recorded import Recorder, Scene, as_samples
from autoscaler.simulator.metrics.recorded_cluster import RESOURCES, Row, row
from autoscaler.simulator.metrics.text_format import number_text

PROOFS: Final = {
    "node_not_ready": "kube_node_status_condition",
    "node_cordoned": "kube_node_spec_unschedulable",
    "node_managed": "kube_node_labels",
    "node_labels": "kube_node_labels",
    "node_local_volumes": "kube_persistentvolume_annotations",
    "volumes_of": "kube_persistentvolume_info",
    "pod_gated": "kube_pod_status_reason",
}
"""What `shown` tells of the raw family that a family comes from."""
RECORDED: Final = frozenset(
    {
        *("use_grow_min", "use_grow_count", "use_shrink_max", "use_shrink_count"),
        *("requested_max", "requested_count", "requested_at_once", "used_at_once", "evaluated_at"),
        "rules",
        *SIGNAL_FAMILIES,
        *HISTORY_FAMILIES,
    }
)
"""Families that are left while kube-state-metrics is down: what rules recorded, and what others expose."""
ALLOWED_FAMILIES: Final = frozenset(
    {"node_labels", "node_managed", "node_local_volumes", "pod_selector", "pod_do_not_evict"}
)
"""Families that kube-state-metrics shows only where allow-lists of labels and annotations say so."""
MISSED: Final = 4
"""Slow rules are evaluated this many times too seldom."""


@dataclass(slots=True)
class MetricFaults:
    """Switches; each works from now on until it is switched back. Several work together."""

    down: bool = False
    """Nobody listens."""
    slow: bool = False
    """No answer within the time-out, which passes."""
    not_an_answer: bool = False
    """HTTP 200 with something that is no Prometheus answer."""
    empty: bool = False
    """An empty vector: it lost its data."""
    garbage: bool = False
    """Values that are no numbers."""
    nan: set[str] = field(default_factory=set)
    """Families whose values are NaN."""
    missing: set[str] = field(default_factory=set)
    """Families whose raw series are not shown any more: nothing is counted, and their proofs of presence are gone."""
    dropped: set[str] = field(default_factory=set)
    """Families that are counted, and shown, and do not arrive."""
    half: bool = False
    """Every second row does not arrive."""
    sources_down: set[str] = field(default_factory=set)
    """`kube-state-metrics`, `node-exporter`."""
    restarted: bool = False
    """kube-state-metrics restarted less than a minute ago."""
    frozen: Scene | None = None
    """What Prometheus held once: it answers from that and learns nothing more."""
    foreign: bool = False
    """Another cluster's series come back, whole and fresh, and none of ours."""
    two_clusters: bool = False
    """Ours and another cluster's come back together."""
    no_allow_lists: bool = False
    """kube-state-metrics as a chart leaves it: no labels, annotations and node selectors."""
    target_gone: bool = False
    """One of two targets of kube-state-metrics is down for good; the other shows everything."""
    slow_rules: bool = False
    """The rules take longer than their interval: most evaluations are missed."""
    lag_s: float = 0.0
    """kube-state-metrics shows its objects as they were this long ago."""
    scraped_every_s: int | None = None
    """kube-state-metrics is really scraped this seldom, whatever the policy says."""


def spoil(faults: MetricFaults, recorder: Recorder, promql: str, now_s: float) -> list[Sample]:
    """The recorder's answer as the faults leave it. Raises MetricsUnavailable, and ValueError for an unknown query."""
    question = recorder.reader.read(promql)
    if faults.down:
        raise MetricsUnavailable("Prometheus does not answer: connection refused.")
    if faults.slow:
        raise MetricsUnavailable("Prometheus did not answer in time.")
    if faults.not_an_answer:
        raise MetricsUnavailable("Prometheus answered with something that is not an instant vector.")
    if faults.empty:
        return []
    rows: Sequence[Row] = _told(faults, lambda asked: _held(faults, recorder, asked, now_s), question)
    for source in faults.sources_down:
        rows = _without_source(rows, source)
    for on, effect in (
        (faults.no_allow_lists, _without_allow_lists),
        (faults.target_gone and isinstance(question, Sight), _with_target_gone),
        (faults.slow_rules, _with_slow_rules),
        (faults.restarted and isinstance(question, Sight), _restarted),
    ):
        if on:
            rows = effect(rows)
    if faults.missing or faults.dropped:
        rows = _without_families(rows, faults.missing, faults.dropped)
    if faults.nan or faults.garbage:
        rows = [(labels, _spoiled(faults, labels[FAMILY], text)) for labels, text in rows]
    return as_samples(rows[::2] if faults.half else rows, now_s)


def _held(faults: MetricFaults, recorder: Recorder, question: Question, now_s: float) -> Sequence[Row]:
    """What Prometheus holds of this cluster."""
    scene = faults.frozen
    if scene is None:
        return recorder.rows(question, now_s, scraped_every_s=faults.scraped_every_s, lag_s=faults.lag_s)
    return recorder.rows_of(scene, question)


def _told(faults: MetricFaults, held: Callable[[Question], Sequence[Row]], question: Question) -> Sequence[Row]:
    """What it tells: of this cluster, of another one that is just like it, or of both."""
    if not (faults.foreign or faults.two_clusters):
        return held(question)
    other = [abroad(one) for one in held(native(question))]
    return other if faults.foreign else merged(held(question), other)


def _without_source(rows: Sequence[Row], source: str) -> list[Row]:
    return _without_nodes(rows) if source == KUBE_STATE_METRICS else _without_exporters(rows)


def _without_nodes(rows: Sequence[Row]) -> list[Row]:
    """While every target of kube-state-metrics is down. A window still holds what was recorded before."""
    left: list[Row] = []
    for labels, text in rows:
        family, source = labels[FAMILY], labels.get("source")
        if family == "counted":
            left.append((labels, "0"))
        elif family in RECORDED or source == NODE_EXPORTER or (source is not None and family == "scrape_interval"):
            left.append((labels, text))
    about_sources = any(labels[FAMILY] == "scrape_interval" for labels, _ in left)
    return [*left, row("targets_down", "1", source=KUBE_STATE_METRICS)] if about_sources else left


def _without_exporters(rows: Sequence[Row]) -> list[Row]:
    """While every target of node-exporter is down: no worker is measured, and only bounds of their use are known."""
    nodes = {labels["node"]: labels for labels, _ in rows if labels[FAMILY] == "node"}
    if not nodes:
        return list(rows)
    targets = nodes.keys() - {labels["node"] for labels, _ in rows if labels[FAMILY] == "node_not_ready"}
    away = {"node_cordoned", "node_control_plane", "node_taint"}
    takers = targets - {labels["node"] for labels, _ in rows if labels[FAMILY] in away}
    sizes = sorted(
        ((float(nodes[name][resource]), name, resource) for name in takers for resource in RESOURCES), reverse=True
    )
    bounds = {"use": "0", "use_grow_min": "0", "use_shrink_max": "1"}
    left = [row("targets_down", str(len(targets)), source=NODE_EXPORTER)]
    left += [row("node_unmeasured", number_text(size), node=name, resource=what) for size, name, what in sizes[:NAMED]]
    for labels, text in rows:
        family = labels[FAMILY]
        if labels.get("of") == "node_unmeasured":
            left.append((labels, str(len(sizes))))
        elif family == "scrape_interval" or (labels.get("source") != NODE_EXPORTER and family != "node_unmeasured"):
            left.append((labels, bounds.get(family, text)))
    return left


def _without_allow_lists(rows: Sequence[Row]) -> list[Row]:
    volumes = sum(
        int(text) for labels, text in rows if labels[FAMILY] == "node_local_volumes" and labels["node"] != PROOF_NODE
    )
    hidden = {"kube_node_labels", "kube_persistentvolume_annotations"}
    left = [
        (labels, "0" if labels[FAMILY] == "counted" and labels["of"] in ALLOWED_FAMILIES else text)
        for labels, text in rows
        if labels[FAMILY] not in ALLOWED_FAMILIES and labels.get("of") not in hidden
    ]
    return [*left, row("volumes_unplaced", str(volumes))] if volumes else left


def _with_target_gone(rows: Sequence[Row]) -> list[Row]:
    return [*rows, row("targets_down", "1", source=KUBE_STATE_METRICS)]


def _restarted(rows: Sequence[Row]) -> list[Row]:
    others = [
        (labels, text)
        for labels, text in rows
        if labels[FAMILY] != "restarted" or labels["source"] != KUBE_STATE_METRICS
    ]
    return [*others, row("restarted", "1", source=KUBE_STATE_METRICS)]


def _with_slow_rules(rows: Sequence[Row]) -> list[Row]:
    left: list[Row] = []
    for labels, text in rows:
        family = labels[FAMILY]
        if family.endswith("_count"):
            left.append((labels, str(int(text) // MISSED)))
        elif family == "evaluated_at" and labels["group"] == UTILISATION_GROUP:
            # The last one that was not missed.
            interval_s = MISSED * int(labels["interval_s"])
            left.append((labels, number_text(float(text) // interval_s * interval_s)))
        else:
            left.append((labels, text))
    return [(labels, text) for labels, text in left if not labels[FAMILY].endswith("_count") or text != "0"]


def _without_families(rows: Sequence[Row], missing: set[str], dropped: set[str]) -> list[Row]:
    proofs = {PROOFS[family] for family in missing if family in PROOFS}
    return [
        (labels, "0" if labels[FAMILY] == "counted" and labels["of"] in missing else text)
        for labels, text in rows
        if labels[FAMILY] not in missing | dropped and (labels[FAMILY] != "shown" or labels["of"] not in proofs)
    ]


def _spoiled(faults: MetricFaults, family: str, text: str) -> str:
    if faults.garbage:
        return "<html>"
    return "NaN" if family in faults.nan else text

"""Ways in which Prometheus' answer can be wrong, as switches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from autoscaler.model import Sample
from autoscaler.observe.series import (
    CLUSTER_FAMILIES,
    KUBE_STATE_METRICS,
    NODE_EXPORTER,
    PREFIX,
    UTILISATION_FAMILIES,
)
from autoscaler.ports import MetricsUnavailable

OF_SOURCE: Final = {
    KUBE_STATE_METRICS: frozenset({*CLUSTER_FAMILIES, *UTILISATION_FAMILIES}),
    NODE_EXPORTER: frozenset({"node_utilisation"}),
}
"""Families that end with their source; workers_utilisation needs nodes only and then holds bounds."""


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
    """An empty vector: it lost its data or its rules."""
    garbage: bool = False
    """Values that are no numbers."""
    nan: set[str] = field(default_factory=set)
    """Families whose values are NaN."""
    missing: set[str] = field(default_factory=set)
    """Families that the rules found nothing for: counted as 0."""
    dropped: set[str] = field(default_factory=set)
    """Families that are counted and do not arrive."""
    half: bool = False
    """Every second series does not arrive."""
    sources_down: set[str] = field(default_factory=set)
    """`kube-state-metrics`, `node-exporter`."""
    restarted: bool = False
    """kube-state-metrics restarted less than a minute ago."""
    frozen: Sequence[Sample] | None = None
    """An old answer that is given again and again: rules are not evaluated any more."""


def spoil(faults: MetricFaults, answer: Callable[[], Sequence[Sample]], now_s: float) -> Sequence[Sample]:
    """The answer as the faults leave it. Raises MetricsUnavailable."""
    if faults.down:
        raise MetricsUnavailable("Prometheus does not answer: connection refused.")
    if faults.slow:
        raise MetricsUnavailable("Prometheus did not answer in time.")
    if faults.not_an_answer:
        raise MetricsUnavailable("Prometheus answered with something that is not an instant vector.")
    if faults.empty:
        return []
    samples = answer()
    if faults.frozen is not None:
        samples = [Sample(dict(sample.metric), (now_s, sample.value[1])) for sample in faults.frozen]
    for source in faults.sources_down:
        samples = _without_source(samples, source)
    if faults.missing or faults.dropped:
        lost = faults.missing | faults.dropped
        samples = [sample for sample in samples if _family(sample) not in lost]
    if faults.missing or faults.nan or faults.garbage or faults.restarted:
        samples = [_spoiled(faults, sample) for sample in samples]
    return samples[::2] if faults.half else samples


def _family(sample: Sample) -> str:
    return sample.metric.get("__name__", "").removeprefix(PREFIX)


def _spoiled(faults: MetricFaults, sample: Sample) -> Sample:
    family, metric = _family(sample), sample.metric
    text = sample.value[1]
    if family == "expected" and metric["family"] in faults.missing:
        text = "0"
    if family == "source_restarted" and faults.restarted:
        text = "1"
    if family in faults.nan:
        text = "NaN"
    if faults.garbage:
        text = "<html>"
    return sample if text == sample.value[1] else Sample(metric, (sample.value[0], text))


def _without_source(samples: Sequence[Sample], source: str) -> list[Sample]:
    """What the rules record while every target of a source is down: a window still holds what came before."""
    families = OF_SOURCE[source]
    counted = families | (frozenset(UTILISATION_FAMILIES) if source == NODE_EXPORTER else frozenset())
    result = []
    for sample in samples:
        family, metric = _family(sample), sample.metric
        if family in families or (family == "expected" and metric["family"] in counted):
            continue
        if family == "scraped_at" and metric["source"] == source:
            continue
        if family == "source_up" and metric["source"] == source:
            result.append(Sample(metric, (sample.value[0], "0")))
        else:
            result.append(sample)
    return result

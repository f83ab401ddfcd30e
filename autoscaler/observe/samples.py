"""A Prometheus answer sorted by family, with a note of everything that is missing, stale or not a number."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.model import Sample
from autoscaler.observe.query import WINDOW_LABEL
from autoscaler.observe.series import (
    CLUSTER_FAMILIES,
    CLUSTER_GROUP,
    KUBE_STATE_METRICS,
    NEVER_EMPTY,
    NODE_EXPORTER,
    PREFIX,
    UTILISATION_FAMILIES,
    UTILISATION_GROUP,
)

CLOCK_TOLERANCE_S: Final = 300
"""Prometheus' clock and ours may differ this far before its answer counts as somebody's cache."""

Row = tuple[Mapping[str, str], float]
"""Labels and value."""


class SortedSamples(msgspec.Struct, frozen=True):
    """What came back, sorted. `at_s` is Prometheus' clock."""

    at_s: float
    families: dict[str, list[Row]]
    windows: dict[str, list[Row]]
    cluster_problems: tuple[str, ...]
    """What makes nodes and pods unknown: with any of these nothing is computed from them."""
    other_problems: tuple[str, ...]
    """What makes the picture partial, with nodes and pods known."""


def sort_samples(samples: Sequence[Sample], *, now_s: int, max_age_s: int) -> SortedSamples | None:
    """Sort and check; None for an empty answer, which says nothing at all."""
    if not samples:
        return None
    families: dict[str, list[Row]] = defaultdict(list)
    windows: dict[str, list[Row]] = defaultdict(list)
    cluster: list[str] = []
    other: list[str] = []
    for sample in samples:
        name = sample.metric.get("__name__", "").removeprefix(PREFIX)
        target = windows[sample.metric.get(WINDOW_LABEL, "")] if not name else families[name]
        number = _number(sample.value[1])
        if number is None:
            problems = other if name in UTILISATION_FAMILIES or not name else cluster
            problems.append(f"{name or 'a window'} holds {sample.value[1]!r}, which is not a finite number")
        else:
            target.append((sample.metric, number))
    at_s = float(samples[0].value[0])
    if abs(at_s - now_s) > CLOCK_TOLERANCE_S:
        cluster.append(f"Prometheus' clock differs from ours by {abs(at_s - now_s):.0f} s")
    _check_freshness(families, at_s, max_age_s, cluster, other)
    _check_expected(families, CLUSTER_FAMILIES, cluster)
    _check_expected(families, UTILISATION_FAMILIES, other)
    _check_restarts(families, other)
    return SortedSamples(at_s, dict(families), dict(windows), tuple(cluster), tuple(other))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _single(rows: Sequence[Row], label: str, wanted: str) -> float | None:
    values = [value for labels, value in rows if labels.get(label) == wanted]
    return min(values) if values else None


def _check_freshness(
    families: Mapping[str, list[Row]], at_s: float, max_age_s: int, cluster: list[str], other: list[str]
) -> None:
    for family, label, name, problems in (
        ("evaluated_at", "group", CLUSTER_GROUP, cluster),
        ("evaluated_at", "group", UTILISATION_GROUP, other),
        ("scraped_at", "source", KUBE_STATE_METRICS, cluster),
        ("scraped_at", "source", NODE_EXPORTER, other),
    ):
        moment_s = _single(families.get(family, ()), label, name)
        what = f"the rule group {name}" if label == "group" else name
        verb = "evaluated" if label == "group" else "scraped"
        if moment_s is None:
            problems.append(f"{what} was not {verb}: {family} is missing")
        elif at_s - moment_s > max_age_s:
            problems.append(f"{what} was last {verb} {at_s - moment_s:.0f} s ago; at most {max_age_s} s are accepted")
    for source, problems in ((KUBE_STATE_METRICS, cluster), (NODE_EXPORTER, other)):
        up = _single(families.get("source_up", ()), "source", source)
        if up is None:
            problems.append(f"whether {source} is up is not known: source_up is missing")
        elif up != 1:
            other.append(f"{source} is not up everywhere")


def _check_expected(families: Mapping[str, list[Row]], names: Sequence[str], problems: list[str]) -> None:
    expected = {labels.get("family", ""): value for labels, value in families.get("expected", ())}
    for name in names:
        received = len(families.get(name, ()))
        if name not in expected:
            problems.append(f"{name} is missing: its source did not say how many series there are")
        elif expected[name] != received:
            problems.append(f"{name} has {received} series, {expected[name]:.0f} were recorded")
        elif received == 0 and name in NEVER_EMPTY:
            problems.append(f"{name} is empty, which no K3s cluster can be")


def _check_restarts(families: Mapping[str, list[Row]], other: list[str]) -> None:
    restarted = _single(families.get("source_restarted", ()), "source", KUBE_STATE_METRICS)
    if restarted is None:
        other.append(f"whether {KUBE_STATE_METRICS} just restarted is not known: source_restarted is missing")
    elif restarted > 0:
        other.append(f"{KUBE_STATE_METRICS} restarted less than 60 s ago")

"""`metrics`: how Prometheus is asked, and the intervals that the rendered rules and scrapes use."""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from autoscaler.policyfile.faults import refuse
from autoscaler.ranges import PositiveSeconds

LabelName = Annotated[
    str,
    msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100, description="a label's name, such as cluster"),
]
"""A label of Prometheus' data model."""
LabelValue = Annotated[str, msgspec.Meta(max_length=200)]


LONGEST_QUERY_S: Final = 8.0
"""A Prometheus that uses its whole time must leave the invocation's 25 s enough for a launch, which needs 15 s
(act/perform.py): else nothing would ever grow while it does not answer."""
_OURS: Final = frozenset({"job", "node", "pod", "namespace", "uid", "instance", "resource", "bound", "le"})
"""Labels that rules and queries select or group by."""


class MetricsPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How Prometheus is asked, and the intervals that the rendered rules and scrapes use."""

    timeout_s: Annotated[float, msgspec.Meta(ge=0.5, le=LONGEST_QUERY_S)] = 5.0
    """A query may take this long; a launch needs the rest of an invocation."""
    matchers: Annotated[dict[LabelName, LabelValue], msgspec.Meta(max_length=10)] = {}
    """Labels that select one cluster of a store that holds several, in queries, rules and alerts."""
    cluster_interval_s: PositiveSeconds = 2
    """Scrape of kube-state-metrics and its alerts: the speed of the alert path."""
    utilisation_interval_s: PositiveSeconds = 15
    """Scrape of node-exporter, and what rules record for windows; each window holds two at least."""
    cpu_rate_window_s: PositiveSeconds = 60
    """Over which CPU use is averaged; it holds two scrapes at least."""
    max_age_s: PositiveSeconds = 30
    """Older series are stale, unless they are scraped less often than that."""

    def __post_init__(self) -> None:
        refuse(self._faults())

    def _faults(self) -> Iterator[str]:
        for label, value in self.matchers.items():
            if label.startswith("__") or label in _OURS:
                yield (
                    f"metrics.matchers names the label {label}, which Prometheus or our own selectors use: "
                    "choose one that tells the clusters apart"
                )
            # Backquotes and braces belong to Go's templates, $ to Prometheus' own replacements.
            if not value.isprintable() or any(part in value for part in ("`", "{{", "$")):
                yield (
                    f"metrics.matchers.{label} is {value!r}, which the rules cannot carry: give the label a value "
                    "without line breaks, backquotes, '$' and '{{'"
                )
        for name, interval_s in (
            ("cluster_interval_s", self.cluster_interval_s),
            ("utilisation_interval_s", self.utilisation_interval_s),
        ):
            if self.max_age_s < 2 * interval_s:
                yield (
                    f"metrics.max_age_s is {self.max_age_s} and metrics.{name} is {interval_s}: the age must be at "
                    "least twice the interval, or every look finds stale metrics"
                )
        if self.cpu_rate_window_s < 2 * self.utilisation_interval_s:
            yield (
                f"metrics.cpu_rate_window_s is {self.cpu_rate_window_s}: "
                "it must hold at least two scrapes (2 x metrics.utilisation_interval_s)"
            )

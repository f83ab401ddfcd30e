"""The look's three questions of one store, by the class that the functions use, and what of the answers must agree."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.aws.calls import Calls
from autoscaler.aws.prometheus import Prometheus
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Sample
from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.observe.series import FAMILY
from autoscaler.policy import Policy

Labels = frozenset[tuple[str, str]]
Rows = dict[str, dict[Labels, float]]
"""By family, then by the other labels."""

TIMED = frozenset(
    {
        "evaluated_at", "pod_unbound_long", "ready_count", "ready_max", "restarted", "scrape_interval", "scraped_at",
        "use_grow_count", "use_grow_min", "use_shrink_count", "use_shrink_max",
    }
)  # fmt: skip
"""Families that depend on when it was asked, or on since when."""
PER_TARGET = frozenset({"source_nodes", "shown", "overwritten", "targets_down"})
"""Families that count what is shown, so that two replicas are two."""


@dataclass(frozen=True)
class Store:
    url: str
    matchers: dict[str, str] = field(default_factory=dict)
    auth: str | None = None
    ca: str | None = None

    def client(self) -> Prometheus:
        auth, ca = self.auth, self.ca
        return Prometheus(
            self.url,
            timeout_s=10,
            calls=Calls(),
            read_auth=None if auth is None else lambda: auth,
            read_ca=None if ca is None else lambda: ca,
        )

    @property
    def policy(self) -> Policy:
        return Policy(version=1, metrics=MetricsPolicy(matchers=self.matchers))

    def questions(self, nodes: list[str]) -> dict[str, str]:
        return {
            "sight": sight_query(self.policy, with_owners=True),
            "rooms": rooms_query(self.policy, nodes, with_init=True, with_overhead=True),
            "moving": moving_query(self.policy, nodes),
        }

    def rows(self, nodes: list[str]) -> dict[str, Rows]:
        """The answers, by question."""
        client = self.client()
        return {name: by_family(client.query(promql)) for name, promql in self.questions(nodes).items()}


def by_family(samples: list[Sample] | object) -> Rows:
    found: Rows = {}
    assert isinstance(samples, list)
    for sample in samples:
        labels = dict(sample.metric)
        family = labels.pop(FAMILY)
        rows = found.setdefault(family, {})
        key = frozenset(labels.items())
        assert key not in rows, f"{family} has {labels} twice"
        # Sums differ in their last bits: each store adds in its own order.
        rows[key] = float(f"{float(sample.value[1]):.9g}")
    return found


def steady(answers: Mapping[str, Rows]) -> dict[str, object]:
    """What does not depend on the time, nor on which target tells it, and how often."""
    kept: dict[str, object] = {}
    for question, families in answers.items():
        for family, rows in families.items():
            if family in TIMED:
                continue
            if family == "source_nodes":
                kept[f"{question} {family}"] = set(rows.values())
            elif family in PER_TARGET:
                kept[f"{question} {family}"] = set(rows)
            else:
                kept[f"{question} {family}"] = rows
    return kept

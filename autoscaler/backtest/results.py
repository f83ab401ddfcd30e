"""What a backtest found, as values: the JSON, from which the page and the words are made."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.model import Action

FORMAT: Final = 1
BEGINNINGS: Final = frozenset({Action.SCALE_UP, Action.SCALE_DOWN, Action.REPAIR, Action.HELD_BACK})
"""Actions that a person wants to see; each of the others is a look at which nothing began."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One decision that began something, or could not."""

    at_s: float
    """Epoch seconds, as all times here."""
    action: str
    reason: str
    message: str
    workers: int | None
    """Ready ones when it was made; None: not known."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What was played without a break, with its series: each value holds until the next one's time."""

    begin_s: float
    end_s: float
    workers: tuple[tuple[float, int], ...]
    """Paid for."""
    usd_per_hour: tuple[tuple[float, float], ...]
    waiting: tuple[tuple[float, int], ...]
    """Pods for which the scheduler found no node."""
    decisions: tuple[Decided, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy came to; `docs/policy/bench.md` says how each is measured."""

    hours: float
    """That were played."""
    node_hours: float
    usd: float
    waiting_pod_minutes: float
    evictions: int
    launches: int
    looks: int
    """Decisions that were made, calm ones included."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """One policy."""

    name: str
    policy_hash: str
    figures: Figures
    spans: tuple[Span, ...]


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: each value holds until the next one's time."""

    begin_s: float
    end_s: float
    cores: tuple[tuple[float, float], ...]
    memory_bytes: tuple[tuple[float, float], ...]
    workers: tuple[tuple[float, int], ...]
    """That the first policy's first instance type needs for it by division: fewer can never do."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backtest."""

    format: int = FORMAT
    source: str
    """What was played, in words."""
    begin_s: float
    end_s: float
    instance_type: str
    """Of `Demand.workers`."""
    demand: tuple[Demand, ...]
    fleets: tuple[Fleet, ...]
    notes: tuple[str, ...]
    """What the figures rest on, and what nobody knows."""
    stopped: bool = False
    """Somebody ended it before all was played."""


def decided(document: Mapping[str, Any], at_s: float) -> Decided | None:
    """What of a look's document is told; None: nothing began."""
    if document["action"] not in BEGINNINGS:
        return None
    return Decided(
        at_s=at_s,
        action=document["action"],
        reason=document["reason"],
        message=document["message"],
        workers=document["nodes"]["ready"],
    )


def repeats(one: Decided, before: Decided) -> bool:
    """Whether it is the refusal that was told last: a fleet at its limit is refused at every look."""
    return one.action == Action.HELD_BACK and (one.action, one.reason) == (before.action, before.reason)


def together(figures: Sequence[Figures]) -> Figures:
    """The sum of what was played apart."""
    return Figures(
        hours=round(sum(one.hours for one in figures), 4),
        node_hours=round(sum(one.node_hours for one in figures), 2),
        usd=round(sum(one.usd for one in figures), 3),
        waiting_pod_minutes=round(sum(one.waiting_pod_minutes for one in figures), 1),
        evictions=sum(one.evictions for one in figures),
        launches=sum(one.launches for one in figures),
        looks=sum(one.looks for one in figures),
    )

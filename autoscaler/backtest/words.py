"""A report in words and plain columns: for terminals, pipes, and the page's table."""

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from autoscaler.backtest.results import Decided, Figures, Fleet

COLUMNS: Final = ("hours", "node-hours", "dollars", "waiting pod-minutes", "evictions", "launches")
SHARE_TOLD: Final = 0.0005
"""Less of a difference than this share is none."""


def cells(figures: Figures) -> tuple[str, ...]:
    """One for each of COLUMNS."""
    return (
        f"{figures.hours:.1f}",
        f"{figures.node_hours:.1f}",
        f"{figures.usd:.3f}",
        f"{figures.waiting_pod_minutes:.1f}",
        str(figures.evictions),
        str(figures.launches),
    )


def table(fleets: Sequence[Fleet]) -> str:
    """A line a policy, figures under each other."""
    rows = [("policy", *COLUMNS), *((fleet.name, *cells(fleet.figures)) for fleet in fleets)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(columns))
        for columns in (tuple(zip(row, widths, strict=True)) for row in rows)
    )


def differences(present: Fleet, other: Fleet) -> Iterator[str]:
    """What the other would have done beside the present one, in sentences."""
    before, after = present.figures, other.figures
    if abs(before.hours - after.hours) > 0.01:
        yield (
            f"{other.name} played {after.hours:.1f} hours and {present.name} {before.hours:.1f}: their sums cannot be "
            "held against each other."
        )
        return
    name = f"{other.name} instead of {present.name}"
    parts = [
        _more(after.usd, before.usd, "${:.2f}", "more", "less"),
        _more(after.node_hours, before.node_hours, "{:.1f} node-hours"),
        _more(after.waiting_pod_minutes, before.waiting_pod_minutes, "{:.1f} pod-minutes of waiting"),
        _more(after.evictions, before.evictions, "{:.0f} eviction{s}"),
        _more(after.launches, before.launches, "{:.0f} launch{es}"),
    ]
    parts = [part for part in parts if part]
    first = _first_difference(present, other)
    if not parts and first is None:
        yield f"{name}: every decision is the same."
        return
    yield f"{name}: {', '.join(parts) if parts else 'the same sums'}."
    if first is not None:
        yield first


def _more(after: float, before: float, unit: str, word: str = "more", opposite: str = "fewer") -> str:
    """`$0.26 less (11 %)`; empty where there is no difference."""
    more = after - before
    if abs(more) <= SHARE_TOLD * max(before, 1e-9):
        return ""
    share = f" ({abs(more) / before:.0%})" if before else ""
    one = abs(more) == 1
    told = unit.format(abs(more), s="" if one else "s", es="" if one else "es")
    return f"{told} {word if more > 0 else opposite}{share}"


def _first_difference(present: Fleet, other: Fleet) -> str | None:
    """Where the two first decide differently."""
    pairs = zip_longest(_decisions(present), _decisions(other))
    for mine, theirs in pairs:
        if mine is not None and theirs is not None and (mine.at_s, mine.message) == (theirs.at_s, theirs.message):
            continue
        return f"They first differ: {_says(present.name, mine)}; {_says(other.name, theirs)}."
    return None


def _decisions(fleet: Fleet) -> list[Decided]:
    return [one for span in fleet.spans for one in span.decisions]


def _says(name: str, one: Decided | None) -> str:
    if one is None:
        return f"{name} decides nothing more"
    at = dt.datetime.fromtimestamp(one.at_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{name} at {at}: {one.action}, {one.message.rstrip('.')}"

"""What the bench found, as values: the JSON, and the tables of it."""

from collections.abc import Sequence
from typing import Final

import msgspec

from autoscaler.backtest.meter import Measured

FORMAT: Final = 1
DEFAULT: Final = "default"
SPOT: Final = "spot"
"""The policy of bench/policy/spot.yml."""
BRIEF: Final = "brief"
STATIC: Final = "static-5"
BOUND: Final = "bound"
OTHERS: Final = (BRIEF, STATIC, BOUND)
"""Whom policies are held against, in the order of the table."""
MARKS: Final = ("<!-- measured -->", "<!-- end of measured -->")
"""Between them the document holds the tables."""


class Row(Measured, frozen=True, kw_only=True):
    """One fleet under one workload. Of the bound nobody waits and nothing is moved."""

    fleet: str
    """`default`, the name of a policy file, or one of OTHERS."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """All fleets under one workload."""

    name: str
    about: str
    hours: float
    rows: tuple[Row, ...]

    def row(self, fleet: str) -> Row:
        """Of this fleet. Raises KeyError."""
        for row in self.rows:
            if row.fleet == fleet:
                return row
        raise KeyError(fleet)


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """How long a policy took to let idle workers go."""

    fleet: str
    seconds: float | None
    """From the moment at which the shrink window held nothing but idleness to workers.min; None: never."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one expectation of one policy."""

    fleet: str
    expectation: str
    value: float | None
    """None: never reached."""
    limit: float
    met: bool


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """bench/results/policy.json."""

    format: int = FORMAT
    seed: int
    policies: dict[str, str]
    """Name -> hash, as decisions name it."""
    workloads: tuple[Workload, ...]
    idle: tuple[Idle, ...]
    expectations: tuple[Judged, ...] = ()


def table(workloads: Sequence[Workload]) -> str:
    """Markdown, one line a workload and fleet."""
    head = ["workload", "fleet", "node-hours", "dollars", "waiting pod-minutes", "evictions", "launches"]
    rows = [
        [
            f"`{workload.name}`" if row is workload.rows[0] else "",
            row.fleet,
            f"{row.node_hours:.1f}",
            f"{row.usd:.3f}",
            f"{row.waiting_pod_minutes:.1f}",
            str(row.evictions),
            str(row.launches),
        ]
        for workload in workloads
        for row in workload.rows
    ]
    return _markdown([head, ["---", "---", *["---:"] * 5], *rows])


def judged_table(expectations: Sequence[Judged]) -> str:
    """Markdown, one line an expectation."""
    head = ["", "policy", "expected", "found", "at most"]
    rows = [
        ["met" if one.met else "**FAILED**", one.fleet, one.expectation, _found(one.value), f"{one.limit:g}"]
        for one in expectations
    ]
    return _markdown([head, ["---", "---", "---", "---:", "---:"], *rows])


def in_document(document: str, results: Results) -> str:
    """The document with these results between its two marks. Raises ValueError where it has not both."""
    head, begin, rest = document.partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not begin or not end:
        raise ValueError(f"the document lacks one of the marks {' and '.join(MARKS)}")
    return f"{head}{begin}\n{table(results.workloads)}\n\n{judged_table(results.expectations)}\n{end}{tail}"


def _found(value: float | None) -> str:
    return "never" if value is None else f"{round(value, 2):g}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """The second row holds the rule of each column."""
    rules = rows[1]
    columns = [(max(len(row[number]) for row in rows), rule) for number, rule in enumerate(rules)]
    return "\n".join(
        "| " + " | ".join(_cell(cell, *column) for cell, column in zip(row, columns, strict=True)) + " |"
        for row in rows
    )


def _cell(text: str, width: int, rule: str) -> str:
    """`rule`: of its column, `---:` for figures."""
    if text == rule:
        return text.replace("---", "-" * (width - text.count(":")))
    return text.rjust(width) if rule.endswith(":") else text.ljust(width)

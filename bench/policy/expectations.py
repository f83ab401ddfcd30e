"""What is expected of a policy, in one table: `decides` says which of it decides about the exit code."""

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bench.policy.results import BOUND, DEFAULT, SPOT, STATIC, Judged, Results, Workload

DAY: Final = "ecommerce-day"
STORM: Final = "spot-storm"


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one policy and the most that it may be."""

    text: str
    limit: float
    fleet: str = ""
    """The only policy of which it is expected; empty: of each."""
    value: Callable[[Results, str], float | None]
    """None where what it needs was not played; infinite for what never came."""


def _on_day(figure: Callable[[Workload, str], float], *, name: str = DAY) -> Callable[[Results, str], float | None]:
    def value(results: Results, fleet: str) -> float | None:
        return next((figure(workload, fleet) for workload in results.workloads if workload.name == name), None)

    return value


def _idle_seconds(results: Results, fleet: str) -> float | None:
    found = next((idle for idle in results.idle if idle.fleet == fleet), None)
    return None if found is None else math.inf if found.seconds is None else found.seconds


def _worse_than_static(results: Results, fleet: str) -> float:
    worse = 0
    for workload in results.workloads:
        row, static = workload.row(fleet), workload.row(STATIC)
        worse += row.usd > static.usd and row.waiting_pod_minutes > static.waiting_pod_minutes
    return worse


EXPECTATIONS: Final = (
    Expectation(
        text=f"{DAY}: dollars, as a multiple of the bound's",
        limit=1.15,
        value=_on_day(lambda workload, fleet: workload.row(fleet).usd / workload.row(BOUND).usd),
    ),
    Expectation(
        text=f"{DAY}: waiting pod-minutes",
        limit=30,
        value=_on_day(lambda workload, fleet: workload.row(fleet).waiting_pod_minutes),
    ),
    Expectation(
        text=f"{DAY}: evictions", limit=40, value=_on_day(lambda workload, fleet: workload.row(fleet).evictions)
    ),
    Expectation(text="15 idle workers: seconds from the window's end to workers.min", limit=180, value=_idle_seconds),
    Expectation(
        text="workloads with more dollars than five static workers and more pods waiting",
        limit=0,
        value=_worse_than_static,
    ),
    Expectation(
        text=f"{DAY}: dollars, as a multiple of five static workers'",
        limit=0.55,
        fleet=SPOT,
        value=_on_day(lambda workload, fleet: workload.row(fleet).usd / workload.row(STATIC).usd),
    ),
    Expectation(
        text=f"{STORM}: waiting pod-minutes",
        limit=10,
        fleet=SPOT,
        value=_on_day(lambda workload, fleet: workload.row(fleet).waiting_pod_minutes, name=STORM),
    ),
)


def decides(judged: Judged) -> bool:
    """Whether the bench fails with it: what is expected of the default, and of Spot what is expected of it alone."""
    only = {expectation.text: expectation.fleet for expectation in EXPECTATIONS}
    return judged.fleet == (only[judged.expectation] or DEFAULT)


def judge(results: Results, fleets: Iterable[str]) -> tuple[Judged, ...]:
    """Every expectation of each policy, but for those of which nothing was played."""
    return tuple(
        Judged(
            fleet=fleet,
            expectation=expectation.text,
            value=None if math.isinf(value) else round(value, 3),
            limit=expectation.limit,
            met=value <= expectation.limit,
        )
        for fleet in fleets
        for expectation in EXPECTATIONS
        if expectation.fleet in {"", fleet}
        if (value := expectation.value(results, fleet)) is not None
    )

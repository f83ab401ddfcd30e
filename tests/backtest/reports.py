"""A made-up report: two policies, a gap, and words that are markup where they are not escaped."""

from autoscaler.backtest.results import Decided, Demand, Figures, Fleet, Report, Span
from tests.backtest.recordings import BEGIN_S

HOUR = 3600.0
HOSTILE = "<script>alert('x')</script> & <img src=https://example.org/x.png>"
FIGURES = Figures(hours=8.0, node_hours=30.0, usd=0.624, waiting_pod_minutes=12.0, evictions=4, launches=3, looks=250)


def span(begin_h: float, end_h: float, *, more: int = 0) -> Span:
    begin_s, end_s = BEGIN_S + begin_h * HOUR, BEGIN_S + end_h * HOUR
    middle_s = (begin_s + end_s) / 2
    return Span(
        begin_s=begin_s,
        end_s=end_s,
        workers=((begin_s, 2), (middle_s, 4 + more)),
        usd_per_hour=((begin_s, 0.0416), (middle_s, 0.0208 * (4 + more))),
        waiting=((begin_s, 0), (middle_s - 60, 5), (middle_s, 0)),
        decisions=(
            Decided(at_s=middle_s - 30, action="scale_up", reason="pods_unschedulable", message=HOSTILE, workers=2),
            Decided(at_s=end_s - 60, action="held_back", reason="at_max", message="No more.", workers=None),
        ),
    )


def fleet(name: str, figures: Figures = FIGURES, *, more: int = 0) -> Fleet:
    return Fleet(
        name=name, policy_hash="0" * 12, figures=figures, spans=(span(0, 4, more=more), span(6, 10, more=more))
    )


REPORT = Report(
    source=f"made up {HOSTILE}",
    begin_s=BEGIN_S,
    end_s=BEGIN_S + 10 * HOUR,
    instance_type="t3.small",
    demand=tuple(
        Demand(
            begin_s=BEGIN_S + first * HOUR,
            end_s=BEGIN_S + (first + 4) * HOUR,
            cores=((BEGIN_S + first * HOUR, 2.0),),
            memory_bytes=((BEGIN_S + first * HOUR, 1e9),),
            workers=((BEGIN_S + first * HOUR, 2), (BEGIN_S + (first + 2) * HOUR, 3)),
        )
        for first in (0, 6)
    ),
    fleets=(fleet("present"), fleet("changed", more=1)),
    notes=("Something is not known.", HOSTILE),
)

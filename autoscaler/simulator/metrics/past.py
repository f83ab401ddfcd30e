"""What the simulated Prometheus answers of earlier days: any function of time, as nobody plays weeks for it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from autoscaler.forecast import SLOT_S
from autoscaler.observe.history import Point
from autoscaler.simulator.metrics.recorded_cluster import Row, row

Past = Callable[[float], Mapping[tuple[str, str], float]]
"""By (of, resource) what `workers_demand` was at a moment; nothing where it was not recorded."""
_SAMPLES: Final = 5
"""Of a slot: the largest counts."""


def requests(cores_at: Callable[[float], float | None]) -> Past:
    """A past in which pods asked for CPU only."""

    def at(at_s: float) -> dict[tuple[str, str], float]:
        cores = cores_at(at_s)
        return {} if cores is None else {("requests", "cpu"): cores}

    return at


def past_rows(points: Sequence[Point], past: Past, *, now_s: float) -> Iterable[Row]:
    """The rows for these points."""
    for point in points:
        end_s = now_s - point.offset_s
        most: dict[tuple[str, str], float] = {}
        for number in range(_SAMPLES):
            for key, value in past(end_s - number * SLOT_S / _SAMPLES).items():
                most[key] = max(most.get(key, value), value)
        for (of, resource), value in most.items():
            labels = {"days": str(point.days_back), "slot": str(point.slot), "of": of, "resource": resource}
            yield row("demand", repr(value), **labels)

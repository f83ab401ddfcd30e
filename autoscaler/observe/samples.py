"""A Prometheus answer sorted by family; what is no finite number is kept apart, by family."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from autoscaler.model import Sample
from autoscaler.observe.series import FAMILY

Row = tuple[Mapping[str, str], float]
"""Labels and value."""


class Rows(msgspec.Struct, frozen=True):
    """What came back, sorted. `at_s` is Prometheus' clock."""

    at_s: float
    families: dict[str, list[Row]]
    garbage: dict[str, str]
    """By family: the first value that is not a finite number."""

    def of(self, family: str) -> Sequence[Row]:
        """The rows of a family; none where it is not there."""
        return self.families.get(family, ())

    def one(self, family: str, **labels: str) -> float | None:
        """The value of the row with these labels; None where there is none."""
        wanted = labels.items()
        return next((value for row, value in self.of(family) if wanted <= row.items()), None)

    def by(self, family: str, label: str) -> dict[str, float]:
        """Values by one label."""
        return {labels.get(label, ""): value for labels, value in self.of(family)}


def sort_samples(samples: Sequence[Sample]) -> Rows | None:
    """Sort; None for an empty answer, which says nothing at all."""
    if not samples:
        return None
    families: dict[str, list[Row]] = {}
    garbage: dict[str, str] = {}
    for sample in samples:
        labels, text = sample.metric, sample.value[1]
        family = labels.get(FAMILY, "")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            garbage.setdefault(family, text)
        elif family in families:
            families[family].append((labels, number))
        else:
            families[family] = [(labels, number)]
    return Rows(float(samples[0].value[0]), families, garbage)

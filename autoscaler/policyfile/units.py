"""Numbers with units, as people write them: `1h30m`, `70%`, `4GiB`, `500m`.

What the number of a field counts stands at the end of its name (`_s`: seconds). A bare number counts that; a number
with a unit is turned into it, exactly.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

_PART: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-z%]+)")
_FORM: Final = re.compile(rf"{_PART.pattern}(?: ?{_PART.pattern})*")


class UnitError(ValueError):
    """The text is no number with a unit of this kind."""


class Unit(NamedTuple):
    """What a number counts, and what it may be written in."""

    name: str
    """Of what a bare number counts."""
    factors: Mapping[str, Decimal]
    """By the unit as it is written."""
    examples: str
    parts: bool = False
    """Whether several may follow each other, the largest first."""

    @property
    def pattern(self) -> str:
        """A regular expression of the whole text, for those who do not need to know how much it is."""
        part = f"[0-9]{{1,15}}(\\.[0-9]{{1,15}})? ?({'|'.join(self.factors)})"
        return f"^{part}( ?{part})*$" if self.parts else f"^{part}$"

    def amount(self, text: str) -> Decimal:
        """How much it is, in this unit. Raises UnitError."""
        if not _FORM.fullmatch(text):
            raise UnitError(text)
        parts = [(Decimal(number), self.factors.get(unit)) for number, unit in _PART.findall(text)]
        factors = [factor for _, factor in parts if factor is not None]
        falling = all(one > other for one, other in pairwise(factors))
        if len(factors) < len(parts) or not falling or (len(parts) > 1 and not self.parts):
            raise UnitError(text)
        return sum((number * factor for number, factor in parts if factor is not None), Decimal(0))


_TIMES: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
SECONDS: Final = Unit(
    "seconds",
    {unit: Decimal(size) for unit, size in _TIMES.items()} | {"ms": Decimal("0.001")},
    "90s, 10m, 1h30m or 2d",
    parts=True,
)
DAYS: Final = Unit("days", {"d": Decimal(1)}, "30d")
SHARE: Final = Unit("a share of 1", {"%": Decimal("0.01")}, "0.70 or 70%")
PERCENT: Final = Unit("percent", {"%": Decimal(1)}, "20 or 20%")
MEBIBYTES: Final = Unit(
    "MiB",
    {
        unit: Decimal(2) ** (10 * power)
        for power, units in enumerate((("MiB", "Mi"), ("GiB", "Gi"), ("TiB", "Ti")))
        for unit in units
    },
    "512MiB or 4GiB",
)
MILLICORES: Final = Unit(
    "millicores", {"m": Decimal(1)} | dict.fromkeys(("cpu", "CPU", "vCPU"), Decimal(1000)), "500m or 2 CPU"
)

_BY_ENDING: Final = {
    "_s": SECONDS,
    "_days": DAYS,
    "_mib": MEBIBYTES,
    "_millicores": MILLICORES,
    "percent": PERCENT,
}


def unit_of(field: str, *, share: bool) -> Unit | None:
    """What the number of a field counts, by its name; `share`: it may be from 0 to 1. None: nothing with a unit."""
    named = next((unit for ending, unit in _BY_ENDING.items() if field.endswith(ending)), None)
    return SHARE if named is None and share else named

"""Kubernetes' quantities (`900m`, `3.5Gi`, `1e3`) as whole numbers."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from autoscaler.model.rules import Amounts

_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30}))"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2}|)"
)
_FACTORS: Final = {
    "": Decimal(1),
    **{suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)},
    **{suffix: Decimal(10) ** (3 * (place + 1)) for place, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(2) ** (10 * (place + 1)) for place, suffix in enumerate("KMGTPE")},
}


class BadQuantity(ValueError):
    """Text that is no quantity."""


def amount(resource: str, text: str) -> int:
    """`cpu` in millicores, every other resource in its own unit, rounded up as the scheduler does.

    Raises BadQuantity. Source: apimachinery's resource.Quantity, and Resource.SetMaxResource for the units.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise BadQuantity(f"{text!r} is no quantity of {resource}.")
    suffix = match["suffix"]
    factor = _FACTORS[suffix] if suffix in _FACTORS else Decimal(10) ** int(suffix[1:])
    exact = Decimal(match["number"]) * factor * (1000 if resource == "cpu" else 1)
    return int(exact.to_integral_value(rounding=ROUND_CEILING))


def amounts(quantities: dict[str, str]) -> Amounts:
    """All of them; raises BadQuantity at the first that is none."""
    return tuple((name, amount(name, text)) for name, text in sorted(quantities.items()))

"""Numbers as people write them, by what their field counts."""

import re
from typing import Any, Final

import msgspec

from autoscaler.policyfile.units import SECONDS, SHARE, Unit, UnitError, unit_of

_WHOLE: Final = re.compile(r"[+-]?\d{1,30}")
_DECIMAL: Final = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?")
_LEADING_ZERO: Final = re.compile(r"[+-]?0[\d_]+")
_GROUPED: Final = re.compile(r"\d[\d_]*_\d[\d_]*")
_CLOCK: Final = re.compile(r"\d+(?::\d+)+")
_MOST_PERCENT: Final = 100


class Wrong(ValueError):
    """A value that its field cannot be; `sentence` goes on behind the path. Empty: it is told already."""

    def __init__(self, sentence: str = "") -> None:
        self.sentence = sentence
        super().__init__(sentence)


def number(path: str, given: Any, text: str, kind: type, limits: msgspec.Meta | None) -> int | float:
    """The number, in what the field counts; its limits are not judged yet. Raises Wrong."""
    unit = unit_at(path, limits)
    text = text.strip()
    if isinstance(given, bool):
        raise Wrong(f"is {text}: write {spoken_range(path, kind, limits)}")
    if trap := _trap(text, unit):
        raise Wrong(f"is {text}: {trap}")
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    if kind is float and _DECIMAL.fullmatch(text):
        value = float(text)
        if unit is SHARE and 1 < value <= _MOST_PERCENT:
            share = f"{value / 100:.2f}" if value == int(value) else f"{value / 100:g}"
            raise Wrong(f"is {text}: write {share} or {value:g}%")
        return value
    if unit is not None:
        return _with_unit(text, kind, unit, spoken_range(path, kind, limits))
    shown = text if _DECIMAL.fullmatch(text) else repr(text[:60])
    raise Wrong(f"is {shown}: write {spoken_range(path, kind, limits)}")


def unit_at(path: str, limits: msgspec.Meta | None) -> Unit | None:
    """What the number at a path counts, by its field's name and limits. None: nothing with a unit."""
    return unit_of(path.rpartition(".")[2], share=_is_share(limits))


def _with_unit(text: str, kind: type, unit: Unit, wanted: str) -> int | float:
    try:
        amount = unit.amount(text)
    except UnitError:
        shown = text if _DECIMAL.fullmatch(text) else repr(text[:60])
        raise Wrong(f"is {shown}: write {wanted}") from None
    if kind is float:
        return float(amount)
    if amount != amount.to_integral_value():
        raise Wrong(f"is {text}, no whole number of {unit.name}: write {wanted}")
    return int(amount)


def _trap(text: str, unit: Unit | None) -> str:
    """What YAML, or a reader, would take for another number than was meant."""
    if _CLOCK.fullmatch(text):
        return f"write {SECONDS.examples}: a colon does not say of what" if unit is SECONDS else "write a plain number"
    if _GROUPED.fullmatch(text):
        return f"write {text.replace('_', '').lstrip('0') or '0'}, without '_'"
    if _LEADING_ZERO.fullmatch(text):
        return f"write {_unpadded(text)}: with a zero before it YAML reads a number to the base of 8"
    if text.lower().lstrip("+-.") in {"nan", "inf", "infinity"}:
        return "write a number that has an end"
    return ""


def _unpadded(text: str) -> str:
    return text.lstrip("0_") or "0"


def spoken_range(path: str, kind: type, limits: msgspec.Meta | None) -> str:
    """`a whole number of seconds from 1 to 86400, or with a unit: 90s, ...`."""
    unit = unit_at(path, limits)
    what = "a whole number" if kind is int else "a number"
    if unit is not None and unit is not SHARE:
        what += f" of {unit.name}"
    ends = _ends(limits)
    return " ".join(part for part in (what, ends) if part) + (f", such as {unit.examples}" if unit else "")


def _ends(limits: msgspec.Meta | None) -> str:
    if limits is None:
        return ""
    low = (
        f"from {_plain(limits.ge)}"
        if limits.ge is not None
        else f"above {_plain(limits.gt)}"
        if limits.gt is not None
        else ""
    )
    high = (
        f"to {_plain(limits.le)}"
        if limits.le is not None
        else f"below {_plain(limits.lt)}"
        if limits.lt is not None
        else ""
    )
    return " ".join(part for part in (low, f"and {high}" if low and limits.lt is not None else high) if part)


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _is_share(limits: msgspec.Meta | None) -> bool:
    """Whether it runs within 0 and 1."""
    if limits is None:
        return False
    low = limits.ge if limits.ge is not None else limits.gt
    high = limits.le if limits.le is not None else limits.lt
    return low is not None and isinstance(high, float) and low >= 0 and high <= 1

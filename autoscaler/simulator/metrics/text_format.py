"""Prometheus' text format."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

Labels = dict[str, str]
Row = tuple[Labels, float]


class Page:
    """Collects families in order and writes them out."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def family(self, name: str, rows: Iterable[Row], *, kind: str = "gauge", text: str = "") -> None:
        """Write one family; one without rows is not written at all, as kube-state-metrics' empty ones are of no use."""
        lines = [f"{name}{_label_text(labels)} {number_text(value)}" for labels, value in rows]
        if lines:
            self._parts.append(f"# HELP {name} {text or name}\n# TYPE {name} {kind}\n" + "\n".join(lines) + "\n")

    def text(self) -> str:
        """The whole page."""
        return "".join(self._parts)


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number_text(value: float) -> str:
    """The number as Prometheus writes it, without an exponent."""
    text = str(int(value)) if value == int(value) else repr(value)
    return text if "e" not in text else format(Decimal(text), "f")


def one_of(labels: Labels, name: str, values: Iterable[str], chosen: str) -> Iterator[Row]:
    """One row for each value of the label: 1 for the chosen one, 0 for the others."""
    for value in values:
        yield {**labels, name: value}, 1.0 if value == chosen else 0.0

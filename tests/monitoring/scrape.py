"""A scrape in Prometheus' text format, as series with the labels that Prometheus would store."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).resolve().parents[1] / "data"

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(?P<key>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\]|\\.)*)",?')


class Series(NamedTuple):
    name: str
    labels: dict[str, str]
    value: str

    def text(self, **more: str) -> str:
        return series_text(self.name, {**self.labels, **more})


def series_text(name: str, labels: Mapping[str, str]) -> str:
    """`name{key="value"}`; an empty label is no label to Prometheus."""
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if value)
    return f"{name}{{{inside}}}"


def read_scrape(file: str) -> list[Series]:
    found = []
    for line in (DATA / file).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match, line
        labels = {label["key"]: label["value"] for label in _LABEL.finditer(match["labels"] or "")}
        found.append(Series(match["name"], {k: v for k, v in labels.items() if v}, match["value"]))
    return found

"""A scrape in Prometheus' text format, as series with the labels that Prometheus would store."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.monitoring.programs import ROOT

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


def kept(scraped: Sequence[Series], job: str) -> list[Series]:
    """What is left of a scrape after the committed metric_relabel_configs of that job."""
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    [found] = [scrape for scrape in config["scrape_configs"] if scrape["job_name"] == job]
    left = list(scraped)
    for step in found["metric_relabel_configs"]:
        assert step.keys() == {"source_labels", "regex", "action"}
        left = [one for one in left if (step["action"] == "keep") == bool(_matches(one, step))]
    return left


def _matches(one: Series, step: Mapping[str, Any]) -> re.Match[str] | None:
    values = ({"__name__": one.name, **one.labels}.get(label, "") for label in step["source_labels"])
    return re.fullmatch(step["regex"], ";".join(values))

"""The dashboard of a generated template, taken apart."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.service.conftest import Template


@dataclass(frozen=True)
class Shown:
    """A metric as an alarm or a widget names it. Dimension values are texts or references."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str


def widgets(template: Template) -> list[dict[str, Any]]:
    """Of the only dashboard."""
    (dashboard,) = template.of_type("AWS::CloudWatch::Dashboard").values()
    found: list[dict[str, Any]] = json.loads(dashboard["Properties"]["DashboardBody"]["Fn::Sub"])["widgets"]
    return found


def shown_metrics(template: Template) -> list[Shown]:
    """Every metric of every chart."""
    return [_shown(row, chart["stat"]) for chart in _charts(template) for row in chart["metrics"] if len(row) > 1]


def shown_expressions(template: Template) -> list[str]:
    """Metric math of every chart."""
    rows = [row for chart in _charts(template) for row in chart["metrics"] if len(row) == 1]
    return [row[0]["expression"] for row in rows]


def _charts(template: Template) -> list[dict[str, Any]]:
    return [widget["properties"] for widget in widgets(template) if widget["type"] == "metric"]


def _shown(row: list[Any], statistic: str) -> Shown:
    *names, options = row
    namespace, name, *dimensions = names
    pairs = tuple(zip(dimensions[::2], dimensions[1::2], strict=True))
    return Shown(namespace, name, pairs, options.get("stat", statistic))


def log_queries(template: Template) -> dict[str, tuple[set[str], str]]:
    """By title: the log groups and the query."""
    found = {}
    for widget in widgets(template):
        if widget["type"] == "log":
            text = widget["properties"]["query"]
            sources = re.match(r"(?:SOURCE '[^']+' \| )+", text)
            assert sources is not None
            groups = set(re.findall(r"SOURCE '([^']+)'", sources[0]))
            found[widget["properties"]["title"]] = (groups, text[sources.end() :])
    return found

"""The pictures of a report, as a Plotly figure in plain values: workers against demand, waiting pods, dollars.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any colour vision tell apart;
each policy has a dash of its own beside, for paper without colour.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

from autoscaler.backtest.results import Fleet, Report

Trace = dict[str, Any]
Points = list[tuple[float, float | None]]
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_INK: Final = "#222222"
_MARKS: Final = {
    "scale_up": ("triangle-up", "more"),
    "scale_down": ("triangle-down", "fewer"),
    "repair": ("square", "another"),
    "held_back": ("x", "held back"),
}
"""By action: how it is drawn."""
_PANELS: Final = (("y", "workers"), ("y2", "waiting pods"), ("y3", "dollars so far"))
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"


def figure(report: Report) -> dict[str, Any]:
    """`data` and `layout`, as Plotly.newPlot takes them."""
    data = [_demand(report)]
    for number, fleet in enumerate(report.fleets):
        data += _of_fleet(fleet, COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)])
    return {"data": data, "layout": _layout(report)}


def _demand(report: Report) -> Trace:
    points: Points = []
    for demand in report.demand:
        points += [*demand.workers, (demand.end_s, demand.workers[-1][1]), (demand.end_s, None)]
    return {
        **_steps(points),
        "name": f"demand: fewest {report.instance_type} that hold the requests",
        "line": {"shape": "hv", "color": "#999999", "width": 1},
        "fill": "tozeroy",
        "fillcolor": "rgba(153,153,153,0.25)",
        "yaxis": "y",
        "hovertemplate": "demand %{y}<extra></extra>",
    }


def _of_fleet(fleet: Fleet, colour: str, dash: str) -> list[Trace]:
    workers: Points = []
    waiting: Points = []
    dollars: Points = []
    paid = 0.0
    for span in fleet.spans:
        workers += _held(span.workers, span.end_s)
        waiting += _held(span.waiting, span.end_s)
        ends = [at_s for at_s, _ in span.usd_per_hour[1:]] + [span.end_s]
        dollars.append((span.begin_s, round(paid, 4)))
        for (at_s, usd), end_s in zip(span.usd_per_hour, ends, strict=True):
            paid += usd * (end_s - at_s) / 3600
            dollars.append((end_s, round(paid, 4)))
        dollars.append((span.end_s, None))
    line = {"color": colour, "width": 2, "dash": dash}
    shared = {"legendgroup": fleet.name, "name": fleet.name}
    return [
        {**_steps(workers), **shared, "line": {**line, "shape": "hv"}, "hovertemplate": "%{y} workers"},
        {
            **_steps(waiting), **shared, "line": {**line, "shape": "hv"}, "yaxis": "y2", "showlegend": False,
            "hovertemplate": "%{y} pods wait",
        },
        {**_steps(dollars), **shared, "line": line, "yaxis": "y3", "showlegend": False, "hovertemplate": "$%{y:.2f}"},
        _decisions(fleet, colour),
    ]  # fmt: skip


def _decisions(fleet: Fleet, colour: str) -> Trace:
    """A mark for each on the line of the workers; what it said shows above it."""
    rows = [(span, one) for span in fleet.spans for one in span.decisions]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{fleet.name}: decisions",
        "legendgroup": fleet.name,
        "x": [_moment(one.at_s) for _, one in rows],
        "y": [_at(span.workers, one.at_s) for span, one in rows],
        "text": [f"<b>{one.action}</b> ({one.reason})<br>{_folded(one.message)}" for _, one in rows],
        "marker": {
            "symbol": [_MARKS[one.action][0] for _, one in rows],
            "color": colour,
            "size": 9,
            "line": {"color": "#ffffff", "width": 1},
        },
        "yaxis": "y",
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }


def _steps(points: Points) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [_moment(at_s) for at_s, _ in points],
        "y": [value for _, value in points],
        "connectgaps": False,
    }


def _held(series: Iterable[tuple[float, int]], end_s: float) -> Points:
    """To the span's end, and a gap after it."""
    points: Points = list(series)
    return [*points, (end_s, points[-1][1]), (end_s, None)] if points else []


def _at(series: Sequence[tuple[float, int]], at_s: float) -> int:
    """What the series has once all of that moment has happened."""
    return next((value for moment_s, value in reversed(series) if moment_s <= at_s), 0)


def _moment(at_s: float) -> str:
    """As Plotly reads a date: it takes what has no zone as it stands."""
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _folded(text: str, width: int = 90) -> str:
    """With line breaks: a long sentence would leave the page. `<` and `&` are no markup."""
    lines, line = [], ""
    for word in text.replace("&", "&amp;").replace("<", "&lt;").split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "<br>".join([*lines, line])


def _layout(report: Report) -> dict[str, Any]:
    heights = ((0.46, 1.0), (0.25, 0.40), (0.0, 0.19))
    axis = {"gridcolor": "#e3e3e3", "zeroline": False, "rangemode": "tozero", "color": _INK, "automargin": True}
    layout: dict[str, Any] = {
        "height": 720,
        "margin": {"l": 60, "r": 20, "t": 10, "b": 40},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": _FONT, "size": 13, "color": _INK},
        "hovermode": "x unified",
        "hoverlabel": {"align": "left", "namelength": -1},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {
            "type": "date",
            "range": [_moment(report.begin_s), _moment(report.end_s)],
            "anchor": "y3",
            "gridcolor": "#e3e3e3",
            "color": _INK,
            "title": {"text": "UTC", "standoff": 6},
        },
    }
    for (name, title), domain in zip(_PANELS, heights, strict=True):
        layout[f"yaxis{name[1:]}"] = {**axis, "title": {"text": title}, "domain": list(domain)}
    layout["yaxis3"]["tickprefix"] = "$"
    return layout

"""A report as one HTML file that needs nothing else: no address, no other file, no network.

The browser is told so as well (its content security policy), and refuses whatever would leave the page.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

import msgspec

from autoscaler.backtest.chart import COLOURS, figure
from autoscaler.backtest.results import Fleet, Report
from autoscaler.backtest.words import COLUMNS, cells, differences

DECISIONS_SHOWN: Final = 1000
"""Of a policy, in the list below the pictures; the JSON has all."""
_BUTTONS: Final = ("toImage", "zoom2d", "pan2d", "resetScale2d")
_CONFIG: Final = {"responsive": True, "displaylogo": False, "modeBarButtons": [_BUTTONS]}
_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; color: #222;
  background: #fff; margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
p { margin: .3rem 0; } .about { color: #555; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
.key { display: inline-block; width: .9em; height: .9em; margin-right: .5em; vertical-align: -.1em; }
.words { font-size: .9rem; } summary { cursor: pointer; }
#chart { width: 100%; min-height: 720px; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; margin: 0; padding: 0; } .modebar { display: none; }
  #chart, table, li { break-inside: avoid; } details:not([open]) { display: none; } }
"""
_SCRIPT: Final = """
const chart = document.getElementById("chart");
const parts = JSON.parse(document.getElementById("figure").textContent);
Plotly.newPlot(chart, parts.data, parts.layout, parts.config);
window.addEventListener("beforeprint", () => Plotly.relayout(chart, {width: 980, height: 640}));
window.addEventListener("afterprint", () => Plotly.relayout(chart, {width: null, height: parts.layout.height}));
"""


class NoPlots(Exception):
    """The library for the pictures is not installed; the message says what to do."""


def page(report: Report) -> str:
    """The whole file. Raises NoPlots."""
    drawn = msgspec.json.encode({**figure(report), "config": _CONFIG}).decode().replace("<", "\\u003c")
    title = f"Backtest: {report.source}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="about">{_stamp(report.begin_s)} to {_stamp(report.end_s)} UTC, played through the decision core that runs in \
production; nothing was launched.</p>
{_stopped(report)}
{_table(report.fleets)}
{_differences(report.fleets)}
<div id="chart" role="img" aria-label="Workers against demand, waiting pods and dollars over time, by policy"></div>
<h2>What these figures rest on</h2>
<ul>{"".join(f"<li>{escape(note)}</li>" for note in report.notes)}</ul>
{"".join(_decisions(fleet) for fleet in report.fleets)}
<script type="application/json" id="figure">{drawn}</script>
<script>{_library()}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _library() -> str:
    """Plotly's own JavaScript, as its package ships it."""
    try:
        source = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise NoPlots(
            "The HTML report needs plotly, which is not installed: pip install 'k3s-autoscaler[report]', or leave out "
            "--html."
        ) from error
    return source.replace("</script", "<\\/script")


def _stopped(report: Report) -> str:
    if not report.stopped:
        return ""
    return "<p><strong>Ended before all was played: each policy has the hours that its row says.</strong></p>"


def _table(fleets: Sequence[Fleet]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in ("policy", *COLUMNS))
    rows = []
    for number, fleet in enumerate(fleets):
        key = f'<span class="key" style="background:{COLOURS[number % len(COLOURS)]}"></span>'
        figures = "".join(f"<td>{cell}</td>" for cell in cells(fleet.figures))
        rows.append(f"<tr><td>{key}{escape(fleet.name)}</td>{figures}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _differences(fleets: Sequence[Fleet]) -> str:
    told: Iterable[str] = (line for other in fleets[1:] for line in differences(fleets[0], other))
    return "".join(f"<p class='words'>{escape(line)}</p>" for line in told)


def _decisions(fleet: Fleet) -> str:
    all_of_it = [one for span in fleet.spans for one in span.decisions]
    rows = "".join(
        f"<tr><td>{_stamp(one.at_s)}</td><td>{escape(one.action)}</td><td>{escape(one.reason)}</td>"
        f"<td>{escape(one.message)}</td></tr>"
        for one in all_of_it[:DECISIONS_SHOWN]
    )
    more = len(all_of_it) - DECISIONS_SHOWN
    left_out = f"<p>{more} later ones stand in the JSON report only.</p>" if more > 0 else ""
    return (
        f"<details><summary>{escape(fleet.name)}: {len(all_of_it)} decisions that began something or could not"
        f"</summary><table class='words'><thead><tr><th>time (UTC)</th><th>action</th><th>reason</th><th>what</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>{left_out}</details>"
    )


def _stamp(at_s: float) -> str:
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%d %H:%M")

"""The picture of a run: how many workers each fleet paid for, over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoscaler.backtest.plan import Steps
from bench.policy.results import BOUND, BRIEF, DEFAULT, STATIC, Workload

COLUMNS: Final = 2
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    DEFAULT: {"color": "#0b62a4", "linewidth": 1.8, "zorder": 5},
    BRIEF: {"color": "#d9822b", "linewidth": 1.1, "zorder": 4},
    STATIC: {"color": "#777777", "linewidth": 1.1, "linestyle": (0, (4, 3)), "zorder": 3},
}
_MORE_COLOURS: Final = ("#2a9d4a", "#b3318c", "#6b4fbb", "#00897b")
"""Of policies from files."""
Series = Mapping[tuple[str, str], Steps]
"""By workload and fleet: workers from each second on."""


def draw(workloads: Sequence[Workload], series: Series, file: Path) -> None:
    """Write the picture; the same run writes the same bytes."""
    lines = -(-len(workloads) // COLUMNS)
    mpl.rcParams.update({"svg.hashsalt": "bench-policy", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(13, 2.6 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, COLUMNS, squeeze=False).flatten()
    for ax, workload in zip(axes, workloads, strict=False):
        _panel(ax, workload, series)
    for ax in axes[len(workloads) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    title = "workers over time; above each panel dollars / waiting pod-minutes"
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(file, metadata={"Date": None})


def _panel(ax: Axes, workload: Workload, series: Series) -> None:
    highest = 0
    colours = iter(_MORE_COLOURS * len(workload.rows))
    for row in workload.rows:
        steps = series[workload.name, row.fleet]
        hours = [*(at_s / 3600 for at_s, _ in steps), workload.hours]
        counts = [*(count for _, count in steps), steps[-1][1]]
        highest = max(highest, *counts)
        if row.fleet == BOUND:
            ax.fill_between(hours, counts, step="post", color="#dbe7d3", linewidth=0, label=f"{BOUND} (all-knowing)")
        else:
            style = _STYLES.get(row.fleet) or {"color": next(colours), "linewidth": 1.4, "zorder": 6}
            ax.step(hours, counts, where="post", label=row.fleet, **style)
    told = "    ".join(rf"{row.fleet} \${row.usd:.2f} / {row.waiting_pod_minutes:.0f}" for row in workload.rows)
    ax.set_title(f"{workload.name}\n", loc="left", fontweight="bold", fontsize=9)
    figures = ax.text(0, 1.03, told, transform=ax.transAxes, fontsize=7, color="#444444")
    figures.set_in_layout(False)  # the names of many policies would squeeze the panel
    ax.set_xlim(0, workload.hours)
    ax.set_ylim(0, highest + 1)
    ax.set_ylabel("workers paid for")
    ax.set_xlabel("hours")
    ax.grid(visible=True, axis="y", linewidth=0.4, color="#cccccc")

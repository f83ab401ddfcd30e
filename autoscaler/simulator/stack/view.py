"""The demo's live view for a terminal: the story's steps, the workers, who waits, the last decision, the time line."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autoscaler.simulator.stack.story import CHECKOUT, MAIL, STEPS, WEB, Story
from autoscaler.simulator.stack.timeline import Line, decision_words
from autoscaler.simulator.stack.watch import Watch
from autoscaler.simulator.world.world import NodeView, PodView

POD: Final = "■"
COLOURS: Final = {WEB.key: "cyan", CHECKOUT.key: "magenta", MAIL.key: "yellow"}
SOURCE_STYLES: Final = {"cluster": "white", "EC2": "bright_blue", "alert": "bright_red", "decision": "bright_green"}
BAR_CELLS: Final = 8
FRAME: Final = 2


def screen(watch: Watch, story: Story, lines: Sequence[Line], *, title: str, height: int) -> RenderableType:
    """The whole screen."""
    nodes = Panel(_nodes(watch), title="workers", title_align="left", border_style="dim")
    steps = Panel(_steps(story, watch.started_at_s), title="story", title_align="left", border_style="dim")
    upper = len(STEPS) + FRAME
    decision = 3 + FRAME
    layout = Layout()
    layout.split_column(
        Layout(_header(watch, title), name="header", size=1),
        Layout(name="upper", size=upper),
        Layout(Panel(_decision(watch), title="last decision", title_align="left", border_style="dim"), size=decision),
        Layout(name="lower"),
    )
    layout["upper"].split_row(Layout(steps, ratio=5), Layout(nodes, ratio=6))
    shown = max(1, height - 1 - upper - decision - FRAME)
    newest = [line_text(line, watch.started_at_s) for line in lines[-shown:]]
    layout["lower"].update(Panel(Group(*newest), title="time line", title_align="left", border_style="dim"))
    return layout


def line_text(line: Line, started_at_s: float) -> Text:
    """One line of the time line."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{line.at_s - started_at_s:6.1f} s  ", "dim")
    text.append(f"{line.source:<8}  ", SOURCE_STYLES.get(line.source, ""))
    text.append(line.text)
    return text


def _header(watch: Watch, title: str) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" k3s-autoscaler ", "bold reverse")
    text.append(f"  {watch.state.now_s - watch.started_at_s:5.1f} s  ", "bold")
    text.append(title, "dim")
    return text


def _steps(story: Story, started_at_s: float) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=1)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", width=8, no_wrap=True)
    for step in STEPS:
        at_s = story.times.get(step.key)
        if at_s is not None:
            table.add_row(Text("✓", "green"), step.title, Text(f"{at_s - started_at_s:.1f} s", "dim"))
        elif story.current is step:
            table.add_row(Text("▶", "bold yellow"), Text(step.title, "bold"), "")
        else:
            table.add_row(Text("·", "dim"), Text(step.title, "dim"), "")
    return table


def _nodes(watch: Watch) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    for width in (21, 1, 9, BAR_CELLS + 5):
        table.add_column(width=width, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True)
    by_node: dict[str, list[PodView]] = {}
    for pod in watch.state.pods:
        by_node.setdefault(pod.node, []).append(pod)
    known = {node.instance_id for node in watch.workers}
    for node in watch.workers:
        table.add_row(
            _short(node.name), node.zone[-1], _node_state(node), _cpu(node), _pods(by_node.get(node.name, []))
        )
    for row in watch.living_instances:
        if row["instance_id"] not in known:
            table.add_row(
                _short(row["instance_id"]), row["zone"][-1], Text("boots", "yellow"), "", Text("no Node yet", "dim")
            )
    waiting = [pod for pod in watch.state.pods if pod.unschedulable_since_s is not None and not pod.node]
    legend = Text("\n")
    for key, colour in COLOURS.items():
        legend.append(f"{POD} {key.partition('/')[2]}  ", colour)
    legend.append("   waiting: ", "dim")
    legend.append_text(_pods(waiting) if waiting else Text("nobody", "dim"))
    return Group(table, legend)


def _short(name: str) -> str:
    return name if len(name) <= 21 else f"{name[:9]}…{name[-8:]}"


def _node_state(node: NodeView) -> Text:
    if not node.alive:
        return Text("gone", "red")
    if not node.ready:
        return Text("joins", "yellow")
    return Text("draining", "magenta") if node.cordoned else Text("Ready", "green")


def _cpu(node: NodeView) -> Text:
    if not node.alive:
        return Text("")
    filled = round(node.cpu_used * BAR_CELLS)
    colour = "red" if node.cpu_used > 0.7 else "green"
    text = Text("█" * filled, colour)
    text.append("░" * (BAR_CELLS - filled), "dim")
    text.append(f" {node.cpu_used:4.0%}", "dim")
    return text


def _pods(pods: Sequence[PodView]) -> Text:
    text = Text()
    counts = Counter((pod.owner, pod.ready and not pod.terminating) for pod in pods if pod.owner in COLOURS)
    for (owner, ready), count in sorted(counts.items()):
        text.append(POD * count, COLOURS[owner] if ready else f"dim {COLOURS[owner]}")
    return text


def _decision(watch: Watch) -> RenderableType:
    last = watch.last_decision
    if last is None or last.document is None:
        return Text("none yet", "dim")
    document = last.document
    nodes = document.get("nodes", {})
    counts = ", ".join(f"{nodes[name]} {name}" for name in ("ready", "joining", "draining", "desired") if name in nodes)
    text = Text(overflow="ellipsis")
    text.append(f"{last.ended_at_s - watch.started_at_s:6.1f} s  {last.key}: ", "dim")
    text.append(decision_words(last), "bold" if document.get("action") != "none" else "")
    text.append(f"\n          {counts}; metrics {document.get('metrics_status', '?')}", "dim")
    return text

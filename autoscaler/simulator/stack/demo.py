"""`make demo`: the whole service at work on this machine, in less than three minutes.

A real Alertmanager fires a real webhook at the real handlers, deployed with `sls deploy` to an AWS emulator; workers
are launched, join, are drained and terminated. A terminal shows it live; a pipe gets plain lines. The exit code is 0
only when every step was seen to happen.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from autoscaler.policy_text import PolicyError
from autoscaler.simulator.stack.local import LocalStack, StackSettings, Sweeper, local_stack
from autoscaler.simulator.stack.picture import LINES, save_picture
from autoscaler.simulator.stack.playground import keep_up
from autoscaler.simulator.stack.processes import Interrupted, StackError, endings_raise, repository_root
from autoscaler.simulator.stack.story import SWEEP_INTERVAL_S, StepFailed, Story
from autoscaler.simulator.stack.summary import Summary, summarise
from autoscaler.simulator.stack.timeline import Line, Timeline
from autoscaler.simulator.stack.view import line_text, screen
from autoscaler.simulator.stack.watch import Watch

POLICY: Final = "demo/policy.yml"
SMALLEST_SCREEN: Final = (80, 30)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo; returns the exit code."""
    options = _parse(arguments)
    # With --json standard output carries the summary and nothing else.
    console = Console(stderr=options.json, highlight=False)
    try:
        with endings_raise():
            summary = _play(options, console)
    except Interrupted as error:
        console.print(f"\nThe demo was {error}; everything that it had started is ended.")
        return 128 + error.number
    except (StackError, PolicyError) as error:
        console.print(f"\nThe demo could not go on: {error}", markup=False, soft_wrap=True)
        return 1
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
    else:
        _print_summary(console, summary)
    return 0 if summary.ok else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="The whole service at work on this machine.")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on standard output")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")
    parser.add_argument("--policy", type=Path, default=repository_root() / POLICY, help="the scaling policy")
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, with addresses and commands to try")
    parser.add_argument("--picture", type=Path, help="write the last screen to this SVG")
    parser.add_argument("--logs", type=Path, help="copy every program's output to this folder at the end")
    return parser.parse_args(arguments)


def _play(options: argparse.Namespace, console: Console) -> Summary:
    began = time.monotonic()
    settings = StackSettings(policy_path=options.policy, logs=options.logs)

    def tell(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {step} ...")

    with local_stack(settings, tell=tell) as stack:
        watch = Watch(stack, started_at_s=time.time())
        timeline = Timeline(watch)
        story: Story | None = None

        def picture() -> Any:
            return screen(watch, story, timeline.lines, title=_title(stack), height=console.height) if story else ""

        live = console.is_terminal and not options.plain and _large_enough(console)
        with _shown(console, picture if live else None) as refresh:

            def after_look() -> None:
                fresh = timeline.news()
                if live:
                    refresh()
                else:
                    _print_lines(console, fresh, watch.started_at_s)

            with Sweeper(stack, SWEEP_INTERVAL_S) as sweeper:
                story = Story(stack, watch, sweeper, after_look=after_look)
                failure = ""
                try:
                    story.play()
                except StepFailed as error:
                    failure = str(error)
            summary = summarise(stack, watch, story, took_s=time.monotonic() - began, failure=failure)
            if options.picture and summary.ok:
                shown = screen(watch, story, timeline.lines, title=_title(stack), height=LINES)
                save_picture(options.picture, shown, title="make demo")
            if options.keep and summary.ok:
                _print_summary(console, summary)
                keep_up(stack, sweeper, console)
        return summary


def _large_enough(console: Console) -> bool:
    return console.width >= SMALLEST_SCREEN[0] and console.height >= SMALLEST_SCREEN[1]


def _title(stack: LocalStack) -> str:
    return (
        f"{stack.programs.prometheus.title} · {stack.programs.alertmanager.title} · AWS emulated by moto · "
        f"sweep every {SWEEP_INTERVAL_S:.0f} s"
    )


@contextlib.contextmanager
def _shown(console: Console, picture: Callable[[], Any] | None) -> Iterator[Callable[[], None]]:
    if picture is None:
        yield lambda: None
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda: live.update(picture(), refresh=True)


def _print_lines(console: Console, lines: Sequence[Line], started_at_s: float) -> None:
    for line in lines:
        console.print(line_text(line, started_at_s), soft_wrap=True)


def _print_summary(console: Console, summary: Summary) -> None:
    table = Table(title="What happened", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    first = summary.started_at_s
    for moment in summary.moments:
        table.add_row("[green]✓[/]", moment.title, f"{moment.at_s - first:5.1f} s")
    console.print()
    console.print(table)
    console.print()
    for name, value in _facts(summary):
        console.print(f"[dim]{name:<28}[/]{value}", soft_wrap=True)
    console.print()
    if summary.ok:
        console.print(f"[bold green]Every step happened[/], in {summary.took_s:.0f} s.")
    else:
        console.print("[bold red]The demo failed.[/]", end=" ")
        console.print(summary.failure, markup=False, soft_wrap=True)


def _facts(summary: Summary) -> list[tuple[str, str]]:
    def after(*steps: tuple[str, float | None]) -> str:
        return ", ".join(f"{name} {'never' if value is None else f'after {value:.1f} s'}" for name, value in steps)

    return [
        ("real programs", f"{summary.prometheus}, {summary.alertmanager}"),
        (
            "from the first waiting pod",
            after(
                ("webhook", summary.pending_to_webhook_s),
                ("CreateFleet", summary.pending_to_create_fleet_s),
                ("workers Ready", summary.pending_to_ready_s),
                ("all pods run", summary.pending_to_running_s),
            ),
        ),
        (
            "from the end of the load",
            after(
                ("drain", summary.load_gone_to_drain_s),
                ("terminated", summary.load_gone_to_terminated_s),
                ("Node deleted", summary.load_gone_to_node_deleted_s),
            ),
        ),
        ("woken by", f"{summary.webhooks} webhooks, {summary.sweeps} sweeps, {summary.events} EC2 and SSM events"),
        ("launched", f"{summary.launched_instances} workers by {summary.fleet_requests} CreateFleet calls"),
        ("drained", f"{summary.drains} workers, {summary.evicted_pods} pods evicted"),
        ("cost", f"{summary.worker_seconds:.0f} worker-seconds, {summary.dollars:.5f} dollars on AWS"),
    ]


if __name__ == "__main__":
    sys.exit(main())

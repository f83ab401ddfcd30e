"""Plays what the command line named, with a bar that tells how far it is, and writes what came of it."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from autoscaler.backtest.page import NoPlots, page
from autoscaler.backtest.results import Report
from autoscaler.backtest.run import backtest
from autoscaler.backtest.words import differences, table
from autoscaler.cli.backtest.sources import Source
from autoscaler.cli.ending import FAILED, INTERRUPTED, end
from autoscaler.policy import Policy

MOST_PROCESSES: Final = 16


def play_all(source: Source, policies: Mapping[str, Policy]) -> Report:
    """Play all of it. Ctrl-C ends the play, and what was played is reported."""
    processes = min(_processors(), len(policies) * len(source.plans), MOST_PROCESSES)
    with bar("playing") as show, _ended_like_by_hand():
        return backtest(
            source.plans,
            policies,
            source=source.title,
            notes=source.notes,
            processes=processes,
            recording=source.recording,
            show=show,
        )


def tell(report: Report) -> None:
    """The table, and how each policy differs from the first."""
    typer.echo(table(report.fleets))
    for fleet in report.fleets[1:]:
        typer.echo("")
        for line in differences(report.fleets[0], fleet):
            typer.echo(line)


def write(report: Report, *, html: Path | None, json: Path | None) -> None:
    """Write what was asked for; ends with FAILED where that cannot be done."""
    if json is not None:
        _write(json, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if html is not None:
        try:
            text = page(report)
        except NoPlots as error:
            end(str(error), FAILED)
        _write(html, text.encode())


def finish(report: Report) -> None:
    """End as what happened asks: 130 after Ctrl-C."""
    if report.stopped:
        end("Ended before all was played: the report is of the part that was.", INTERRUPTED)


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        end(f"{file} could not be written: {error.strerror}.", FAILED)
    typer.echo(f"Written: {file} ({len(data) / 1e6:.1f} MB).", err=True)


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[float], None]]:
    """On a terminal only; it stands on standard error, so that a pipe gets the table alone."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextlib.contextmanager
def _ended_like_by_hand() -> Iterator[None]:
    """SIGTERM keeps what was played, too: who runs this in a job sends that."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""`k3s-autoscaler history`: what was decided and done, and by whom."""

import json
import time
from itertools import islice
from typing import Annotated

import typer

from autoscaler.cli.ending import WRONG_INPUT, end, told
from autoscaler.cli.history.chosen import TRIGGERS, about
from autoscaler.cli.history.shown import show_history
from autoscaler.cli.options import AsJson
from autoscaler.cli.tables import console
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import MomentError, moment, parse_moment


@aimed
def history(
    *,
    target: Target,
    since: Annotated[
        str, typer.Option("--since", help="From when: 2h (ago), 14:00 (the last one), 2026-11-26 14:00, or ISO 8601.")
    ] = "1d",
    until: Annotated[str, typer.Option("--until", help="Until when; without it until now.")] = "",
    worker: Annotated[str, typer.Option("--worker", help="Only what names this worker: its Node or instance id.")] = "",
    trigger: Annotated[str, typer.Option("--trigger", help=f"Only what came by: {', '.join(TRIGGERS)}.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show decisions that acted, refused or failed, and changes of the mode, the newest first.

    Looks that found nothing to do are in the log only (docs/logs-insights.md). Times are local.
    """
    if trigger and trigger not in TRIGGERS:
        end(f"{trigger!r} is no trigger: {', '.join(TRIGGERS)} are.", WRONG_INPUT)
    now_s = int(time.time())
    since_s, until_s = _moment(since, now_s), _moment(until, now_s) if until else now_s
    if since_s > until_s:
        end(f"--since ({moment(since_s)}) is after --until ({moment(until_s)}): exchange them.", WRONG_INPUT)
    with told():
        records = about(
            target.store().decisions(since_s=since_s, until_s=until_s), worker=worker.strip(), trigger=trigger
        )
        shown = list(islice(records, limit))
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    show_history(console(), shown)


def _moment(text: str, now_s: int) -> int:
    try:
        return parse_moment(text, now_s)
    except MomentError as error:
        end(str(error), WRONG_INPUT)

"""`k3s-autoscaler explain`: asks the deployed function, or reads what was recorded."""

import json
import time
from typing import Annotated, Any

import typer

from autoscaler.cli.asked import Unanswered, answered
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, told
from autoscaler.cli.explain.past import decision_at, decision_of, last_decision, show_recorded, show_since
from autoscaler.cli.explain.shown import show_answer
from autoscaler.cli.here import Here, LocalPolicy, answered_by, source
from autoscaler.cli.options import AsJson
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import MomentError, parse_moment
from autoscaler.ports import PortError

About = Annotated[str, typer.Argument(metavar="[NODE|NAMESPACE/POD]", help="A worker or a pod; without it the fleet.")]
At = Annotated[str, typer.Option("--at", help="The last recorded decision then or before: 2h, 14:00, 2026-11-26.")]
Id = Annotated[str, typer.Option("--decision", help="The recorded decision of this id, or of one that begins so.")]


@aimed
def explain(
    *,
    target: Target,
    about: About = "",
    at: At = "",
    decision: Id = "",
    prometheus: Here = "",
    policy: LocalPolicy = "policy.yml",
    as_json: AsJson = False,
) -> None:
    """Why it scales, or does not: what holds it, until when, and the field of the policy that changes it.

    The deployed function is asked and changes nothing.
    """
    if (at and decision) or (prometheus and (at or decision)):
        end("Give one of --at, --decision and --prometheus.", WRONG_INPUT)
    if at or decision:
        _past(target, about, at, decision, as_json=as_json)
        return
    try:
        found = (
            answered_by(target, prometheus, policy, "explain", about=about)
            if prometheus
            else answered(target, "explain", about=about)
        )
    except Unanswered as error:
        _last_instead(target, str(error), about, as_json=as_json)
        return
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    show_answer(found, cluster=target.cluster_id, source=source(target, prometheus))


def _past(target: Target, about: str, at: str, decision_id: str, *, as_json: bool) -> None:
    now_s = int(time.time())
    at_s: int | None = None
    if at:
        try:
            at_s = parse_moment(at, now_s)
        except MomentError as error:
            end(str(error), WRONG_INPUT)
    store = target.store()
    changes: list[dict[str, Any]] = []
    with told():
        if at_s is None:
            record = decision_of(store, decision_id)
        else:
            record, changes = decision_at(store, at_s)
    _show(record, target, about, as_json=as_json)
    if at_s is not None and not as_json:
        show_since(record, changes, at_s)


def _last_instead(target: Target, why: str, about: str, *, as_json: bool) -> None:
    """Nobody answers: the last recorded decision, and that it is no more than that."""
    try:
        record = last_decision(target.store())
    except PortError:
        end(why, FAILED)
    if record is None:
        end(f"{why} No decision is recorded either.", FAILED)
    typer.echo(f"{why} The last recorded decision instead:", err=True)
    _show(record, target, about, as_json=as_json)


def _show(record: dict[str, Any], target: Target, about: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    show_recorded(record, cluster=target.cluster_id, about=about)

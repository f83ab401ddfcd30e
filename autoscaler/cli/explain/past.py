"""The past, as it was recorded: the decision of an id, or the last one at or before a time."""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from autoscaler.ask.lines import row
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.duration import say_duration
from autoscaler.cli.ending import FAILED, end
from autoscaler.cli.sheet import heading, in_words, say
from autoscaler.cli.times import moment, of_utc
from autoscaler.model import Blocked

SEARCHED = 100_000
"""Decisions that are looked through for an id."""


def decision_at(store: DynamoStateStore, at_s: int) -> dict[str, Any]:
    """The last one that was recorded then or before; ends with one sentence where there is none."""
    found = next(iter(store.decisions(since_s=0, until_s=at_s)), None)
    if found is None:
        end(f"No decision was recorded at {moment(at_s)} or before: `k3s-autoscaler history` shows those kept.", FAILED)
    return found


def decision_of(store: DynamoStateStore, decision_id: str) -> dict[str, Any]:
    """The one of this id, or of an id that begins so; ends with one sentence where there is none."""
    records = islice(store.decisions(since_s=0), SEARCHED)
    found = next((one for one in records if str(one.get("decision_id", "")).startswith(decision_id)), None)
    if found is None:
        end(f"No decision {decision_id} is recorded: one that did nothing stands in the log only.", FAILED)
    return found


def show_recorded(record: Mapping[str, Any], *, cluster: str, about: str, asked_for_s: int | None) -> None:
    """What was decided and why; with `about` only what the record says of that worker or pod."""
    decided_at = str(record.get("decided_at", ""))
    heading(f"{cluster}, {of_utc(decided_at)}: decision {record.get('decision_id', 'without an id')} (recorded)")
    if asked_for_s is not None and (gap_s := asked_for_s - _epoch_s(decided_at)) > 0:
        say(f"the last one before {moment(asked_for_s)}, {say_duration(gap_s)} earlier; a look that did nothing is in "
            "the log only", indent=0)  # fmt: skip
    say(f"{record.get('action')} ({record.get('reason')}): {record.get('message')}", indent=0)
    rows = [one for one in record.get("blocked") or () if isinstance(one, Mapping)]
    if about:
        _show_about(record, rows, about)
        return
    for signal in record.get("signals") or ():
        say(f"{signal['name']}: {_number(signal['value'])}, threshold {_number(signal['threshold'])}, "
            f"wants {_number(signal['wants'])} workers")  # fmt: skip
    for sentence in (*(record.get("events") or ()), *(record.get("failures") or ())):
        say(str(sentence))
    for one in rows:
        _show_row(one)


def _show_about(record: Mapping[str, Any], rows: list[Mapping[str, Any]], about: str) -> None:
    told = [one for one in rows if about in (one.get("subject"), *one.get("others", ()))]
    for one in told:
        _show_row(one)
    sentences = [s for s in (*(record.get("events") or ()), *(record.get("failures") or ())) if about in str(s)]
    for sentence in sentences:
        say(str(sentence))
    if not told and not sentences and about not in str(record.get("message")):
        say(f"it says nothing of {about}: of one kind of reason {len(rows) and 'the first few'} are named")


def _show_row(one: Mapping[str, Any]) -> None:
    line = row(Blocked(subject=str(one.get("subject")), reason=str(one.get("reason"))))
    others = [str(name) for name in one.get("others", ())]
    also = f"; so {', '.join(others)}" if others else ""
    said = in_words({"about": line.about, "says": line.says + also, "fields": line.fields, "instead": line.instead})
    say(said)


def _number(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}"


def _epoch_s(decided_at: str) -> int:
    try:
        return int(datetime.fromisoformat(decided_at).timestamp())
    except ValueError:
        return 0

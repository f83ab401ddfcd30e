"""The past, as it was recorded: the decision of an id, or the last one at or before a time."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from autoscaler.ask.lines import Line, known, line, row
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli.duration import say_duration
from autoscaler.cli.ending import FAILED, end
from autoscaler.cli.mode.change import KIND
from autoscaler.cli.sheet import heading, in_words, say
from autoscaler.cli.times import moment, of_utc
from autoscaler.model import Blocked

SEARCHED: Final = 100_000
"""Records that are looked through."""


def decision_at(store: DynamoStateStore, at_s: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last decision that was recorded then or before, and the changes of the mode since, newest first.

    Ends with one sentence where there is none.
    """
    records = islice(store.decisions(since_s=0, until_s=at_s), SEARCHED)
    changes: list[dict[str, Any]] = []
    for found in records:
        if found.get("kind") != KIND:
            break
        changes.append(found)
    else:
        end(f"No decision was recorded at {moment(at_s)} or before: `k3s-autoscaler history` shows those kept.", FAILED)
    return found, changes


def last_decision(store: DynamoStateStore) -> dict[str, Any] | None:
    """The last one that was recorded; None where none is. Raises StoreUnavailable."""
    records = islice(store.decisions(since_s=0), SEARCHED)
    return next((one for one in records if one.get("kind") != KIND), None)


def decision_of(store: DynamoStateStore, decision_id: str) -> dict[str, Any]:
    """The one of this id, or of an id that begins so; ends with one sentence where there is none."""
    records = islice(store.decisions(since_s=0), SEARCHED)
    found = next((one for one in records if str(one.get("decision_id", "")).startswith(decision_id)), None)
    if found is None:
        end(f"No decision {decision_id} is recorded: one that did nothing stands in the log only.", FAILED)
    return found


def show_recorded(record: Mapping[str, Any], *, cluster: str, about: str) -> None:
    """What was decided and why; with `about` only what the record says of that worker or pod."""
    heading(f"{cluster}, {of_utc(_at(record))}: decision {record.get('decision_id', 'without an id')} (recorded)")
    reason, message = str(record.get("reason")), str(record.get("message"))
    decided = line(f"{record.get('action')} ({reason})", message.rstrip("."), code=reason)
    say(_told(decided) if known(reason) else f"{decided.about}: {message}", indent=0)
    lines = list(_about(record, about) if about else _whole(record))
    for one in lines:
        say(one)
    if about and not lines and about not in message:
        say(f"the record says nothing of {about}; of each kind of reason it names the first few")


def show_since(record: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], asked_for_s: int) -> None:
    """How far before the moment that was asked for it was, and who changed the mode meanwhile."""
    try:
        gap_s = asked_for_s - int(datetime.fromisoformat(_at(record)).timestamp())
    except ValueError:
        gap_s = 0
    if gap_s > 0:
        earlier = f"{say_duration(gap_s)} before {moment(asked_for_s)}"
        say(f"the last one recorded, {earlier}; a look that did nothing stands in the log only", indent=0)
    for change in reversed(changes):
        say(f"since then, {of_utc(_at(change))}: {change.get('message')}", indent=0)


def _whole(record: Mapping[str, Any]) -> Iterator[str]:
    for signal in record.get("signals") or ():
        name, wants = str(signal["name"]), signal["wants"]
        asks = "asks for nothing" if wants is None else f"asks for {wants} workers altogether"
        says = f"{_number(signal['value'])}, threshold {_number(signal['threshold'])}; {asks}"
        yield _told(line(name, says, code=name))
    yield from _sentences(record)
    yield from map(_row, _rows(record))


def _about(record: Mapping[str, Any], about: str) -> Iterator[str]:
    yield from (_row(one) for one in _rows(record) if about in (one.get("subject"), *one.get("others", ())))
    yield from (sentence for sentence in _sentences(record) if about in sentence)


def _rows(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in record.get("blocked") or () if isinstance(one, Mapping)]


def _sentences(record: Mapping[str, Any]) -> list[str]:
    # `events`: so `done` was called before 0.2; the history keeps records for `history_days`.
    fields = ("done", "events", "failures")
    return [str(sentence) for field in fields for sentence in record.get(field) or ()]


def _row(one: Mapping[str, Any]) -> str:
    # Before 0.2 a row had both in one field, `code: text`.
    code, _, text = str(one.get("reason", "")).partition(": ")
    code, text = str(one.get("code", code)), str(one.get("text", text))
    found = row(Blocked(subject=str(one.get("subject")), code=code, text=text))
    others = ", ".join(str(name) for name in one.get("others", ()))
    says = f"{found.says}; so {others}" if others else found.says
    return _told(msgspec.structs.replace(found, says=says))


def _told(found: Line) -> str:
    return in_words(msgspec.structs.asdict(found))


def _at(record: Mapping[str, Any]) -> str:
    return str(record.get("decided_at", ""))


def _number(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}"

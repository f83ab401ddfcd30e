"""The daily digest: what the history of a day says, in a few lines. Pure; `digestSchedule` sends it.

Dollars are what recorded decisions saw the workers cost an hour, each until the next one: a calm look writes no record,
and between two records nothing changed that a decision would have caused. Time before the first that tells it is
unknown, and is said to be.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from autoscaler.model import Action, Mode

DAY_S: Final = 86_400
HOUR_S: Final = 3600
REASON: Final = "daily_digest"
MOST_REASONS: Final = 6
_DONE: Final = (
    (Action.SCALE_UP, "grown"),
    (Action.SCALE_DOWN, "shrunk"),
    (Action.REPAIR, "repaired"),
)


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """A day of decisions. Each count is by reason."""

    cluster_id: str
    since_s: int
    until_s: int
    done: dict[str, dict[str, int]]
    """By action."""
    observed: dict[str, dict[str, int]]
    """What observe mode would have begun, by action."""
    refused: dict[str, int]
    failures: int
    """Sentences of what failed, each time that it was recorded."""
    usd: float | None
    """Over `usd_known_s`; None: no decision tells what an hour costs."""
    usd_known_s: int
    ready: tuple[int, int] | None
    """The fewest and the most Ready workers that a decision saw."""


def digest_of(records: Sequence[Mapping[str, Any]], *, cluster_id: str, since_s: int, until_s: int) -> Digest:
    """Sum up the history from `since_s` to `until_s`; `records` (newest first) may begin earlier."""
    dated = sorted(((at_s, record) for record in records if (at_s := _decided_s(record)) is not None), key=_first)
    within = [record for at_s, record in dated if since_s <= at_s < until_s]
    usd, known_s = _dollars(dated, since_s, until_s)
    ready = [n for record in within if isinstance(n := (record.get("nodes") or {}).get("ready"), int)]
    acted = [record for record in within if record.get("mode") != Mode.OBSERVE]
    observed = [record for record in within if record.get("mode") == Mode.OBSERVE]
    return Digest(
        cluster_id=cluster_id,
        since_s=since_s,
        until_s=until_s,
        done=_by_action(acted),
        observed=_by_action(observed),
        refused=_by_reason(within, Action.HELD_BACK),
        failures=sum(len(record.get("failures") or ()) for record in within),
        usd=usd,
        usd_known_s=known_s,
        ready=(min(ready), max(ready)) if ready else None,
    )


def digest_text(digest: Digest) -> str:
    """The mail: one line for each thing that there is to say."""
    return "\n".join(_lines(digest)) + "\n"


def digest_document(digest: Digest) -> dict[str, Any]:
    """What is published: shaped like a decision, so that filters and readers of one take the other."""
    lines = list(_lines(digest))
    return {
        "cluster_id": digest.cluster_id,
        "action": str(Action.NONE),
        "reason": REASON,
        "severity": "info",
        "message": lines[0],
        "text": "\n".join(lines) + "\n",
        "digest": msgspec.to_builtins(digest),
    }


def _lines(digest: Digest) -> Iterator[str]:
    hours = (digest.until_s - digest.since_s) / HOUR_S
    yield f"{digest.cluster_id}: the last {hours:g} hours, until {_moment(digest.until_s)}"
    for action, word in _DONE:
        reasons = digest.done.get(action.value, {})
        yield f"{word:<12}{_times(reasons)}"
    yield f"{'refused':<12}{_times(digest.refused)}"
    yield f"{'failures':<12}{digest.failures or 'none'}"
    for action, word in _DONE:
        if reasons := digest.observed.get(action.value, {}):
            yield f"{'observed':<12}would have {word} {_times(reasons)}"
    if digest.ready is not None:
        least, most = digest.ready
        yield f"{'workers':<12}{least if least == most else f'{least} to {most}'} ready, as decisions saw them"
    if digest.usd is None:
        yield f"{'cost':<12}unknown: no recorded decision tells what an hour costs"
    else:
        known = digest.usd_known_s / HOUR_S
        part = (
            "" if digest.usd_known_s >= digest.until_s - digest.since_s else f" in the {known:.1f} hours that are known"
        )
        yield f"{'cost':<12}${digest.usd:.2f}{part}"


def _times(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "none"
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{reason} {count}" for reason, count in ranked[:MOST_REASONS])
    more = sum(count for _, count in ranked[MOST_REASONS:])
    return f"{sum(reasons.values())}: {named}{f', others {more}' if more else ''}"


def _by_action(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found = {action.value: _by_reason(records, action) for action, _ in _DONE}
    return {action: reasons for action, reasons in found.items() if reasons}


def _by_reason(records: Sequence[Mapping[str, Any]], action: Action) -> dict[str, int]:
    return dict(Counter(str(record.get("reason")) for record in records if record.get("action") == action))


def _dollars(dated: Sequence[tuple[int, Mapping[str, Any]]], since_s: int, until_s: int) -> tuple[float | None, int]:
    """Each price an hour until the next decision that tells one."""
    prices = [(at_s, usd) for at_s, record in dated if (usd := _usd_per_hour(record)) is not None and at_s < until_s]
    usd, known_s = 0.0, 0
    for place, (at_s, per_hour) in enumerate(prices):
        end_s = prices[place + 1][0] if place + 1 < len(prices) else until_s
        seconds = max(0, end_s - max(at_s, since_s))
        usd += per_hour * seconds / HOUR_S
        known_s += seconds
    return (usd, known_s) if known_s else (None, 0)


def _usd_per_hour(record: Mapping[str, Any]) -> float | None:
    cost = record.get("cost")
    found = cost.get("usd_per_hour") if isinstance(cost, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def _first(pair: tuple[int, Mapping[str, Any]]) -> int:
    return pair[0]


def _decided_s(record: Mapping[str, Any]) -> int | None:
    """When; None for a record that does not say so in a way we read, which counts for nothing."""
    try:
        return int(datetime.fromisoformat(str(record.get("decided_at"))).timestamp())
    except ValueError:
        return None


def _moment(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

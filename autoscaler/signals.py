"""Custom signals, as `policy.yml` states them: typed, and everything wrong with them in sentences.

What they ask for is decide's question (decide/demand/custom.py). No PromQL is parsed here: what is refused is what
could not stand in parentheses. Prometheus has the last word, and one query that it refuses costs that signal only.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec

MOST_SIGNALS: Final = 10
LONGEST_WINDOW_S: Final = 3_600
BUILT_IN: Final = frozenset(
    {"unschedulable_pods", "cpu_utilisation", "memory_utilisation", "minimum", "pool_minimum", "headroom", "forecast"}
)
"""Names of the signals that a policy has without naming them."""
_CLOSES: Final = {"(": ")", "[": "]", "{": "}"}
_LARGEST: Final = 1e15
"""What a float still counts exactly."""

Threshold = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]


class CustomSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of the operator's own, and what it asks for: so much a worker, or thresholds."""

    name: Annotated[
        str,
        msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=40, description="at most 40 small letters, digits and _"),
    ]
    """What decisions call it."""
    query: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    """PromQL that gives one element."""
    per_worker_target: Annotated[float, msgspec.Meta(gt=0.0, le=_LARGEST)] | None = None
    """As many workers are wanted as the value holds this, rounded up."""
    above: Threshold | None = None
    """Above it all through the window `step` workers more are wanted."""
    below: Threshold | None = None
    """Nobody leaves unless it stayed below all through the shrink window; None: at or below `above`."""
    step: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Workers more, each time it stayed above through the window; a new one begins with the last launch's workers."""
    window_s: Annotated[int, msgspec.Meta(ge=2, le=LONGEST_WINDOW_S)] = 60
    """The smallest value in it counts for growth; for staying the largest in it and in `scale_down.window_s`."""

    def keeping_s(self, shrink_window_s: int) -> int:
        """How far back the value counts that keeps workers, in seconds."""
        return max(self.window_s, shrink_window_s)

    @property
    def fingerprint(self) -> str:
        """Names this query in the state: another one is news again."""
        return hashlib.sha256(self.query.encode()).hexdigest()[:8]


def faults(signals: Sequence[CustomSignal], *, interval_s: int) -> list[str]:
    """What is wrong with them, a sentence each. `interval_s`: of what rules record, `utilisation_interval_s`."""
    if len(signals) > MOST_SIGNALS:
        return [f"signals holds {len(signals)}: at most {MOST_SIGNALS} are allowed"]
    names = [signal.name for signal in signals]
    found = [
        f"signals names {name} twice: give each its own name" for name in sorted(set(names)) if names.count(name) > 1
    ]
    return found + [f"signals.{one.name}: {fault}" for one in signals for fault in _faults_of(one, interval_s)]


def _faults_of(signal: CustomSignal, interval_s: int) -> Iterator[str]:
    if signal.name in BUILT_IN:
        yield f"the name belongs to a signal that is built in: choose another than {', '.join(sorted(BUILT_IN))}"
    thresholds = signal.above is not None or signal.below is not None
    if (signal.per_worker_target is not None) is thresholds:
        yield "give either per_worker_target, or above or below or both"
    if signal.above is not None and signal.below is not None and signal.below > signal.above:
        yield f"below is {signal.below:g} and above is {signal.above:g}: below may not be more, or the fleet swings"
    if signal.window_s < 2 * interval_s:
        yield (
            f"window_s is {signal.window_s}: a window holds at least two samples, and "
            f"metrics.utilisation_interval_s is {interval_s}: give {2 * interval_s} or more"
        )
    if (why := _not_balanced(signal.query)) is not None:
        yield f"query {why}"


def _not_balanced(query: str) -> str | None:
    """Why the query cannot stand in parentheses; None where it can. Strings and comments as PromQL has them."""
    awaited: list[str] = []
    place, anything = 0, False
    while place < len(query):
        letter = query[place]
        if letter in "\"'`":
            end = _end_of_string(query, place)
            if end is None:
                return f"has a string that begins with {letter} and does not end"
            place = end
        elif letter == "#":
            line = query.find("\n", place)
            place = line if line >= 0 else len(query)
            continue
        elif letter in _CLOSES:
            awaited.append(_CLOSES[letter])
        elif letter in _CLOSES.values():
            if not awaited or awaited.pop() != letter:
                return f"has a {letter} that closes nothing"
        elif not (letter.isprintable() or letter in "\n\t\r"):
            return f"holds {letter!r}, which no query needs"
        anything = anything or not letter.isspace()
        place += 1
    if awaited:
        return f"ends before a {awaited[-1]}"
    return None if anything else "is empty"


def _end_of_string(query: str, begin: int) -> int | None:
    """Where the string that begins there ends. Backquotes know no escapes."""
    place, quote = begin + 1, query[begin]
    while place < len(query):
        if query[place] == quote:
            return place
        place += 2 if query[place] == "\\" and quote != "`" else 1
    return None

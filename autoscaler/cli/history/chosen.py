"""Which records of the history are asked for: pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

TRIGGERS: Final = ("sweep", "alert", "lifecycle", "operator", "teardown")
"""Kinds of triggers; `operator` is a change of the mode."""


def about(records: Iterable[dict[str, Any]], *, worker: str, trigger: str) -> Iterator[dict[str, Any]]:
    """Those that a trigger of the kind brought and that name the worker; an empty word asks for all."""
    for record in records:
        if trigger and trigger != _trigger(record):
            continue
        if worker and not names(record, worker):
            continue
        yield record


def names(value: object, word: str) -> bool:
    """Whether a string anywhere in the value holds the word, and not only as the beginning or end of a longer name."""
    if isinstance(value, str):
        return _holds(value, word)
    if isinstance(value, Mapping):
        return any(names(one, word) for one in value.values())
    return isinstance(value, list | tuple) and any(names(one, word) for one in value)


def _holds(text: str, word: str) -> bool:
    """`i-1` is no part of `i-12`, but of `k3s-i-1`: workers are named for their instance."""
    begin = text.find(word)
    while begin >= 0:
        end = begin + len(word)
        after = text[end : end + 1]
        before = text[begin - 1 : begin]
        if not (after.isalnum() or (after == "-" and text[end + 1 : end + 2].isalnum())) and not before.isalnum():
            return True
        begin = text.find(word, begin + 1)
    return False


def _trigger(record: Mapping[str, Any]) -> str:
    trigger = record.get("trigger")
    return str(trigger.get("kind", "")) if isinstance(trigger, Mapping) else ""

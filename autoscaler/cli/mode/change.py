"""Puts an operator's word into the state, and tells the history of it."""

from collections.abc import Callable, Mapping
from time import sleep as really_sleep
from typing import Any, NamedTuple, Protocol

import msgspec

from autoscaler.cli.change import change_state
from autoscaler.model import ModeSetting
from autoscaler.ports import StateStore
from autoscaler.state.modes import set_mode

KIND = "mode"
"""Of its record in the history, beside the decisions, which have no `kind`."""


class Change(NamedTuple):
    """The operator's words, and whether a state was stored before."""

    before: ModeSetting | None
    after: ModeSetting | None
    existed: bool


class History(Protocol):
    """Where it is told."""

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        """Append a record. Raises StoreUnavailable."""
        ...


def change_mode(store: StateStore, setting: ModeSetting, *, sleep: Callable[[float], None] = really_sleep) -> Change:
    """Put the setting into the state; returns what changed. Raises Contended, StoreUnavailable, StateMalformed."""
    changed = change_state(
        store,
        lambda state: set_mode(state, setting),
        but="the mode is as it was; try again in a few seconds.",
        sleep=sleep,
    )
    return Change(changed.before.mode, changed.after.mode, changed.existed)


def tell_history(history: History, change: Change, *, cluster_id: str, record_id: str, message: str) -> None:
    """Write down who changed the mode from what to what. Raises StoreUnavailable."""
    after = change.after
    assert after is not None  # noqa: S101  # a setting was put in
    history.record(
        after.set_at_s,
        record_id,
        {
            "kind": KIND,
            "decision_id": record_id,
            "cluster_id": cluster_id,
            "trigger": {"kind": "operator", "correlation_id": record_id, "detail": after.by},
            "mode": after.mode.value,
            "action": KIND,
            "reason": after.mode.value,
            "message": message,
            "by": after.by,
            "before": msgspec.to_builtins(change.before),
            "after": msgspec.to_builtins(after),
        },
    )

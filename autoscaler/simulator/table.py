"""The state table in memory, and the core's port over it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from autoscaler.model import SchedulingRules, State
from autoscaler.observe.rules import BadRules, pack_kept, unpack_kept
from autoscaler.ports import Conflict, RulesMalformed, StateMalformed, StoreUnavailable
from autoscaler.simulator.wires import DYNAMODB, Invocation


@dataclass(slots=True)
class StateItem:
    """The stored items of a cluster: encoded bytes and a version, as DynamoDB would hold them."""

    data: bytes = b""
    version: int = 0
    largest_bytes: int = 0
    saves: int = 0
    rules: bytes = b""
    rules_answered_at_s: int = 0
    decisions: deque[tuple[int, str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=10_000))


class MemoryStore:
    """The state with compare-and-set (port StateStore)."""

    def __init__(self, item: StateItem, invocation: Invocation) -> None:
        self._item = item
        self._invocation = invocation

    def load(self) -> tuple[State, int]:
        """Decode the item. Raises StoreUnavailable, StateMalformed."""

        def effect() -> tuple[State, int]:
            item = self._item
            if item.version == 0:
                return State(), 0
            try:
                return msgspec.json.decode(item.data, type=State), item.version
            except msgspec.DecodeError as error:
                raise StateMalformed(f"The stored state does not decode: {error}") from error

        return self._invocation.call(DYNAMODB, "load", StoreUnavailable, effect)

    def save(self, state: State, expected_version: int) -> int:
        """Write if nobody else did. Raises Conflict, StoreUnavailable."""

        def effect() -> int:
            item = self._item
            if item.version != expected_version:
                raise Conflict(f"the item has version {item.version}, not {expected_version}")
            item.data = msgspec.json.encode(state)
            item.version += 1
            item.saves += 1
            item.largest_bytes = max(item.largest_bytes, len(item.data))
            return item.version

        return self._invocation.call(DYNAMODB, "save", StoreUnavailable, effect, state)

    def rules(self) -> SchedulingRules | None:
        """Decode what is kept. Raises StoreUnavailable, RulesMalformed."""

        def effect() -> SchedulingRules | None:
            try:
                return unpack_kept(self._item.rules) if self._item.rules else None
            except BadRules as error:
                raise RulesMalformed(f"The kept rules do not decode: {error}".rstrip(".")) from error

        return self._invocation.call(DYNAMODB, "rules", StoreUnavailable, effect)

    def keep_rules(self, rules: SchedulingRules) -> None:
        """Keep them unless younger ones are there. Raises StoreUnavailable."""

        def effect() -> None:
            item = self._item
            if not item.rules or item.rules_answered_at_s <= rules.answered_at_s:
                item.rules, item.rules_answered_at_s = pack_kept(rules), rules.answered_at_s

        self._invocation.call(DYNAMODB, "keep_rules", StoreUnavailable, effect)

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        """Append to the history; the document must be plain JSON. Raises StoreUnavailable."""

        def effect() -> None:
            plain = msgspec.json.decode(msgspec.json.encode(document))
            self._item.decisions.append((decided_at_s, decision_id, plain))

        self._invocation.call(DYNAMODB, "record", StoreUnavailable, effect)

"""How far a teardown may go, and what its process remembers between two looks."""

import msgspec


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """How far a teardown may go."""

    at_once: int = 1
    """Workers that are asked about and emptied at the same time."""
    force: bool = False
    """What still stands against an end after the drain's time-out is overruled: budgets, rules, volumes, silence."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the process remembers between looks. Nothing that safety rests on: without it a step is only done again.

    Everything is by instance id.
    """

    refused: dict[str, str] = {}
    """Why a worker stays."""
    refused_since_s: dict[str, int] = {}
    firm: frozenset[str] = frozenset()
    """Refused because of what they are: not even `force` ends these."""
    tried_s: dict[str, int] = {}
    """When the last try ended."""
    late: dict[str, str] = {}
    """Drains that ran out of time. On a machine that is dead no pod ever ends: a server is asked once more."""
    ending: frozenset[str] = frozenset()
    """EC2 is being told to terminate these."""
    cleared: frozenset[str] = frozenset()
    """Ended instances whose Node is known to be gone."""
    inherited: frozenset[str] | None = None
    """Ids of operations that were under way at the first look, and were not seen at work since; None before it."""


class Notes:
    """A Memory that one plan writes to."""

    def __init__(self, memory: Memory) -> None:
        self.refused = dict(memory.refused)
        self.refused_since_s = dict(memory.refused_since_s)
        self.firm = set(memory.firm)
        self.tried_s = dict(memory.tried_s)
        self.late = dict(memory.late)
        self.ending = set(memory.ending)
        self.cleared = set(memory.cleared)
        self.inherited = set(memory.inherited or ())

    def refuse(self, key: str, why: str, *, now_s: int, firm: bool = False) -> None:
        """A worker stays, for a reason that a person can do something about."""
        sentence = why if why.endswith(".") else f"{why}."
        self.refused[key] = f"{key}: {sentence}" + (" --force does not overrule that." if firm else "")
        self.refused_since_s.setdefault(key, now_s)
        self.tried_s[key] = now_s
        if firm:
            self.firm.add(key)

    def refused_for_s(self, key: str, now_s: int) -> int:
        """How long it has been refused; 0 where it is not."""
        return now_s - self.refused_since_s[key] if key in self.refused else 0

    def clear(self, key: str) -> None:
        """Nothing of it is left, neither machine nor Node."""
        self.cleared.add(key)
        self.refused.pop(key, None)

    def memory(self) -> Memory:
        """What is kept of it."""
        return Memory(
            refused=self.refused,
            refused_since_s=self.refused_since_s,
            firm=frozenset(self.firm),
            tried_s=self.tried_s,
            late=self.late,
            ending=frozenset(self.ending),
            cleared=frozenset(self.cleared),
            inherited=frozenset(self.inherited),
        )

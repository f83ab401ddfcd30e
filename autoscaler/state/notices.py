"""Facts that no observation shows, as pure `State -> State` functions."""

from typing import Final

import msgspec

from autoscaler.model import Notice, State

MAX_NOTICES: Final = 100
STOPPED: Final = "stopped"
"""Kind of the notice that repair keeps of a stopped worker for as long as it is stopped."""


def add_notices(state: State, notices: tuple[Notice, ...]) -> State:
    """Save facts that no observation shows; the same fact twice is one. Of too many, the handled and old ones go."""
    facts = {(notice.kind, notice.subject): notice for notice in state.notices}
    for notice in notices:
        facts.setdefault((notice.kind, notice.subject), notice)
    if len(facts) == len(state.notices):
        return state
    first_to_go = sorted(facts, key=lambda fact: not facts[fact].handled)
    for fact in first_to_go[: max(0, len(facts) - MAX_NOTICES)]:
        del facts[fact]
    return msgspec.structs.replace(state, notices=tuple(facts.values()))


def mark_handled(state: State, kind: str, subject: str) -> State:
    """What the notice asked for is under way or needs nothing."""
    return msgspec.structs.replace(
        state,
        notices=tuple(
            msgspec.structs.replace(notice, handled=True)
            if (notice.kind, notice.subject) == (kind, subject)
            else notice
            for notice in state.notices
        ),
    )


def mark_replaced(state: State, kind: str, subject: str) -> State:
    """A worker is launched in the place of the one that the notice is about: once."""
    notices = tuple(
        msgspec.structs.replace(n, replaced=True) if (n.kind, n.subject) == (kind, subject) else n
        for n in state.notices
    )
    return msgspec.structs.replace(state, notices=notices)


def take_back_notices(state: State, kind: str, before: State) -> State:
    """Let notices of one kind be as they were in `before`: nothing followed from the fresh ones."""
    kept = tuple(n for n in state.notices if n.kind != kind or n in before.notices)
    return msgspec.structs.replace(state, notices=kept)

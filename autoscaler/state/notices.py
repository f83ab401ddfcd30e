"""Facts that no observation shows, as pure `State -> State` functions."""

from typing import Final

import msgspec

from autoscaler.model import Notice, State

MAX_NOTICES: Final = 100
OVER_AFTER_S: Final = 1800
"""EC2 has carried out what it announced by then, or has not meant it."""
NOTICE_KEPT_S: Final = 3600
RETIREMENT: Final = "retirement"
INTERRUPTION: Final = "interruption"
REBALANCE: Final = "rebalance"
"""EC2 may take it: it is the first to go when one may go."""
UNDATED_S: Final = 86_400
"""A retirement that does not say when is prepared for within this time."""
STOPPED: Final = "stopped"
"""Kind of the notice that repair keeps of a stopped worker for as long as it is stopped."""


def add_notices(state: State, notices: tuple[Notice, ...]) -> State:
    """Save facts that no observation shows; the same fact twice is one. Of too many, the handled and old ones go.

    What EC2 announces anew for another time is a new fact in the place of the old one.
    """
    facts = {(notice.kind, notice.subject): notice for notice in state.notices}
    for notice in notices:
        key = (notice.kind, notice.subject)
        known = facts.get(key)
        if known is None or (notice.due_at_s is not None and notice.due_at_s != known.due_at_s):
            facts[key] = notice
    if tuple(facts.values()) == state.notices:
        return state
    first_to_go = sorted(facts, key=lambda fact: not facts[fact].handled)
    for fact in first_to_go[: max(0, len(facts) - MAX_NOTICES)]:
        del facts[fact]
    return msgspec.structs.replace(state, notices=tuple(facts.values()))


def is_over(notice: Notice, now_s: int) -> bool:
    """Whether its time passed long ago, perhaps during a pause: a machine that still runs was not taken."""
    return now_s - _due_at_s(notice) > OVER_AFTER_S


def is_to_be_forgotten(notice: Notice, now_s: int) -> bool:
    """Whether it means nothing any more. What repair notes of a stopped worker stands for as long as it is stopped."""
    return notice.kind != STOPPED and now_s - max(notice.received_at_s, _due_at_s(notice)) >= NOTICE_KEPT_S


def _due_at_s(notice: Notice) -> int:
    if notice.due_at_s is not None:
        return notice.due_at_s
    return notice.received_at_s + (UNDATED_S if notice.kind == RETIREMENT else 0)


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

"""The one replacement that is under way, and those that came to nothing: pure `State -> State` functions."""

from typing import Final

import msgspec

from autoscaler.model import Replacement, ReplacementFailed, State

ROTATION: Final = "rotation"
CHEAPER: Final = "cheaper"
REPLACING: Final = frozenset({ROTATION, CHEAPER})
"""Reasons of launches and removals that belong together: the one comes before the other."""
FIRST_WAIT_S: Final = 3_600
LONGEST_WAIT_S: Final = 86_400


def replacement_begins(state: State, replacement: Replacement) -> State:
    """Intend to let a worker go, once what is launched for it is Ready."""
    return msgspec.structs.replace(state, replacement=replacement)


def replacement_drains(state: State) -> State:
    """What was launched is Ready: the removal was opened."""
    replacement = state.replacement
    if replacement is None:
        return state
    return msgspec.structs.replace(state, replacement=msgspec.structs.replace(replacement, drains=True))


def replacement_ended(state: State) -> State:
    """The worker is gone: earlier failures mean nothing any more."""
    return msgspec.structs.replace(state, replacement=None, replacement_failed=None)


def replacement_dropped(state: State) -> State:
    """It has lost its meaning, and nobody failed."""
    return msgspec.structs.replace(state, replacement=None)


def replacement_failed(state: State, why: str, now_s: int) -> State:
    """It came to nothing: the next one waits an hour, twice as long each time in a row, up to a day."""
    replacement = state.replacement
    if replacement is None:
        return state
    failures = 1 + (state.replacement_failed.failures if state.replacement_failed is not None else 0)
    failed = ReplacementFailed(
        failures=failures,
        retry_at_s=now_s + min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S),
        why=why,
        reason=replacement.reason,
        launched_by=replacement.launched_by,
    )
    return msgspec.structs.replace(state, replacement=None, replacement_failed=failed)


def failed_lately(state: State, now_s: int) -> ReplacementFailed | None:
    """What is remembered of those that came to nothing, until a day after the next one might have begun."""
    failed = state.replacement_failed
    return failed if failed is not None and now_s < failed.retry_at_s + LONGEST_WAIT_S else None

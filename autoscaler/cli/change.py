"""Changes the state beside invocations that change it too: one compare-and-set, tried again while others write."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from autoscaler.model import State
from autoscaler.ports import Conflict, StateStore, StoreUnavailable

ATTEMPTS: Final = 6
PAUSE_S: Final = 0.2


class Changed(NamedTuple):
    """The state as it was found first and as it is now, and whether one was stored before."""

    before: State
    after: State
    existed: bool


class Contended(Exception):
    """The state changed under every attempt."""


def change_state(
    store: StateStore,
    change: Callable[[State], State],
    *,
    but: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Changed:
    """Apply a change that is the same when it is applied twice: of a write whose answer was lost, the next load tells.

    `but` ends the sentence of Contended: what holds now, and what to do. Raises Contended, StoreUnavailable,
    StateMalformed.
    """
    first: tuple[State, bool] | None = None
    for attempt in range(ATTEMPTS):
        state, version = store.load()
        first = first or (state, version > 0)
        changed = change(state)
        if changed == state:
            return Changed(first[0], changed, first[1])
        try:
            store.save(changed, version)
        except Conflict:
            sleep(PAUSE_S * (attempt + 1))
        except StoreUnavailable as error:
            if not error.effect_unknown:
                raise
            sleep(PAUSE_S * (attempt + 1))
        else:
            return Changed(first[0], changed, first[1])
    raise Contended(f"The state changed during each of {ATTEMPTS} attempts: {but}")

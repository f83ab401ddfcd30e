"""Changes the mode: one compare-and-set on the state item, tried again while others write."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from autoscaler.model import ModeSetting
from autoscaler.ports import Conflict, StateStore, StoreUnavailable
from autoscaler.state.modes import set_mode

ATTEMPTS: Final = 6
PAUSE_S: Final = 0.2


class Change(NamedTuple):
    """The operator's words, and whether a state was stored before."""

    before: ModeSetting | None
    after: ModeSetting | None
    existed: bool


class Contended(Exception):
    """The state changed under every attempt."""


def change_mode(store: StateStore, setting: ModeSetting, *, sleep: Callable[[float], None] = time.sleep) -> Change:
    """Put the setting into the state; returns what changed.

    Safe beside a running invocation: whoever loses a write loads again. Raises Contended, StoreUnavailable,
    StateMalformed.
    """
    before: ModeSetting | None = None
    existed = True
    for attempt in range(ATTEMPTS):
        state, version = store.load()
        if attempt == 0:
            before, existed = state.mode, version > 0
        changed = set_mode(state, setting)
        if changed == state:
            return Change(before, changed.mode, existed)
        try:
            store.save(changed, version)
        except Conflict:
            sleep(PAUSE_S * (attempt + 1))
        except StoreUnavailable as error:
            if not error.effect_unknown:
                raise
            sleep(PAUSE_S * (attempt + 1))  # it may be written: the next load tells
        else:
            return Change(before, changed.mode, existed)
    raise Contended(
        f"The state changed during each of {ATTEMPTS} attempts, so the mode is as it was: try again in a few seconds."
    )

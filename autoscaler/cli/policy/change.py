"""Puts what stands in the parameter into the state, from where the next look has it."""

import time
from collections.abc import Callable

from autoscaler.cli.mode import ATTEMPTS, PAUSE_S, Contended
from autoscaler.live_policy import taken_up
from autoscaler.model import OfferedPolicy, State
from autoscaler.policy import Policy
from autoscaler.ports import Conflict, StateStore, StoreUnavailable


def take_up(
    store: StateStore, offered: OfferedPolicy, deployed: Policy, *, sleep: Callable[[float], None] = time.sleep
) -> State:
    """Take it up by a compare-and-set; returns the state then.

    The lifecycle function does the same when Parameter Store's event reaches it, which it may not: both may. Raises
    Contended, StoreUnavailable, StateMalformed.
    """
    for attempt in range(ATTEMPTS):
        state, version = store.load()
        changed = taken_up(state, offered, deployed)
        if changed == state:
            return state
        try:
            store.save(changed, version)
        except Conflict:
            sleep(PAUSE_S * (attempt + 1))
        except StoreUnavailable as error:
            if not error.effect_unknown:
                raise
            sleep(PAUSE_S * (attempt + 1))  # it may be written: the next load tells
        else:
            return changed
    raise Contended(
        f"The state changed during each of {ATTEMPTS} attempts: the parameter is written, and the next event or "
        "`k3s-autoscaler policy apply` takes it up."
    )

"""The one who holds the lease: every change is a compare-and-set, and stops at once when the lease is gone."""

from collections.abc import Callable

from autoscaler.model import State
from autoscaler.ports import Conflict, StateStore, StoreUnavailable
from autoscaler.state.size import fitted

SAVE_ATTEMPTS = 5


class LostLease(Exception):
    """Somebody else acts now; whatever was not saved is theirs to find."""


class Holder:
    """Keeps the state as last saved by us, and applies pure transitions to it."""

    def __init__(self, store: StateStore, owner: str, state: State, version: int) -> None:
        self._store = store
        self._owner = owner
        self.state = state
        self._version = version

    def apply(self, transition: Callable[[State], State]) -> None:
        """Save `transition(state)`. Raises LostLease, StoreUnavailable.

        After a conflict or a lost response the stored state is read again: if our lease is still in it, the transition
        is applied to what is there now (transitions are idempotent), else we stop.
        """
        for _ in range(SAVE_ATTEMPTS):
            changed = fitted(transition(self.state))
            if changed == self.state:
                return
            try:
                self._version = self._store.save(changed, self._version)
            except Conflict:
                self._reload()
                continue
            except StoreUnavailable as error:
                if not error.effect_unknown:
                    raise
                self._reload()
                if self.state == changed:
                    return  # the write had happened, only its response was lost
                continue
            self.state = changed
            return
        raise StoreUnavailable(f"the state changed under us {SAVE_ATTEMPTS} times in a row; the next look goes on")

    def _reload(self) -> None:
        state, version = self._store.load()
        if state.lease is None or state.lease.owner != self._owner:
            raise LostLease(f"lease {self._owner} is no longer ours")
        self.state, self._version = state, version

"""The state under a look that asks: our own small writes and those of others, and what the look itself rests on."""

from collections.abc import Callable
from typing import Final

from autoscaler.model import State
from autoscaler.ports import Conflict, PortError, StateStore, StoreUnavailable
from autoscaler.state.questions import same_but_for_questions
from autoscaler.state.size import fitted

SAVE_ATTEMPTS: Final = 3
OVERTAKEN: Final = "another invocation changed the state meanwhile"


class Following:
    """`state` and `version` are what a look rests on; `latest` is what was last written or read.

    They are the same until somebody else writes more than a question: from then on the look's own stand still, so that
    whatever it wants to write is a lost race and it begins anew.
    """

    def __init__(self, store: StateStore, state: State, version: int) -> None:
        self._store = store
        self.state = self.latest = state
        self.version = self._latest_version = version
        self.overtaken = False
        self.refused = ""
        """Why the last change was not saved; empty where nothing was to be changed."""

    def change(self, transition: Callable[[State], State]) -> bool:
        """Save what the transition makes of the latest state; whether we did, and it changed something."""
        self.refused = ""
        for _ in range(SAVE_ATTEMPTS):
            changed = fitted(transition(self.latest))
            if changed == self.latest:
                return False
            try:
                version = self._store.save(changed, self._latest_version)
            except Conflict:
                if not self.reload():
                    return False
                continue
            except StoreUnavailable as error:
                self.refused = f"the question could not be kept: {error}"
                if not error.effect_unknown or not self.reload():
                    return False
                if self.latest == changed:
                    return True  # the write had happened, only its response was lost
                continue
            self._follow(changed, version)
            return True
        self.refused = OVERTAKEN
        return False

    def reload(self) -> bool:
        """Read what others wrote; False where it cannot be read."""
        try:
            state, version = self._store.load()
        except PortError as error:
            self.refused = f"the state could not be read again: {error}"
            return False
        self.overtaken = self.overtaken or not same_but_for_questions(self.state, state)
        self._follow(state, version)
        return True

    def _follow(self, state: State, version: int) -> None:
        self.latest, self._latest_version = state, version
        if not self.overtaken:
            self.state, self.version = state, version

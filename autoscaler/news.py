"""What of a look goes into the history and to people, and what is remembered of that."""

from typing import Any, Final

import msgspec

from autoscaler.model import Action, Decision, Mode, Notified, State
from autoscaler.notifications import Notify, telling
from autoscaler.ports import Ports, StoreUnavailable

BEGINNINGS: Final = frozenset({Action.SCALE_UP, Action.SCALE_DOWN, Action.REPAIR})
"""What people are told of; mere progress is recorded."""


class News:
    """Of one invocation."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._notified: Notified | None = None
        self._observed: str | None = None

    def first_observed(self, decision: Decision, state: State, mode: Mode) -> bool:
        """Whether observe mode would begin something that the history does not have yet.

        It would do so at each look until somebody lets it, and one record says it; when it ends, or another mode has
        held meanwhile, it may begin again.
        """
        begins = mode is Mode.OBSERVE and decision.action in BEGINNINGS
        self._observed = f"{decision.action.value}: {decision.reason}" if begins else ""
        return begins and self._observed != state.observed

    def record(self, decision_id: str, document: dict[str, Any]) -> None:
        """Append to the history. What was done is done: a record that fails is told with it, and stops nothing."""
        try:
            self._ports.store.record(self._ports.clock.now_s(), decision_id, document)
        except StoreUnavailable as error:
            document["failures"].append(f"the history lacks this decision: {error}")

    def tell(self, document: dict[str, Any], rules: Notify, state: State) -> None:
        """Tell people, as far as the policy wants it told."""
        judged = telling(document, rules, self._notified or state.notified, self._ports.clock.now_s())
        self._notified = judged.notified
        if judged.told:
            more = {"severity": judged.severity, "withheld": judged.withheld}
            self._ports.notifier.notify({**document, **more})

    def remembered(self, state: State) -> State:
        """The state with what was told and recorded here, to be saved with the rest."""
        if self._notified is not None:
            state = msgspec.structs.replace(state, notified=self._notified)
        if self._observed is not None:
            state = msgspec.structs.replace(state, observed=self._observed)
        return state

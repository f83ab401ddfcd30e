"""Invariants of what people are told: a failure that lasts is news once."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from autoscaler.model import Action, RemovalPhase
from autoscaler.simulator.soak.watch import Watch

OFTEN: Final = 5
"""Several causes, and operations, may take turns; one that lasts comes with every look."""
WITHIN_S: Final = 3600.0


class TellRules:
    """Rules that remember what was told. One object a run."""

    def __init__(self) -> None:
        self._read = 0
        self._told: dict[str, list[float]] = defaultdict(list)

    def a_lasting_failure_is_told_once(self, watch: Watch, _document: Mapping[str, Any]) -> str | None:
        """Nobody hears the same failure again and again where there is nothing else to hear."""
        news = [*watch.cluster.told][self._read :]
        self._read += len(news)
        now_s = watch.cluster.now_s
        for failure in (f for document in news if document["action"] == Action.NONE for f in document["failures"]):
            times = self._told[failure] = [at_s for at_s in (*self._told[failure], now_s) if now_s - at_s < WITHIN_S]
            if len(times) > OFTEN:
                return f"it was told {len(times)} times within an hour: {failure}"
        return None


def a_protected_worker_is_given_back(watch: Watch, document: Mapping[str, Any]) -> str | None:
    """Whoever heard that EC2 does not end a worker has left no removal that waits for its end."""
    if any(failure.startswith("stopped: ") for failure in document["failures"]):
        return None  # it lost its lease, and the next one hears the same
    for removal in watch.state.removals:
        waits = removal.phase is RemovalPhase.TERMINATING and not removal.reclaim
        refused = f"terminate of {removal.instance_id}: The instance '{removal.instance_id}' may not be terminated"
        if waits and any(failure.startswith(refused) for failure in document["failures"]):
            return f"{removal.instance_id} is protected, and its removal waits for its end"
    return None

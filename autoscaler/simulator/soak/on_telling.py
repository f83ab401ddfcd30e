"""Invariants of what people are told: a failure that lasts is news once."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from autoscaler.model import Action
from autoscaler.simulator.soak.watch import Watch

OFTEN: Final = 5
"""Several causes may take turns; one that lasts comes with every look."""
WITHIN_S: Final = 3600.0
ALONE: Final = frozenset({Action.NONE.value, Action.REFUSED.value})
"""Decisions that nobody would be told of but for their failure."""


class TellRules:
    """Rules that remember what was told. One object a run."""

    def __init__(self) -> None:
        self._read = 0
        self._told: dict[str, list[float]] = defaultdict(list)

    def a_lasting_failure_is_told_once(self, watch: Watch, _document: Mapping[str, Any]) -> str | None:
        """Nobody hears the same failure of the same operation again and again."""
        news = [*watch.cluster.told][self._read :]
        self._read += len(news)
        now_s = watch.cluster.now_s
        for failure in (f for document in news if document["action"] in ALONE for f in document["failures"]):
            times = self._told[failure] = [at_s for at_s in (*self._told[failure], now_s) if now_s - at_s < WITHIN_S]
            if len(times) > OFTEN:
                return f"it was told {len(times)} times within an hour: {failure}"
        return None

"""Who drew which id: a lease with one of them is that invocation's own."""

from autoscaler.ports import Ids


class RecordedIds:
    """The ids that one invocation draws (port Ids)."""

    def __init__(self, ids: Ids, seen: set[str]) -> None:
        self._ids = ids
        self._seen = seen

    def new(self) -> str:
        """Return a fresh id."""
        fresh = self._ids.new()
        self._seen.add(fresh)
        return fresh

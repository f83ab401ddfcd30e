"""Counts the remote calls of one invocation, by service."""

import threading
from collections import Counter
from collections.abc import Mapping


class Calls:
    """Real HTTP requests, pages and repeats included; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()

    def add(self, service: str) -> None:
        """Count one request."""
        with self._lock:
            self._count[service] += 1

    def reset(self) -> None:
        """Start a new invocation."""
        with self._lock:
            self._count.clear()

    def so_far(self) -> Mapping[str, int]:
        """Requests by service since the last reset, in the order of the names."""
        with self._lock:
            return dict(sorted(self._count.items()))

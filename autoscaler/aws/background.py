"""A second read in a thread of its own: the only place where a function runs two things at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from autoscaler.ports import Result


class ThreadBackground:
    """One thread that a process keeps (port Background)."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background-read")

    def start(self, read: Callable[[], Result]) -> Callable[[], Result]:
        """Begin the read; calling what is returned waits for its result."""
        return self._executor.submit(read).result

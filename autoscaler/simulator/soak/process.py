"""One invocation as a greenlet: it runs until it pauses, and goes on only when it is resumed.

A killed invocation is never resumed. Its greenlet is kept for as long as the Python process lives: a greenlet that is
collected gets GreenletExit thrown into it, and its `finally` blocks would run - which no killed Lambda does
(greenlet's documentation, "Garbage-collecting live greenlets").
"""

from collections.abc import Callable
from typing import Final

from greenlet import greenlet  # type: ignore[import-untyped]  # it ships no type hints

_ABANDONED: Final[list[greenlet]] = []


class Process:
    """A body that pauses wherever it calls `pause`."""

    def __init__(self, name: str, body: Callable[["Process"], object]) -> None:
        self.name = name
        self.ended = False
        self.killed = False
        self.result: object = None
        self.error: Exception | None = None
        self._body = body
        self._greenlet = greenlet(self._run)

    @property
    def alive(self) -> bool:
        """Whether it may still go on."""
        return not (self.ended or self.killed)

    def resume(self) -> float | None:
        """Let it run until it pauses: the seconds that it asked for. None when it has ended or died."""
        wish: float | None = self._greenlet.switch()
        return wish

    def pause(self, seconds: float) -> None:
        """Called in the body: stop here, and ask to be resumed after `seconds`."""
        self._greenlet.parent.switch(seconds)

    def die(self) -> None:
        """Called in the body: stop here for good."""
        self.kill()
        self._greenlet.parent.switch(None)

    def kill(self) -> None:
        """Never resume it."""
        if self.alive:
            self.killed = True
            _ABANDONED.append(self._greenlet)

    def _run(self) -> None:
        try:
            self.result = self._body(self)
        except Exception as error:  # noqa: BLE001 - whatever it raises is its result, and judged by the caller
            self.error = error
        self.ended = True

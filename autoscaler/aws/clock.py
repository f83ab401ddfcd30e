"""Time and names: a Lambda invocation's clock, and ids that sort by time."""

import secrets
import time
from collections.abc import Callable
from typing import Final, Protocol

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_DIGITS: Final = 10
RANDOM_DIGITS: Final = 16


class Context(Protocol):
    """What we use of the Lambda context."""

    @property
    def aws_request_id(self) -> str:
        """The id of this invocation."""
        ...

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until this invocation is killed."""
        ...


class LambdaClock:
    """The `Clock` of one invocation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def now_s(self) -> int:
        """Epoch seconds."""
        return int(time.time())

    def elapsed_ms(self) -> int:
        """Milliseconds on a clock that never steps back."""
        return time.monotonic_ns() // 1_000_000

    def remaining_s(self) -> float:
        """Seconds until Lambda kills this invocation."""
        return self._context.get_remaining_time_in_millis() / 1000

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class SortableIds:
    """The `Ids`: 48 bits of milliseconds and 80 random ones, 26 digits in Crockford's base 32, lower case."""

    def __init__(
        self, wall_clock: Callable[[], float] = time.time, random_bits: Callable[[int], int] = secrets.randbits
    ) -> None:
        self._wall_clock = wall_clock
        self._random_bits = random_bits

    def new(self) -> str:
        """Return a fresh id."""
        milliseconds = int(self._wall_clock() * 1000)
        return _digits(milliseconds, TIME_DIGITS) + _digits(self._random_bits(5 * RANDOM_DIGITS), RANDOM_DIGITS)


def _digits(number: int, count: int) -> str:
    return "".join(ALPHABET[number >> (5 * place) & 31] for place in reversed(range(count)))

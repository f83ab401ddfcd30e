"""What a bench has measured of an invocation, and what Lambda would bill of it."""

import math
from pathlib import Path
from typing import Annotated, Final

import msgspec

FILE: Final = Path(__file__).parent / "results" / "invocation.json"
WHOLE_CPU_MB: Final = 1769
"""Lambda gives CPU by memory, a whole one here. Source: Lambda developer guide, "Configure Lambda function memory"."""
WAIT_MS: Final = 50
"""Of a calm look's three calls, two of them at once: assumed, as only an account can show it."""
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Of the packaged functions, on a whole processor. The file may hold more."""

    warm_look_ms: NotNegative
    """Our CPU time of a calm look."""
    cold_ms: NotNegative
    """Our CPU time until a fresh process is ready to look."""
    calls: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    """Of a calm look, by service."""


def name_of(path: Path) -> str:
    """As it is called inside the project."""
    return "/".join(path.parts[-3:])


def read(path: Path) -> Measured | None:
    """None: nothing was measured. Raises ValueError for a file that is not understood."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        wanted = "warm_look_ms and cold_ms (numbers), and calls (service: number of a calm look)"
        told = f"{name_of(path)} is not understood: {error}. It needs {wanted}: measure again, or delete it."
        raise ValueError(told) from None


def billed_ms(found: Measured, *, memory_mb: float) -> tuple[int, int]:
    """Milliseconds of a warm look and of a cold one: CPU time over the share of a processor, and the waits."""
    share = min(1.0, memory_mb / WHOLE_CPU_MB)
    look_ms = WAIT_MS + found.warm_look_ms / share
    return math.ceil(look_ms), math.ceil(look_ms + found.cold_ms / share)

"""Regular expressions that packaging has compiled: a start compiles 150 of the libraries', a tenth of its CPU time.

As bytecode is to source, so is this to a pattern: what the runtime's own Python makes of it, made once. Python keeps no
such file by itself, so what `re` remembers of a process is filled in.
"""

import re
import sys
from importlib import import_module
from typing import Any, Final

PACKAGED: Final = "packaged_patterns"
"""A module in the package alone; scripts/package_patterns.py writes it."""
_DIFFERS: Final = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError)
"""What another `re` may answer; the last one where a code is not valid for it."""


def matcher() -> tuple[int, ...]:
    """Whose codes are alike: Python's minor version, then the version and the width that its matcher states."""
    inner = import_module("_sre")
    return (*sys.version_info[:2], inner.MAGIC, inner.CODESIZE)


def remember() -> int:
    """Let `re` have what was packaged, as if it had compiled it in this process; returns how many patterns.

    AWS changes a runtime's patch release by itself. So nothing is taken where anything is not as it was: each pattern
    is then compiled when it is asked for, as it is outside the package.
    """
    try:
        packaged = import_module(PACKAGED)
    except ModuleNotFoundError:
        return 0
    try:
        if matcher() != packaged.MATCHER:
            return 0
        make = import_module("_sre").compile
        known = {(type(row[0]), *row[:2]): _made(make, *row) for row in packaged.PATTERNS}
        vars(re)["_cache"].update(known)
    except _DIFFERS:
        return 0
    return len(known)


def _made(
    make: Any, pattern: str | bytes, _asked: int, flags: int, code: tuple[int, ...], groups: tuple[str | None, ...]
) -> Any:
    """As `re` itself ends a compilation. `groups` names each group or None, the whole match first."""
    numbers = {name: number for number, name in enumerate(groups) if name is not None}
    return make(pattern, flags, list(code), len(groups) - 1, numbers, groups)

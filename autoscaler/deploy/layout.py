"""Lays PromQL out over lines, for people who read the rendered rules. Nothing but blanks changes."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

WIDTH: Final = 104
_OPERATORS: Final = (("or",), ("and", "unless"), ("==", "!=", ">", "<", ">=", "<="), ("+", "-"), ("*", "/"))
"""Those that bind loosest first."""

_LISTING: Final = ("on", "ignoring", "by", "without", "group_left", "group_right")
"""What stands before a list of labels."""


@lru_cache(maxsize=64)
def laid_out(promql: str, *, width: int = WIDTH) -> str:
    """Break what does not fit: before operators, and inside parentheses, two deeper each time.

    Remembered: the doctor asks for the same expressions once a policy and once a kind of Prometheus.
    """
    return "\n".join(_lines(_parts(promql, " \n"), width))


def _lines(words: Sequence[str], width: int) -> Iterator[str]:
    flat = " ".join(words)
    if len(flat) <= width:
        yield flat
        return
    for operators in _OPERATORS:
        places = [index for index, word in enumerate(words) if word in operators and index > 0]
        if places:
            for start, end in zip([0, *places], [*places, len(words)], strict=True):
                yield from _opened(words[start:end], width)
            return
    yield from _opened(words, width)


def _opened(words: Sequence[str], width: int) -> Iterator[str]:
    """Open the longest parentheses, where the line is too long."""
    flat = " ".join(words)
    longest = max(range(len(words)), key=lambda index: 0 if words[index - 1] in _LISTING else len(words[index]))
    name, bracket, inside = words[longest].partition("(")
    if len(flat) <= width or not bracket or not inside.endswith(")"):
        yield flat
        return
    yield " ".join((*words[:longest], f"{name}("))
    for line in _listed(_parts(inside[:-1], ","), width - 2):
        yield f"  {line}"
    yield " ".join((")", *words[longest + 1 :]))


def _listed(arguments: Sequence[str], width: int) -> Iterator[str]:
    """Arguments, short ones beside each other."""
    *others, last = [list(_lines(_parts(argument, " \n"), width)) for argument in arguments]
    line = ""
    for *above, lowest in [*([*lines[:-1], f"{lines[-1]},"] for lines in others), last]:
        if line and (above or len(line) + 1 + len(lowest) > width):
            yield line
            line = ""
        yield from above
        if above:
            yield lowest
        else:
            line = f"{line} {lowest}".strip()
    if line:
        yield line


def _parts(text: str, separators: str) -> list[str]:
    """Split where no string and no bracket is open."""
    parts, depth, quoted, skipped = [""], 0, False, False
    for character in text:
        if skipped or character == "\\":
            skipped = not skipped
        elif character == '"':
            quoted = not quoted
        elif not quoted:
            depth += (character in "([{") - (character in ")]}")
        if character in separators and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]

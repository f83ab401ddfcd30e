"""What can become of a server's answer to the verb `rules`: it does not fit, is cut off, or a line is nonsense."""

import base64
import gzip
from enum import StrEnum

import msgspec

from autoscaler.observe.rules_text import VERSION, Header, Kind, Line, unpack


class RulesFault(StrEnum):
    """Kinds of trouble with an answer."""

    NEVER = "never told"
    LEFT_OUT = "not all of it fits"
    """Every second owner is left out, and counted."""
    CUT_OFF = "cut off"
    """SSM kept the beginning."""
    OLD = "of an earlier day"
    """The first answer that was ever given, again."""
    MALFORMED = "one owner is nonsense"


def spoilt(packed: str, fault: RulesFault) -> str:
    """The answer as it arrives."""
    if fault is RulesFault.CUT_OFF:
        return packed[: len(packed) // 2]
    _, lines = unpack(packed)
    owners = [number for number, line in enumerate(lines) if line.kind is Kind.OWNER]
    if fault is RulesFault.MALFORMED and owners:
        lines[owners[0]] = Line(Kind.OWNER, lines[owners[0]].key, (), '{"spec":[]}')
    left_out = owners[1::2] if fault is RulesFault.LEFT_OUT else []
    return _packed([line for number, line in enumerate(lines) if number not in left_out], {Kind.OWNER: len(left_out)})


def _packed(lines: list[Line], left_out: dict[Kind, int]) -> str:
    shown: dict[str, int] = {}
    for line in lines:
        shown[line.kind] = shown.get(line.kind, 0) + 1
    header = Header(shown=shown, left_out={kind: count for kind, count in left_out.items() if count})
    first = Line(Kind.HEADER, VERSION, (), msgspec.json.encode(header).decode())
    text = "".join(f"{line}\n" for line in (first, *lines))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()

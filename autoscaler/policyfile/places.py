"""Where in which file a fault stands: sentences of faults name their fields by path, YAML's nodes know the lines."""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Fault(NamedTuple):
    """One sentence about a policy, and where to look."""

    sentence: str
    source: str = ""
    """The file, as it was asked for or as another one extends it; empty for what stands in none."""
    line: int = 0
    """Counted from 1; 0 for none."""

    @property
    def told(self) -> str:
        """As compilers write it, so that an editor jumps there: `policy.yml:12: ...`."""
        where = f"{self.source}:{self.line}: " if self.line else ""
        return f"{where}{self.sentence}{'' if self.sentence.endswith(('.', '?')) else '.'}"


class Places:
    """The lines of all fields of some files, the one that counts first in front."""

    def __init__(self, files: Sequence[tuple[str, str]]) -> None:
        """Of (source, text) each. A text that is no YAML has no fields."""
        parsing = import_module("autoscaler.policyfile.parsing")  # loads PyYAML
        self._files: list[tuple[str, dict[str, int]]] = [
            (source, dict(parsing.lines_of(text))) for source, text in files
        ]

    def fault(self, sentence: str) -> Fault:
        """The sentence with the place of a field that it names; the first line of all where it names none.

        Of several fields one that the first file has, for that is what somebody wanted to change. A field that is
        missing is where the map is that lacks it.
        """
        found = (
            (not match.whole, number, match.start, -len(path), source, line)
            for number, (source, lines) in enumerate(self._files)
            for path, line in lines.items()
            for match in [_match(path, sentence)]
            if match is not None
        )
        *_, source, line = min(found, default=(self._files[0][0], 1))
        return Fault(sentence, source, line)


class _Match(NamedTuple):
    start: int
    whole: bool
    """Not only what holds the field that the sentence names."""


def _match(path: str, sentence: str) -> _Match | None:
    """Where the sentence names the field. A path of one word may be a word of English anywhere but at the beginning."""
    # "schedules.night: min is ..." is about schedules.night.min.
    for text in (sentence, sentence.replace(": ", ".", 1)):
        found = re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)(?P<more>\.\w)?", text)
        if found is not None and (found.start() == 0 or "." in path):
            return _Match(found.start(), whole=found["more"] is None)
    return None

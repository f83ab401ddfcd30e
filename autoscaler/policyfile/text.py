"""YAML as text that is not understood yet: what a value is, the type of its field says.

YAML 1.1 guesses, and people are caught by it: `off` is false, `1:30` is 90, `010` is 8, `1_000` is 1000, `2026-01-01`
is a date. Here a value is its characters, until a field says what it takes.

Packaging has parsed the texts that it took along (REMEMBERED): a function that meets one of them, the same to the byte,
needs neither the parser nor the time, together 20 ms of a cold start (docs/performance.md).
"""

import hashlib
import pkgutil
import re
from functools import cache
from importlib import import_module
from typing import Any, Final

import msgspec


class Scalar(msgspec.Struct, frozen=True):
    """A value as it stands in the file."""

    text: str
    quoted: bool = False


class BadYaml(ValueError):
    """The text is no YAML, or more than a policy needs of it; the message says where."""

    def __init__(self, problem: str, line: int = 1) -> None:
        self.line = line
        """Counted from 1."""
        super().__init__(problem)


Tree = dict[str, Any]
"""Maps, lists and Scalars; None where `null` is written out."""
_BOOLEANS: Final = {"true": True, "false": False}
_INT: Final = r"[-+]?(?:0|[1-9]\d{0,30})"
_FLOAT: Final = r"[-+]?(?:\.\d{1,30}|\d{1,30}(?:\.\d{0,30})?)(?:[eE][-+]?\d{1,3})?"
REMEMBERED: Final = "remembered.json"
"""Beside this module, in the package alone."""


def read_yaml(text: str) -> Any:
    """The tree that the text holds: a Tree where it holds fields. Raises BadYaml."""
    known = _remembered().get(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    if known is not None:
        return _with_scalars(known)
    parsing = import_module("autoscaler.policyfile.parsing")  # loads PyYAML
    try:
        return parsing.parse(text, lambda value, quoted: Scalar(value, quoted=quoted))
    except parsing.NotYaml as error:
        raise BadYaml(str(error), error.line) from error


@cache
def _remembered() -> dict[str, Any]:
    """Trees by the SHA-256 of their text; empty outside the package."""
    try:
        return msgspec.json.decode(pkgutil.get_data(__package__, REMEMBERED) or b"{}", type=dict[str, Any])
    except FileNotFoundError:
        return {}


def _with_scalars(known: Any) -> Any:
    """What scripts/package_tree.py wrote: a scalar's text has a quotation mark before it, or a blank."""
    if isinstance(known, dict):
        return {name: _with_scalars(value) for name, value in known.items()}
    if isinstance(known, list):
        return [_with_scalars(value) for value in known]
    return None if known is None else Scalar(known[1:], quoted=known.startswith('"'))


def plain(tree: Any) -> Any:
    """The tree as YAML 1.2's core reads it: true, false, numbers, text. For fields that take several types."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    if not isinstance(tree, Scalar):
        return tree
    if tree.quoted:
        return tree.text
    if tree.text in _BOOLEANS:
        return _BOOLEANS[tree.text]
    if re.fullmatch(_INT, tree.text):
        return int(tree.text)
    return float(tree.text) if re.fullmatch(_FLOAT, tree.text) else tree.text

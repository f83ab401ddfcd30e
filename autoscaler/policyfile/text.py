"""YAML as text that is not understood yet: what a value is, the type of its field says.

YAML 1.1 guesses, and people are caught by it: `off` is false, `1:30` is 90, `010` is 8, `1_000` is 1000, `2026-01-01`
is a date. Here a value is its characters, until a field says what it takes.
"""

import re
from typing import Any, Final

import msgspec
import yaml


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
_INT: Final = re.compile(r"[-+]?(?:0|[1-9]\d{0,30})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.\d{1,30}|\d{1,30}(?:\.\d{0,30})?)(?:[eE][-+]?\d{1,3})?")
_NULLS: Final = frozenset({"null", "Null", "NULL", "~"})


class _Loader(yaml.SafeLoader):
    """Maps, lists and text; a key may stand once: YAML keeps the last, and the first would silently mean nothing."""

    def scalar(self, node: yaml.ScalarNode) -> Scalar | None:
        """The characters, whatever YAML would make of them."""
        if node.style is None and node.value in _NULLS:
            return None
        return Scalar(node.value, quoted=node.style is not None)

    def map(self, node: yaml.MappingNode) -> Tree:
        """Fields by their names."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _at(key_node, "a name is text, not a map or a list")
            if key_node.value in seen:
                raise _at(key_node, f"{key_node.value} stands twice")
            seen.add(key_node.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def list(self, node: yaml.SequenceNode) -> list[Any]:
        """Values in their order."""
        return [self.construct_object(value, deep=True) for value in node.value]

    def refused(self, node: yaml.Node) -> None:
        """What YAML knows and no policy needs."""
        raise _at(node, f"{node.tag} is nothing that a policy holds")


for _kind in ("str", "int", "float", "bool", "timestamp", "value", "null"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.scalar)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.map)
_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.list)
for _kind in ("binary", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.refused)


def read_yaml(text: str) -> Any:
    """The tree that the text holds: a Tree where it holds fields. Raises BadYaml."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise BadYaml(" ".join(str(error).split()) or "it nests too deep", line) from error


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
    if _INT.fullmatch(tree.text):
        return int(tree.text)
    return float(tree.text) if _FLOAT.fullmatch(tree.text) else tree.text


def _at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

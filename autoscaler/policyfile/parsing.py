"""PyYAML, told to guess nothing. Loaded only where a text is new; packaging runs it too, without our other modules."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import yaml

_NULLS: Final = frozenset({"null", "Null", "NULL", "~"})


class NotYaml(ValueError):
    """The text is no YAML, or more of it than a policy needs; the message says where."""

    def __init__(self, problem: str, line: int) -> None:
        self.line = line
        """Counted from 1."""
        super().__init__(problem)


def parse(text: str, scalar: Callable[[str, bool], Any]) -> Any:
    """Maps, lists, None where `null` is written out, and `scalar(text, quoted)` of every other value.

    Raises NotYaml.
    """
    try:
        return _Loader(text, scalar).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        words = [getattr(error, part, None) for part in ("problem", "context")] if mark is not None else [str(error)]
        told = ", ".join(" ".join(word.split()) for word in words if word) or "it nests too deep"
        raise NotYaml(f"line {line}: {told}", line) from error


def lines_of(text: str) -> Iterator[tuple[str, int]]:
    """Path and line of every field; an element of a list goes by its index, and by its name if it has one.

    A text that is no YAML has no fields.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return
    yield from _below("", root)


def _below(path: str, node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            yield inner, key.start_mark.line + 1
            yield from _below(inner, value)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            for inner in _names_of(path, index, value):
                yield inner, value.start_mark.line + 1
                yield from _below(inner, value)


def _names_of(path: str, index: int, node: yaml.Node) -> Iterable[str]:
    yield f"{path}[{index}]"
    if isinstance(node, yaml.MappingNode):
        yield from (f"{path}.{value.value}" for key, value in node.value if key.value == "name")


class _Loader(yaml.SafeLoader):
    """Maps, lists and text; a key may stand once: YAML keeps the last, and the first would silently mean nothing."""

    def __init__(self, text: str, scalar: Callable[[str, bool], Any]) -> None:
        super().__init__(text)
        self._scalar = scalar

    def scalar(self, node: yaml.ScalarNode) -> Any:
        """The characters, whatever YAML would make of them."""
        if node.style is None and node.value in _NULLS:
            return None
        return self._scalar(node.value, node.style is not None)

    def map(self, node: yaml.MappingNode) -> dict[str, Any]:
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


def _at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

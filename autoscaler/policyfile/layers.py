"""Files laid over one another: `extends` names a preset, or a file beside the one that says so.

Maps are laid over one another field by field; a list or a value replaces the one below whole; `null` takes the one
below away, so that the default holds. What comes out is one tree, as if somebody had written it into one file.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from autoscaler.policyfile.text import BadYaml, Scalar, Tree, read_yaml
from autoscaler.presets import NAMES, preset

EXTENDS: Final = "extends"
MOST_LAYERS: Final = 5
FILE: Final = re.compile(r"policy[A-Za-z0-9._-]{0,20}\.yml")
"""What packaging takes along; a folder in it would lie elsewhere there."""


class BadLayers(ValueError):
    """The files do not lead to one policy; `source` is the one that says why in the message."""

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        super().__init__(problem)


class Layers(NamedTuple):
    """One tree, and what it was laid together from: the file that was asked for first."""

    tree: Any
    sources: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    """(path, text) of those that are no presets, in their order."""


def layered(text: str, *, source: str, beside: Callable[[str], str]) -> Layers:
    """Lay the text over what it extends, and that over what it extends.

    `beside` gives the text of a file in the same folder; its OSError is told. Raises BadYaml of the text itself, and
    BadLayers.
    """
    tree = read_yaml(text)
    trees, sources, files = [tree], [source], [(source, text)]
    while isinstance(trees[-1], dict) and trees[-1].get(EXTENDS) is not None:
        name = _name(sources[-1], trees[-1][EXTENDS])
        if name in {_last(source), *sources}:
            raise BadLayers(source, f"{' extends '.join([*sources, name])}: a circle; let one of them extend a preset")
        if len(trees) == MOST_LAYERS:
            raise BadLayers(source, f"{' extends '.join([*sources, name])}: at most {MOST_LAYERS} files may follow")
        if name in NAMES:
            below = preset(name)
        else:
            below = _text_of(name, sources[-1], beside)
            files.append((source.removesuffix(_last(source)) + name, below))
        trees.append(_read(name, below))
        sources.append(name)
    result = trees.pop()
    for over in reversed(trees):
        result = laid_over(result, over)
    if isinstance(result, dict):
        result = {key: value for key, value in result.items() if key != EXTENDS}
    return Layers(result, tuple(sources), tuple(files))


def laid_over(below: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`over` on `below`. A `null` stays, as the default's word: what it names may be no field at all."""
    result = dict(below)
    for key, value in over.items():
        under = result.get(key)
        result[key] = laid_over(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return result


def _name(source: str, given: Any) -> str:
    """What a file extends. Raises BadLayers."""
    text = given.text if isinstance(given, Scalar) else ""
    if text in NAMES or FILE.fullmatch(text):
        return text
    shown = repr(text[:60]) if isinstance(given, Scalar) else "no name"
    raise BadLayers(
        source,
        f"extends is {shown}: write {', '.join(NAMES)}, or a file of the same folder whose name begins with policy and "
        "ends in .yml",
    )


def _text_of(name: str, source: str, beside: Callable[[str], str]) -> str:
    """Of a file that `source` extends. Raises BadLayers."""
    try:
        return beside(name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise BadLayers(source, f"extends is {name}, which cannot be read: {reason}") from error


def _read(name: str, text: str) -> Tree:
    try:
        tree = read_yaml(text)
    except BadYaml as error:
        raise BadLayers(name, f"no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise BadLayers(name, "it holds no fields: write some, each as `name: value`")
    return tree


def _last(source: str) -> str:
    """The file's own name, without its folder."""
    return source.replace("\\", "/").rpartition("/")[2]

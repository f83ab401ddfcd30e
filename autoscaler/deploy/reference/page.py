"""`docs/policy/reference.md`: every field of the policy, from the same words as the schema."""

import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from autoscaler.deploy.reference.fields import Field, doc_of, fields_of, section_of
from autoscaler.policy import Policy
from autoscaler.policyfile.numbers import spoken_range
from autoscaler.policyfile.reading import bare, options_of

HEAD: Final = """\
# Every field

Written by `make reference` from the types in `autoscaler/policy.py` and its neighbours: change it there. What numbers
may be written as, and how files extend each other, stands in [the file](file.md); the pages of the single features say
when to use them. `null` is the default of a field.
"""


def reference_page() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_section("", Policy, _paths())]).rstrip() + "\n"


_Paths = Mapping[type, str]
"""Where each section is told of: one that several fields hold, where the path is shortest."""


def _paths() -> _Paths:
    found: dict[type, str] = {}
    waiting: list[tuple[str, type[msgspec.Struct]]] = [("", Policy)]
    for path, kind in waiting:
        if kind not in found:
            found[kind] = path
            below = ((_below(path, field), section_of(field.type)) for field in fields_of(kind))
            waiting += [(inner, section) for inner, section in below if section is not None]
    return found


def _section(path: str, kind: type[msgspec.Struct], paths: _Paths) -> Iterator[str]:
    """Its fields in a table, then the sections below it."""
    if path:
        yield from (f"## `{path}`", "", doc_of(kind), "")
    fields = fields_of(kind)
    yield from ("| field | takes | default | |", "|---|---|---|---|")
    yield from (_row(field, paths) for field in fields)
    yield ""
    for field in fields:
        section = section_of(field.type)
        if section is not None and paths[section] == _below(path, field):
            yield from _section(paths[section], section, paths)


def _row(field: Field, paths: _Paths) -> str:
    section, default = section_of(field.type), json.dumps(field.default, ensure_ascii=False)
    if section is None:
        takes = _takes(field.name, field.type)
    else:
        takes = f"[{paths[section]}](#{re.sub(r'[^a-z0-9_-]', '', paths[section])})"
    told = "required" if field.required else f"`{default}`"
    if section is not None and isinstance(field.default, dict) and field.default:
        told = "those of its fields"
    return f"| `{field.name}` | {takes} | {told} | {field.doc} |"


def _below(path: str, field: Field) -> str:
    """`schedules[]` for a list of sections, `workers.sizes.*` for a map of them."""
    kind, _ = bare(field.type)
    mark = {tuple: "[]", dict: ".*"}.get(get_origin(kind), "")
    return f"{path}.{field.name}{mark}" if path else f"{field.name}{mark}"


def _takes(name: str, annotated: Any) -> str:
    kind, limits = bare(annotated)
    origin = get_origin(kind)
    if origin is tuple:
        return f"a list, each {_takes(name, get_args(kind)[0])}"
    if origin is dict:
        key, value = (_takes(name, one) for one in get_args(kind))
        return f"a map of {key} to {value}"
    if origin is Literal:
        return " or ".join(f"`{option}`" for option in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{member.value}`" for member in kind)
    if kind is bool:
        return "`true` or `false`"
    if kind in {int, float}:
        return spoken_range(name, kind, limits).partition(", such as ")[0]
    if kind is str:
        return limits.description if limits is not None and limits.description else "text"
    return " or ".join(_takes(name, one) for one in options_of(kind))

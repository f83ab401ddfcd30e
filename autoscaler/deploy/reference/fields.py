"""What each field of the policy is: its type and default from the struct, its meaning from the docstring below it."""

import ast
import inspect
import json
import re
from functools import cache
from itertools import pairwise
from typing import Any, get_args, get_origin

import msgspec

from autoscaler.policyfile.reading import bare


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a section."""

    name: str
    """As the file writes it."""
    type: Any
    """With its limits."""
    required: bool
    default: Any
    """In JSON's values; None where it is required, or where null is the default."""
    doc: str


def fields_of(kind: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields of a section, in their order. Raises LookupError for one that nothing is said of."""
    return tuple(_field(kind, field) for field in msgspec.structs.fields(kind))


def doc_of(kind: type[msgspec.Struct]) -> str:
    """What a section is for, in one line. Raises LookupError."""
    if not kind.__doc__:
        raise LookupError(f"{kind.__name__} has no docstring")
    return _one_line(kind.__doc__)


def section_of(annotated: Any) -> type[msgspec.Struct] | None:
    """The struct that a field holds, by itself or in a list or map; None for a plain value."""
    kind, _ = bare(annotated)
    held = {tuple: 0, dict: 1}.get(get_origin(kind))
    found, _ = (kind, None) if held is None else bare(get_args(kind)[held])
    return found if isinstance(found, type) and issubclass(found, msgspec.Struct) else None


def _field(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Field:
    default = field.default_factory() if field.default is msgspec.NODEFAULT and not field.required else field.default
    return Field(
        name=field.encode_name,
        type=field.type,
        required=field.required,
        default=None if field.required else json.loads(msgspec.json.encode(default)),
        doc=_doc(kind, field),
    )


def _doc(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> str:
    for base in kind.__mro__:
        if issubclass(base, msgspec.Struct) and (found := _docs(base).get(field.name)):
            return found
    section = section_of(field.type)
    if section is None:
        raise LookupError(f"{kind.__name__}.{field.name} has no docstring below it")
    return doc_of(section)


@cache
def _docs(kind: type) -> dict[str, str]:
    """The strings below the fields that a class itself declares."""
    module = inspect.getmodule(kind)
    if module is None or module.__name__.startswith("msgspec"):
        return {}
    tree = ast.parse(inspect.getsource(module))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    return {
        field.target.id: _one_line(said.value.value)
        for field, said in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant) and isinstance(said.value.value, str)
    }


def _one_line(text: str) -> str:
    """As the file's readers know it: what is None here is null there."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))

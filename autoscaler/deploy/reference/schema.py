"""`policy.schema.json`: what an editor needs to complete, explain and check `policy.yml` while it is written.

It takes what the service takes, in people's units too, and refuses what is of another type. Limits hold for bare
numbers; how large `90m` may be, and whether fields fit together, `k3s-autoscaler validate` knows.
Source of the form: JSON Schema 2020-12.
"""

from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from autoscaler.deploy.reference.fields import Field, doc_of, fields_of
from autoscaler.policy import Policy
from autoscaler.policyfile.layers import EXTENDS, FILE
from autoscaler.policyfile.numbers import spoken_range, unit_at
from autoscaler.policyfile.reading import BOOLEANS, bare, options_of
from autoscaler.presets import NAMES

Schema = dict[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_LIMITS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_TEXT: Final = ["string", "number", "boolean"]
"""A value is read by its characters: a label's `1` is text."""


def policy_schema() -> Schema:
    """The schema of a whole file."""
    sections: dict[str, Schema] = {}
    whole = _section(Policy, sections)
    whole["properties"] = {EXTENDS: _extends(), **whole["properties"]}
    # What a file extends may give the version.
    del whole["required"]
    return {
        "$schema": DIALECT,
        "title": "Scaling policy of k3s-autoscaler",
        "description": doc_of(Policy),
        **{key: value for key, value in whole.items() if key not in {"title", "description"}},
        "anyOf": [{"required": ["version"]}, {"required": [EXTENDS]}],
        "$defs": dict(sorted(sections.items())),
    }


def _extends() -> Schema:
    return {
        "title": EXTENDS,
        "description": f"What this file is laid over: a preset ({', '.join(NAMES)}), or another policy*.yml beside it.",
        "anyOf": [{"enum": list(NAMES)}, {"type": "string", "pattern": f"^{FILE.pattern}$"}, {"type": "null"}],
    }


def _section(kind: type[msgspec.Struct], sections: dict[str, Schema]) -> Schema:
    fields = fields_of(kind)
    return {
        "title": kind.__name__,
        "description": doc_of(kind),
        "type": "object",
        "properties": {field.name: _property(field, sections) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _property(field: Field, sections: dict[str, Schema]) -> Schema:
    """A field: its value, or null for its default."""
    value = _value(field.name, field.type, sections)
    described = {"title": field.name, "description": _described(field)}
    if field.required:
        return {**described, **value}
    if set(value) == {"$ref"}:  # beside it nothing needs to be said of the default: each field below has its own
        return {**described, "anyOf": [value, {"type": "null"}]}
    return {**described, "default": field.default, **_or_null(value)}


def _described(field: Field) -> str:
    """With what may be written, where that is a number."""
    kind, limits = bare(field.type)
    if kind not in {int, float}:
        return field.doc
    spoken = spoken_range(field.name, kind, limits)
    return f"{field.doc} {spoken[0].upper()}{spoken[1:]}."


def _or_null(value: Schema) -> Schema:
    if "anyOf" in value:
        return {"anyOf": [*value["anyOf"], {"type": "null"}]}
    return {"anyOf": [value, {"type": "null"}]}


def _value(name: str, annotated: Any, sections: dict[str, Schema]) -> Schema:
    kind, limits = bare(annotated)
    origin = get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__name__ not in sections:
            sections[kind.__name__] = {}  # one that holds itself would end here
            sections[kind.__name__] = _section(kind, sections)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is tuple:
        most = {"maxItems": limits.max_length} if limits is not None and limits.max_length is not None else {}
        return {"type": "array", "items": _value(name, get_args(kind)[0], sections), **most}
    if origin is dict:
        key, value = get_args(kind)
        most = {"maxProperties": limits.max_length} if limits is not None and limits.max_length is not None else {}
        names = {k: v for k, v in _value(name, key, sections).items() if k in {"pattern", "maxLength", "minLength"}}
        nullable = _or_null(_value(name, value, sections))
        return {"type": "object", "propertyNames": names, "additionalProperties": nullable, **most}
    return _leaf(name, kind, limits)


def _leaf(name: str, kind: Any, limits: msgspec.Meta | None) -> Schema:
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [str(member.value) for member in kind]}
    if kind is bool:
        return {"anyOf": [{"type": "boolean"}, {"enum": sorted(set(BOOLEANS) - {"true", "false"})}]}
    if kind in {int, float}:
        return _number(name, kind, limits)
    if kind is str:
        return _text(limits)
    # A number or text: a share, a range.
    return {"anyOf": [_of_union(name, one) for one in options_of(kind)]}


def _of_union(name: str, annotated: Any) -> Schema:
    kind, limits = bare(annotated)
    return {"type": "string", **_length(limits)} if kind is str else _number(name, kind, limits)


def _number(name: str, kind: type, limits: msgspec.Meta | None) -> Schema:
    bare_number: Schema = {"type": "integer" if kind is int else "number"}
    ends = {field: getattr(limits, field, None) for field in _LIMITS}
    bare_number |= {_LIMITS[field]: end for field, end in ends.items() if end is not None}
    unit = unit_at(name, limits)
    return bare_number if unit is None else {"anyOf": [bare_number, {"type": "string", "pattern": unit.pattern}]}


def _text(limits: msgspec.Meta | None) -> Schema:
    return {"type": _TEXT, **_length(limits)}


def _length(limits: msgspec.Meta | None) -> Schema:
    if limits is None:
        return {}
    given = {"pattern": limits.pattern, "minLength": limits.min_length, "maxLength": limits.max_length}
    return {name: value for name, value in given.items() if value is not None}

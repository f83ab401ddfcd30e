"""Typed values from what people wrote: every fault a sentence with the field's path, the value, and what to write.

`msgspec.convert` ends at the first fault. Here each field is read by itself, and its limits stay msgspec's to judge;
then the sections' own checks run. A field that is wrong has its default there, and a check that names such a field
says nothing: it would judge a value that nobody wrote.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from autoscaler.policyfile.faults import Faults
from autoscaler.policyfile.numbers import Wrong, number, spoken_range
from autoscaler.policyfile.text import Scalar, plain

T = TypeVar("T", bound=msgspec.Struct)

BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST_SHOWN: Final = 60
_EMPTY: Final = "has no value: give one, or write null for its default"


class Read(NamedTuple, Generic[T]):
    """What came of it: a value, or faults."""

    value: T | None
    faults: tuple[str, ...]


def read(kind: type[T], tree: Any) -> Read[T]:
    """Read a tree of text.py, or of plain values, as a struct; `value` is None where there are faults."""
    reader = _Reader()
    if not isinstance(tree, Mapping):
        return Read(None, (f"it holds {shown(tree)}: write fields, each as `name: value`",))
    try:
        value = reader.struct("", tree, kind)
    except Wrong:
        return Read(None, tuple(reader.faults))
    return Read(None if reader.faults else value, tuple(reader.faults))


def shown(given: Any) -> str:
    """A value in a sentence, shortened."""
    if given is None:
        return "nothing"
    if isinstance(given, Mapping):
        return "a map of fields"
    if isinstance(given, (list, tuple)):
        return "a list"
    text = _text(given)
    if re.fullmatch(r"[-+.\w%:]{1,60}", text) and any(character.isdigit() for character in text):
        return text
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


class _Reader:
    """One walk; `wrong` are the paths whose value is a stand-in."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.wrong: list[str] = []

    def struct(self, path: str, tree: Mapping[str, Any], kind: type[T]) -> T:
        """The struct, with defaults where a field is wrong. Raises Wrong where it has no default to stand in."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        self.faults += [_unknown(path, key, fields) for key in tree if key not in fields]
        values: dict[str, Any] = {}
        whole = True
        for key, field in fields.items():
            inner = f"{path}.{key}" if path else key
            if tree.get(key) is None:
                if field.required:
                    self.faults.append(f"{inner} is missing: {_wanted(field.type, key)}")
                    whole = self._stand_in(values, field) and whole
                continue
            try:
                values[field.name] = self._value(inner, tree[key], field.type)
            except Wrong as wrong:
                self._note(inner, wrong)
                whole = (not field.required or self._stand_in(values, field)) and whole
        if not whole:
            raise Wrong
        return self._checked(path, kind, values)

    def _checked(self, path: str, kind: type[T], values: dict[str, Any]) -> T:
        try:
            return kind(**values)
        except ValueError as error:
            sentences = error.sentences if isinstance(error, Faults) else (str(error),)
        for sentence in sentences:
            if not any(re.search(rf"(?<![\w.]){re.escape(wrong)}(?!\w)", sentence) for wrong in self.wrong):
                self.faults.append(sentence)
        if path:
            self.wrong.append(path)
        try:
            return kind()
        except TypeError:  # fields without a default
            raise Wrong from None

    def _stand_in(self, values: dict[str, Any], field: msgspec.structs.FieldInfo) -> bool:
        """Go on with the only value that a required field may have; whether there is one."""
        options = get_args(field.type) if get_origin(field.type) is Literal else ()
        if len(options) == 1:
            values[field.name] = options[0]
        return len(options) == 1

    def _note(self, path: str, wrong: Wrong) -> None:
        self.wrong.append(path)
        if wrong.sentence:
            self.faults.append(f"{path} {wrong.sentence}")

    def _value(self, path: str, given: Any, annotated: Any) -> Any:
        """One value. Raises Wrong."""
        kind, limits = bare(annotated)
        if given == Scalar(""):
            raise Wrong(_EMPTY)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if not isinstance(given, Mapping):
                raise Wrong(f"is {shown(given)}: {_wanted(kind, path)}")
            return self.struct(path, given, kind)
        value: Any
        if _is_union(kind):
            value = plain(given)
        elif get_origin(kind) is tuple:
            value = self._sequence(path, given, get_args(kind)[0])
        elif get_origin(kind) is dict:
            value = self._mapping(path, given, *get_args(kind))
        else:
            value = _leaf(path, given, kind, limits)
        try:
            return msgspec.convert(value, annotated)
        except msgspec.ValidationError as error:
            raise Wrong(_told(path, given, kind, limits, error)) from error

    def _sequence(self, path: str, given: Any, kind: Any) -> tuple[Any, ...]:
        """The elements that are right; the others are told."""
        if not isinstance(given, (list, tuple)):
            raise Wrong(f"is {shown(given)}: write a list, such as [a, b]")
        places = [_place(path, index, one) for index, one in enumerate(given)]
        found = tuple(value for _, value in self._elements(zip(places, places, given, strict=True), kind))
        if len(found) < len(given) and not any(isinstance(one, Mapping) for one in given):
            self.wrong.append(path)  # "it is empty" would not be true
        return found

    def _mapping(self, path: str, given: Any, key_kind: Any, kind: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise Wrong(f"is {shown(given)}: write a map, such as {{name: value}}")
        present = {key: one for key, one in given.items() if one is not None and self._is_name(path, key, key_kind)}
        return dict(self._elements(((key, f"{path}.{key}", one) for key, one in present.items()), kind))

    def _is_name(self, path: str, key: str, kind: Any) -> bool:
        try:
            msgspec.convert(key, kind)
        except msgspec.ValidationError as error:
            self._note(path, Wrong(f"names {shown(key)}: {_because(kind, error)}"))
            return False
        return True

    def _elements(self, given: Iterable[tuple[str, str, Any]], kind: Any) -> Iterator[tuple[str, Any]]:
        """Of (name, path, value) those that are right; the others are told, and left out."""
        for name, path, one in given:
            before = len(self.wrong)
            try:
                value = self._value(path, Scalar("") if one is None else one, kind)
            except Wrong as wrong:
                self._note(path, wrong)
                continue
            if len(self.wrong) == before:
                yield name, value
            else:  # nobody wrote what stands in it now
                self._note(path, Wrong())


def bare(annotated: Any) -> tuple[Any, msgspec.Meta | None]:
    """The type without its limits, and without None: what is None was left out before."""
    limits = None
    while True:
        if get_origin(annotated) is Annotated:
            annotated, limits = get_args(annotated)[0], annotated.__metadata__[0]
        elif get_origin(annotated) in {Union, UnionType}:
            others = options_of(annotated)
            if len(others) != 1:
                return annotated, limits
            annotated = others[0]
        else:
            return annotated, limits


def options_of(union: Any) -> tuple[Any, ...]:
    """The types of a value that may have several; null is every field's."""
    return tuple(one for one in get_args(union) if one is not type(None))


def _is_union(kind: Any) -> bool:
    """A number or text: a share, a range."""
    return get_origin(kind) in {Union, UnionType}


def _leaf(path: str, given: Any, kind: Any, limits: msgspec.Meta | None) -> Any:
    """A value that holds no others, as its type wants it; its limits are not judged yet. Raises Wrong."""
    if isinstance(given, (Mapping, list, tuple)):
        raise Wrong(f"is {shown(given)}: {_wanted(kind, path, limits)}")
    text = _text(given)
    if kind in {int, float}:
        return number(path, given, text, kind, limits)
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise Wrong(f"is {shown(given)}: {_wanted(kind, path)}")
        return BOOLEANS[text.lower()]
    options = get_args(kind) if get_origin(kind) is Literal else ()
    return next((option for option in options if str(option) == text), text)


def _told(path: str, given: Any, kind: Any, limits: msgspec.Meta | None, error: msgspec.ValidationError) -> str:
    """Why msgspec does not take a value."""
    if isinstance(given, (Mapping, list, tuple)) and not _is_union(kind):
        most = limits.max_length if limits is not None else None
        if most is not None and len(given) > most:
            return f"has {len(given)} entries: at most {most} are allowed"
        return f"is {shown(given)}: {error}"
    if kind is str:
        return f"is {shown(given)}: {_because(Annotated[str, limits] if limits is not None else str, error)}"
    return f"is {shown(given)}: {_wanted(kind, path, limits)}"


def _because(annotated: Any, error: msgspec.ValidationError) -> str:
    """What text is wanted, in the type's own words, or in msgspec's."""
    _, limits = bare(annotated)
    if limits is not None and limits.description:
        return f"write {limits.description}"
    return str(error).partition(" - at ")[0]


def _wanted(annotated: Any, path: str, limits: msgspec.Meta | None = None) -> str:
    """What is allowed there, as a request."""
    kind, found = bare(annotated)
    limits = limits or found
    if get_origin(kind) is Literal:
        return f"write {' or '.join(str(option) for option in get_args(kind))}"
    if _is_union(kind):
        return "write " + " or ".join(_wanted(one, path).removeprefix("write ") for one in options_of(kind))
    if not isinstance(kind, type):
        return "see the committed policy.yml"
    if issubclass(kind, Enum):
        return f"write {' or '.join(str(member.value) for member in kind)}"
    if issubclass(kind, msgspec.Struct):
        return f"write fields below it: {', '.join(field.encode_name for field in msgspec.structs.fields(kind))}"
    if kind is bool:
        return "write true or false"
    if kind in {int, float}:
        return f"write {spoken_range(path, kind, limits)}"
    return f"write {limits.description if limits is not None and limits.description else 'text'}"


def _unknown(path: str, key: str, fields: Mapping[str, Any]) -> str:
    name = f"{path}.{key}" if path else key
    close = (
        import_module("difflib").get_close_matches(key, fields, n=1)
        or [field for field in fields if field.startswith(f"{key}_")][:1]
    )
    if close:
        return f"{name} is an unknown field: did you mean {close[0]}?"
    return f"{name} is an unknown field: {path or 'a policy'} has {', '.join(fields)}"


def _place(path: str, index: int, given: Any) -> str:
    """An element of a list: by its name where it has one."""
    named = given.get("name") if isinstance(given, Mapping) else None
    return f"{path}.{_text(named)}" if isinstance(named, (Scalar, str)) else f"{path}[{index}]"


def _text(given: Any) -> str:
    """A scalar's characters."""
    if isinstance(given, Scalar):
        return given.text
    if isinstance(given, bool) or given is None:
        return {True: "true", False: "false", None: "null"}[given]
    return str(given)

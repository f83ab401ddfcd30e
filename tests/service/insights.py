"""The part of CloudWatch Logs Insights' query language that our queries use: read into commands, nothing guessed.

Whatever is not understood is refused, so that a test which passes has read every word of a query. Source of the
grammar: CloudWatch Logs User Guide, "CloudWatch Logs Insights language query syntax".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

AGGREGATES: Final = frozenset({"count", "sum", "avg", "min", "max", "pct", "latest"})
FUNCTIONS: Final = frozenset({"ispresent", "coalesce", "strcontains", "bin"})
_PRECEDENCE: Final = (("or",), ("and",), ("=", "!=", "<=", ">=", "<", ">", "like", "in"), ("+", "-"), ("*", "/"))
_BLANK: Final = re.compile(r"(?:\s+|#[^\n]*)+")
_TOKEN: Final = re.compile(
    r"""(?P<text>"[^"]*"|'[^']*')|(?P<span>\d+[smhd]\b)|(?P<number>\d+(?:\.\d+)?)"""
    r"""|(?P<name>@?[A-Za-z_]\w*(?:\.\w+)*)|(?P<sign><=|>=|!=|[=<>+*/()\[\],|-])"""
)
_REGEX: Final = re.compile(r"/((?:\\.|[^/\\])+)/")


class NotUnderstood(ValueError):
    """The query is not in the part of the language that is known here."""


@dataclass(frozen=True)
class Field:
    """A field of the line, or a name that the query gave before."""

    name: str


@dataclass(frozen=True)
class Value:
    """A text or a number as it stands; `*` in count(*)."""

    value: str | float


@dataclass(frozen=True)
class Pattern:
    """A regular expression between slashes. Python's and the service's (RE2-like) agree on what is used here."""

    regex: re.Pattern[str]


@dataclass(frozen=True)
class Call:
    """A function, an aggregate, or an operator with its operands."""

    name: str
    operands: "tuple[Expression, ...]"


Expression = Field | Value | Pattern | Call


@dataclass(frozen=True)
class Named:
    """An expression and the name of its column."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Fields:
    """`fields` or `display`."""

    columns: tuple[Named, ...]


@dataclass(frozen=True)
class Filter:
    """`filter`."""

    condition: Expression


@dataclass(frozen=True)
class Parse:
    """`parse`: what the pattern finds in a field gets names."""

    field: Field
    regex: re.Pattern[str]


@dataclass(frozen=True)
class Stats:
    """`stats ... by ...`."""

    columns: tuple[Named, ...]
    groups: tuple[Named, ...]


@dataclass(frozen=True)
class Sort:
    """`sort`, by one field."""

    field: Field
    descending: bool


@dataclass(frozen=True)
class Limit:
    """`limit`."""

    count: int


Command = Fields | Filter | Parse | Stats | Sort | Limit


def read_query(text: str) -> tuple[Command, ...]:
    """Read a query whole, and check that each of its names is given before it is used. Raises NotUnderstood."""
    commands = tuple(_Reader(text).commands())
    fields_read(commands)
    return commands


def fields_read(commands: tuple[Command, ...]) -> set[str]:
    """Names that the query reads from log lines. Raises NotUnderstood for one that its own `stats` did not keep."""
    names = _Names()
    for command in commands:
        names.see(command)
    return names.read


class _Names:
    """Which names a query reads from the lines, and which it has given itself."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self._given: set[str] = set()
        self._grouped = False

    def see(self, command: Command) -> None:
        match command:
            case Fields(columns):
                for column in columns:
                    self._use(column.expression)
                self._given |= {column.name for column in columns}
            case Filter(condition):
                self._use(condition)
            case Parse(field, regex):
                self._use(field)
                self._given |= set(regex.groupindex)
            case Sort(field):
                self._use(field)
            case Stats():
                self._see_stats(command)

    def _use(self, expression: Expression) -> None:
        fresh = _names(expression) - self._given
        if fresh and self._grouped:
            raise NotUnderstood(f"{sorted(fresh)} is used after stats, which does not give it")
        self.read |= fresh

    def _see_stats(self, stats: Stats) -> None:
        for group in stats.groups:
            self._use(group.expression)
        columns = {group.name for group in stats.groups}
        for column in stats.columns:
            for inside in _in_aggregates(column.expression):
                self._use(inside)
            if alone := _names(column.expression, into_aggregates=False) - columns:
                raise NotUnderstood(f"{sorted(alone)} stands in stats, outside of an aggregate, and is no column of it")
            columns.add(column.name)
        self._given = columns
        self._grouped = True


def _names(expression: Expression, *, into_aggregates: bool = True) -> set[str]:
    match expression:
        case Field(name):
            return {name}
        case Call(name, operands):
            if name in AGGREGATES and not into_aggregates:
                return set()
            return {n for operand in operands for n in _names(operand, into_aggregates=into_aggregates)}
    return set()


def _in_aggregates(expression: Expression) -> Iterator[Expression]:
    if isinstance(expression, Call):
        for operand in expression.operands:
            yield from (operand,) if expression.name in AGGREGATES else _in_aggregates(operand)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def commands(self) -> Iterator[Command]:
        while True:
            yield self.command()
            if self.ended():
                return
            self.expect("|")

    def command(self) -> Command:
        kind, word = self.take()
        match kind, word:
            case "name", "fields" | "display":
                return Fields(tuple(self.columns()))
            case "name", "filter":
                return Filter(self.expression())
            case "name", "parse":
                return self.parse()
            case "name", "stats":
                columns = tuple(self.columns())
                return Stats(columns, tuple(self.columns()) if self.skip("by") else ())
            case "name", "sort":
                field = self.field()
                return Sort(field, descending=self.skip("desc") or not self.skip("asc"))
            case "name", "limit":
                return Limit(int(self.take()[1]))
        raise self.error(f"no command begins with {word!r}")

    def columns(self) -> Iterator[Named]:
        while True:
            began = self.blank()
            expression = self.expression()
            told = self.text[began : self.at].strip()
            yield Named(self.field().name if self.skip("as") else told, expression)
            if not self.skip(","):
                return

    def parse(self) -> Parse:
        field = self.field()
        if (regex := self.regex()) is not None:
            return Parse(field, regex)
        kind, text = self.take()
        if kind != "text":
            raise self.error("parse needs a pattern")
        self.expect("as")
        names = [self.field().name]
        while self.skip(","):
            names.append(self.field().name)
        parts = text.split("*")
        if len(parts) != len(names) + 1:
            raise self.error(f"{text!r} has not one * for each of {names}")
        found = "".join(f"(?P<{name}>.*?){re.escape(part)}" for name, part in zip(names, parts[1:], strict=True))
        return Parse(field, re.compile(re.escape(parts[0]) + found + ("$" if not parts[-1] else "")))

    def expression(self, level: int = 0) -> Expression:
        if level == len(_PRECEDENCE):
            return self.operand()
        left = self.expression(level + 1)
        while (sign := self.next_of(_PRECEDENCE[level])) is not None:
            right: Expression
            if sign == "in":
                right = Call("list", tuple(self.listed()))
            elif sign == "like":
                regex = self.regex()
                if regex is None:
                    raise self.error("like needs a regular expression here")
                right = Pattern(regex)
            else:
                right = self.expression(level + 1)
            left = Call(sign, (left, right))
        return left

    def operand(self) -> Expression:
        kind, word = self.take()
        if word == "(":
            inner = self.expression()
            self.expect(")")
            return inner
        if kind == "name" and self.skip("("):
            return self.call(word)
        match kind:
            case "name":
                return Field(word)
            case "number":
                return Value(float(word))
            case "text" | "span":
                return Value(word)
        raise self.error(f"{word!r} stands where a value should")

    def call(self, name: str) -> Call:
        if name not in AGGREGATES | FUNCTIONS:
            raise self.error(f"{name} is no known function")
        if name == "count" and self.skip("*"):
            self.expect(")")
            return Call(name, (Value("*"),))
        operands = [self.expression()]
        while self.skip(","):
            operands.append(self.expression())
        self.expect(")")
        return Call(name, tuple(operands))

    def listed(self) -> Iterator[Expression]:
        self.expect("[")
        yield self.operand()
        while self.skip(","):
            yield self.operand()
        self.expect("]")

    def field(self) -> Field:
        kind, word = self.take()
        if kind != "name":
            raise self.error(f"{word!r} stands where a field's name should")
        return Field(word)

    def regex(self) -> re.Pattern[str] | None:
        found = _REGEX.match(self.text, self.blank())
        if found is None:
            return None
        self.at = found.end()
        return re.compile(found[1].replace("(?<", "(?P<"))

    def next_of(self, signs: tuple[str, ...]) -> str | None:
        return next((sign for sign in signs if self.skip(sign)), None)

    def skip(self, word: str) -> bool:
        before = self.at
        if not self.ended() and self.take()[1] == word:
            return True
        self.at = before
        return False

    def expect(self, word: str) -> None:
        if not self.skip(word):
            raise self.error(f"{word!r} is missing")

    def ended(self) -> bool:
        return self.blank() == len(self.text)

    def blank(self) -> int:
        if found := _BLANK.match(self.text, self.at):
            self.at = found.end()
        return self.at

    def take(self) -> tuple[str, str]:
        found = _TOKEN.match(self.text, self.blank())
        if found is None:
            raise self.error("nothing that is known")
        self.at = found.end()
        kind = str(found.lastgroup)
        return kind, found[0][1:-1] if kind == "text" else found[0]

    def error(self, why: str) -> NotUnderstood:
        return NotUnderstood(f"at {self.text[max(0, self.at - 30) : self.at]!r} + {self.text[self.at :][:30]!r}: {why}")

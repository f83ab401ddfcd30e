"""Runs a query of `insights.py` over log lines, as Logs Insights would: fields discovered, commands in turn."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.service.insights import (
    AGGREGATES,
    Call,
    Command,
    Expression,
    Field,
    Fields,
    Filter,
    Limit,
    Parse,
    Pattern,
    Sort,
    Stats,
    Value,
)

Row = dict[str, Any]
MAX_FIELDS: Final = 200
"""What the service discovers of a JSON line (CloudWatch Logs User Guide, "Supported logs and discovered fields")."""
REPORT: Final = re.compile(
    r"REPORT RequestId: (?P<requestId>\S+)\tDuration: (?P<duration>\S+) ms\t"
    r"Billed Duration: (?P<billedDuration>\S+) ms\t"
    r"Memory Size: (?P<memorySize>\d+) MB\tMax Memory Used: (?P<maxMemoryUsed>\d+) MB\t"
    r"(?:Init Duration: (?P<initDuration>\S+) ms\t)?"
)
_SPAN_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Line:
    """One log event."""

    log_group: str
    at_ms: int
    text: str


def discovered(line: Line) -> Row:
    """The fields that a query sees of a line. A JSON null is no field."""
    row: Row = {"@message": line.text, "@timestamp": line.at_ms, "@log": f"123456789012:{line.log_group}"}
    if line.text.startswith("{"):
        return row | dict(list(_flat(json.loads(line.text)))[:MAX_FIELDS])
    if found := REPORT.match(line.text):
        megabytes = {"memorySize", "maxMemoryUsed"}  # shown in bytes, a million to a megabyte (the guide's own queries)
        numbers = {
            k: float(v) * (1e6 if k in megabytes else 1) for k, v in found.groupdict().items() if v and k != "requestId"
        }
        return row | {"@type": "REPORT", "@requestId": found["requestId"]} | {f"@{k}": v for k, v in numbers.items()}
    return row


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif value is not None:
        yield prefix, value


def run(commands: Sequence[Command], rows: Sequence[Row]) -> list[Row]:
    """The query's answer: every field that is known by then, for `fields` and `stats` the columns."""
    answer = list(rows)
    for command in commands:
        match command:
            case Fields(columns):
                answer = [row | _columns(columns, row) for row in answer]
            case Filter(condition):
                answer = [row for row in answer if value_of(condition, row)]
            case Parse(field, regex):
                answer = [row | _parsed(regex, row.get(field.name)) for row in answer]
            case Stats():
                answer = _grouped(command, answer)
            case Sort(field, descending):
                known = [row for row in answer if field.name in row]
                answer = sorted(known, key=lambda row: row[field.name], reverse=descending)
            case Limit(count):
                answer = answer[:count]
    return answer


def _columns(columns: Any, row: Row) -> Row:
    made = {column.name: value_of(column.expression, row) for column in columns}
    return {name: value for name, value in made.items() if value is not None}


def _parsed(regex: re.Pattern[str], text: Any) -> Row:
    found = regex.search(text) if isinstance(text, str) else None
    return dict(found.groupdict()) if found else {}


def value_of(expression: Expression, row: Row) -> Any:
    """The value in one row; None where a field of it is not there."""
    match expression:
        case Field(name):
            return row.get(name)
        case Value(value):
            return value
        case Pattern():
            return expression
        case Call(name, operands):
            return _call(name, [value_of(operand, row) for operand in operands], row)


def _call(name: str, values: list[Any], row: Row) -> Any:
    if name == "bin":
        width_ms = int(values[0][:-1]) * _SPAN_S[values[0][-1]] * 1000
        return row["@timestamp"] // width_ms * width_ms
    if name in _OF_ANYTHING:
        return _OF_ANYTHING[name](values)
    if None in values:
        return None
    return _OF_WHAT_IS_THERE[name](*values)


_OF_ANYTHING: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "list": lambda values: values,
    "or": any,
    "and": all,
    "ispresent": lambda values: values[0] is not None,
    "coalesce": lambda values: next((value for value in values if value is not None), None),
}
_OF_WHAT_IS_THERE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "strcontains": lambda text, part: int(part in text),
    "like": lambda text, pattern: pattern.regex.search(str(text)) is not None,
    "in": lambda value, listed: value in listed,
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: float(left) < float(right),
    ">": lambda left, right: float(left) > float(right),
    "<=": lambda left, right: float(left) <= float(right),
    ">=": lambda left, right: float(left) >= float(right),
    "+": lambda left, right: float(left) + float(right),
    "-": lambda left, right: float(left) - float(right),
    "*": lambda left, right: float(left) * float(right),
    "/": lambda left, right: float(left) / float(right),
}


def _grouped(command: Stats, rows: list[Row]) -> list[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(value_of(group.expression, row) for group in command.groups), []).append(row)
    answer: list[Row] = []
    for key, members in groups.items():
        made: Row = dict(zip((group.name for group in command.groups), key, strict=True))
        for column in command.columns:
            made[column.name] = _over(column.expression, members, made)
        answer.append({name: value for name, value in made.items() if value is not None})
    return answer


def _over(expression: Expression, rows: list[Row], made: Row) -> Any:
    """An aggregate, or arithmetic on aggregates and on columns that were made before."""
    match expression:
        case Call(name, operands) if name in AGGREGATES:
            return _aggregate(name, operands, rows)
        case Call(name, operands):
            return _call(name, [_over(operand, rows, made) for operand in operands], made)
    return value_of(expression, made)


def _aggregate(name: str, operands: tuple[Expression, ...], rows: list[Row]) -> Any:
    if operands[0] == Value("*"):
        return len(rows)
    in_time = sorted(rows, key=lambda row: int(row["@timestamp"]))
    found = [value for row in in_time if (value := value_of(operands[0], row)) is not None]
    if name == "count" or not found:
        return len(found) if name == "count" else None
    if name == "latest":
        return found[-1]
    numbers = sorted(float(value) for value in found)
    if name == "pct":
        share = value_of(operands[1], {}) / 100
        return numbers[max(0, math.ceil(share * len(numbers)) - 1)]
    return {"sum": sum(numbers), "avg": sum(numbers) / len(numbers), "min": numbers[0], "max": numbers[-1]}[name]

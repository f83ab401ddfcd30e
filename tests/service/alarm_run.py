"""Evaluates a generated alarm as CloudWatch does: statistics of periods, metric math, M of N, missing data.

What an expression uses beyond this is refused. Sources: CloudWatch User Guide, "Using math expressions with CloudWatch
metrics" (FLOOR and IF on a time series, comparison with a scalar, FILL) and "Configuring how CloudWatch alarms treat
missing data". The extra periods that CloudWatch waits for late data are left out.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.service.conftest import Template

BREACHES: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
STATISTICS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"Maximum": max, "Minimum": min, "Sum": sum}
OPERATORS: Final[Mapping[type[ast.AST], Callable[[float, float], float]]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.Eq: lambda left, right: float(left == right),
}


@dataclass(frozen=True)
class Sample:
    """One value that was sent."""

    at_s: float
    value: float


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    """Of a template, by the name's ending."""
    prefix = re.compile(r"^k3s-autoscaler-[a-z]+-")
    found = template.of_type("AWS::CloudWatch::Alarm").values()
    return {prefix.sub("", entry["Properties"]["AlarmName"]): entry["Properties"] for entry in found}


def metric_of(alarm: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The id and the statistic of an alarm's only metric."""
    (row,) = [row for row in alarm["Metrics"] if "MetricStat" in row]
    assert row["ReturnData"] is False, "only the expression is watched"
    return row["Id"], row["MetricStat"]


def period_s(alarm: Mapping[str, Any]) -> int:
    """Seconds of one period."""
    return int(alarm["Period"] if "Period" in alarm else metric_of(alarm)[1]["Period"])


def value_of(alarm: Mapping[str, Any], value: float | None) -> float | None:
    """What the alarm compares in a period whose statistic is `value`; None: nothing was sent."""
    if "MetricName" in alarm:
        return value
    (watched,) = [row for row in alarm["Metrics"] if "Expression" in row]
    return evaluated(watched["Expression"], {metric_of(alarm)[0]: value})


def goes_off(alarm: Mapping[str, Any], samples: Sequence[Sample], *, begin_s: float, end_s: float) -> bool:
    """Whether the alarm is in ALARM at the end of any whole period from `begin_s` to `end_s`."""
    length_s = period_s(alarm)
    statistic = STATISTICS[alarm["Statistic"] if "Statistic" in alarm else metric_of(alarm)[1]["Stat"]]
    breaches: list[bool] = []
    for start_s in range(math.ceil(begin_s / length_s) * length_s, math.floor(end_s / length_s) * length_s, length_s):
        sent = [sample.value for sample in samples if start_s <= sample.at_s < start_s + length_s]
        value = value_of(alarm, statistic(sent) if sent else None)
        missing = alarm["TreatMissingData"] == "breaching"
        breaches.append(missing if value is None else BREACHES[alarm["ComparisonOperator"]](value, alarm["Threshold"]))
    of = alarm["EvaluationPeriods"]
    wanted = alarm.get("DatapointsToAlarm", of)
    return any(sum(breaches[last - of : last]) >= wanted for last in range(of, len(breaches) + 1))


def evaluated(expression: str, values: Mapping[str, float | None]) -> float | None:
    """The expression at one time. Its syntax is a part of Python's."""
    return _value(ast.parse(expression, mode="eval").body, values)


def _value(node: ast.AST, values: Mapping[str, float | None]) -> float | None:
    match node:
        case ast.Constant(value=int(number)):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return _called(function, [_value(argument, values) for argument in arguments])
        case ast.BinOp(left=left, op=operator, right=right):
            return _both(operator, _value(left, values), _value(right, values))
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _both(operator, _value(left, values), _value(right, values))
    raise AssertionError(f"not known of metric math here: {ast.unparse(node)}")


def _both(operator: ast.AST, left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else OPERATORS[type(operator)](left, right)


def _called(function: str, arguments: list[float | None]) -> float | None:
    match function, arguments:
        case "FILL", [value, filler]:
            return filler if value is None else value
        case "FLOOR", [value]:
            return None if value is None else float(math.floor(value))
        case "IF", [condition, yes, no]:
            return None if condition is None else (yes if condition else no)
    raise AssertionError(f"not known of metric math here: {function} of {len(arguments)}")

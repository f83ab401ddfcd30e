"""What IAM answers to one request, judged by identity policies alone.

It knows: Allow and Deny; Action and NotAction, Resource and NotResource, with `*` and `?`; the condition operators of
`OPERATORS`, each also as `...IfExists`, `ForAllValues:...` and `ForAnyValue:...`; `Null`. It does not know: policy
variables, principals, resource policies, boundaries, session and organisation policies, and every operator that stands
nowhere in our templates. What it does not know it refuses to judge (`NotUnderstood`): a guess would be worth nothing.

Sources: IAM user guide, "IAM JSON policy elements: Condition operators", "Set operators for multi-valued context keys",
"IAM JSON policy elements: Resource", "Policy evaluation logic".
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

VERSION = "2012-10-17"
ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
VALUE = str | Sequence[str]


class NotUnderstood(ValueError):
    """A policy or a request uses what this evaluator does not implement."""


class Answer(StrEnum):
    """IAM's three answers; only the first lets a request through."""

    ALLOWED = "allowed"
    DENIED = "denied"
    """No statement allows it."""
    FORBIDDEN = "denied by a statement"


@dataclass(frozen=True)
class Request:
    """One action on one resource. A list as a value of the context is a key with several values."""

    action: str
    resource: str
    context: Mapping[str, VALUE] = field(default_factory=dict)

    def value(self, key: str) -> VALUE | None:
        """Of a context key, None where it is absent. Names of keys have no case."""
        found = [value for name, value in self.context.items() if name.lower() == key.lower()]
        if len(found) > 1:
            raise NotUnderstood(f"the request has the context key {key} twice")
        return found[0] if found else None


def judge(documents: Iterable[Mapping[str, Any]], request: Request) -> Answer:
    """IAM's answer. Raises NotUnderstood."""
    answer = Answer.DENIED
    for document in documents:
        if document.get("Version") != VERSION or set(document) - {"Version", "Id", "Statement"}:
            raise NotUnderstood(f"a policy of version {document.get('Version')} with {sorted(document)}")
        for statement in document["Statement"]:
            if applies(statement, request):
                if statement["Effect"] == "Deny":
                    return Answer.FORBIDDEN
                answer = Answer.ALLOWED
    return answer


def applies(statement: Mapping[str, Any], request: Request) -> bool:
    """Whether a statement speaks of this request. Raises NotUnderstood, also for the parts that would not decide."""
    if set(statement) - ELEMENTS or statement.get("Effect") not in {"Allow", "Deny"}:
        raise NotUnderstood(f"a statement with {sorted(statement)} and the effect {statement.get('Effect')}")
    speaks = [
        _one_of_two(statement, "Action", lambda pattern: _like(pattern.lower(), request.action.lower())),
        _one_of_two(statement, "Resource", lambda pattern: arn_like(pattern, request.resource)),
        *(
            _condition(operator, key, values, request)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        ),
    ]
    return all(speaks)


def _one_of_two(statement: Mapping[str, Any], name: str, matches: Callable[[str], bool]) -> bool:
    if (name in statement) is (f"Not{name}" in statement):
        raise NotUnderstood(f"a statement has both {name} and Not{name}, or neither")
    if name in statement:
        return any(matches(_plain(pattern)) for pattern in as_list(statement[name]))
    return not any(matches(_plain(pattern)) for pattern in as_list(statement[f"Not{name}"]))


def as_list(value: Any) -> list[Any]:
    """IAM takes one value for a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(text: Any) -> str:
    if not isinstance(text, str) or "${" in text:
        raise NotUnderstood(f"{text!r} is no plain string")
    return text


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in text), re.DOTALL)


@cache
def _like(pattern: str, text: str) -> bool:
    return _pattern(pattern).fullmatch(text) is not None


@cache
def arn_like(pattern: str, arn: str) -> bool:
    """Whether an ARN fits a pattern: part by part, the last one with all that follows."""
    if pattern == "*":
        return True
    wanted, found = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == len(found) and all(map(_like, wanted, found))


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringLike": _like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}
"""Each is true where one of the policy's values fits. IAM treats ArnEquals and ArnLike alike."""


def _condition(operator: str, key: str, values: Any, request: Request) -> bool:
    wanted, found = [_plain(value) for value in as_list(values)], request.value(key)
    if operator == "Null":
        return wanted == [str(found is None).lower()]
    quantifier, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    if name not in OPERATORS or quantifier not in {"", "ForAllValues", "ForAnyValue"}:
        raise NotUnderstood(f"the condition operator {operator}")

    def fits(value: str) -> bool:
        return any(OPERATORS[name](pattern, value) for pattern in wanted)

    if found is None:
        return quantifier == "ForAllValues" or name != rest
    if quantifier == "ForAllValues":
        return all(map(fits, as_list(found)))
    if quantifier == "ForAnyValue":
        return any(map(fits, as_list(found)))
    if not isinstance(found, str):
        raise NotUnderstood(f"{operator} without ForAllValues or ForAnyValue on {key}, which has several values")
    return fits(found)

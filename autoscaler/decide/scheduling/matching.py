"""Selectors against labels, node selector terms against nodes, tolerations against taints."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from autoscaler.model.rules import Effect, Labels, NodeTerm, Operator, Requirement, Selector, Taint, Toleration

HARD: Final = frozenset({Effect.NO_SCHEDULE, Effect.NO_EXECUTE})
_NAME_FIELD: Final = "metadata.name"
_INTEGER: Final = r"[+-]?[0-9]+"
_INT64: Final = range(-(2**63), 2**63)


def selects(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether all requirements hold: an empty selector selects all, an absent one nothing."""
    return selector is not None and all(holds(requirement, labels) for requirement in selector)


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """One requirement. `NotIn` holds for an absent label; `Gt` and `Lt` compare integers of 64 bits, else do not hold.

    Source: apimachinery's labels.Requirement.Matches.
    """
    value = labels.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value is not None and value in requirement.values
        case Operator.NOT_IN:
            return value is None or value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None
        case Operator.GT | Operator.LT:
            return _compares(requirement, value)


def _compares(requirement: Requirement, value: str | None) -> bool:
    left = None if value is None else _integer(value)
    right = _integer(requirement.values[0]) if len(requirement.values) == 1 else None
    if left is None or right is None:
        return False
    return left > right if requirement.operator is Operator.GT else left < right


def _integer(text: str) -> int | None:
    """As Go's strconv.ParseInt reads it: no blanks, no underscores, ASCII digits, 64 bits."""
    if (
        len(text) > 32 or re.fullmatch(_INTEGER, text) is None
    ):  # longer ones are out of range or padded: absurd either way
        return None
    number = int(text)
    return number if number in _INT64 else None


def any_term_matches(terms: Iterable[NodeTerm], labels: Mapping[str, str], node_name: str | None) -> bool:
    """Whether one of the terms matches; `node_name` is None where fields are not looked at (volumes)."""
    fields = {} if node_name is None else {_NAME_FIELD: node_name}
    return any(
        (term.labels or term.fields) and selects(term.labels, labels) and selects(term.fields, fields) for term in terms
    )


def named_nodes(terms: Sequence[NodeTerm] | None) -> frozenset[str] | None:
    """The nodes that `matchFields` leave over; None when a term names none, so that every node may be looked at."""
    names: frozenset[str] = frozenset()
    for term in terms or ():
        lists = [frozenset(line.values) for line in term.fields if _names(line)]
        if not lists:
            return None
        names |= frozenset.intersection(*lists)
    return names if terms else None


def _names(line: Requirement) -> bool:
    return line.key == _NAME_FIELD and line.operator is Operator.IN


def has_all(wanted: Labels, labels: Mapping[str, str]) -> bool:
    """A plain node selector."""
    return all(labels.get(key) == value for key, value in wanted)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Source: k8s.io/component-helpers, Toleration.ToleratesTaint."""
    return (
        toleration.effect in (None, taint.effect)
        and toleration.key in ("", taint.key)
        and (toleration.any_value or toleration.value == taint.value)
    )


def untolerated(taints: Iterable[Taint], tolerations: Sequence[Toleration]) -> Taint | None:
    """The first taint that keeps the pod off; one that only prefers it elsewhere does not."""
    return next(
        (taint for taint in taints if taint.effect in HARD and not any(tolerates(t, taint) for t in tolerations)), None
    )

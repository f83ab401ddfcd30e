"""Every sentence names a field of the policy that there is, or what to do instead."""

from typing import Any

import msgspec
import pytest

from autoscaler.ask.lines import _OF_CODES, _OF_PLUGINS, _OF_WORDS, levers, line, of, row
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.model import Blocked, Why
from autoscaler.policy import Policy


def fields_of(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def struct_in(found: Any) -> Any:
    """The Struct of a field's type: itself, in a union, or what a sequence holds."""
    if isinstance(found, type) and issubclass(found, msgspec.Struct):
        return found
    for part in getattr(found, "__args__", ()):
        inner = struct_in(part)
        if inner is not None:
            return inner
    return None


@pytest.mark.parametrize("path", levers())
def test_every_field_is_one_of_the_policy(path: str) -> None:
    kind: Any = Policy
    for name in path.split("."):
        known = fields_of(kind)
        assert name.removesuffix("[]") in known, f"{path}: {kind.__name__} has no {name}"
        kind = struct_in(known[name.removesuffix("[]")])


def test_no_lever_is_empty() -> None:
    every = (*_OF_CODES.values(), *_OF_PLUGINS.values(), *(lever for _, lever in _OF_WORDS))
    assert [lever for lever in every if not lever.fields and not lever.instead] == []


def test_every_filter_has_its_lever() -> None:
    assert set(_OF_PLUGINS) == set(Plugin)


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("young: 30 s old; scale_down.min_age_s is 600", ("scale_down.min_age_s",)),
        ("needed: 2 workers are wanted", ("workers.min",)),
        ("needed: 5 workers are wanted (min of the schedule day)", ("schedules[].min",)),
        ("needed: 5 workers are wanted (the forecast: 5 at 09:00)", ("forecast",)),
        ("needed: 5 workers are wanted (queue: up to 50)", ("signals",)),
        ("needed: pool gpu has a min of 1", ("workers.pools[].min",)),
        ("needed: headroom: 2 CPU would not stay free", ("headroom",)),
        ("needed: in the last 600 s pods on it asked for more", ("scale_down.window_s",)),
        ("needed: cpu use would be 80% of the workers", ("scale_up.cpu_above", "scale_down.target_margin")),
        ("budget: scale_down.budget lets only empty workers leave", ("scale_down.budget",)),
        ("budget: shop/web allows no eviction of shop/web-1 now", ()),
        ("unhelpable: a new t3.small is refused by NodeAffinity: node(s)", ("workers.pools[].labels",)),
        ("unhelpable: a new t3.small is refused by TaintToleration: node(s)", ("workers.pools[].taints",)),
        ("bare_pod: shop/one", ()),
    ],
)
def test_a_reason_of_a_decision_finds_its_fields(reason: str, fields: tuple[str, ...]) -> None:
    code, _, text = reason.partition(": ")
    found = of(Why(code, text))
    assert found.fields == fields
    assert bool(found.instead) or bool(fields)


def test_a_row_keeps_its_subject_and_its_words() -> None:
    found = row(Blocked(subject="worker-1", code="local_volume", text="2 node-local volumes live on it"))
    assert (found.about, found.says) == ("worker-1", "local_volume: 2 node-local volumes live on it")


def test_a_code_that_nobody_knows_leads_to_the_manual() -> None:
    assert line("x", "y", code="x").instead == "docs/operations.md"

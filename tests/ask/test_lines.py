"""Every sentence names a field of the policy that there is, or what to do instead."""

from typing import Any, Final

import msgspec
import pytest

from autoscaler.ask.lines import _OF_CODES, _OF_PLUGINS, _OF_WORDS, levers, line, of, row
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.forecast import Forecast
from autoscaler.model import Blocked, Demand, KeptForecast, KeptSlot, SeenSignal, State, Why
from autoscaler.policy import Policy
from autoscaler.signals import CustomSignal
from autoscaler.windows import Window
from tests.decide.builders import NOW_S, decided, policy, snapshot, worker


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


THREE: Final = Demand(cpu_requested_millicores=5_000)
SOON: Final = KeptForecast(made_at_s=NOW_S, now=THREE, slots=(KeptSlot(at_s=NOW_S, demand=THREE),))
QUEUE: Final = CustomSignal(name="queue", query="sum(queued)", per_worker_target=10)
LATER: Final = Window(name="day", time_zone="UTC", from_time="08:20", to_time="09:00", min=3)
UNTIL_SOON: Final = Window(name="night", time_zone="UTC", from_time="07:00", to_time="08:20", min=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"forecast": Forecast(mode="on", horizon_s=60)}, "forecast", id="forecast"),
        pytest.param({"signals": (QUEUE,)}, "signals", id="signal"),
        pytest.param({"schedules": (LATER,)}, "schedules[].min", id="a window that comes"),
        pytest.param({"schedules": (UNTIL_SOON,)}, "workers.min", id="a window that ends"),
        pytest.param({}, "workers.min", id="min"),
    ],
)
def test_who_is_kept_is_told_the_section_that_keeps_it(changes: dict[str, Any], field: str) -> None:
    """By what decisions say, word for word: at 08:00 UTC, four idle workers of which some stay."""
    seen = msgspec.structs.replace(
        snapshot([worker(number) for number in range(4)]),
        signals=(SeenSignal(name="queue", now=30.0, least=30.0, most=30.0),) if "signals" in changes else None,
    )
    decision = decided(seen, State(forecast=SOON, join_times_s=(60,)), policy(**changes))
    kept = [row(one) for one in decision.blocked if "are wanted" in one.text]
    assert kept
    assert {one.fields for one in kept} == {(field,)}


def test_a_row_keeps_its_subject_and_its_words() -> None:
    found = row(Blocked(subject="worker-1", code="local_volume", text="2 node-local volumes live on it"))
    assert (found.about, found.says) == ("worker-1", "local_volume: 2 node-local volumes live on it")


def test_a_code_that_nobody_knows_leads_to_the_manual() -> None:
    assert line("x", "y", code="x").instead == "docs/operations.md"

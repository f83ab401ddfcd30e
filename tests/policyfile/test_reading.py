"""Everything that is wrong is told at once, and nothing that is not."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.policyfile.reading import read
from autoscaler.policyfile.text import BadYaml, read_yaml

HEAD: Final = "policy.yml is not a valid policy: "
TAIL: Final = " The committed policy.yml shows every field."


def faults(text: str) -> list[str]:
    """The sentences that refuse it."""
    with pytest.raises(PolicyError) as refused:
        parse_policy(f"version: 1\n{text}\n")
    said = str(refused.value)
    assert said.startswith(HEAD)
    assert said.endswith(TAIL)
    told = said.removeprefix(HEAD).removesuffix(TAIL).removesuffix(".")
    return [re.sub(r"^\(\d+\) ", "", one) for one in re.split(r"; (?=\(\d+\) )|^\d+ things are wrong: ", told) if one]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("scale_up: {window_s: 1:30}",
         "scale_up.window_s is 1:30: write 90s, 10m, 1h30m or 2d: a colon does not say of what"),
        ("workers: {min: 1:30}", "workers.min is 1:30: write a plain number"),
        ("drain: {timeout_s: 010}",
         "drain.timeout_s is 010: write 10: with a zero before it YAML reads a number to the base of 8"),
        ("workers: {max: 1_000}", "workers.max is 1_000: write 1000, without '_'"),
        ("workers: {max: 0x10}", "workers.max is '0x10': write a whole number from 0 to 1000"),
        ("workers: {max: off}", "workers.max is 'off': write a whole number from 0 to 1000"),
        ("workers: {max: true}", "workers.max is 'true': write a whole number from 0 to 1000"),
        ("workers: {max: 1e2}", "workers.max is 1e2: write a whole number from 0 to 1000"),
        ("workers: {max: [3]}", "workers.max is a list: write a whole number from 0 to 1000"),
        ("scale_up: {cpu_above: .nan}", "scale_up.cpu_above is .nan: write a number that has an end"),
        ("cost: {max_usd_per_hour: .inf}", "cost.max_usd_per_hour is .inf: write a number that has an end"),
        ("scale_up: {cpu_above: 70}", "scale_up.cpu_above is 70: write 0.70 or 70%"),
        ("scale_up: {cpu_above: 72.5}", "scale_up.cpu_above is 72.5: write 0.725 or 72.5%"),
        ("scale_up: {cpu_above: 170%}", "scale_up.cpu_above is 170%: write a number above 0 to 1, such as 0.70 or 70%"),
        ("scale_down: {replace_when_saves: 20}", "scale_down.replace_when_saves is 20: write 0.20 or 20%"),
        *[(f"scale_down: {{budget: {given}}}",
           f"scale_down.budget is {said}: write a whole number from 0 to 1000 or a share such as 20%")
          for given, said in (("-1", "-1"), ("0.2", "0.2"), ("[1]", "a list"), ("true", "'true'"))],
        *[(f"workers: {{pools: [{{name: a, requirements: {{cpu: {given}}}}}]}}",
           f"workers.pools.a.requirements.cpu is {said}: write a range (2-8, >=5) or a whole number from 0 to 10000000")
          for given, said in (("-1", "-1"), ("{}", "a map of fields"), ("2.5", "2.5"))],
        ("workers: {pools: [{name: My Pool, instance_types: [t3.small]}]}",
         "workers.pools.My Pool.name is 'My Pool': write at most 40 small letters, digits and -, and no - at an end"),
        ("schedules: [{name: night, from: 22:00, to: 06:00, min: 0}]",
         "schedules.night.time_zone is missing: write a time zone, such as Europe/Berlin"),
        ("signals: [{name: My-queue, query: sum(x), above: 5}]",
         "signals.My-queue.name is 'My-queue': write at most 40 small letters, digits and _"),
        ("scale_up: {window_s: 90.5s}",
         "scale_up.window_s is 90.5s, no whole number of seconds: write a whole number of "
         "seconds from 1 to 86400, such as 90s, 10m, 1h30m or 2d"),
        ("scale_up: {window: 10m}", "scale_up.window is an unknown field: did you mean window_s?"),
        ("scaleup: {}", "scaleup is an unknown field: did you mean scale_up?"),
        ("drain: {patience: 5}", "drain.patience is an unknown field: drain has timeout_s, force"),
        ("drain: {force: 1}", "drain.force is 1: write true or false"),
        ("drain: {force: }", "drain.force has no value: give one, or write null for its default"),
        ("drain:", "drain has no value: give one, or write null for its default"),
        ("drain: 5m", "drain is 5m: write fields below it: timeout_s, force"),
        ("scale_down: {movable: shop/web}", "scale_down.movable is 'shop/web': write a list, such as [a, b]"),
        ("scale_down: {movable: [null]}",
         "scale_down.movable[0] has no value: give one, or write null for its default"),
        ("headroom: {pod: {cpu_millicores: 500m}}",
         "headroom.pod.memory_mib is missing: write a whole number of MiB from 1 "
         "to 67108864, such as 512MiB or 4GiB"),
        ("headroom: {pod: {cpu_millicores: 0.5, memory_mib: 1GiB}}",
         "headroom.pod.cpu_millicores is 0.5: write a whole "
         "number of millicores from 1 to 2000000, such as 500m or 2 CPU"),
        ("workers: {instance_types: [T3]}",
         "workers.instance_types[0] is T3: write an EC2 instance type, such as t3.small"),
        ("cost: {usd_per_hour: {T3: 1}}", "cost.usd_per_hour names T3: write an EC2 instance type, such as t3.small"),
        ("mode: " + "x" * 100, f"mode is '{'x' * 60}...': write active or observe or paused"),
        ('mode: "a\\nb"', r"mode is 'a\nb': write active or observe or paused"),
        ("metrics: {matchers: 5}", "metrics.matchers is 5: write a map, such as {name: value}"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_path_and_what_to_write(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert faults(
        "schedule: []\n"
        "workers: {min: 20, instance_types: [t3.small, t3.small]}\n"
        "scale_up: {cpu_above: 70, memory_above: 0.5, windw_s: 10m}\n"
        "drain: {timeout_s: soon}\n"
        "metrics: {max_age_s: 3, matchers: {job: x, __name__: y}}\n"
        "schedules: [{name: a, time_zone: Mars, min: 3, from: 22:00}, {name: b, time_zone: UTC, min: 5000}]"
    ) == [
        "schedule is an unknown field: did you mean schedules?",
        "workers.min is 20 and workers.max is 10: min may not exceed max",
        "workers.instance_types names t3.small twice: EC2 takes each type once, so name it once",
        "schedules.b.min is 5000: write a whole number from 0 to 1000",
        "scale_up.windw_s is an unknown field: did you mean window_s?",
        "scale_up.cpu_above is 70: write 0.70 or 70%",
        "drain.timeout_s is 'soon': write a whole number of seconds from 1 to 86400, such as 90s, 10m, 1h30m or 2d",
        "metrics.matchers names the label job, which Prometheus or our own selectors use: choose one that tells the "
        "clusters apart",
        "metrics.matchers names the label __name__, which Prometheus or our own selectors use: choose one that tells "
        "the clusters apart",
        "metrics.max_age_s is 3 and metrics.cluster_interval_s is 2: the age must be at least twice the interval, or "
        "every look finds stale metrics",
        "metrics.max_age_s is 3 and metrics.utilisation_interval_s is 15: the age must be at least twice the interval, "
        "or every look finds stale metrics",
        "schedules.a: the time_zone Mars is unknown: give a name of the IANA database, such as Europe/Berlin",
        "schedules.a: it has from without to: give both, or neither for whole days",
        "scale_down.memory_below (0.6) must be at most scale_up.memory_above (0.5) minus scale_down.target_margin (0.1)"
        ", or the fleet swings",
    ]


@pytest.mark.parametrize(
    ("text", "told_of"),
    [
        ("workers: {min: 11, max: ten}", ["workers.max"]),
        ("scale_up: {cpu_above: x}\nscale_down: {cpu_below: 0.9}", ["scale_up.cpu_above"]),
        ("workers: {max: ten}\nschedules: [{name: a, time_zone: UTC, min: 500}]", ["workers.max"]),
        ("workers: {min: 11}\nschedules: [{name: a, time_zone: UTC, min: 500}]", ["workers.min"]),
        ("metrics: {utilisation_interval_s: x}\nscale_up: {window_s: 1}", ["metrics.utilisation_interval_s"]),
        ("schedules: [{name: a, time_zone: UTC, min: x}]", ["schedules.a.min"]),
    ],
)
def test_no_check_judges_the_default_that_stands_in_for_a_wrong_value(text: str, told_of: list[str]) -> None:
    assert [re.split(r"[ :]", fault)[0] for fault in faults(text)] == told_of


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    first: int
    second: int
    version: Literal[1]


def test_every_field_that_is_missing_is_told() -> None:
    assert read(Needs, {}) == (
        None,
        (
            "first is missing: write a whole number",
            "second is missing: write a whole number",
            "version is missing: write 1",
        ),
    )


def test_null_is_the_default_and_an_empty_map_key_is_left_out() -> None:
    policy = parse_policy(
        "version: 1\nscale_up: null\nworkers: {max: ~}\ncost: {usd_per_hour: {t3.small: null, t3.nano: 1}}"
    )
    assert (policy.scale_up, policy.workers) == (Policy(version=1).scale_up, Policy(version=1).workers)
    assert policy.cost.usd_per_hour == {"t3.nano": 1.0}


def test_words_that_yaml_takes_for_booleans_are_text_and_booleans_where_one_is_wanted() -> None:
    policy = parse_policy("version: 1\ndrain: {force: yes}\nmetrics: {matchers: {cluster: on, zone: 01}}")
    assert policy.drain.force is True
    assert policy.metrics.matchers == {"cluster": "on", "zone": "01"}


# ------------------------------------------------------------------------------- units: another form of the same policy


def numbers(of: inspect.StructType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for field in of.fields:
        kind = field.type
        if isinstance(kind, inspect.UnionType):
            if any(isinstance(getattr(one, "type", one), inspect.StrType) for one in kind.types):
                continue  # a number or words: the field tells them apart by itself
            kind = kind.types[0]
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        if isinstance(kind, inspect.StructType):
            yield from numbers(kind, (*path, field.name))
        elif isinstance(kind, (inspect.IntType, inspect.FloatType)):
            yield (*path, field.name), kind


NUMBERS: Final = dict(numbers(inspect.type_info(Policy)))  # type: ignore[arg-type]
UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def in_units(name: str, kind: Any, value: Any) -> str:
    """The same number as people write it, where its field has a unit."""
    exact = Decimal(str(value))
    if name.endswith("_s"):
        if exact != int(exact):
            return f"{exact * 1000:f}ms"
        rest, text = int(exact), ""
        for unit, size in UNITS.items():
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
        return text or "0s"
    if name.endswith("_days"):
        return f"{exact} d"
    if name.endswith("_mib"):
        return f"{exact / 1024}GiB" if exact % 1024 == 0 else f"{exact}MiB"
    if name.endswith("_millicores"):
        return f"{exact / 1000} CPU"
    if name == "percent":
        return f"{exact} %"
    if isinstance(kind, inspect.FloatType) and max(kind.le or 0.0, kind.lt or 0.0) <= 1.0:
        return f"{exact * 100:f}%"
    return f"{exact:f}"


def drawn(kind: Any) -> st.SearchStrategy[int | float]:
    if isinstance(kind, inspect.IntType):
        return st.integers(kind.ge, kind.le)
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    return st.integers(int(low * 1000) + 1, int(high * 1000) - 1).map(lambda thousandths: thousandths / 1000)


@settings(max_examples=300)
@given(data=st.data())
def test_a_policy_in_peoples_units_is_the_plain_one(data: st.DataObject) -> None:
    """Or is refused with the same faults: those that remain are of values that do not fit together."""
    plain: dict[str, Any] = {"version": 1}
    written: dict[str, Any] = {"version": 1}
    for path in data.draw(st.lists(st.sampled_from(sorted(NUMBERS)), unique=True, min_size=1, max_size=8)):
        value = data.draw(drawn(NUMBERS[path]), label=".".join(path))
        for document, form in ((plain, value), (written, in_units(path[-1], NUMBERS[path], value))):
            inner = document
            for section in path[:-1]:
                inner = inner.setdefault(section, {})
            inner[path[-1]] = form
    assert read(Policy, read_yaml(yaml.safe_dump(written))) == read(Policy, read_yaml(yaml.safe_dump(plain)))


@settings(max_examples=100)
@given(data=st.data())
def test_what_msgspec_takes_is_taken_and_read_alike(data: st.DataObject) -> None:
    tree: dict[str, Any] = {"version": 1}
    for path in data.draw(st.lists(st.sampled_from(sorted(NUMBERS)), unique=True, max_size=6)):
        inner = tree
        for section in path[:-1]:
            inner = inner.setdefault(section, {})
        inner[path[-1]] = data.draw(st.integers(-2, 1001) | st.floats(-0.5, 1.5) | st.none())
    try:
        expected = msgspec.convert(tree, Policy)
    except msgspec.ValidationError:
        return
    assert read(Policy, tree) == (expected, ())


def test_what_is_no_yaml_is_told_with_its_line() -> None:
    with pytest.raises(BadYaml, match="a stands twice") as told:
        read_yaml("a: 1\nb: 2\na: 3\n")
    assert told.value.line == 3

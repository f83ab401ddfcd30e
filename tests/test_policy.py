from pathlib import Path

import pytest

from autoscaler.decide.capacity.catalogue import MIB, UnknownInstanceType, check_instance_types, nominal_resources
from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_text import PolicyError, parse_policy

COMMITTED = Path(__file__).parent.parent / "policy.yml"


def test_the_committed_policy_shows_the_defaults() -> None:
    assert parse_policy(COMMITTED.read_text(encoding="utf-8")) == Policy(version=1)


def test_every_default_stands_in_the_committed_policy() -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    for section in Policy.__struct_fields__:
        assert f"{section}:" in text
        for field in getattr(getattr(Policy(version=1), section), "__struct_fields__", ()):
            assert f"{field}:" in text, f"{section}.{field} is not shown"


@pytest.mark.parametrize(("written", "mode"), [("on", "on"), ("off", "off"), ("'on'", "on"), ("shadow", "shadow")])
def test_a_mode_is_the_word_that_it_looks_like(written: str, mode: str) -> None:
    """YAML 1.1 reads on and off as true and false."""
    assert parse_policy(f"version: 1\nforecast: {{mode: {written}}}").forecast.mode == mode


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it holds nothing: write fields"),
        ("[", "is not valid YAML"),
        ("workers: {min: 2}", "version is missing: write 1."),
        ("version: 2", "version is 2: write 1."),
        ("version: 1\nworkers: {mni: 2}", "workers.mni is an unknown field: did you mean min?"),
        ("version: 1\nworkers: {min: two}", "workers.min is 'two': write a whole number from 0 to 1000."),
        ("version: 1\nworkers: {min: -1}", "workers.min is -1: write a whole number from 0 to 1000."),
        ("version: 1\nworkers: {min: 11}", "min may not exceed max"),
        ("version: 1\nworkers: {instance_types: []}", "name at least one EC2 instance type"),
        (
            "version: 1\nworkers: {instance_types: [t3.small, t3.medium, t3.small]}",
            "workers.instance_types names t3.small twice",
        ),
        ("version: 1\nmode: on", "mode is 'on': write active or observe or paused."),
        ("version: 1\nscale_up: {cpu_above: 70}", "scale_up.cpu_above is 70: write 0.70 or 70%."),
        ("version: 1\nscale_down: {cpu_below: 0.65}", "or the fleet swings"),
        ("version: 1\nmetrics: {max_age_s: 20}", "or every look finds stale metrics"),
        ("version: 1\nmetrics: {cpu_rate_window_s: 20}", "it must hold at least two scrapes"),
        ("version: 1\nworkers: {min: 1}\nworkers: {min: 2}", "workers stands twice"),
        ("version: 1\nx: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_a_wrong_policy_is_refused_with_one_sentence_that_names_the_value(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_hash_names_the_values_and_not_their_form() -> None:
    one = parse_policy("version: 1\nworkers: {min: 1, max: 5}")
    other = parse_policy("# the same\nworkers:\n  max: 5\n  min: 1\nversion: 1")
    assert policy_hash(one) == policy_hash(other) != policy_hash(Policy(version=1))


def test_an_instance_type_without_a_known_size_is_refused_and_one_with_a_size_is_used() -> None:
    with pytest.raises(UnknownInstanceType, match=r"names x9\.huge.*add it under workers\.sizes"):
        check_instance_types(parse_policy("version: 1\nworkers: {instance_types: [x9.huge]}"))
    policy = parse_policy(
        "version: 1\nworkers: {instance_types: [x9.huge], sizes: {x9.huge: {cpu_millicores: 1000, memory_mib: 1000}}}"
    )
    check_instance_types(policy)
    assert nominal_resources("x9.huge", policy).cpu_millicores == 1000 - 95
    assert nominal_resources("x9.huge", policy).memory_bytes == (920 - 46 - 400) * MIB


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("scale_up: {window_s: 5}", "scale_up.window_s is 5: a window holds at least two samples"),
        ("scale_down: {window_s: 29}", "scale_down.window_s is 29"),
        ("repair: {not_ready_s: 15}", "repair.not_ready_s is 15: .* give 30 or more"),
        ("metrics: {utilisation_interval_s: 45, max_age_s: 90, cpu_rate_window_s: 90}", "scale_up.window_s is 60"),
    ],
)
def test_a_window_that_holds_fewer_than_two_samples_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        parse_policy(f"version: 1\n{text}\n")


def test_matchers_are_labels() -> None:
    assert parse_policy("version: 1\nmetrics: {matchers: {cluster: shop}}\n").metrics.matchers == {"cluster": "shop"}
    with pytest.raises(PolicyError, match=r"matchers"):
        parse_policy("version: 1\nmetrics: {matchers: {1x: shop}}\n")

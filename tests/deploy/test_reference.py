"""What editors and readers are told of the policy: made of its types, and of one opinion with `validate`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from autoscaler.cli.main import app
from autoscaler.deploy.reference.fields import fields_of, section_of
from autoscaler.deploy.reference.files import PAGE, SCHEMA, written
from autoscaler.deploy.reference.schema import policy_schema
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.policyfile.reading import bare
from autoscaler.policyfile.text import plain, read_yaml
from autoscaler.presets import NAMES, preset

ROOT: Final = Path(__file__).parents[2]
CHECKER: Final = Draft202012Validator(policy_schema())


def refused_by_schema(text: str) -> list[str]:
    """What an editor underlines; it reads YAML 1.2."""
    return [f"{error.json_path}: {error.message}" for error in CHECKER.iter_errors(plain(read_yaml(text)))]


def refused_by_validate(text: str) -> bool:
    try:
        parse_policy(text)
    except PolicyError:
        return True
    return False


@pytest.mark.parametrize("path", [SCHEMA, PAGE])
def test_the_committed_files_are_what_the_types_say(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == written()[path], "run `make reference`"


def test_the_schema_is_one_and_the_command_prints_it() -> None:
    Draft202012Validator.check_schema(policy_schema())
    assert json.loads(CliRunner().invoke(app, ["policy", "schema"]).stdout) == policy_schema()


def test_the_policy_and_every_preset_are_taken() -> None:
    texts = {"policy.yml": (ROOT / "policy.yml").read_text(encoding="utf-8"), **{name: preset(name) for name in NAMES}}
    assert {name: refused_by_schema(text) for name, text in texts.items()} == {name: [] for name in texts}
    assert texts["policy.yml"].startswith(f"# yaml-language-server: $schema={SCHEMA}\n")


def test_what_the_service_writes_of_a_policy_is_taken() -> None:
    assert list(CHECKER.iter_errors(json.loads(msgspec.json.encode(Policy(version=1))))) == []


TAKEN: Final = """
extends: thrifty
mode: null
workers:
  max: 30
  join_timeout_s: 1h30m
  on_demand_share: 25%
  instance_types: [t3.small, m7g.large]
  sizes: {x9.huge: {cpu_millicores: 2 CPU, memory_mib: 4GiB, extended: {nvidia.com/gpu: 1}}}
schedules:
  - {name: shop, time_zone: Europe/Berlin, days: [mon], from: 09:00, to: 21:00, min: 3, headroom: {percent: 20%}}
headroom: {pod: {cpu_millicores: 500m, memory_mib: 512Mi}}
signals: [{name: queue, query: "sum(x)", above: 5, window_s: 90s}]
forecast: {mode: on, trend: yes}
scale_up: {cpu_above: 70%, pending_for_s: 0, window_s: 1m 30s}
scale_down: {budget: 20%, max_empty_step: 3, target_margin: 5%}
metrics: {timeout_s: 500ms, matchers: {cluster: 1}}
history_days: 30d
"""
POOLS: Final = """
version: 1
workers:
  pools:
    - {name: general, requirements: {cpu: 2-4, memory: 4 GiB, arch: [arm64], generation: ">=5"}, max: null}
    - {name: gpu, instance_types: [g4dn.xlarge], labels: {team: 7}, taints: ["a=b:NoSchedule"], volume_gb: 20}
"""


@pytest.mark.parametrize("text", [TAKEN, POOLS, "extends: policy.base.yml\n", "version: 1\n"])
def test_what_people_write_is_taken(text: str) -> None:
    assert refused_by_schema(text) == []
    if "policy.base" not in text:
        parse_policy(text)


def leaves() -> Iterator[tuple[str, str, Any]]:
    """Section, field and type of every plain field that stands in a section of its own."""
    for outer in fields_of(Policy):
        section = section_of(outer.type)
        if section is None:
            yield "", outer.name, outer.type
        elif bare(outer.type)[0] is section:
            yield from ((outer.name, f.name, f.type) for f in fields_of(section) if section_of(f.type) is None)


LEAVES: Final = list(leaves())


@pytest.mark.parametrize(("section", "field", "kind"), LEAVES, ids=[f"{s}.{f}".lstrip(".") for s, f, _ in LEAVES])
def test_a_value_of_another_type_is_refused_by_both(section: str, field: str, kind: Any) -> None:
    """A map is no list and no number, a list of maps is nothing that a plain field takes, and words are no number."""
    wrong: list[Any] = [{"a": {"b": 1}}, [[1]], [{"a": 1}]]
    if bare(kind)[0] in {int, float, bool}:
        wrong += ["soon", "10 parsecs", "1:30"]
    for value in wrong:
        inner = {field: value}
        text = json.dumps({"version": 1} | ({section: inner} if section else inner))
        assert refused_by_validate(text), text
        assert refused_by_schema(text), text


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "version: 2",
        "version: one",
        "mode: off",
        "extends: nobody",
        "extends: ../policy.yml",
        "scaleup: {}",
        "scale_up: {window: 10m}",
        "scale_up: {cpu_above: 70}",
        "scale_up: {window_s: -1}",
        "scale_up: {window_s: 4GiB}",
        "workers: {max: 1.5}",
        "workers: {max: 2000}",
        "workers: {instance_types: t3.small}",
        "workers: {instance_types: [T3]}",
        "workers: {sizes: {x9.huge: {cpu_millicores: 2}}}",
        "workers: {pools: [{instance_types: [t3.small]}]}",
        "workers: {pools: [{name: Gpu}]}",
        "workers: {pools: [{name: a, market: dedicated}]}",
        "headroom: {pod: {cpu_millicores: 500m}}",
        "schedules: [{name: a}]",
        "schedules: {name: a}",
        "rotation: {drift: [colour]}",
        "metrics: {matchers: {0a: b}}",
        "metrics: {timeout_s: 9}",
        "signals: [{name: a, query: [x]}]",
        "cost: {usd_per_hour: {T3: 1}}",
    ],
)
def test_what_validate_refuses_for_its_form_an_editor_underlines(text: str) -> None:
    whole = text if text.startswith(("{}", "version", "extends")) else f"version: 1\n{text}"
    assert refused_by_validate(whole)
    assert refused_by_schema(whole)

"""Files laid over one another: what comes out is what one file with all of it would be."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.policyfile.layers import laid_over


def load(folder: Path, files: Mapping[str, str], name: str = "policy.prod.yml") -> Policy:
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return load_policy(folder / name)


BASE = """\
version: 1
workers: {min: 3, max: 20, instance_types: [t3.small, t3.medium]}
scale_up: {max_step: 2}
schedules: [{name: day, time_zone: UTC, from: 09:00, to: 21:00, min: 5}]
cost: {usd_per_hour: {t3.small: 0.02, t3.medium: 0.04}}
"""


@pytest.mark.parametrize(
    ("over", "same_as"),
    [
        ("", BASE),
        ("workers: {max: 30}", BASE.replace("20", "30")),
        ("workers: {instance_types: [t3.large]}", BASE.replace("[t3.small, t3.medium]", "[t3.large]")),
        ("workers: {min: null}", BASE.replace("min: 3, ", "")),
        ("workers: null", re.sub("workers: .*", "", BASE)),
        ("scale_up: {max_step: null}", BASE.replace("scale_up: {max_step: 2}\n", "")),
        ("schedules: []", re.sub("schedules: .*", "", BASE)),
        ("cost: {usd_per_hour: {t3.small: null, t3.nano: 1}}", BASE.replace("t3.small: 0.02", "t3.nano: 1")),
        ("history_days: 7d", BASE + "history_days: 7\n"),
    ],
)  # fmt: skip
def test_maps_are_laid_over_field_by_field_the_rest_whole_and_null_is_the_default(
    tmp_path: Path, over: str, same_as: str
) -> None:
    resolved = load(tmp_path, {"policy.yml": BASE, "policy.prod.yml": f"extends: policy.yml\n{over}\n"})
    assert resolved == parse_policy(same_as)
    assert policy_hash(resolved) == policy_hash(parse_policy(same_as)), "the hash is of what was resolved"


def test_a_chain_ends_in_a_preset(tmp_path: Path) -> None:
    resolved = load(
        tmp_path,
        {
            "policy.yml": "extends: thrifty\nworkers: {max: 4}",
            "policy.prod.yml": "extends: policy.yml\nscale_up: {cpu_above: 0.8}",
        },
    )
    thrifty = parse_policy("extends: thrifty")
    assert (resolved.workers.max, resolved.scale_up.cpu_above) == (4, 0.8)
    assert resolved.scale_down == thrifty.scale_down != Policy(version=1).scale_down


CIRCLE = {"policy.yml": "extends: policy.prod.yml", "policy.prod.yml": "extends: policy.yml"}
LONG = {f"policy.{n}.yml": f"extends: policy.{n + 1}.yml" for n in range(9)} | {
    "policy.prod.yml": "extends: policy.0.yml"
}


NONE = {"policy.prod.yml": "extends: policy.none.yml"}
BELOW = {"policy.prod.yml": "extends: policy.yml"}
NULL = {"policy.prod.yml": "extends: policy.yml\nworkers: {mni: null}", "policy.yml": "version: 1"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"policy.prod.yml": "extends: policy.prod.yml"}, "extends policy.prod.yml: a circle"),
        (CIRCLE, "extends policy.yml extends policy.prod.yml: a circle; let one of them extend a preset"),
        (LONG, "extends policy.4.yml: at most 5 files may follow"),
        (NONE, "extends is policy.none.yml, which cannot be read: No such file"),
        ({"policy.prod.yml": "extends: thrfty"}, "extends is 'thrfty': write default, brief, thrifty, swift, or"),
        ({"policy.prod.yml": "extends: ../policy.yml"}, "extends is '../policy.yml': write default"),
        ({"policy.prod.yml": "extends: /etc/policy.yml"}, "extends is '/etc/policy.yml': write default"),
        ({"policy.prod.yml": "extends: [a]"}, "extends is no name: write default"),
        (BELOW | {"policy.yml": "a: ["}, "policy.yml is not a valid policy: no valid YAML"),
        (BELOW | {"policy.yml": "[a]"}, "policy.yml is not a valid policy: it holds no"),
        (
            {"policy.prod.yml": "extends: policy.yml\nworkers: {max: 1}", "policy.yml": "version: 1"},
            "policy.prod.yml with policy.yml is not a valid policy: workers.min is 2 and workers.max is 1",
        ),
        (NULL, "mni is an unknown field"),
    ],
)  # fmt: skip
def test_what_leads_to_no_policy_is_told(tmp_path: Path, files: Mapping[str, str], said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        load(tmp_path, files)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_text_that_is_no_file_may_extend_presets_only() -> None:
    assert parse_policy("extends: default") == Policy(version=1)
    with pytest.raises(PolicyError, match="this text is no file, so nothing lies beside it"):
        parse_policy("extends: policy.prod.yml")


def test_what_is_laid_over_changes_neither_of_the_two() -> None:
    below, over = yaml.safe_load("{a: {b: 1}}"), yaml.safe_load("{a: {c: 2}}")
    assert laid_over(below, over) == {"a": {"b": 1, "c": 2}}
    assert (below, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})

"""The presets: valid by themselves, no default said twice, and the table of the docs is what the files say."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from autoscaler.decide.capacity.catalogue import check_instance_types
from autoscaler.policy import Policy
from autoscaler.policy_text import parse_policy
from autoscaler.policyfile.text import read_yaml
from autoscaler.presets import NAMES, preset
from bench.policy import thresholds

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "policy" / "presets.md"
DEFAULT: Final = Policy(version=1)


def stated(tree: Any, path: str = "") -> dict[str, Any]:
    """The fields that a file states, by their paths."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = f"{path}.{name}" if path else name
        found |= stated(value, inner) if isinstance(value, dict) else {inner: value}
    return found


def value_of(policy: Policy, path: str) -> Any:
    value: Any = policy
    for name in path.split("."):
        value = getattr(value, name)
    return value


FIELDS: Final = {name: sorted(set(stated(read_yaml(preset(name)))) - {"version"}) for name in NAMES}
POLICIES: Final = {name: parse_policy(preset(name), source=name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_policy_by_itself_and_states_nothing_that_it_does_not_change(name: str) -> None:
    check_instance_types(POLICIES[name])
    assert parse_policy(f"extends: {name}") == POLICIES[name]
    for field in FIELDS[name]:
        assert value_of(POLICIES[name], field) != value_of(DEFAULT, field), f"{field} is the default"
    changed = [field for field in Policy.__struct_fields__ if getattr(POLICIES[name], field) != getattr(DEFAULT, field)]
    assert sorted({field.partition(".")[0] for field in FIELDS[name]}) == sorted(changed)


def test_the_names_are_the_files() -> None:
    folder = Path(__file__).parents[2] / "autoscaler" / "presets"
    assert sorted(file.stem for file in folder.glob("*.yml")) == sorted(NAMES)


def test_brief_is_the_document_to_the_letter() -> None:
    """Whatever becomes the default: these numbers are the document's."""
    brief = POLICIES["brief"]
    up, down = brief.scale_up, brief.scale_down
    assert (brief.workers.min, brief.workers.max) == (thresholds.MIN, thresholds.MAX)
    assert brief.workers.instance_types == (thresholds.INSTANCE_TYPE,)
    assert (up.cpu_above, up.pending_for_s, up.max_step) == (thresholds.HIGH, thresholds.PENDING_FOR_S, 1)
    assert (down.when, down.cpu_below, down.window_s) == ("low_use", thresholds.LOW, thresholds.LOW_FOR_S)
    assert (down.cool_down_s, down.max_empty_step) == (thresholds.COOL_DOWN_S, 1)
    assert (brief.drain.timeout_s, brief.drain.force) == (thresholds.DRAIN_S, False)
    assert not brief.headroom
    assert brief.schedules == ()


def test_the_table_of_the_docs_is_what_the_files_say() -> None:
    fields = sorted({field for name in NAMES for field in FIELDS[name]})
    rows = ["| field | " + " | ".join(f"`{name}`" for name in NAMES) + " |", "|---|" + "---|" * len(NAMES)]
    for field in fields:
        cells = [
            msgspec.json.encode(value_of(POLICIES[name], field)).decode().strip('"')
            if name == "default" or field in FIELDS[name]
            else ""
            for name in NAMES
        ]
        rows.append(f"| `{field}` | " + " | ".join(cells) + " |")
    assert "\n".join(rows) in DOCUMENT.read_text(encoding="utf-8"), "\n".join(rows)

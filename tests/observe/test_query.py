"""The one query: every operand distinct, every window from the policy."""

import re

import msgspec
import pytest

from autoscaler.observe.query import snapshot_query
from autoscaler.observe.series import CLUSTER_FAMILIES, META_FAMILIES, UTILISATION_FAMILIES
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp


def operands(policy: Policy) -> list[str]:
    return re.split(r" or ", snapshot_query(policy))


def test_every_window_carries_a_label_of_its_own() -> None:
    """`or` compares label sets without the name: two operands alike would swallow one another."""
    windows = [
        re.fullmatch(r'label_replace\((.+), "window", "(\w+)", "", ""\)', o) for o in operands(Policy(version=1))
    ]
    plain = [window for window in windows if window is None]
    labels = [window[2] for window in windows if window is not None]
    assert len(plain) == 1
    assert len(labels) == len(set(labels)) == 6


def test_each_extreme_has_its_count_over_the_same_series_and_window() -> None:
    windows = {
        match[3]: (match[1], match[2])
        for match in re.finditer(
            r'label_replace\((\w+)_over_time\((.+?)\), "window", "(\w+)", "", ""\)', snapshot_query(Policy(version=1))
        )
    }
    for value, function, count in (
        ("grow_min", "min", "grow_count"),
        ("shrink_max", "max", "shrink_count"),
        ("ready_max", "max", "ready_count"),
    ):
        assert windows[value][0] == function
        assert windows[count] == ("count", windows[value][1])


def test_growth_looks_at_lower_bounds_and_shrink_at_upper_bounds() -> None:
    text = snapshot_query(Policy(version=1))
    assert 'min_over_time(k3s_autoscaler:workers_utilisation{bound="low"}[60s])' in text
    assert 'max_over_time(k3s_autoscaler:workers_utilisation{bound="high"}[600s])' in text


def test_windows_are_the_policys() -> None:
    policy = msgspec.structs.replace(
        Policy(version=1),
        scale_up=ScaleUp(window_s=77),
        scale_down=ScaleDown(window_s=88),
        repair=Repair(not_ready_s=99),
    )
    assert re.findall(r"\[(\d+)s\]", snapshot_query(policy)) == ["77", "77", "88", "88", "99", "99"]


@pytest.mark.parametrize("family", [*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, *META_FAMILIES])
def test_every_family_is_asked_for(family: str) -> None:
    selector = re.fullmatch(r'\{__name__=~"(.+)"\}', operands(Policy(version=1))[0])
    assert selector is not None
    assert re.fullmatch(selector[1], f"k3s_autoscaler:{family}")
    assert not re.fullmatch(selector[1], f"other:{family}")

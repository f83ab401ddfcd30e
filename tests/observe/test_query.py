"""The four questions: every row names its family, every series the cluster's, every window the policy's."""

import re
from collections.abc import Callable

import pytest

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.observe.query import (
    NAMED_AT_MOST,
    moving_query,
    places_query,
    rooms_query,
    sight_operands,
    sight_query,
)
from autoscaler.observe.series import COUNTED, MOVING_FAMILIES, PLACE_FAMILIES, ROOM_FAMILIES, SIGHT_FAMILIES
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp

POLICY = Policy(version=1)
SHOP = Policy(version=1, metrics=MetricsPolicy(matchers={"cluster": "shop", "env": 'a"b\\'}))
QUERIES: dict[str, Callable[[Policy], str]] = {
    "sight": lambda policy: sight_query(policy, with_owners=True),
    "rooms": lambda policy: rooms_query(policy, ("n",), with_init=True, with_overhead=True),
    "moving": lambda policy: moving_query(policy, ("n",)),
    "places": lambda policy: places_query(policy, ("shop/ReplicaSet/web", "shop/Pod/bare")),
}
SERIES = re.compile(r"(?:kube_\w+|node_\w+_\w+|k3s_autoscaler:\w+|\bup)?\{[^}]*\}")


def families(text: str) -> set[str]:
    return set(re.findall(r'"family", "(\w+)", "", ""\)$', text, re.MULTILINE))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("sight", SIGHT_FAMILIES), ("rooms", ROOM_FAMILIES), ("moving", MOVING_FAMILIES), ("places", PLACE_FAMILIES)],
)
def test_each_question_answers_its_families(query: str, wanted: tuple[str, ...]) -> None:
    assert families(QUERIES[query](POLICY)) == set(wanted)


@pytest.mark.parametrize("query", QUERIES)
def test_matchers_stand_in_every_selector(query: str) -> None:
    """One that lacks them would mix another cluster's series in."""
    selectors = SERIES.findall(QUERIES[query](SHOP))
    assert len(selectors) >= 8
    for selector in selectors:
        assert selector.endswith('cluster="shop",env="a\\"b\\\\"}'), selector


@pytest.mark.parametrize("query", QUERIES)
def test_without_matchers_only_the_jobs_select(query: str) -> None:
    assert "cluster=" not in QUERIES[query](POLICY)


@pytest.mark.parametrize("family", COUNTED)
def test_exceptions_are_counted_by_the_expression_that_tells_them(family: str) -> None:
    operands = sight_operands(POLICY)
    assert f"(count({operands[family]}) or vector(0))" in operands[f"counted {family}"]


def test_each_extreme_has_its_count_over_the_same_series_and_window() -> None:
    operands = sight_operands(POLICY)
    for value, function, count in (
        ("use_grow_min", "min_over_time", "use_grow_count"),
        ("use_shrink_max", "max_over_time", "use_shrink_count"),
        ("ready_max", "max_over_time", "ready_count"),
    ):
        over = re.search(rf"{function}\((.+?)\)", operands[value])
        assert over is not None
        assert f"count_over_time({over[1]})" in operands[count]


def test_growth_looks_at_lower_bounds_and_shrink_at_upper_bounds() -> None:
    operands = sight_operands(POLICY)
    assert 'min_over_time(k3s_autoscaler:workers_utilisation{bound="low"}[60s])' in operands["use_grow_min"]
    assert 'max_over_time(k3s_autoscaler:workers_utilisation{bound="high"}[600s])' in operands["use_shrink_max"]


def test_windows_follow_the_policy() -> None:
    text = sight_query(
        Policy(
            version=1,
            scale_up=ScaleUp(window_s=31),
            scale_down=ScaleDown(window_s=61),
            repair=Repair(not_ready_s=91),
        )
    )
    assert {"31s", "61s", "91s"} <= set(re.findall(r"\[(\w+)\]", text))


def test_what_nobody_has_is_not_asked_for() -> None:
    plain = rooms_query(POLICY, ("n",), with_init=False, with_overhead=False)
    both = rooms_query(POLICY, ("n",), with_init=True, with_overhead=True)
    requested = plain.partition('"family", "requested"')[0]
    assert "init" not in requested
    assert "overhead" not in requested
    assert "init" in both.partition('"family", "requested"')[0]


@pytest.mark.parametrize(
    ("name", "matcher"),
    [
        pytest.param(
            "ip-10-0-1-10.eu-central-1.compute.internal", r"ip-10-0-1-10\\.eu-central-1\\.", id="dots are dots"
        ),
        pytest.param("worker-i-0abc", '"worker-i-0abc"', id="plain"),
    ],
)
def test_names_of_nodes_are_no_patterns(name: str, matcher: str) -> None:
    assert matcher in moving_query(POLICY, (name,))


@pytest.mark.parametrize(
    ("owner", "matcher"),
    [
        pytest.param("shop/ReplicaSet/web", '_kind!="",namespace=~"shop",created_by_name=~"web"', id="plain"),
        pytest.param("shop/Pod/bare.1", '_kind="",namespace=~"shop",pod=~"bare\\\\.1"', id="without an owner"),
        pytest.param('shop/Odd/a:+(c)|"d', r'created_by_name=~"a:\\+\\(c\\)\\|\"d"', id="what a custom kind may hold"),
        pytest.param("shop/Odd/a/b", 'created_by_name=~"a/b"', id="no more than three parts"),
    ],
)
def test_names_of_owners_are_no_patterns(owner: str, matcher: str) -> None:
    assert matcher in places_query(POLICY, (owner,))


def test_of_too_many_owners_whole_namespaces_are_asked_for() -> None:
    few = places_query(POLICY, [f"n{number % 3}/Job/j{number}" for number in range(NAMED_AT_MOST)])
    many = places_query(POLICY, [f"n{number % 3}/Job/j{number}" for number in range(NAMED_AT_MOST + 1)])
    everywhere = places_query(POLICY, [f"n{number}/Job/j{number}" for number in range(NAMED_AT_MOST + 1)])
    assert "created_by_name=~" in few
    assert "created_by_name=~" not in many
    assert 'namespace=~"n0|n1|n2"' in many
    assert "namespace=~" not in everywhere
    assert len(few) < 20_000


def test_who_is_not_asked_for_costs_nothing() -> None:
    assert 'created_by_kind=""' not in places_query(POLICY, ("shop/ReplicaSet/web",))
    assert 'created_by_kind!=""' not in places_query(POLICY, ("shop/Pod/bare",))

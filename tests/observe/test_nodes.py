"""Rows become Nodes and the use of the workers."""

from typing import Any

import pytest

from autoscaler.model import Node, Resources, Sample, Utilisation
from autoscaler.observe.nodes import parse_nodes, parse_utilisation, recording_interval_s
from tests.observe.answers import MIB, NOW_S, POLICY, node, rows_of, sample

EVERY_15_S = sample("evaluated_at", NOW_S, group="utilisation", interval_s="15")


def nodes_of(*rows: Sample, volumes_shown: bool = True, labels_shown: bool = True) -> tuple[Node, ...]:
    return parse_nodes(rows_of(*rows), POLICY, volumes_shown=volumes_shown, labels_shown=labels_shown)


def one_node(*rows: Sample, provider_id: str = "aws:///us-east-1a/i-0123abcd") -> Node:
    [found] = nodes_of(node("n", provider_id, age_s=60), *rows)
    return found


def use_of(*rows: Sample) -> dict[str, Utilisation]:
    return {one.resource: one for one in parse_utilisation(rows_of(EVERY_15_S, *rows), POLICY)}


# --------------------------------------------------------------------------------------------------------------- nodes


def test_what_a_node_says() -> None:
    found = one_node()
    assert (found.name, found.instance_id, found.zone) == ("n", "i-0123abcd", "us-east-1a")
    assert (found.created_at_s, found.ready, found.cordoned) == (NOW_S - 60, True, False)
    assert found.allocatable == Resources(cpu_millicores=1900, memory_bytes=1500 * MIB, pods=110)
    assert (found.control_plane, found.tainted, found.local_volumes, found.labels) == (False, False, 0, ())
    assert (found.unready_long, found.managed) == (False, False)
    assert (found.requested, found.movable) == (None, None), "nobody looked closer yet"


@pytest.mark.parametrize(
    ("provider_id", "instance_id", "zone"),
    [
        pytest.param("aws:///eu-central-1b/i-0abc", "i-0abc", "eu-central-1b", id="EC2"),
        pytest.param("aws:///us-west-2-lax-1a/i-0abc", "i-0abc", "us-west-2-lax-1a", id="a local zone"),
        pytest.param("k3s://n", None, None, id="K3s' default"),
        pytest.param("", None, None, id="none yet"),
        pytest.param("aws:///us-east-1a/fargate-x", None, None, id="no instance"),
        pytest.param("aws:///us-east-1a/i-0abc/more", None, None, id="more than an instance"),
        pytest.param("gce://p/z/i-0abc", None, None, id="another cloud"),
    ],
)
def test_provider_ids(provider_id: str, instance_id: str | None, zone: str | None) -> None:
    found = one_node(provider_id=provider_id)
    assert (found.instance_id, found.zone, found.provider_id) == (instance_id, zone, provider_id)


def test_exceptions_volumes_and_marks() -> None:
    found = one_node(
        sample("node_control_plane", node="n"),
        sample("node_cordoned", node="n"),
        sample("node_taint", node="n", key="dedicated", effect="NoSchedule"),
        sample("node_local_volumes", 2, node="n"),
        sample("node_managed", node="n"),
        sample("node_taint", node="another", key="dedicated", effect="NoSchedule"),
    )
    assert (found.control_plane, found.cordoned, found.tainted) == (True, True, True)
    assert (found.local_volumes, found.managed) == (2, True)


def test_what_is_not_shown_is_unknown_and_not_none() -> None:
    [found] = nodes_of(node("n", ""), volumes_shown=False, labels_shown=False)
    assert (found.local_volumes, found.managed) == (None, None)


@pytest.mark.parametrize("sizes", [{"cpu": "NaN"}, {"memory": "much"}, {"pods": ""}, {"cpu": "+Inf"}])
def test_what_can_be_allocated_is_a_number_or_unknown(sizes: dict[str, str]) -> None:
    [found] = nodes_of(Sample({**node("n", "").metric, **sizes}, (0.0, "1")))
    assert found.allocatable is None


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param({"ready_max": 0, "ready_count": 20}, True, id="never Ready in a full window"),
        pytest.param({"ready_max": 1, "ready_count": 20}, False, id="Ready once"),
        pytest.param({"ready_max": 0, "ready_count": 18}, True, id="90 % of the samples are enough"),
        pytest.param({"ready_max": 0, "ready_count": 17}, None, id="a gap: unknown"),
        pytest.param({"ready_max": 0}, None, id="not counted: unknown"),
        pytest.param({"ready_count": 20}, None, id="no value: unknown"),
        pytest.param({"ready_max": "NaN", "ready_count": 20}, None, id="NaN: unknown"),
    ],
)
def test_not_ready_for_long(windows: dict[str, Any], expected: bool | None) -> None:
    rows = [sample(name, value, node="n") for name, value in windows.items()]
    found = one_node(EVERY_15_S, sample("node_not_ready", 0, node="n"), *rows)
    assert (found.ready, found.unready_long) == (False, expected)


def test_nodes_come_sorted_by_name() -> None:
    assert [n.name for n in nodes_of(node("b", ""), node("a", ""))] == ["a", "b"]


# --------------------------------------------------------------------------------------------------------- utilisation


@pytest.mark.parametrize(
    ("values", "grow_min", "shrink_max"),
    [
        pytest.param({"use_grow_min": 0.8, "use_grow_count": 4}, 0.8, None, id="a full grow window"),
        pytest.param({"use_grow_min": 0.8, "use_grow_count": 3}, None, None, id="3 of 4 samples are a gap"),
        pytest.param({"use_grow_min": 0.8}, None, None, id="not counted"),
        pytest.param({"use_shrink_max": 0.2, "use_shrink_count": 40}, None, 0.2, id="a full shrink window"),
        pytest.param({"use_shrink_max": 0.2, "use_shrink_count": 36}, None, 0.2, id="90 % of it"),
        pytest.param({"use_shrink_max": 0.2, "use_shrink_count": 35}, None, None, id="less: a gap"),
        pytest.param({"use_shrink_max": "NaN", "use_shrink_count": 40}, None, None, id="NaN"),
        pytest.param({"use_shrink_max": 0.2, "use_shrink_count": "NaN"}, None, None, id="the count is NaN"),
    ],
)
def test_windows(values: dict[str, float | str], grow_min: float | None, shrink_max: float | None) -> None:
    cpu = use_of(*(sample(name, value, resource="cpu") for name, value in values.items()))["cpu"]
    assert (cpu.grow_min, cpu.shrink_max) == (grow_min, shrink_max)


def test_the_latest_value_is_the_lower_bound() -> None:
    use = use_of(sample("use", 0.5, resource="cpu"))
    assert (use["cpu"].now_low, use["memory"].now_low) == (0.5, None)


def test_resources_are_not_mixed_up() -> None:
    use = use_of(
        sample("use_grow_min", 0.8, resource="cpu"),
        sample("use_grow_count", 4, resource="cpu"),
        sample("use_grow_min", 0.1, resource="memory"),
        sample("use_grow_count", 1, resource="memory"),
    )
    assert (use["cpu"].grow_min, use["memory"].grow_min) == (0.8, None)


@pytest.mark.parametrize(
    ("labels", "interval_s", "grow_min"),
    [
        pytest.param({"group": "utilisation", "interval_s": "15"}, 15.0, None, id="2 of 4 samples"),
        pytest.param({"group": "utilisation", "interval_s": "30"}, 30.0, 0.8, id="2 of 2: the rules' own interval"),
        pytest.param({"group": "utilisation", "interval_s": "60"}, 60.0, 0.8, id="never fewer than two"),
        pytest.param({"group": "utilisation"}, None, None, id="it does not say"),
        pytest.param({"group": "utilisation", "interval_s": "often"}, None, None, id="no number"),
        pytest.param({"group": "utilisation", "interval_s": "0"}, None, None, id="never"),
        pytest.param({"group": "another", "interval_s": "15"}, None, None, id="another group"),
    ],
)
def test_intervals_are_read_and_not_assumed(
    labels: dict[str, str], interval_s: float | None, grow_min: float | None
) -> None:
    rows = rows_of(
        sample("evaluated_at", NOW_S, **labels),
        sample("use_grow_min", 0.8, resource="cpu"),
        sample("use_grow_count", 2, resource="cpu"),
    )
    assert recording_interval_s(rows) == interval_s
    assert parse_utilisation(rows, POLICY)[0].grow_min == grow_min

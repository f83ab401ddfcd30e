"""Which pool is launched, as tables: price per placed pod, weights, maxima, and what nobody knows the price of."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.capacity.launch import plan_launch
from autoscaler.decide.capacity.market import Mix, mix_of
from autoscaler.decide.capacity.pools import coming, existing, fillers, is_open, pool_of, rooms
from autoscaler.decide.fleet import Standing, view_fleet
from autoscaler.model import Growth, LaunchContext, NewWorkers, PoolTemplate, State
from autoscaler.policy import Policy
from autoscaler.policy_text import parse_policy
from tests.decide.builders import (
    CONTEXT,
    DECISION_ID,
    NOW_S,
    decided,
    full,
    ghost,
    launch,
    snapshot,
    static,
    waiting,
    waiting_pods,
    worker,
)


def pools(*lines: str, more: str = "", high: int = 20, sizes: str = "{}") -> Policy:
    listed = "".join(f"\n    - {line}" for line in lines)
    return parse_policy(f"version: 1\n{more}\nworkers:\n  min: 0\n  max: {high}\n  sizes: {sizes}\n  pools:{listed}\n")


def of_pool(name: str, **changes: Any) -> dict[str, Any]:
    return {"pool": name, **changes}


CHEAP, DEAR = "{name: cheap, instance_types: [t3.small]}", "{name: dear, instance_types: [m7i.large]}"


def launched(policy: Policy, pods: list[Any], workers: Any = 2) -> dict[tuple[str, str], int]:
    growth = decided(snapshot(workers, pods), its_policy=policy).growth
    return {(new.pool, new.instance_type): new.count for new in growth.workers} if growth is not None else {}


@pytest.mark.parametrize(
    ("policy", "pods", "expected"),
    [
        pytest.param(pools(CHEAP, DEAR), waiting_pods(1), {("cheap", "t3.small"): 1}, id="the cheaper for one pod"),
        pytest.param(pools(DEAR, CHEAP), waiting_pods(1), {("cheap", "t3.small"): 1}, id="in whatever order"),
        pytest.param(pools(DEAR, CHEAP), waiting_pods(4), {("cheap", "t3.small"): 2}, id="and for many"),
        pytest.param(
            pools(CHEAP, DEAR),
            [waiting("big", memory_mib=4096)],
            {("dear", "m7i.large"): 1},
            id="the dearer for what only it takes",
        ),
        pytest.param(
            pools(CHEAP, DEAR),
            [waiting("big", memory_mib=4096), waiting("small", cpu=400)],
            {("dear", "m7i.large"): 1},
            id="what fits beside it costs nothing more",
        ),
        pytest.param(
            pools("{name: small, instance_types: [m7i.large]}", "{name: large, instance_types: [m7i.2xlarge]}"),
            waiting_pods(7, cpu=1000),
            {("large", "m7i.2xlarge"): 1},
            id="per placed pod: seven for the price of four, as each worker keeps some for itself",
        ),
        pytest.param(
            pools(CHEAP, "{name: twin, instance_types: [t3.small], weight: 5}"),
            waiting_pods(1),
            {("twin", "t3.small"): 1},
            id="the weight decides between equals",
        ),
        pytest.param(
            pools(CHEAP, "{name: dear, instance_types: [m7i.large], weight: 900}"),
            waiting_pods(1),
            {("cheap", "t3.small"): 1},
            id="and only between equals",
        ),
        pytest.param(
            pools(
                "{name: unknown, instance_types: [x9.huge]}",
                DEAR,
                sizes="{x9.huge: {cpu_millicores: 9000, memory_mib: 9000}}",
            ),
            waiting_pods(1),
            {("dear", "m7i.large"): 1},
            id="a price that nobody knows is not zero",
        ),
        pytest.param(
            pools(CHEAP, DEAR, more="cost: {usd_per_hour: {t3.small: 5.0}}"),
            waiting_pods(1),
            {("dear", "m7i.large"): 1},
            id="the operator's own prices count",
        ),
        pytest.param(
            pools(
                '{name: any, market: spot, requirements: {cpu: 2-16, arch: [amd64], generation: ">=7"}}',
                more="cost: {other_usd_per_hour: 0.01}",
            ),
            waiting_pods(4),
            {("any", "c7i-flex.large"): 2},
            id="what a sum counts an unknown Spot price at compares nothing",
        ),
        pytest.param(
            pools("{name: cheap, instance_types: [t3.small], max: 3}", DEAR),
            waiting_pods(4),
            {("cheap", "t3.small"): 1, ("dear", "m7i.large"): 1},
            id="beyond its max another pool",
        ),
        pytest.param(
            pools('{name: any, requirements: {cpu: 2-8, arch: [amd64], generation: ">=7"}}'),
            waiting_pods(1),
            {("any", "c7i-flex.large"): 1},
            id="of types that are not put in an order, the cheapest",
        ),
    ],
)
def test_which_pool_grows(policy: Policy, pods: list[Any], expected: dict[tuple[str, str], int]) -> None:
    assert launched(policy, pods) == expected


def test_named_types_keep_the_operators_order_whatever_they_cost() -> None:
    policy = pools("{name: one, instance_types: [m7i.large, t3.small]}", "{name: two, instance_types: [m7i.2xlarge]}")
    assert launched(policy, waiting_pods(1)) == {("one", "m7i.large"): 1}


def test_a_pool_at_its_max_is_told_and_its_pods_wait_for_nothing() -> None:
    policy = pools("{name: only, instance_types: [t3.small], max: 2}")
    made = decided(snapshot(2, waiting_pods(2)), its_policy=policy)
    assert made.growth is None
    assert {row.reason for row in made.blocked} >= {"pool_at_max: pool only has a max of 2 and 2 exist"}
    assert next(s for s in made.signals if s.name == "unschedulable_pods").value == 0


def test_of_a_class_of_pods_those_that_a_full_pool_has_no_room_for_are_told_and_the_others_served() -> None:
    policy = pools("{name: only, instance_types: [t3.small], max: 3}")
    made = decided(snapshot(2, waiting_pods(5)), its_policy=policy)
    assert made.growth is not None
    assert made.growth.workers == (NewWorkers("t3.small", 1, pool="only"),)
    assert [row.subject for row in made.blocked] == ["shop/w2", "shop/w3", "shop/w4"]
    assert next(s for s in made.signals if s.name == "unschedulable_pods").value == 2


# --------------------------------------------------------------------------------------------------- whose is a worker


@pytest.mark.parametrize(
    ("names", "tag", "expected"),
    [
        (("general", "gpu"), "", "general"),
        (("general", "gpu"), "gpu", "gpu"),
        (("gpu", "general"), "", "general"),
        (("a", "b"), "", "a"),
        (("a", "b"), "general", "a"),
        (("a", "b"), "b", "b"),
        (("a", "b"), "gone", None),
    ],
)
def test_a_workers_pool_is_its_tags_or_general_or_the_first(
    names: tuple[str, ...], tag: str, expected: str | None
) -> None:
    policy = pools(*(f"{{name: {name}, instance_types: [t3.small]}}" for name in names))
    [one] = view_fleet(snapshot([worker(1, of=of_pool(tag))]), State()).workers
    pool = pool_of(one, policy)
    assert (pool.name if pool is not None else None) == expected


def test_what_is_not_ours_is_in_no_pool() -> None:
    [one] = view_fleet(snapshot([static(1)]), State()).workers
    assert pool_of(one, pools(CHEAP)) is None


@pytest.mark.parametrize("listed_at_first", [False, True])
def test_who_joined_before_ec2_lists_it_keeps_its_pool_market_and_price(*, listed_at_first: bool) -> None:
    """A list that is older than the launch shows nothing of it, and the launch is over: its pool's max counts it."""
    spot = "{name: spot, instance_types: [t3.small], market: spot, max: 1}"
    policy = pools(CHEAP, spot, more="cost: {usd_per_hour: {t3.small: 0.02}, spot_usd_per_hour: {t3.small: 0.01}}")
    operation = launch("l1", ids=[1], age_s=42)
    request = msgspec.structs.replace(operation.request, pool="spot", market="spot")
    operation = msgspec.structs.replace(operation, request=request)
    listed = worker(1, of=of_pool("spot", market="spot", operation_id="l1", launched_at_s=NOW_S - 42))
    first = snapshot([full(101), listed if listed_at_first else ghost(1)])
    joined = decided(first, State(launches=(operation,)), its_policy=policy).state
    assert joined.launches == ()
    later = snapshot([full(101), ghost(1)], at_s=NOW_S + 30)
    fleet = view_fleet(later, joined)
    assert existing(fleet, policy)["spot"] == 1
    assert mix_of(policy.pools[1], fleet, policy) == Mix(on_demand=0, spot=1)
    assert rooms(fleet, policy) == {"spot": 0}
    untagged = view_fleet(snapshot([full(101), ghost(1)], at_s=NOW_S + 300), joined)
    assert existing(untagged, policy)["spot"] == 0, "what EC2 does not list by then has lost its tag"
    cost = decided(later, joined, its_policy=policy).cost
    assert cost is not None
    assert cost.usd_per_hour == pytest.approx(0.02 + 0.01)
    # What is not listed long after is not ours any more, also while nothing was written meanwhile.
    days_later = snapshot([full(101), ghost(1)], at_s=NOW_S + 86_400)
    assert existing(view_fleet(days_later, joined), policy)["spot"] == 0


def test_what_counts_for_a_pool() -> None:
    policy = pools("{name: a, instance_types: [t3.small], max: 5, min: 1}", "{name: b, instance_types: [t3.small]}")
    asked = launch("l1", count=2)
    asked = msgspec.structs.replace(asked, request=msgspec.structs.replace(asked.request, pool="a"))
    seen = snapshot([full(1), worker(2, of=of_pool("b")), worker(3, of=of_pool("a"), ready=False), static(4)])
    fleet = view_fleet(seen, State(launches=(asked,)))
    assert existing(fleet, policy) == {"a": 4, "b": 1}
    assert coming(fleet, policy) == {"a": 3, "b": 1}
    assert rooms(fleet, policy) == {"a": 1}


@pytest.mark.parametrize(
    ("keys", "pool", "is_free"),
    [
        ((), "gpu", True),
        (("nvidia.com/gpu",), "gpu", True),
        (("nvidia.com/gpu", "example.com/held"), "gpu", False),
        (("nvidia.com/gpu",), "general", False),
    ],
)
def test_a_pools_own_taint_closes_none_of_its_workers(keys: tuple[str, ...], pool: str, *, is_free: bool) -> None:
    policy = pools(
        "{name: general, instance_types: [t3.small]}",
        '{name: gpu, instance_types: [g4dn.xlarge], taints: ["nvidia.com/gpu=true:NoSchedule"]}',
    )
    [one] = view_fleet(snapshot([worker(1, of=of_pool(pool), tainted=bool(keys), taint_keys=keys)]), State()).having(
        Standing.READY
    )
    assert is_open(one, policy) is is_free


def test_what_names_no_pod_goes_to_the_cheapest_pool_that_takes_any() -> None:
    tainted = '{name: free, instance_types: [t3.nano], taints: ["a=b:NoSchedule"]}'
    fleet = view_fleet(snapshot(1), State())
    assert [pool.name for pool in fillers(fleet, pools(tainted, DEAR, CHEAP))] == ["cheap", "dear"]
    assert [pool.name for pool in fillers(fleet, pools(tainted))] == ["free"], "where there is no other"


# ------------------------------------------------------------------------------------------------------- launches

GPU_TEMPLATE = PoolTemplate(
    pool="gpu",
    arch="amd64",
    template_id="lt-gpu",
    template_version="3",
    subnet_zones=(("subnet-g", "us-east-1c"),),
)


def plan(policy: Policy, *workers: NewWorkers, context: LaunchContext = CONTEXT) -> Any:
    return plan_launch(
        Growth(workers=workers, reason="pods_unschedulable"),
        context,
        snapshot(0),
        State(),
        policy,
        cluster_id="sim",
        now_s=NOW_S,
        decision_id=DECISION_ID,
    )


def test_a_launch_names_its_pools_template_subnets_types_and_tag() -> None:
    policy = pools(
        "{name: general, instance_types: [t3.small]}",
        "{name: gpu, instance_types: [g4dn.xlarge, t3.small, g5.2xlarge]}",
    )
    context = msgspec.structs.replace(CONTEXT, templates=(GPU_TEMPLATE,))
    made = plan(policy, NewWorkers("t3.small", 1), NewWorkers("g4dn.xlarge", 1, pool="gpu"), context=context)
    general, gpu = (operation.request for operation in made.opened)
    assert (general.template_id, general.pool) == ("lt-1", "general")
    assert (gpu.template_id, gpu.template_version, gpu.pool) == ("lt-gpu", "3", "gpu")
    assert dict(gpu.tags)["k3s-autoscaler/pool"] == "gpu"
    rows = [(row.instance_type, row.subnet_id, row.zone) for row in gpu.overrides]
    assert rows == [("g4dn.xlarge", "subnet-g", "us-east-1c"), ("g5.2xlarge", "subnet-g", "us-east-1c")]


def test_a_type_of_another_architecture_never_takes_the_place_of_one() -> None:
    policy = pools("{name: general, instance_types: [t3.small, t4g.large, t3.large]}")
    [operation] = plan(policy, NewWorkers("t3.small", 1)).opened
    assert [row.instance_type for row in operation.request.overrides] == ["t3.small", "t3.large"]


@pytest.mark.parametrize("own", ["{}", "{t3a.small: 0.001}"], ids=["as deployed", "another's is the cheapest by now"])
def test_the_first_template_stays_that_of_the_architecture_it_was_deployed_for(own: str) -> None:
    """A live change of prices changes which type is the cheapest, and no template."""
    amd = msgspec.structs.replace(GPU_TEMPLATE, pool="general", arch="amd64", template_id="lt-amd")
    policy = pools(
        '{name: general, requirements: {cpu: 2, memory: 2 GiB, arch: [arm64, amd64], exclude: ["c*"]}}',
        more=f"cost: {{usd_per_hour: {own}}}",
    )
    context = msgspec.structs.replace(CONTEXT, templates=(amd,))
    made = plan(policy, NewWorkers("t4g.small", 1), NewWorkers("t3.small", 1), context=context)
    used = {o.request.overrides[0].instance_type: o.request.template_id for o in made.opened}
    assert used == {"t4g.small": "lt-1", "t3.small": "lt-amd"}


def test_without_a_template_nothing_is_launched_and_the_others_are() -> None:
    policy = pools("{name: general, instance_types: [t3.small]}", "{name: gpu, instance_types: [g4dn.xlarge]}")
    made = plan(policy, NewWorkers("g4dn.xlarge", 2, pool="gpu"), NewWorkers("t3.small", 1))
    assert ([o.request.pool for o in made.opened], made.unplaced, made.codes) == (["general"], 2, ("NoLaunchTemplate",))

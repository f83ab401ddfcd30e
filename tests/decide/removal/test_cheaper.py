"""Which worker cheaper ones can stand in for, and each reason against it."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.capacity.prices import price_table
from autoscaler.model import ON_DEMAND, Decision, MovedOwner, Replacement, Resources, State
from autoscaler.model.rules import Budget
from autoscaler.policy import Cost, Policy, ScaleDown, Size
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.windows import Headroom
from tests.decide.builders import MIB, NOW_S, Machine, full, opened, pod, policy, snapshot, use, worker
from tests.decide.demand.test_scheduling_rules import APP, rules, seen_with

USD = price_table()["us-east-1"][ON_DEMAND].usd_per_hour
BUSY = use(cpu=0.4)
LARGE = Resources(cpu_millicores=7900, memory_bytes=30_000 * MIB, pods=110)
"""An m5.2xlarge: 18 times as dear as a t3.small."""


OF: dict[str, Any] = {"instance_type": "m5.2xlarge"}
TINY = {"x9.tiny": Size(cpu_millicores=2000, memory_mib=2048)}


def large(number: int, *, cpu: int = 400, pods: int = 4, **changes: Any) -> Machine:
    held = [pod(f"p{number}-{n}", cpu=cpu, owner_name=f"o{number}") for n in range(pods)]
    return worker(number, pods=held, **{"allocatable": LARGE, "of": OF, **changes})


def thrifty(
    share: float | None = 0.2,
    *,
    types: tuple[str, ...] = ("m5.2xlarge", "t3.small"),
    sizes: dict[str, Size] | None = None,
    **more: Any,
) -> Policy:
    made = policy(types=types, down=ScaleDown(when="low_use", replace_when_saves=share), **{"low": 1, **more})
    return msgspec.structs.replace(made, workers=msgspec.structs.replace(made.workers, sizes=sizes or {}))


def look(machines: list[Machine], its_policy: Policy | None = None, state: State | None = None) -> Decision:
    return opened(snapshot(machines, utilisation=BUSY), state, its_policy or thrifty())


def for_whom(decision: Decision) -> tuple[str, str, int] | None:
    replacement = decision.state.replacement
    if replacement is None:
        return None
    [operation] = decision.state.launches
    return replacement.instance_id, operation.request.overrides[0].instance_type, operation.request.count


def test_a_dear_worker_goes_for_as_many_cheap_ones_as_its_pods_and_the_use_need() -> None:
    decision = look([large(1), full(2), full(3)])
    assert for_whom(decision) == ("i-001", "t3.small", 3)
    assert (decision.reason, decision.state.removals) == ("cheaper", ())
    assert decision.message == (
        "Launching 3 workers: worker-i-001 is replaced, since 3 t3.small for $0.0624 an hour do for what it costs "
        "$0.3840 for, and what replaces it comes first."
    )
    assert (USD["t3.small"], USD["m5.2xlarge"]) == (0.0208, 0.384)


def test_what_comes_may_cost_no_more_whatever_ec2_has_left() -> None:
    """The request names no type with which nothing would be saved."""
    types = ("t3.small", "t3.medium", "m5.large", "m5.2xlarge")
    decision = look([large(1, cpu=100, pods=1), full(2), full(3)], thrifty(0.6, types=types))
    [operation] = decision.state.launches
    assert [row.instance_type for row in operation.request.overrides] == ["t3.small", "t3.medium"]


@pytest.mark.parametrize(
    ("machines", "its_policy"),
    [
        pytest.param([large(1), full(2)], thrifty(None), id="nobody asked for it"),
        pytest.param([large(1), full(2)], thrifty(0.95), id="it saves too little"),
        pytest.param([large(1, pods=7, cpu=1000), full(2)], thrifty(0.5), id="its pods need too many"),
        pytest.param([large(1, cpu=2500, pods=1), full(2)], thrifty(), id="a pod fits on none of them"),
        pytest.param([large(1), full(2)], thrifty(types=("m5.2xlarge",)), id="no cheaper type"),
        pytest.param(
            [large(1), full(2)], thrifty(types=("m5.2xlarge", "x9.tiny"), sizes=TINY), id="the cheaper one has no price"
        ),
        pytest.param(
            [large(1), full(2)],
            thrifty(types=("m5.2xlarge", "x9.tiny"), sizes=TINY, cost=Cost(other_usd_per_hour=0.01)),
            id="nor has it one by what a sum counts it at",
        ),
        pytest.param([large(1, of={"instance_type": "x9.huge"}), full(2)], thrifty(), id="its own price is not known"),
        pytest.param([large(1, local_volumes=1), full(2)], thrifty(), id="a volume keeps it"),
        pytest.param([large(1, of={**OF, "managed": False}), full(2)], thrifty(), id="not ours"),
        pytest.param([large(1, of={**OF, "launched_at_s": NOW_S - 60}), full(2)], thrifty(), id="young"),
        pytest.param([large(1), full(2)], thrifty(high=4), id="no place for so many"),
        pytest.param(
            [large(1, requested_most=Resources(cpu_millicores=7000, memory_bytes=MIB, pods=9)), full(2)],
            thrifty(0.9),
            id="it ran more in the window than those hold",
        ),
    ],
)
def test_nobody_goes(machines: list[Machine], its_policy: Policy) -> None:
    decision = look(machines, its_policy)
    assert (decision.state.replacement, decision.state.launches) == (None, ())


def test_the_window_counts_as_it_was_at_its_fullest() -> None:
    """A single small one would do for what runs now, and three for the use."""
    calm = [large(1, pods=1, cpu=100), full(2)]
    assert for_whom(look(calm, thrifty(0.5))) == ("i-001", "t3.small", 3)
    once = [large(1, pods=1, cpu=100, requested_most=Resources(cpu_millicores=6000, memory_bytes=MIB, pods=9)), full(2)]
    assert for_whom(look(once, thrifty(0.5))) == ("i-001", "t3.small", 4)


def test_the_use_of_the_whole_fleet_stays_below_its_targets() -> None:
    """40 % of 9.8 cores are 3.9; 60 % of what two, three and four small workers have are 2.3, 3.4 and 4.6."""
    machines = [large(1, pods=1, cpu=100), full(2)]
    assert for_whom(look(machines, thrifty(0.5))) == ("i-001", "t3.small", 3)
    idle = opened(snapshot(machines, utilisation=use(cpu=0.23, memory=0.05)), None, thrifty(0.5, low=2))
    assert for_whom(idle) == ("i-001", "t3.small", 1)


def test_a_headroom_that_is_asked_for_needs_as_much_as_leaves() -> None:
    asked = msgspec.structs.replace(thrifty(0.5, high=20), headroom=Headroom(percent=1))
    assert for_whom(look([large(1), full(2), full(3)], asked)) is None, "five small ones bring 9.5 cores, and 30 GB not"


def test_the_dearest_goes_first() -> None:
    dear = large(2, of={"instance_type": "m5.4xlarge"})
    assert (for_whom(look([large(1), dear, full(3), full(4)])) or ("",))[0] == "i-002"


def test_the_next_one_goes_where_the_dearest_may_not() -> None:
    """A budget lets none of its pods go, or there is no place for as many as it needs."""
    dear = worker(2, pods=[pod("w", cpu=400)], allocatable=LARGE, of={"instance_type": "m5.4xlarge"})
    budget = Budget(namespace="shop", name="web", selector=APP, allowed=0)
    free = rules(owner="shop/ReplicaSet/o1", labels=())
    held = seen_with([large(1), dear, full(3), full(4)], [], rules(), free, budgets=(budget,))
    held = msgspec.structs.replace(held, utilisation=BUSY)
    assert (for_whom(opened(held, None, thrifty(high=20))) or ("",))[0] == "i-001"
    many = large(2, pods=7, cpu=1100, of={"instance_type": "m5.4xlarge"})
    assert for_whom(look([large(1), many, full(3), full(4)], thrifty(high=6))) == ("i-002", "t3.small", 2)
    assert for_whom(look([large(1), many, full(3), full(4)], thrifty(high=5))) == ("i-001", "t3.small", 1)
    [row] = [row for row in look([many, full(3), full(4)], thrifty(high=3)).blocked if row.subject == "worker-i-002"]
    assert row.reason.startswith("cheaper: at_max: 3 workers exist"), "alone it is told why not"


def test_an_operators_own_price_counts() -> None:
    own = msgspec.structs.replace(thrifty(), cost=Cost(usd_per_hour={"m5.2xlarge": 0.02}))
    assert for_whom(look([large(1), full(2), full(3)], own)) is None


def test_pods_that_were_moved_in_vain_keep_it() -> None:
    """A replacement that was followed by launches for its pods is not tried again soon."""
    record = MovedOwner(owner="shop/ReplicaSet/o1", moved_at_s=0, in_vain=1, until_s=NOW_S + 60)
    assert for_whom(look([large(1), full(2), full(3)], None, State(fence=9, moved=(record,)))) is None


BEGUN = Replacement(
    instance_id="i-001", reason="cheaper", cause="cheaper", why="", began_at_s=NOW_S - 90, launched_by="d0", count=3
)


def test_the_moves_of_its_drain_are_remembered() -> None:
    new = [worker(n, of={"operation_id": "d0-l0", "launched_at_s": NOW_S - 90}) for n in (7, 8, 9)]
    decision = look([large(1), full(2), *new], None, State(fence=9, replacement=BEGUN))
    assert [r.reason for r in decision.state.removals] == ["cheaper"]
    assert [m.owner for m in decision.state.moved] == ["shop/ReplicaSet/o1"]
    two = look([large(1), full(2), *new[:2]], None, State(fence=9, replacement=BEGUN))
    assert two.state.removals == (), "all of them have to be there"


@pytest.mark.parametrize(
    ("its_policy", "why"),
    [
        pytest.param(
            thrifty(cost=Cost(usd_per_hour={"t3.small": 0.2})),
            "worker-i-007 costs $0.2000 an hour by now, and $0.1024 at most would save enough",
            id="what came is dearer by now",
        ),
        pytest.param(
            thrifty(None), "scale_down.replace_when_saves is not set any more", id="nobody asks for it any more"
        ),
    ],
)
def test_who_saves_no_more_is_not_drained_for(its_policy: Policy, why: str) -> None:
    """Prices change while it joins: what came stays as an ordinary worker."""
    new = [worker(n, of={"operation_id": "d0-l0", "launched_at_s": NOW_S - 90}) for n in (7, 8, 9)]
    decision = look([large(1), full(2), *new], its_policy, State(fence=9, replacement=BEGUN))
    assert (decision.state.removals, decision.state.replacement) == ((), None)
    assert decision.state.replacement_failed is not None
    assert decision.state.replacement_failed.why == why


def test_what_is_not_seen_is_asked_for_where_prices_promise_something_and_nowhere_else() -> None:
    def asks(machines: list[Machine], *, rooms: bool) -> tuple[bool, tuple[str, ...]]:
        seen = snapshot(machines, utilisation=BUSY)
        seen = msgspec.structs.replace(seen, rooms_known=rooms, pods_of=frozenset())
        decision = opened(seen, None, thrifty())
        return decision.asks.rooms, decision.asks.pods_of

    assert asks([large(1), full(2)], rooms=False) == (True, ())
    assert asks([large(1), full(2)], rooms=True) == (False, ("worker-i-001",))
    assert asks([full(1), full(2)], rooms=False) == (False, ())


@pytest.mark.parametrize("share", [0, 0.04, 1, -1])
def test_a_share_without_hysteresis_is_refused(share: float) -> None:
    with pytest.raises(PolicyError, match="replace_when_saves"):
        parse_policy(f"version: 1\nscale_down: {{replace_when_saves: {share}}}")


@pytest.mark.parametrize("share", ["0.3", "30%", "30 %"])
def test_a_share_is_written_as_any_other(share: str) -> None:
    assert parse_policy(f"version: 1\nscale_down: {{replace_when_saves: {share}}}").scale_down.replace_when_saves == 0.3

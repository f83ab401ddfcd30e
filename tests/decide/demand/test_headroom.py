"""Headroom, by tables through `decide`: what is launched so that it stays free, and who stays for it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.model import Action, Decision, MetricsStatus, NewWorkers, Snapshot, State
from autoscaler.policy import Policy, Workers
from autoscaler.pools import WorkerPool
from autoscaler.windows import Headroom, PodShape
from tests.decide.builders import (
    ROOM,
    Machine,
    decided,
    full,
    launch,
    pod,
    policy,
    removal,
    snapshot,
    static,
    waiting,
    waiting_pods,
    worker,
)

ONE, FIFTH = Headroom(workers=1), Headroom(percent=20)


def shape(cpu: int = 1000, memory_mib: int = 100, count: int = 1) -> Headroom:
    return Headroom(pod=PodShape(cpu_millicores=cpu, memory_mib=memory_mib, count=count))


def roomy(headroom: Headroom, **changes: Any) -> Policy:
    return policy(headroom=headroom, **changes)


def used(number: int, cpu: int, memory_mib: int = 100) -> Machine:
    return worker(number, pods=[pod(f"p{number}", cpu=cpu, memory_mib=memory_mib)])


def launched(decision: Decision) -> int:
    return 0 if decision.growth is None else decision.growth.count


def missing(decision: Decision) -> float | None:
    (signal,) = [signal for signal in decision.signals if signal.name == "headroom"]
    return signal.value


@pytest.mark.parametrize(
    ("headroom", "machines", "expected"),
    [
        pytest.param(ONE, [full(1), full(2)], 1, id="nothing is free"),
        pytest.param(ONE, [full(1), worker(2)], 0, id="a whole one is free"),
        pytest.param(ONE, [used(1, 950), used(2, 950)], 0, id="two halves are as much as one"),
        pytest.param(ONE, [used(1, 950), used(2, 951)], 1, id="a little less is not"),
        pytest.param(ONE, [used(1, 10, 900), used(2, 10, 900)], 1, id="memory is short, and CPU is free"),
        pytest.param(Headroom(workers=3), [full(1), worker(2)], 2, id="three, and one is there"),
        pytest.param(Headroom(workers=3), [full(1), static(2), static(3)], 1, id="static ones count"),
        pytest.param(ONE, [full(1), worker(2, cordoned=True)], 1, id="not what people closed"),
        pytest.param(FIFTH, [full(1), full(2), full(3), worker(4)], 0, id="a quarter is free"),
        pytest.param(FIFTH, [full(n) for n in range(1, 5)], 1, id="one of five will be free"),
        pytest.param(FIFTH, [full(n) for n in range(1, 6)], 2, id="one of six is less than a fifth"),
        pytest.param(Headroom(percent=50), [full(1), full(2), full(3)], 3, id="half of what is then there"),
        pytest.param(shape(), [used(1, 950), used(2, 950)], 1, id="no Node has room for the shape"),
        pytest.param(shape(), [used(1, 900), full(2)], 0, id="one has"),
        pytest.param(shape(count=2), [used(1, 900), full(2)], 1, id="for one of two"),
        pytest.param(shape(900, count=5), [used(1, 900), full(2)], 2, id="two fit on a new one"),
        pytest.param(Headroom(workers=1, pod=PodShape(cpu_millicores=900, memory_mib=1, count=5)),
                     [full(1), full(2)], 3, id="of two the one that asks for most"),
        pytest.param(Headroom(workers=4, percent=10), [full(1), full(2)], 4, id="whichever it is"),
    ],
)  # fmt: skip
def test_so_many_are_launched_that_it_stays_free(headroom: Headroom, machines: list[Machine], expected: int) -> None:
    decision = decided(snapshot(machines), its_policy=roomy(headroom, low=1))
    assert launched(decision) == missing(decision) == expected
    if expected:
        assert (decision.action, decision.growth and decision.growth.reason) == (Action.SCALE_UP, "headroom")


@pytest.mark.parametrize(
    ("headroom", "said"),
    [
        (ONE, "Launching 1 worker: the room of 1 new worker does not stay free, as headroom asks."),
        (Headroom(percent=5), "Launching 1 worker: 5 % of the workers' CPU and memory does not stay free, as headroom "
                              "asks."),
        (shape(500, 256), "Launching 1 worker: room for 1 pod of 0.5 CPU and 256 MiB does not stay free, as headroom "
                          "asks."),
    ],
)  # fmt: skip
def test_the_sentence_says_what_is_missing(headroom: Headroom, said: str) -> None:
    assert decided(snapshot(2), its_policy=roomy(headroom)).message == said


def test_it_is_beside_what_waits() -> None:
    """Four pods need two workers, and one more stays free; of the shape two share the last one's room."""
    pods = waiting_pods(4)
    assert launched(decided(snapshot(2, pods), its_policy=roomy(ONE))) == 3
    assert launched(decided(snapshot(2, pods), its_policy=roomy(shape(900, count=2)))) == 3
    assert launched(decided(snapshot(2, pods), its_policy=policy())) == 2
    alone = decided(snapshot([full(1), worker(2)], waiting_pods(1)), its_policy=roomy(ONE))
    assert (launched(alone), alone.growth and alone.growth.reason) == (1, "headroom"), "the pod takes the free one"
    both = decided(snapshot(2, pods), its_policy=roomy(ONE))
    assert both.message.startswith("Launching 3 workers: 4 pods wait, and the room of 1 new worker does not stay free")
    assert both.growth is not None
    assert both.growth.for_owners, "the launch is for the pods too"


def test_workers_on_their_way_count() -> None:
    state = State(launches=(launch(count=1),))
    assert launched(decided(snapshot(2), state, its_policy=roomy(ONE))) == 0
    assert launched(decided(snapshot(2), state, its_policy=roomy(Headroom(workers=2)))) == 1


def test_a_type_that_is_large_enough_is_launched_for_a_shape() -> None:
    decision = decided(snapshot(2), its_policy=roomy(shape(1500, 2500), types=("t3.small", "t3.medium")))
    assert decision.growth is not None
    assert decision.growth.workers == (NewWorkers("t3.medium", 1),)


def test_a_shape_that_no_worker_can_hold_is_told_and_not_launched_for() -> None:
    decision = decided(snapshot(2), its_policy=roomy(shape(8000)))
    assert (decision.action, missing(decision)) == (Action.NONE, 0)
    (row,) = [row for row in decision.blocked if row.subject == "headroom"]
    assert row.reason == (
        "unfittable: asks 8 CPU and 100 MiB; the largest worker (t3.small) gives 1.9 CPU and 1500 MiB"
    )
    shrinks = decided(snapshot([full(1), worker(2), worker(3)]), its_policy=roomy(shape(8000)))
    assert shrinks.action is Action.SCALE_DOWN, "nor is anybody kept for it"


def test_it_asks_for_no_more_than_max_leaves_and_nothing_is_refused_for_it() -> None:
    at_max = decided(snapshot(3), its_policy=roomy(Headroom(workers=4), high=3))
    assert (at_max.action, missing(at_max)) == (Action.NONE, 0)
    (row,) = [row for row in at_max.blocked if row.subject == "headroom"]
    assert row.reason == (
        "at_max: the room of 4 new workers does not stay free; 4 more workers are wanted and 0 may come"
    )
    assert launched(decided(snapshot(3), its_policy=roomy(Headroom(workers=4), high=5))) == 2


@pytest.mark.parametrize(
    ("headroom", "most", "growth", "told"),
    [
        pytest.param(Headroom(workers=4), 3, 0, "pools_at_max: the room of 4 new workers does not stay free; 4 more "
                     "workers are wanted and 0 may come", id="workers, none may come"),
        pytest.param(Headroom(workers=4), 5, 2, "pools_at_max: the room of 4 new workers does not stay free; 4 more "
                     "workers are wanted and 2 may come", id="workers, two may come"),
        pytest.param(shape(900, count=8), 3, 0, "pool_at_max: room for 8 pods of 0.9 CPU and 100 MiB does not stay "
                     "free; pool general has a max of 3 and 3 exist", id="a shape, none may come"),
        pytest.param(shape(900, count=8), 5, 2, "pool_at_max: room for 8 pods of 0.9 CPU and 100 MiB does not stay "
                     "free; pool general has a max of 3 and 3 exist", id="a shape, two may come"),
        pytest.param(shape(900, count=2), 4, 1, "", id="enough may come"),
    ],
)  # fmt: skip
def test_nor_for_more_than_the_pools_may_have(headroom: Headroom, most: int, growth: int, told: str) -> None:
    """It was refused at each look, which held up all else, or never told."""
    pools = (WorkerPool(name="general", instance_types=("t3.small",), max=most),)
    decision = decided(snapshot(3), its_policy=roomy(headroom, workers=Workers(min=2, max=10, pools=pools)))
    assert launched(decision) == growth
    assert decision.action is (Action.SCALE_UP if growth else Action.NONE)
    told = told.replace("max of 3", f"max of {most}")
    assert [row.reason for row in decision.blocked if row.subject == "headroom"] == ([told] if told else [])


@pytest.mark.parametrize(
    ("headroom", "machines", "expected"),
    [
        pytest.param(None, [full(1), worker(2), worker(3), worker(4)], 2, id="without: down to min"),
        pytest.param(ONE, [full(1), worker(2), worker(3), worker(4)], 2, id="min leaves as much free"),
        pytest.param(Headroom(workers=2), [full(1), worker(2), worker(3), worker(4)], 1, id="two stay free"),
        pytest.param(Headroom(workers=3), [full(1), worker(2), worker(3), worker(4)], 0, id="all stay"),
        pytest.param(Headroom(percent=66), [full(1), worker(2), worker(3), worker(4)], 1, id="two thirds"),
        pytest.param(shape(1800, count=3), [full(1), worker(2), worker(3), worker(4)], 0, id="three shapes, one each"),
        pytest.param(shape(900, count=3), [full(1), worker(2), worker(3), worker(4)], 1, id="they share two workers"),
        pytest.param(None, [used(1, 600), used(2, 600), used(3, 600)], 1, id="without: its pod moves"),
        pytest.param(shape(1300), [used(1, 600), used(2, 600), used(3, 600)], 1, id="it moves beside the shape"),
        pytest.param(shape(1300, count=2), [used(1, 600), used(2, 600), used(3, 600)], 0, id="it takes the shape's"),
        pytest.param(shape(900, count=3), [used(1, 500), worker(2), used(3, 500)], 0, id="it moves where it likes"),
        pytest.param(ONE, [used(1, 600), used(2, 600), used(3, 600)], 1, id="what moves takes no more than there is"),
        pytest.param(Headroom(workers=2), [used(1, 600), used(2, 600), used(3, 600)], 0, id="what moves takes room"),
    ],
)  # fmt: skip
def test_a_shrink_leaves_it_free(headroom: Headroom | None, machines: list[Machine], expected: int) -> None:
    its_policy = policy() if headroom is None else roomy(headroom)
    decision = decided(snapshot(machines), its_policy=its_policy)
    assert len(decision.state.removals) == expected
    assert launched(decision) == 0
    if headroom is not None and not expected:
        assert any("would not stay free" in row.reason for row in decision.blocked)


def test_what_is_above_max_goes_in_spite_of_it() -> None:
    crowd = [full(1), *(worker(n) for n in range(2, 6))]
    decision = decided(snapshot(crowd), its_policy=roomy(Headroom(workers=9), high=3))
    assert (decision.action, len(decision.state.removals)) == (Action.SCALE_DOWN, 2)


def test_a_removal_under_way_is_taken_back_for_it() -> None:
    state = State(removals=(removal(2),))
    decision = decided(snapshot([full(1), worker(2, cordoned=True), full(3)]), state, its_policy=roomy(ONE))
    assert decision.growth is None
    (only,) = decision.state.removals
    assert only.phase.value == "uncordoning"


def test_a_worker_that_is_not_ready_for_a_moment_is_not_replaced_for_it() -> None:
    moment = decided(snapshot([full(1), full(2), worker(3, ready=False)]), its_policy=roomy(ONE))
    assert (launched(moment), missing(moment)) == (0, 1)


def test_where_something_is_not_known_nothing_is_launched() -> None:
    unseen = decided(msgspec.structs.replace(snapshot(2), rooms_known=False), its_policy=roomy(ONE))
    assert (launched(unseen), missing(unseen), unseen.asks.rooms) == (0, None, True)
    blind = decided(snapshot(2, status=MetricsStatus.PARTIAL, known=False), its_policy=roomy(ONE))
    assert (launched(blind), blind.asks.rooms) == (0, False)


def test_a_taint_that_no_server_has_told_makes_it_unknown_and_not_a_launch_at_every_look() -> None:
    tainted = snapshot([full(1), full(2), worker(3, tainted=True)])
    decision = decided(tainted, its_policy=roomy(ONE))
    assert (launched(decision), missing(decision)) == (0, None)
    nobody_asked = msgspec.structs.replace(tainted, rules_problem="", scheduling_rules=None)
    assert decided(nobody_asked, its_policy=roomy(ONE)).asks.rules


def test_pods_that_do_not_count_yet_are_waited_for() -> None:
    decision = decided(snapshot(2, [waiting("young", for_s=3)]), its_policy=roomy(ONE))
    assert (launched(decision), missing(decision)) == (0, None)


def test_without_headroom_nothing_is_said_or_asked() -> None:
    unseen = msgspec.structs.replace(snapshot([used(1, 900), used(2, 900)]), rooms_known=False)
    decision = decided(unseen, its_policy=policy())
    assert not decision.asks
    assert "headroom" not in [signal.name for signal in decision.signals]


cpus = st.integers(0, ROOM.cpu_millicores)
headrooms = st.builds(
    Headroom,
    workers=st.integers(0, 3),
    percent=st.integers(0, 60),
    pod=st.one_of(
        st.none(),
        st.builds(
            PodShape, cpu_millicores=st.integers(1, 1900), memory_mib=st.integers(1, 1500), count=st.integers(1, 4)
        ),
    ),
)


def joined(seen: Snapshot, count: int, used_cpus: list[int]) -> Snapshot:
    """The same cluster once so many workers more are there."""
    machines = [used(n + 1, cpu) for n, cpu in enumerate(used_cpus)]
    fresh = [worker(50 + n) for n in range(count)]
    return msgspec.structs.replace(snapshot([*machines, *fresh]), taken_at_s=seen.taken_at_s)


@settings(max_examples=120)
@given(st.lists(cpus, min_size=2, max_size=5), headrooms)
def test_one_launch_is_enough_and_no_shrink_takes_it_back(used_cpus: list[int], asked: Headroom) -> None:
    its_policy = roomy(asked, low=2, high=1000)
    before = snapshot([used(n + 1, cpu) for n, cpu in enumerate(used_cpus)])
    first = decided(before, its_policy=its_policy)
    if first.action is not Action.SCALE_UP:
        return
    after = decided(joined(before, launched(first), used_cpus), its_policy=its_policy)
    assert launched(after) == 0, "one launch is enough"


@settings(max_examples=120)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=6), st.integers(0, 3), st.integers(0, 60))
def test_no_launch_follows_a_shrink(loads: list[int], workers: int, percent: int) -> None:
    """Whoever goes: once its pods are on the others, wherever there is room, nothing is missing."""
    its_policy = roomy(Headroom(workers=workers, percent=percent), low=1, high=1000)
    held = {number + 1: [300 * load] if load else [] for number, load in enumerate(loads)}
    shrunk = decided(_holding(held), its_policy=its_policy)
    if not shrunk.state.removals:
        return
    for gone in sorted(int(removed.instance_id.removeprefix("i-"), 16) for removed in shrunk.state.removals):
        for cpu in held.pop(gone):
            emptiest = min(held, key=lambda number: sum(held[number]))
            assert sum(held[emptiest]) + cpu <= ROOM.cpu_millicores
            held[emptiest].append(cpu)
    assert launched(decided(_holding(held), its_policy=its_policy)) == 0


def _holding(held: dict[int, list[int]]) -> Snapshot:
    return snapshot(
        [worker(n, pods=[pod(f"p{n}-{i}", cpu=cpu) for i, cpu in enumerate(cpus)]) for n, cpus in held.items()]
    )

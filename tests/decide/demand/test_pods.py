"""What waiting pods ask for, and where the scheduler corrects the model."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.demand.pods import PodDemand, pod_demand
from autoscaler.decide.fleet import view_fleet
from autoscaler.model import NewWorkers, OwnerLaunches, Pod, RemovalPhase, Snapshot, State
from autoscaler.policy import Policy
from tests.decide.builders import (
    NOW_S,
    ZONES,
    Machine,
    bare,
    decided,
    full,
    launch,
    opened,
    pod,
    policy,
    removal,
    snapshot,
    static,
    waiting,
    waiting_pods,
    worker,
)

OWNER = "shop/ReplicaSet/web"


def demand(seen: Snapshot, state: State | None = None, its_policy: Policy | None = None, **kwargs: Any) -> PodDemand:
    now = state if state is not None else State()
    chosen = its_policy if its_policy is not None else policy()
    return pod_demand(seen, view_fleet(seen, now), now, chosen, **kwargs)


def record(
    *, launched_s_ago: int, unhelped: int = 0, retry_in_s: int = 0, zones: tuple[str, ...] = ()
) -> OwnerLaunches:
    return OwnerLaunches(
        owner=OWNER,
        launched_at_s=NOW_S - launched_s_ago,
        zones=zones,
        unhelped=unhelped,
        retry_at_s=NOW_S + retry_in_s,
    )


@pytest.mark.parametrize(
    ("workers", "pods", "state", "extra"),
    [
        pytest.param([full(1)], waiting_pods(4), State(), 2, id="two of 0.9 CPU fit on one new worker"),
        pytest.param([full(1)], waiting_pods(4, for_s=9), State(), 0, id="not before pending_for_s"),
        pytest.param([full(1)], waiting_pods(4, for_s=10), State(), 2, id="from pending_for_s on"),
        pytest.param(
            [full(1)],
            [waiting("old", for_s=10), *waiting_pods(3, for_s=0)],
            State(),
            2,
            id="one that counts brings the others along",
        ),
        pytest.param([worker(1)], waiting_pods(2), State(), 0, id="room on a Ready worker is used first"),
        pytest.param([worker(1, cordoned=True)], waiting_pods(2), State(), 1, id="a cordoned worker gives no room"),
        pytest.param([worker(1, tainted=True)], waiting_pods(2), State(), 1, id="a tainted worker gives no room"),
        pytest.param([worker(1, ready=False)], waiting_pods(2), State(), 1, id="a NotReady worker gives no room"),
        pytest.param([worker(1, allocatable=None)], waiting_pods(2), State(), 1, id="unknown room is no room"),
        pytest.param([static(1)], waiting_pods(2), State(), 0, id="static workers count"),
        pytest.param(
            [full(1), bare(2)], waiting_pods(4), State(launches=(launch(ids=[2]),)), 1, id="a joining worker counts"
        ),
        pytest.param(
            [full(1)], waiting_pods(4), State(launches=(launch(count=2),)), 0, id="unidentified workers count"
        ),
        pytest.param(
            [full(1), bare(2, operation_id="l1")],
            waiting_pods(4),
            State(launches=(launch(count=2),)),
            0,
            id="one that EC2 shows under its tag is not counted twice",
        ),
        pytest.param(
            [full(1), worker(2, ready=False)],
            waiting_pods(4),
            State(launches=(launch(ids=[2]),)),
            1,
            id="a Node that is not Ready yet counts as joining",
        ),
        pytest.param(
            [full(1), worker(2)],
            waiting_pods(2),
            State(removals=(removal(2, RemovalPhase.TERMINATING),)),
            1,
            id="what is being terminated gives no room",
        ),
        pytest.param(
            [full(1), worker(2)],
            waiting_pods(2),
            State(removals=(removal(2, RemovalPhase.UNCORDONING),)),
            0,
            id="a worker on its way back gives its room",
        ),
    ],
)
def test_workers_that_waiting_pods_ask_for(workers: list[Machine], pods: list[Pod], state: State, extra: int) -> None:
    assert demand(snapshot(workers, pods), state).extra == extra


def test_ages_are_counted_on_prometheus_clock() -> None:
    seen = snapshot([full(1)], [waiting("p", for_s=5)])
    assert demand(seen).extra == 0
    assert demand(msgspec.structs.replace(seen, metrics_at_s=NOW_S + 5)).extra == 1


# ----------------------------------------------------------------------------------------------------------- take back


def test_a_drain_is_undone_before_anything_is_launched() -> None:
    wanted = demand(snapshot([full(1), worker(2)], waiting_pods(2)), State(removals=(removal(2),)))
    assert (wanted.take_back, wanted.extra) == (("r1",), 0)


def test_the_newest_drain_is_undone_first_and_no_more_than_needed() -> None:
    state = State(removals=(removal(2, age_s=90, operation_id="old"), removal(3, age_s=30, operation_id="new")))
    wanted = demand(snapshot([full(1), worker(2), worker(3)], waiting_pods(2)), state)
    assert wanted.take_back == ("new",)


@pytest.mark.parametrize(
    ("workers", "operation"),
    [
        pytest.param([worker(2)], removal(2, reclaim=True), id="EC2 takes it"),
        pytest.param([worker(2, ready=False)], removal(2), id="it is NotReady"),
        pytest.param([worker(2)], removal(2, RemovalPhase.TERMINATING), id="terminating is never taken back"),
        pytest.param([bare(2)], removal(2), id="it has no Node"),
    ],
)
def test_what_is_never_taken_back(workers: list[Machine], operation: Any) -> None:
    wanted = demand(snapshot([full(1), *workers], waiting_pods(2)), State(removals=(operation,)))
    assert (wanted.take_back, wanted.extra) == ((), 1)


def test_launches_come_on_top_of_what_is_taken_back() -> None:
    """6 pods need 3 workers: one drain is undone, and two are launched, in one decision."""
    seen = snapshot([full(1), worker(2)], waiting_pods(6))
    decision = decided(seen, State(removals=(removal(2),)))
    assert decision.growth is not None
    assert decision.growth.count == 2
    assert [r.phase for r in decision.state.removals] == [RemovalPhase.UNCORDONING]
    assert decided(seen, opened(seen, State(removals=(removal(2),))).state).growth is None


# ----------------------------------------------------------------------------------------------- pods not to be helped


@pytest.mark.parametrize(
    ("unhelpable", "reason"),
    [
        pytest.param(
            waiting("p", cpu=12_000),
            "unfittable: asks 12 CPU and 100 MiB; the largest worker (t3.small) gives 1.9 CPU and 1500 MiB",
            id="larger than any worker",
        ),
        pytest.param(
            waiting("p", node_selector=(("pool", "gpu"),)),
            "unhelpable: a new t3.small is refused by NodeAffinity: node(s) didn't match Pod's node affinity/selector",
            id="a pool that does not exist",
        ),
        pytest.param(
            waiting("p", owner_kind="DaemonSet"),
            "daemonset: its node is full; a new worker cannot help",
            id="a daemon of a full node",
        ),
    ],
)
def test_pods_that_no_worker_can_help_are_told_and_neither_grow_nor_wait(unhelpable: Pod, reason: str) -> None:
    wanted = demand(snapshot([full(1), worker(2)], [unhelpable]))
    assert (wanted.extra, wanted.waiting) == (0, 0)
    assert [(b.subject, b.reason) for b in wanted.blocked] == [("shop/p", reason)]


def test_gated_pods_ask_for_nothing() -> None:
    """They have no time since which they are unschedulable: the rules leave them out."""
    assert demand(snapshot([full(1)], [pod("gated")], gated=1)) == demand(snapshot([full(1)]))


def test_a_pod_that_needs_the_larger_type_gets_it_and_small_ones_the_first() -> None:
    wanted = demand(
        snapshot([full(1)], [waiting("big", cpu=3000), *waiting_pods(2)]),
        its_policy=policy(types=("t3.small", "t3.xlarge")),
    )
    assert wanted.new_workers == (NewWorkers("t3.small", 1), NewWorkers("t3.xlarge", 1))


def test_the_whole_demand_is_told_whatever_max_allows() -> None:
    assert demand(snapshot([full(1)], waiting_pods(50)), its_policy=policy(high=8)).extra == 25


# ------------------------------------------------------------------------------------------------- disputed placements


def test_a_pod_that_still_waits_although_the_model_finds_room_gets_a_worker_after_30_s() -> None:
    assert demand(snapshot([worker(1)], [waiting("p", for_s=30)])).extra == 0
    wanted = demand(snapshot([worker(1)], [waiting("p", for_s=31)]))
    assert wanted.extra == 1
    assert wanted.unhelped == (
        OwnerLaunches(owner=OWNER, launched_at_s=NOW_S, zones=(), unhelped=0, retry_at_s=NOW_S, waiting=1),
    )


@pytest.mark.parametrize(
    ("machine", "state"),
    [
        pytest.param(worker(2, created_at_s=NOW_S - 59), State(), id="its Node is younger than 60 s"),
        pytest.param(worker(2), State(launches=(launch(ids=[2, 3], landed=True),)), id="its launch is not over"),
        pytest.param(bare(2), State(launches=(launch(ids=[2]),)), id="it is joining"),
    ],
)
def test_the_scheduler_gets_its_chance_on_a_new_worker_first(machine: Machine, state: State) -> None:
    assert demand(snapshot([full(1), machine], [waiting("p", for_s=300)]), state).extra == 0


def test_a_worker_that_was_slow_to_be_ready_is_new_when_it_is_first_seen_ready() -> None:
    """Its Node is 100 s old, Ready just now: the pod is still listed as waiting, and must not ask for another."""
    seen = snapshot([full(1), worker(2, created_at_s=NOW_S - 100)], [waiting("p", for_s=200)])
    decision = decided(seen, State(launches=(launch(ids=[2], age_s=150),)))
    assert decision.growth is None
    assert decision.done == ("worker worker-i-002 is Ready, 150 s after its launch",)


def test_a_launch_that_did_not_help_is_tried_once_more_in_another_zone_then_ever_more_rarely() -> None:
    seen = snapshot([worker(1), worker(2)], [waiting("p", for_s=600)])
    once = demand(seen, State(owners=(record(launched_s_ago=120, zones=(ZONES[0],)),)))
    assert once.extra == 1
    assert [(r.unhelped, r.retry_at_s - NOW_S, r.zones) for r in once.unhelped] == [(1, 600, (ZONES[0],))]
    held = demand(seen, State(owners=(record(launched_s_ago=120, unhelped=1, retry_in_s=480),)))
    assert held.extra == 0
    assert [b.reason for b in held.blocked] == ["unhelped: 2 launches did not help; tried again after 480 s"]
    again = demand(seen, State(owners=(record(launched_s_ago=590, unhelped=1, retry_in_s=0),)))
    assert [(r.unhelped, r.retry_at_s - NOW_S) for r in again.unhelped] == [(2, 1200)]
    last = demand(seen, State(owners=(record(launched_s_ago=590, unhelped=20, retry_in_s=0),)))
    assert [r.retry_at_s - NOW_S for r in last.unhelped] == [6 * 3600]


def test_an_unhelped_pod_does_not_block_a_shrink() -> None:
    state = State(owners=(record(launched_s_ago=120, unhelped=1, retry_in_s=480),))
    seen = snapshot([worker(1), worker(2), worker(3)], [waiting("p", for_s=600)])
    assert demand(seen, state).waiting == 0
    assert decided(seen, state).reason == "consolidation"


def test_an_unhelped_pod_is_not_launched_for_once_the_room_that_it_refused_is_gone() -> None:
    """Else its empty workers would be removed, launched, removed ... for ever."""
    state = State(owners=(record(launched_s_ago=120, unhelped=1, retry_in_s=480),))
    assert demand(snapshot([full(1)], [waiting("p", for_s=600)]), state).extra == 0


def test_later_pods_of_an_unhelped_owner_that_find_no_room_are_served() -> None:
    state = State(owners=(record(launched_s_ago=120, unhelped=1, retry_in_s=480),))
    assert demand(snapshot([full(1)], [waiting("p", for_s=60)]), state).extra == 1


def test_pods_that_came_after_a_launch_do_not_count_against_it() -> None:
    state = State(owners=(record(launched_s_ago=300),))
    wanted = demand(snapshot([worker(1)], [waiting("p", for_s=60)]), state)
    assert [r.unhelped for r in wanted.unhelped] == [0]


@pytest.mark.parametrize(
    ("decision_id", "for_owners", "unhelped"),
    [
        pytest.param("d0", (), 0, id="by the decision that launched for the owner"),
        pytest.param("", (OWNER,), 0, id="as older versions stored it"),
        pytest.param("d9", (), 1, id="another decision's launch"),
        pytest.param("", (), 1, id="nobody says so"),
    ],
)
def test_a_launch_under_way_is_not_judged_yet(decision_id: str, for_owners: tuple[str, ...], unhelped: int) -> None:
    """Ten disputed pods, a step of one: the second launch must not count the first as failed."""
    known = msgspec.structs.replace(record(launched_s_ago=20), decision_id=decision_id)
    coming = launch("d0-l1", count=1, age_s=20, for_owners=for_owners)
    wanted = demand(snapshot([worker(1)], waiting_pods(10, for_s=60)), State(owners=(known,), launches=(coming,)))
    assert [r.unhelped for r in wanted.unhelped] == [unhelped]


def test_no_launch_is_made_that_could_not_be_remembered() -> None:
    """Six hundred owners for whose pods the filters find room and the scheduler does not."""
    storm = [
        waiting(f"j{n}", for_s=60, cpu=20, owner_kind="StatefulSet", owner_name=f"shard-{n:06d}") for n in range(600)
    ]
    seen = snapshot([worker(1)], storm)
    first = demand(seen)
    kept = len(first.unhelped)
    assert 40 <= kept < 100
    assert len(first.blocked) == 600 - kept
    assert first.blocked[0].reason == "unhelped: launches are remembered for as many owners as the state holds"
    later = demand(seen, State(owners=first.unhelped))
    assert {r.owner for r in later.unhelped} == {r.owner for r in first.unhelped}
    old = tuple(msgspec.structs.replace(r, launched_at_s=NOW_S - 4000, retry_at_s=0) for r in first.unhelped)
    assert len(demand(seen, State(owners=old)).unhelped) >= kept, "what has lost its meaning makes room"


def test_jobs_that_are_made_anew_each_time_are_remembered_as_one() -> None:
    """A CronJob's Jobs, and runners of a build system, come under a new name each time."""
    jobs = [
        waiting(f"j{n}", for_s=60, cpu=20, owner_kind="Job", owner_name=f"report-{29_000_000 + n}") for n in range(9)
    ]
    runners = [waiting(f"runner-{n}", for_s=60, cpu=30, owner_kind="", owner_name="") for n in range(9)]
    kept = demand(snapshot([worker(1)], [*jobs, *runners])).unhelped
    assert [r.owner for r in kept if "Job" in r.owner] == ["shop/Job/report"]
    assert [r.waiting for r in kept] == [9, 9]


def test_a_launch_after_which_fewer_wait_has_helped() -> None:
    known = msgspec.structs.replace(record(launched_s_ago=120, unhelped=1, retry_in_s=480), waiting=3)
    still = demand(snapshot([worker(1)], [waiting(f"p{n}", for_s=600) for n in range(3)]), State(owners=(known,)))
    assert (still.extra, still.distrusted) == (0, True)
    fewer = demand(snapshot([worker(1)], [waiting(f"p{n}", for_s=600) for n in range(2)]), State(owners=(known,)))
    assert (fewer.extra, [r.unhelped for r in fewer.unhelped]) == (1, [0])


def test_the_owner_of_a_bare_pod_is_itself() -> None:
    assert pod("lonely", owner_kind="", owner_name="").owner == "shop/Pod/lonely"
    assert pod("web-1").owner == OWNER


def test_pods_of_a_machine_that_goes_are_packed_elsewhere_first() -> None:
    displaced = [pod("a"), pod("b"), pod("c")]
    assert demand(snapshot([full(1), worker(2)]), displaced=displaced).extra == 1
    assert demand(snapshot([worker(1), worker(2)]), displaced=displaced).extra == 0

"""A decision that needs to see more says what; what it could not see it does not guess."""

from autoscaler.model import Asks, MetricsStatus, Snapshot, State
from autoscaler.policy import ScaleDown
from tests.decide.builders import (
    Machine,
    decided,
    notice,
    pod,
    policy,
    snapshot,
    use,
    waiting,
    worker,
)
from tests.decide.generators import unseen_rooms

BUSY = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 4)]
CALM = use(cpu=0.5)


def only_rooms(seen: Snapshot) -> Snapshot:
    """The same, with what is free known and no single pod."""
    pods = tuple(p for p in seen.pods if not p.node)
    return type(seen)(**{**{f: getattr(seen, f) for f in seen.__struct_fields__}, "pods": pods, "pods_of": frozenset()})


LOW_USE = policy(down=ScaleDown(when="low_use"))


def test_a_calm_look_asks_for_nothing_more() -> None:
    seen = unseen_rooms(snapshot(BUSY, utilisation=CALM))
    assert not decided(seen, its_policy=policy(low=3)).asks, "nobody may go"
    assert not decided(seen, its_policy=LOW_USE).asks, "use is not low"


def test_a_pod_that_waits_asks_where_there_is_room() -> None:
    soon = unseen_rooms(snapshot(BUSY, [waiting("w", for_s=1)], utilisation=CALM))
    assert not decided(soon).asks, "too soon"
    decision = decided(unseen_rooms(snapshot(BUSY, [waiting("w")], utilisation=CALM)))
    assert decision.asks == Asks(rooms=True)
    assert decision.growth is None


def test_a_shrink_that_is_due_asks_for_rooms_and_then_for_the_pods_that_would_move() -> None:
    seen = snapshot(BUSY)
    assert decided(unseen_rooms(seen)).asks == Asks(rooms=True)
    closer = decided(only_rooms(seen))
    assert closer.asks == Asks(pods_of=("worker-i-001", "worker-i-002", "worker-i-003"))
    assert (closer.state.removals, closer.reason) == ((), "unseen")
    assert not decided(seen).asks
    assert [r.node_name for r in decided(seen).state.removals] == ["worker-i-001"]


def test_empty_workers_go_without_their_pods_being_looked_at() -> None:
    seen = only_rooms(snapshot([worker(n) for n in range(1, 4)], utilisation=use(cpu=0.01, memory=0.01)))
    decision = decided(seen)
    assert not decision.asks
    assert [r.node_name for r in decision.state.removals] == ["worker-i-001"]


def test_the_oldest_are_asked_for_first_and_the_next_once_those_may_not_go() -> None:
    bare_pods: list[Machine] = [
        worker(n, pods=[pod(f"p{n}", cpu=10, owner_kind="" if n <= 20 else "ReplicaSet")]) for n in range(1, 26)
    ]
    its_policy = policy(high=50)
    seen = snapshot(bare_pods)
    first = decided(only_rooms(seen), its_policy=its_policy).asks.pods_of
    assert first == tuple(f"worker-i-{n:03x}" for n in range(1, 21))
    fields = {f: getattr(seen, f) for f in seen.__struct_fields__}
    known = frozenset(first)
    half = type(seen)(**{**fields, "pods_of": known, "pods": tuple(p for p in seen.pods if p.node in known)})
    second = decided(half, its_policy=its_policy)
    assert second.asks.pods_of == tuple(f"worker-i-{n:03x}" for n in range(21, 26))
    assert [r.node_name for r in decided(seen, its_policy=its_policy).state.removals] == ["worker-i-015"]


def test_what_ec2_takes_away_asks_for_the_pods_that_need_a_place() -> None:
    machines = [worker(1, pods=[pod("a", cpu=1500)]), worker(2, pods=[pod("b", cpu=1500)])]
    state = State(fence=9, notices=(notice(1),))
    seen = snapshot(machines, utilisation=CALM)
    blind = decided(unseen_rooms(seen), state, policy(low=1))
    assert blind.asks == Asks(rooms=True, pods_of=("worker-i-001",))
    assert [r.reason for r in blind.state.removals] == ["interruption"], "the drain waits for nothing"
    assert decided(seen, state, policy(low=1)).growth is not None


def test_a_cluster_that_is_not_known_is_not_looked_at_closer() -> None:
    unknown = snapshot(BUSY, [waiting("w")], status=MetricsStatus.PARTIAL, known=False)
    assert not decided(unseen_rooms(unknown), State(fence=9, notices=(notice(1),))).asks

"""Growth becomes requests: which zone, which pools, what is frozen."""

import msgspec
import pytest

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.decide.capacity.launch import LaunchPlan, plan_launch
from autoscaler.decide.decision import with_plan
from autoscaler.instance_types import AMD64, ARM64, arch_of
from autoscaler.model import (
    Action,
    Backoff,
    Growth,
    LaunchContext,
    LaunchOverride,
    NewWorkers,
    OwnerLaunches,
    Pool,
    PoolTemplate,
    Snapshot,
    State,
)
from autoscaler.policy import Policy, Size, Workers
from autoscaler.state.memory import owners_under_way
from autoscaler.state.size import STATE_LIMIT_BYTES, encoded
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.decide.builders import (
    CONTEXT,
    DECISION_ID,
    NOW_S,
    ZONES,
    Machine,
    bare,
    decided,
    full,
    launch,
    planned,
    policy,
    removal,
    snapshot,
    waiting_pods,
)

A, B = ZONES
GONE = "InsufficientInstanceCapacity"
RECORD = OwnerLaunches(owner="shop/ReplicaSet/web", launched_at_s=NOW_S, zones=(), unhelped=0, retry_at_s=NOW_S)


def plan(
    count: int,
    *,
    seen: Snapshot | None = None,
    state: State | None = None,
    its_policy: Policy | None = None,
    growth: Growth | None = None,
    context: LaunchContext = CONTEXT,
) -> LaunchPlan:
    return plan_launch(
        growth or Growth(workers=(NewWorkers("t3.small", count),), reason="pods_unschedulable"),
        context,
        seen if seen is not None else snapshot(0),
        state if state is not None else State(),
        its_policy if its_policy is not None else policy(),
        cluster_id="sim",
        now_s=NOW_S,
        decision_id=DECISION_ID,
    )


def shares(made: LaunchPlan) -> dict[str, int]:
    return {operation.request.overrides[0].zone: operation.request.count for operation in made.opened}


def out_of(*pools: tuple[str, str], for_s: int = 60) -> State:
    return State(
        backoffs=tuple(
            Backoff(
                pool=Pool(instance_type=t, zone=z),
                error_code=GONE,
                until_s=NOW_S + for_s,
                failures=1,
            )
            for t, z in pools
        )
    )


def in_subnet(number: int, subnet_id: str) -> Machine:
    machine = full(number)
    assert machine.instance is not None
    return msgspec.structs.replace(machine, instance=msgspec.structs.replace(machine.instance, subnet_id=subnet_id))


def without_addresses(times: int) -> State:
    """EC2 found no free address in zone A that often; the back-off is over."""
    [backoff] = out_of(("t3.small", A), for_s=0).backoffs
    return State(
        backoffs=(msgspec.structs.replace(backoff, error_code="InsufficientFreeAddressesInSubnet", failures=times),)
    )


@pytest.mark.parametrize(
    ("seen", "state", "count", "expected"),
    [
        pytest.param(snapshot(0), State(), 1, {A: 1}, id="the first by name where all are even"),
        pytest.param(snapshot(0), State(), 5, {A: 3, B: 2}, id="zones take turns"),
        pytest.param(snapshot([full(2), full(4)]), State(), 3, {A: 1, B: 2}, id="the emptier zone first"),
        pytest.param(snapshot([bare(2)]), State(launches=(launch(ids=[2]),)), 1, {B: 1}, id="joining workers count"),
        pytest.param(
            snapshot(0), State(launches=(launch(count=2, zone=A),)), 2, {B: 2}, id="unidentified workers count"
        ),
        pytest.param(
            snapshot([full(2), full(1)]), State(removals=(removal(2),)), 1, {A: 1}, id="leaving workers do not"
        ),
        pytest.param(snapshot(0), out_of(("t3.small", A)), 3, {B: 3}, id="an exhausted pool is left out"),
        pytest.param(snapshot(0), out_of(("t3.small", A), for_s=0), 1, {A: 1}, id="until its back-off ends"),
        pytest.param(snapshot(0), out_of(("t3.small", A), ("t3.small", B)), 2, {}, id="nothing left anywhere"),
    ],
)
def test_zones(seen: Snapshot, state: State, count: int, expected: dict[str, int]) -> None:
    made = plan(count, seen=seen, state=state)
    assert shares(made) == expected
    assert made.unplaced == count - sum(expected.values())


def test_another_type_that_holds_as_much_covers_for_an_exhausted_one() -> None:
    types = policy(types=("t3.medium", "t3.small", "t3.large"))
    growth = Growth(workers=(NewWorkers("t3.medium", 1),), reason="pods_unschedulable")
    [operation] = plan(1, its_policy=types, growth=growth, state=out_of(("t3.medium", A))).opened
    assert operation.request.overrides == (LaunchOverride(instance_type="t3.large", subnet_id="subnet-a", zone=A),)


def test_the_wanted_type_stands_first_then_the_policys_order() -> None:
    types = policy(types=("t3.large", "t3.small", "t3.medium"))
    [operation] = plan(1, its_policy=types).opened
    assert [o.instance_type for o in operation.request.overrides] == ["t3.small", "t3.large", "t3.medium"]


MORE_SUBNETS = msgspec.structs.replace(CONTEXT, subnet_zones=(("subnet-c", A), *CONTEXT.subnet_zones, ("subnet-c", A)))


@pytest.mark.parametrize(
    ("seen", "state", "subnet"),
    [
        pytest.param(snapshot(0), State(), "subnet-a", id="the first by its id"),
        pytest.param(
            snapshot([in_subnet(2, "subnet-a")]), State(), "subnet-c", id="the one with fewer workers of ours"
        ),
        pytest.param(
            snapshot(0), without_addresses(1), "subnet-c", id="the next one once the first had no address left"
        ),
        pytest.param(snapshot(0), without_addresses(2), "subnet-a", id="they take turns"),
    ],
)
def test_a_request_names_each_type_and_zone_once(seen: Snapshot, state: State, subnet: str) -> None:
    """EC2 refuses the whole fleet otherwise: InvalidFleetConfig, "duplicate instance pools"."""
    types = policy(types=("t3.small", "t3.medium"))
    opened = plan(4, context=MORE_SUBNETS, its_policy=types, seen=seen, state=state).opened
    for operation in opened:
        pools = [(row.instance_type, row.zone) for row in operation.request.overrides]
        assert sorted(pools) == sorted(set(pools))
    assert {row.subnet_id for o in opened for row in o.request.overrides if row.zone == A} == {subnet}


def test_the_request_is_complete_and_names_itself() -> None:
    [operation] = plan(1).opened
    request = operation.request
    assert (request.client_token, operation.operation_id) == ("d1-l0", "d1-l0")
    assert (request.template_id, request.template_version) == ("lt-1", "7")
    assert dict(request.tags) == {
        "Name": "k3s-worker-sim",
        "ManagedBy": "autoscaler",
        "k3s-autoscaler/cluster": "sim",
        "k3s-autoscaler/operation": "d1-l0",
        "k3s-autoscaler/pool": "general",
    }
    assert request.pool == "general"
    assert (operation.unidentified, operation.landed, operation.instance_ids) == (1, False, ())
    assert (operation.created_at_s, operation.sent_at_s) == (NOW_S, NOW_S)


def test_tokens_are_ascii_distinct_and_short_enough_for_ec2() -> None:
    """With the longest id that `Ids` promises (32) and more operations than may be open."""
    made = plan_launch(
        Growth(workers=tuple(NewWorkers(t, 2) for t in ("t3.small", "t3.large", "t3.xlarge")), reason="cpu_high"),
        CONTEXT,
        snapshot(0),
        State(),
        policy(types=("t3.small", "t3.large", "t3.xlarge")),
        cluster_id="sim",
        now_s=NOW_S,
        decision_id="f" * 32,
    )
    tokens = [operation.request.client_token for operation in made.opened]
    assert len(set(tokens)) == len(tokens) == 6
    assert all(token.isascii() and len(token) <= 64 for token in tokens)


def test_operations_never_exceed_the_limit() -> None:
    each = (launch(f"l{n}", ids=[n], zone=ZONES[n % 2]) for n in range(MAX_OPEN_OPERATIONS - 1))
    state = State(launches=tuple(each))
    made = plan(4, state=state, seen=snapshot(0))
    assert (len(made.opened), made.unplaced) == (1, 2)
    assert len(made.state.launches) == MAX_OPEN_OPERATIONS


def test_many_types_and_zones_open_as_many_launches_as_the_state_holds_and_the_rest_waits_a_look() -> None:
    """Each type the only one that some pods want, in each of three zones: 150 KB of requests."""
    order = tuple(sorted(CATALOGUE, key=lambda t: (CATALOGUE[t].cpu_millicores, CATALOGUE[t].memory_mib)))
    zones = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
    context = msgspec.structs.replace(
        CONTEXT, subnet_zones=tuple((f"subnet-{n:017x}", zone) for n, zone in enumerate(zones))
    )
    arm = PoolTemplate(
        pool="general",
        arch=ARM64 if arch_of(order[0]) == AMD64 else AMD64,
        template_id="lt-2",
        template_version="1",
        subnet_zones=context.subnet_zones,
    )
    context = msgspec.structs.replace(context, templates=(arm,))
    workers = tuple(NewWorkers(t, 2, zone) for t in order for zone in zones)
    growth = Growth(workers=workers, reason="pods_unschedulable")
    made = plan(1, growth=growth, context=context, its_policy=policy(high=300, types=order))
    assert 20 <= len(made.opened) < len(workers)
    assert sum(o.request.count for o in made.opened) + made.unplaced == growth.count
    assert all(o.unidentified == o.request.count for o in made.opened)
    assert (made.state_full, made.codes) == (True, ())
    assert len(encoded(made.state)) < STATE_LIMIT_BYTES / 1.5
    decision = msgspec.structs.replace(decided(snapshot(2, waiting_pods(4))), growth=growth)
    final = with_plan(decision, made)
    assert (final.action, "as many operations are open as the state holds" in final.message) == (Action.SCALE_UP, True)
    landed = tuple(msgspec.structs.replace(o, landed=True, unidentified=0) for o in made.opened[:10])
    again = plan(
        1, growth=growth, context=context, its_policy=policy(high=300, types=order), state=State(launches=landed)
    )
    assert again.opened, "there is room again: the next look goes on"


def test_a_request_names_the_preferred_types_only_and_others_once_those_have_nothing_left() -> None:
    types = tuple(f"m5.{n}xlarge" for n in range(1, 31))
    sizes = {t: Size(cpu_millicores=4000, memory_mib=16_000) for t in types}
    its_policy = Policy(version=1, workers=Workers(instance_types=types, sizes=sizes))
    growth = Growth(workers=(NewWorkers(types[0], 1),), reason="pods_unschedulable")

    def asked(state: State) -> list[str]:
        [operation] = plan(1, growth=growth, its_policy=its_policy, state=state).opened
        return [row.instance_type for row in operation.request.overrides]

    assert asked(State()) == [*types[:10]]
    assert asked(out_of(*((t, A) for t in types[:10]), *((t, B) for t in types))) == [*types[10:20]]


# ------------------------------------------------------------------------------------------------------ not helped pods


def test_the_zones_that_were_tried_are_remembered_with_the_launch() -> None:
    growth = Growth(workers=(NewWorkers("t3.small", 1),), reason="pods_unschedulable", unhelped=(RECORD,))
    assert [r.zones for r in plan(1, growth=growth).state.owners] == [(A,)]


def test_pods_that_a_launch_did_not_help_get_another_zone() -> None:
    tried = msgspec.structs.replace(RECORD, unhelped=1, zones=(A,))
    growth = Growth(workers=(NewWorkers("t3.small", 1),), reason="pods_unschedulable", unhelped=(tried,))
    made = plan(1, growth=growth)
    assert shares(made) == {B: 1}
    assert [r.zones for r in made.state.owners] == [(A, B)]


def test_launches_are_noted_for_owners_of_which_something_is_remembered_once() -> None:
    """A storm of one-pod Jobs: whoever is not remembered is not asked about."""
    jobs = tuple(f"batch/Job/nightly-{n}" for n in range(600))
    known = OwnerLaunches(owner=jobs[7], launched_at_s=NOW_S - 60, zones=(A,))
    growth = Growth(workers=(NewWorkers("t3.small", 4),), reason="pods_unschedulable", for_owners=jobs)
    made = plan(1, growth=growth, state=State(owners=(known, RECORD)))
    assert [(o.owner, o.decision_id) for o in made.state.owners] == [(jobs[7], DECISION_ID), (RECORD.owner, "")]
    assert owners_under_way(made.state) == {jobs[7]}
    assert len(encoded(made.state)) < 3000
    assert owners_under_way(msgspec.structs.replace(made.state, launches=())) == frozenset()


def test_nothing_is_remembered_where_nothing_could_be_launched() -> None:
    growth = Growth(workers=(NewWorkers("t3.small", 1),), reason="pods_unschedulable", unhelped=(RECORD,))
    state = out_of(("t3.small", A), ("t3.small", B))
    assert plan(1, growth=growth, state=state).state == state


# --------------------------------------------------------------------------------------------------- what is told of it


DENIED, BUSY = "UnauthorizedOperation", "RequestLimitExceeded"


@pytest.mark.parametrize(
    ("codes", "reason", "said"),
    [
        pytest.param((GONE,), "capacity_backoff", "EC2 has nothing left there", id="capacity"),
        pytest.param((GONE, BUSY), "launch_busy", "EC2 is busy", id="busy"),
        pytest.param((GONE, DENIED), "launch_refused", "`make verify-aws` names what is missing", id="permanent"),
        pytest.param(("SomethingNew",), "launch_refused", "does not know the code", id="unknown"),
    ],
)
def test_a_decision_that_can_launch_nothing_names_the_true_cause(
    codes: tuple[str, ...], reason: str, said: str
) -> None:
    decision = decided(snapshot(2, waiting_pods(4)))
    final = with_plan(decision, LaunchPlan(state=State(), opened=(), unplaced=2, codes=codes))
    assert (final.action, final.reason, final.growth, final.ec2_codes) == (Action.HELD_BACK, reason, None, codes)
    assert final.message.startswith(f"2 workers must wait and no pool can be asked now. {codes[0]}: ")
    assert said in final.message


def test_every_code_that_keeps_a_launch_back_is_named() -> None:
    seen = snapshot(2, waiting_pods(4))
    [first] = out_of(("t3.small", A)).backoffs
    other = msgspec.structs.replace(first, pool=Pool(instance_type="t3.small", zone=B), error_code=DENIED)
    state = State(backoffs=(first, other))
    final = with_plan(decision := decided(seen, state), planned(decision, seen))
    assert final.ec2_codes == (GONE, DENIED)
    assert final.state.launches == ()


def test_no_subnet_in_the_zone_is_not_told_as_ec2s_lack() -> None:
    growth = Growth(workers=(NewWorkers("t3.small", 1, "eu-central-1z"),), reason="pods_unschedulable")
    decision = msgspec.structs.replace(decided(snapshot(2, waiting_pods(4))), growth=growth)
    final = with_plan(decision, plan(1, growth=growth))
    assert (final.reason, final.ec2_codes) == ("no_subnet", ())
    assert final.message == "1 worker must wait: no subnet of ours lies in the zone that the pods select."


def test_a_decision_that_could_be_carried_out_in_part_says_so() -> None:
    decision = decided(snapshot(2, waiting_pods(4)))
    final = with_plan(decision, LaunchPlan(state=decision.state, opened=(), unplaced=1, codes=(GONE,)))
    assert final.action is Action.SCALE_UP
    assert "1 worker must wait and no pool can be asked now" in final.message

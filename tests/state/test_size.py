"""The item holds 64 KB: launches are opened as far as it goes, and what is remembered gives way."""

import msgspec
import pytest

from autoscaler.decide.demand.forecast import COMPARED_AT_MOST
from autoscaler.model import (
    AsideSignal,
    Backoff,
    Demand,
    HeldWorker,
    Joined,
    KeptForecast,
    KeptSlot,
    LaunchOperation,
    LaunchOverride,
    OwnerLaunches,
    Pool,
    RemovalPhase,
    Removed,
    SignalFailure,
    State,
)
from autoscaler.observe.history import SLOTS
from autoscaler.observe.signals import MAX_PROBLEM
from autoscaler.signals import MOST_SIGNALS
from autoscaler.state.backoffs import MAX_BACKOFFS
from autoscaler.state.memory import (
    MAX_HELD_WORKERS,
    MAX_JOINED,
    MAX_OWNERS_BYTES,
    MAX_REMOVED,
    OWNER_RECORD_BYTES,
    REFUSED_REASON,
    owner_bytes,
)
from autoscaler.state.notices import MAX_NOTICES
from autoscaler.state.signals import untold_failures
from autoscaler.state.size import (
    ID_BYTES,
    LAUNCH_ROOM_BYTES,
    NO_ROOM,
    STATE_LIMIT_BYTES,
    encoded,
    fitted,
    workers_that_fit,
)
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS
from tests.decide.builders import NOW_S, launch, notice, removal

LONG = "0123456789abcdef0"
HUGE = Demand(
    cpu_requested_millicores=10**9, memory_requested_mib=10**9, cpu_used_millicores=10**9, memory_used_mib=10**9
)
OVERRIDE = LaunchOverride(instance_type="m6i.24xlarge", subnet_id=f"subnet-{LONG}", zone="ap-southeast-2a")


def big_launch(number: int, *, count: int = 1, rows: int = 10) -> LaunchOperation:
    operation = launch(f"0d{LONG}-l{number}", count=count)
    request = msgspec.structs.replace(
        operation.request, overrides=(OVERRIDE,) * rows, tags=(("k3s-autoscaler/operation", LONG * 3),) * 4
    )
    return msgspec.structs.replace(operation, request=request)


def with_ids(operation: LaunchOperation) -> LaunchOperation:
    """As large as it ever gets: every worker has its id, and none is listed."""
    ids = tuple(f"i-{n:017x}" for n in range(operation.request.count))
    absent = tuple((instance_id, NOW_S) for instance_id in ids)
    return msgspec.structs.replace(operation, instance_ids=ids, absent_since_s=absent, unidentified=0, landed=True)


def full_of_launches(count: int) -> State:
    state = State()
    while len(state.launches) < MAX_OPEN_OPERATIONS:
        operation = big_launch(len(state.launches), count=count)
        fits = workers_that_fit(state, operation)
        if not fits:
            break
        request = msgspec.structs.replace(operation.request, count=fits)
        operation = msgspec.structs.replace(operation, request=request, unidentified=fits)
        state = msgspec.structs.replace(state, launches=(*state.launches, operation))
    return state


MEMORIES = State(
    notices=tuple(notice(n, subject=f"i-{LONG}{n}", handled=n % 2 == 0) for n in range(MAX_NOTICES)),
    backoffs=tuple(
        Backoff(pool=Pool(instance_type=f"m6i.{n}xlarge", zone="z" * 15), error_code="x" * 80, until_s=n, failures=1)
        for n in range(MAX_BACKOFFS)
    ),
    held_workers=tuple(
        HeldWorker(node_name=f"{n:063d}", reason="x" * REFUSED_REASON, until_s=NOW_S, failures=2)
        for n in range(MAX_HELD_WORKERS)
    ),
    removed=tuple(Removed(instance_id=f"i-{LONG}", ended_at_s=NOW_S) for _ in range(MAX_REMOVED)),
    joined=tuple(
        Joined(instance_id=f"i-{LONG}", joined_at_s=NOW_S, pool="p" * 20, market="on-demand") for _ in range(MAX_JOINED)
    ),
    signals_aside=tuple(
        AsideSignal(
            name="s" * 40, fingerprint="f" * 8, failure=SignalFailure.REFUSED, problem="x" * MAX_PROBLEM, until_s=NOW_S
        )
        for _ in range(MOST_SIGNALS)
    ),
    forecast=KeptForecast(
        made_at_s=NOW_S,
        now=HUGE,
        slots=(KeptSlot(at_s=NOW_S, demand=HUGE),) * SLOTS,
        earlier_days=20,
        compared=((1000, 1000),) * COMPARED_AT_MOST,
    ),
    owners=tuple(
        OwnerLaunches(owner=f"batch/Job/{n:040d}", launched_at_s=NOW_S, zones=("z" * 15,) * 3)
        for n in range(MAX_OWNERS_BYTES // (OWNER_RECORD_BYTES + 50))
    ),
)


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_launches_are_opened_as_far_as_the_state_holds_them_with_all_ids_and_removals(count: int) -> None:
    state = full_of_launches(count)
    assert sum(operation.request.count for operation in state.launches) >= 20
    grown = tuple(with_ids(operation) for operation in state.launches)
    assert sum(len(msgspec.json.encode(operation)) for operation in grown) <= LAUNCH_ROOM_BYTES
    going = removal(1, RemovalPhase.UNCORDONING, operation_id=f"0d{LONG}-{LONG}", failure="x" * 80)
    going = msgspec.structs.replace(going, instance_id=f"i-{LONG}", node_name=f"worker-i-{LONG}")
    removals = (going,) * (MAX_OPEN_OPERATIONS - len(grown))
    full = msgspec.structs.replace(MEMORIES, launches=grown, removals=removals)
    kept = fitted(full)
    assert len(encoded(kept)) <= STATE_LIMIT_BYTES
    assert (kept.launches, kept.removals, kept.removed) == (grown, removals, full.removed)
    assert [n for n in kept.notices if not n.handled] == [n for n in full.notices if not n.handled]


def test_a_launch_of_many_workers_is_cut_to_what_fits() -> None:
    operation = big_launch(0, count=1000)
    fits = workers_that_fit(State(), operation)
    assert 400 < fits < 1000
    assert workers_that_fit(State(), big_launch(0, count=3)) == 3
    other = msgspec.structs.replace(big_launch(1, count=fits), unidentified=fits)
    assert workers_that_fit(State(launches=(other,)), operation) == 0


def test_an_id_never_takes_more_than_is_reserved_for_it() -> None:
    one, two = (len(msgspec.json.encode(with_ids(big_launch(0, count=n)))) for n in (50, 51))
    assert two - one <= ID_BYTES


def test_what_fits_is_left_as_it_is_and_what_is_forgotten_is_the_oldest_of_the_least_use() -> None:
    assert fitted(MEMORIES) is MEMORIES
    launches = tuple(big_launch(n, rows=20) for n in range(MAX_OPEN_OPERATIONS // 3))
    over = fitted(msgspec.structs.replace(MEMORIES, launches=launches))
    assert len(over.held_workers) < MAX_HELD_WORKERS
    assert over.held_workers == MEMORIES.held_workers[len(MEMORIES.held_workers) - len(over.held_workers) :]
    assert over.owners == MEMORIES.owners, "a launch that helps nobody would be made again"


def test_a_forecast_gives_way_first_and_is_not_made_again_before_its_time() -> None:
    launches = tuple(big_launch(n, rows=20) for n in range(MAX_OPEN_OPERATIONS // 3))
    over = fitted(msgspec.structs.replace(MEMORIES, launches=launches))
    assert over.forecast == KeptForecast(made_at_s=NOW_S, problem=NO_ROOM)
    assert {one.problem for one in over.signals_aside} == {"refused"}
    assert untold_failures(over, MEMORIES.signals_aside) == (), "nobody hears of them once more for that"


def test_a_state_of_nothing_but_operations_that_is_too_large_stays_whole() -> None:
    """The store refuses it with a sentence; no operation is ever dropped."""
    state = State(launches=tuple(big_launch(n, rows=100) for n in range(20)))
    assert fitted(state) == state


def test_a_record_takes_no_more_than_is_reckoned_for_it() -> None:
    record = OwnerLaunches(
        owner="batch/Job/x",
        launched_at_s=NOW_S,
        zones=("ap-southeast-2a", "ap-southeast-2b", "ap-southeast-2c"),
        unhelped=9,
        retry_at_s=NOW_S,
        decision_id="f" * 32,
    )
    assert len(msgspec.json.encode(record)) <= owner_bytes(record)

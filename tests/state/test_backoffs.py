"""What EC2 refused, and until when it is left alone."""

import itertools

import msgspec
import pytest

from autoscaler.model import Cause, Pool, State
from autoscaler.policy import Policy
from autoscaler.state.backoffs import (
    LAUNCH_PATH,
    MAX_BACKOFFS,
    MAX_BUSY_WAIT_S,
    back_off,
    call_answered,
    codes_told,
    left_alone,
    path_held,
    pools_gave,
    refused_in_a_row,
    spread_of,
    untold,
    wait_s,
)
from tests.decide.builders import NOW_S, ZONES

POLICY = Policy(version=1)
A, B = (Pool(instance_type="t3.small", zone=zone) for zone in ZONES)
GONE, DENIED, BUSY, NEW = (
    "InsufficientInstanceCapacity",
    "UnauthorizedOperation",
    "RequestLimitExceeded",
    "SomethingNew",
)


def failed(*codes: str, pool: Pool = A, state: State | None = None, spread: float = 1.0) -> tuple[State, list[int]]:
    """The same pool fails with one code after another; the state, and how long each wait was."""
    state, waits = state or State(), []
    for code in codes:
        state = back_off(state, [(pool, code)], now_s=NOW_S, policy=POLICY, spread=spread)
        waits.append(state.backoffs[-1].until_s - NOW_S)
    return state, waits


@pytest.mark.parametrize(
    ("codes", "waits"),
    [
        pytest.param([GONE] * 6, [120, 240, 480, 960, 1800, 1800], id="capacity: the policy's times"),
        pytest.param([DENIED] * 3, [120, 240, 480], id="permanent: as long"),
        pytest.param([NEW] * 3, [120, 240, 480], id="unknown: as permanent"),
        pytest.param([BUSY] * 7, [10, 20, 40, 80, 160, 300, 300], id="busy: seconds"),
        pytest.param([GONE, "UnfulfillableCapacity"], [120, 240], id="another code of the same cause counts on"),
        pytest.param([GONE, GONE, DENIED], [120, 240, 120], id="another cause begins anew"),
        pytest.param([DENIED, NEW], [120, 240], id="of what lasts, nobody knows which is the true one"),
    ],
)
def test_waits_double(codes: list[str], waits: list[int]) -> None:
    assert failed(*codes)[1] == waits


def test_a_lasting_cause_counts_on_from_pool_to_pool_and_lack_of_capacity_does_not() -> None:
    for code, expected in ((DENIED, [120, 240]), (GONE, [120, 120])):
        state, first = failed(code)
        _, second = failed(code, pool=B, state=state)
        assert [*first, *second] == expected
    both = back_off(State(), [(A, DENIED), (B, DENIED)], now_s=NOW_S, policy=POLICY)
    assert [b.failures for b in both.backoffs] == [1, 1], "one answer is one failure"


def test_busy_holds_every_launch_and_is_spread_by_chance() -> None:
    state, _ = failed(BUSY)
    held = path_held(state, NOW_S + 9)
    assert held is not None
    assert (held.pool, held.error_code) == (LAUNCH_PATH, BUSY)
    assert path_held(state, NOW_S + 10) is None
    assert path_held(failed(GONE)[0], NOW_S) is None
    assert wait_s(Cause.BUSY, 99, POLICY, spread=0.0) == MAX_BUSY_WAIT_S / 2
    spreads = [spread_of(f"0d{n:030x}-l0") for n in range(200)]
    assert all(0 <= spread <= 1 for spread in spreads)
    assert max(spreads) - min(spreads) > 0.9
    assert spread_of("a") == spread_of("a"), "decided by the id alone"


def test_what_gave_again_is_asked_again() -> None:
    state = back_off(State(), [(A, GONE), (B, GONE)], now_s=NOW_S, policy=POLICY)
    assert left_alone(state, NOW_S) == {A: GONE, B: GONE}
    assert left_alone(pools_gave(state, [A]), NOW_S) == {B: GONE}
    lasting = back_off(State(), [(A, DENIED), (B, DENIED)], now_s=NOW_S, policy=POLICY)
    assert left_alone(pools_gave(lasting, [A]), NOW_S) == {}, "what failed everywhere is mended everywhere"
    busy, _ = failed(BUSY, state=state)
    assert left_alone(call_answered(busy), NOW_S) == {A: GONE, B: GONE}
    assert left_alone(state, NOW_S + 120) == {}


def test_a_code_is_told_once_until_it_ends() -> None:
    state, _ = failed(DENIED)
    assert untold(state, [DENIED, GONE]) == {DENIED, GONE}
    state = codes_told(state, [DENIED])
    assert untold(state, [DENIED, GONE]) == {GONE}
    again, _ = failed(DENIED, pool=B, state=state)
    assert untold(again, [DENIED]) == frozenset(), "of another pool it is the same news"
    assert untold(pools_gave(again, [A]), [DENIED]) == {DENIED}
    assert codes_told(state, [DENIED]) == codes_told(state, []) == state, "nothing to write"


def test_what_a_look_that_only_observes_has_told_stays_told_without_a_back_off_until_it_ends() -> None:
    observed = codes_told(State(), [DENIED])
    assert untold(back_off(observed, [(A, DENIED)], now_s=NOW_S, policy=POLICY), [DENIED]) == frozenset()
    assert codes_told(observed, []) == State()


def test_what_ended_an_hour_ago_is_news_again() -> None:
    state = codes_told(failed(DENIED, DENIED)[0], [DENIED])
    later = back_off(state, [(B, DENIED)], now_s=NOW_S + 240 + 3599, policy=POLICY)
    assert (later.backoffs[-1].failures, untold(later, [DENIED])) == (3, frozenset())
    anew = back_off(state, [(B, DENIED)], now_s=NOW_S + 240 + 3600, policy=POLICY)
    assert ([b.failures for b in anew.backoffs], untold(anew, [DENIED])) == ([1], frozenset({DENIED}))


def test_pools_are_told_apart_by_type_zone_and_market() -> None:
    pools = [
        A,
        msgspec.structs.replace(A, zone=ZONES[1]),
        msgspec.structs.replace(A, instance_type="t3.large"),
        msgspec.structs.replace(A, market="spot"),
    ]
    state = back_off(State(), [(pool, GONE) for pool in pools], now_s=NOW_S, policy=POLICY)
    assert [b.failures for b in state.backoffs] == [1, 1, 1, 1]
    assert {b.pool for b in pools_gave(state, [A]).backoffs} == set(pools[1:])


def test_only_so_many_are_kept_and_short() -> None:
    state = State()
    for number, zone in itertools.product(range(MAX_BACKOFFS), ZONES):
        pool = Pool(instance_type=f"t{number}", zone=zone)
        state = back_off(state, [(pool, "x" * 500)], now_s=NOW_S + number, policy=POLICY)
    assert len(state.backoffs) == MAX_BACKOFFS
    assert {len(b.error_code) for b in state.backoffs} == {80}
    assert untold(codes_told(state, ["x" * 500]), ["x" * 500]) == frozenset()


@pytest.mark.parametrize(
    ("code", "ago_s", "expected"),
    [(DENIED, 0, 2), (NEW, 240 + 3600, 2), (DENIED, 241 + 3600, 0), (GONE, 0, 0), (BUSY, 0, 0)],
)
def test_what_lasts_is_counted_for_the_alarm(code: str, ago_s: int, expected: int) -> None:
    state, _ = failed(code, code)
    assert refused_in_a_row(state, NOW_S + ago_s, kept_s=3600) == expected

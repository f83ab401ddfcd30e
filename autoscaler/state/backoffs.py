"""What EC2 refused, and until when it is left alone: pure `State -> State` functions.

A pool (type, zone, market) is left alone for what is its own matter. `LAUNCH_PATH` stands for all of them: no launch is
sent at all while EC2 turns calls away, or refuses the call itself.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from autoscaler.model import Backoff, Cause, Pool, State, cause_of, lasts
from autoscaler.policy import Policy

LAUNCH_PATH: Final = Pool(instance_type="", zone="")
BUSY_WAIT_S: Final = 10
MAX_BUSY_WAIT_S: Final = 300
KEPT_S: Final = 3600
MAX_BACKOFFS: Final = 60
"""Of more, the ones that end first go: a pool is then tried early."""
MAX_CODE: Final = 80
"""Characters of a code that are kept."""


def back_off(
    state: State, failed: Sequence[tuple[Pool, str]], *, now_s: int, policy: Policy, spread: float = 1.0
) -> State:
    """Leave each pool alone for its error code, twice as long each time in a row; the waits are `wait_s`'s.

    A cause that lasts counts on from pool to pool: one that lies in the request or the account fails everywhere, and
    is not tried once more for each zone. `spread` from 0 to 1 takes up to half off a busy wait (`spread_of`).
    """
    live = [b for b in state.backoffs if now_s < b.until_s + KEPT_S]
    ended = {b.error_code for b in state.backoffs} - {b.error_code for b in live}
    told = tuple(code for code in state.told_codes if code not in ended)
    fresh: dict[Pool, Backoff] = {}
    for failed_pool, long_code in failed:
        code = long_code[:MAX_CODE]
        cause = cause_of(code)
        pool = LAUNCH_PATH if cause is Cause.BUSY else failed_pool
        before = [b for b in live if _counts_on(b, pool, code)]
        failures = max((b.failures for b in before), default=0) + 1
        fresh[pool] = Backoff(
            pool=pool,
            error_code=code,
            until_s=now_s + wait_s(cause, failures, policy, spread=spread),
            failures=failures,
        )
    kept = [*(b for b in live if b.pool not in fresh), *fresh.values()]
    first_to_go = sorted(kept, key=lambda b: b.until_s)[: max(0, len(kept) - MAX_BACKOFFS)]
    heard = msgspec.structs.replace(state, told_codes=told)
    return _with(heard, (b for b in kept if b not in first_to_go))


def _with(state: State, backoffs: Iterable[Backoff]) -> State:
    """The state with these; a code that none of them has is news when it comes again."""
    kept = tuple(backoffs)
    codes = {b.error_code for b in kept}
    told = tuple(code for code in state.told_codes if code in codes)
    return msgspec.structs.replace(state, backoffs=kept, told_codes=told)


def forget_backoffs(state: State, now_s: int) -> State:
    """Drop what ended long ago: a failure of today is no further one of last week, and is news again."""
    return _with(state, (b for b in state.backoffs if now_s < b.until_s + KEPT_S))


def _counts_on(earlier: Backoff, pool: Pool, code: str) -> bool:
    if lasts(code):
        return earlier.error_code == code or (earlier.pool == pool and lasts(earlier.error_code))
    return earlier.pool == pool and cause_of(earlier.error_code) is cause_of(code)


def wait_s(cause: Cause, failures: int, policy: Policy, *, spread: float) -> int:
    """Seconds to wait after so many failures in a row.

    Busy: seconds, spread by chance so that those who were turned away together do not come back together (AWS builders'
    library, "Timeouts, retries, and backoff with jitter"). Else the policy's `capacity` times.
    """
    doublings = min(failures - 1, 30)
    if cause is Cause.BUSY:
        longest = min(BUSY_WAIT_S << doublings, MAX_BUSY_WAIT_S)
        return max(1, round(longest * (1 + spread) / 2))
    return min(policy.capacity.back_off_s << doublings, policy.capacity.max_back_off_s)


def spread_of(random_id: str) -> float:
    """A number from 0 to 1 that follows from an id which nobody else has: the chance that is passed in."""
    return zlib.crc32(random_id.encode()) / 0xFFFFFFFF


def pools_gave(state: State, pools: Iterable[Pool]) -> State:
    """These gave what was asked: forget their failures, and every failure of a lasting cause that they had."""
    gave = {*pools, LAUNCH_PATH}
    cured = {b.error_code for b in state.backoffs if b.pool in gave and lasts(b.error_code)}
    return _with(state, (b for b in state.backoffs if b.pool not in gave and b.error_code not in cured))


def call_answered(state: State) -> State:
    """EC2 took the call, whatever its pools gave."""
    return _with(state, (b for b in state.backoffs if b.pool != LAUNCH_PATH))


def path_held(state: State, now_s: int) -> Backoff | None:
    """Why no launch is sent at all now; None where it may be."""
    return next((b for b in state.backoffs if b.pool == LAUNCH_PATH and now_s < b.until_s), None)


def left_alone(state: State, now_s: int) -> dict[Pool, str]:
    """Pools that are not asked now, with the error code that each gave last."""
    return {b.pool: b.error_code for b in state.backoffs if now_s < b.until_s}


def untold(state: State, codes: Iterable[str]) -> frozenset[str]:
    """Which of these codes people have not heard of since they began."""
    return frozenset(code for code in codes if code[:MAX_CODE] not in state.told_codes)


def codes_told(state: State, codes: Iterable[str]) -> State:
    """People have heard of them: not again, until they change or end. What no back-off has any more has ended."""
    fresh = [code[:MAX_CODE] for code in codes]
    there = {*fresh, *(b.error_code for b in state.backoffs)}
    heard = dict.fromkeys(code for code in (*state.told_codes, *fresh) if code in there)
    return msgspec.structs.replace(state, told_codes=tuple(heard))


def refused_in_a_row(state: State, now_s: int, *, kept_s: int) -> int:
    """Launches in a row that a lasting cause refused, until `kept_s` after the wait for the next one."""
    return max((b.failures for b in state.backoffs if lasts(b.error_code) and now_s <= b.until_s + kept_s), default=0)

"""What is remembered of workers, pools and owners, and forgotten in time: pure `State -> State` functions."""

from collections.abc import Container, Iterable
from typing import Final

import msgspec

from autoscaler.model import HeldWorker, Joined, JoinFailures, LaunchRequest, OwnerLaunches, Removed, State, Why
from autoscaler.policy import Policy
from autoscaler.state.backoffs import forget_backoffs
from autoscaler.state.modes import operators_mode
from autoscaler.state.moved import still_meaning
from autoscaler.state.notices import INTERRUPTION, RETIREMENT, is_to_be_forgotten
from autoscaler.state.replacing import failed_lately
from autoscaler.state.zones import zones_with_meaning

OWNER_KEPT_S: Final = 3600
MAX_OWNERS_BYTES: Final = 12 * 1024
"""Launches are remembered for this many owners; more of them wait until some are forgotten."""
OWNER_RECORD_BYTES: Final = 200
MAX_REMOVED: Final = 50
REMOVED_KEPT_S: Final = 3600
MAX_JOINED: Final = 100
LISTED_AFTER_S: Final = 300
"""DescribeInstances lists for certain what was launched that long ago (AWS: the EC2 API is eventually consistent)."""
MAX_HELD_WORKERS: Final = 30
REFUSED_REASON: Final = 80
"""Characters of a reason that are kept."""
REFUSED_AT_MOST: Final = 4
"""A worker that is refused again and again is asked again after this many times `scale_down.refused_for_s`."""
_TAKING: Final = frozenset({INTERRUPTION, RETIREMENT})
METRICS_LAG_S: Final = 300
"""Metrics may be this much older than the answer that shows them (Prometheus looks back five minutes)."""
TOLERATED_JOIN_FAILURES: Final = 1
"""One launch that fails is replaced at once: it happens. From the second in a row on the cause is not the machine."""
JOIN_TIMES: Final = 8
"""So many of the last joins are remembered."""
JOIN_WAIT_S: Final = 600
MAX_JOIN_WAIT_S: Final = 3600
PROVEN_AFTER_S: Final = 1800
"""A worker that is lost within this time of its launch, by nobody's will, was never a good one."""


def forget_old(state: State, now_s: int) -> State:
    """Drop what has lost its meaning. Called only when something else is written: tidiness is no reason for a write."""
    return msgspec.structs.replace(
        forget_backoffs(state, now_s),
        notices=tuple(n for n in state.notices if not is_to_be_forgotten(n, now_s)),
        held_workers=tuple(r for r in state.held_workers if now_s < r.until_s + OWNER_KEPT_S),
        joined=joined_lately(state, now_s),
        owners=remembered_owners(state, now_s),
        moved=still_meaning(state, now_s),
        zones=zones_with_meaning(state, now_s),
        join_failures=None
        if state.join_failures and state.join_failures.until_s + OWNER_KEPT_S < now_s
        else state.join_failures,
        replacement_failed=failed_lately(state, now_s),
        mode=None if operators_mode(state.mode, now_s) is None else state.mode,
    )


def join_failed(state: State, *, launched_at_s: int, now_s: int, after_ready: bool = False, cause: str = "") -> State:
    """A worker launched then did not come, or did not last. From the second launch in a row on the next one waits.

    Not for what we removed ourselves (`was_removed`). The wait doubles each time. `cause`: EC2's word why it ended it.
    """
    known = state.join_failures
    if known is not None and launched_at_s < known.failed_at_s:
        return state
    failures = 1 if known is None else known.failures + 1
    doublings = failures - TOLERATED_JOIN_FAILURES - 1
    wait_s = 0 if doublings < 0 else min(JOIN_WAIT_S * 2**doublings, MAX_JOIN_WAIT_S)
    fresh = JoinFailures(
        failures=failures,
        failed_at_s=now_s,
        until_s=now_s + wait_s,
        after_ready=after_ready or (known is not None and known.after_ready),
        cause=cause,
    )
    return msgspec.structs.replace(state, join_failures=fresh)


def worker_joined(state: State) -> State:
    """What is launched joins: earlier failures to join mean nothing any more; losses after it was Ready still do."""
    if state.join_failures is not None and state.join_failures.after_ready:
        return state
    return workers_stay(state)


def joined_after(state: State, seconds: int) -> State:
    """A worker was seen Ready that long after its launch."""
    return msgspec.structs.replace(state, join_times_s=(*state.join_times_s, max(0, seconds))[-JOIN_TIMES:])


def not_listed_yet(state: State, instance_id: str, request: LaunchRequest, *, now_s: int) -> State:
    """A worker joined while EC2's list may not show it for certain: what its launch said of it is kept till then."""
    worker = Joined(instance_id=instance_id, joined_at_s=now_s, pool=request.pool, market=request.market)
    return msgspec.structs.replace(state, joined=(*state.joined, worker)[-MAX_JOINED:])


def joined_lately(state: State, now_s: int) -> tuple[Joined, ...]:
    """Those that EC2's list may lack still: what it lacks later is not ours any more."""
    return tuple(one for one in state.joined if now_s - one.joined_at_s < LISTED_AFTER_S)


def workers_stay(state: State) -> State:
    """A worker launched after the last failure has proven itself: every earlier failure is forgotten."""
    return msgspec.structs.replace(state, join_failures=None)


def only_probes_are_launched(state: State) -> bool:
    """Whether so many launches in a row failed that one worker at a time is tried."""
    return state.join_failures is not None and state.join_failures.failures > TOLERATED_JOIN_FAILURES


def was_removed(state: State, instance_id: str) -> bool:
    """Whether a removal of ours ended, or will end, this machine: its loss is nobody's failure."""
    ids = {r.instance_id for r in state.removals} | {r.instance_id for r in state.removed}
    return instance_id in ids


def taken_by_ec2(state: State, instance_id: str) -> bool:
    """Whether EC2 said that it would take this machine."""
    return any(n.subject == instance_id and n.kind in _TAKING for n in state.notices)


def maybe_still_shown(state: State, instance_id: str, metrics_at_s: int | None) -> bool:
    """Whether a Node that is shown may be that of a removal which ended after these metrics were scraped."""
    return any(removed.instance_id == instance_id and not _is_newer(metrics_at_s, removed) for removed in state.removed)


def forget_removed(state: State, shown: Container[str], *, metrics_at_s: int | None, now_s: int) -> State:
    """Drop what metrics that are newer do not show any more, and what is old. `shown`: instance ids with a Node.

    As `forget_old`, called only when something else is written. `metrics_at_s` is None where the Nodes are not known.
    """
    kept = tuple(
        removed
        for removed in state.removed
        if now_s - removed.ended_at_s < REMOVED_KEPT_S
        and (removed.instance_id in shown or not _is_newer(metrics_at_s, removed))
    )
    return msgspec.structs.replace(state, removed=kept)


def _is_newer(metrics_at_s: int | None, removed: Removed) -> bool:
    return metrics_at_s is not None and metrics_at_s - removed.ended_at_s >= METRICS_LAG_S


def remember_refusal(
    state: State,
    node_name: str,
    reason: str,
    *,
    now_s: int,
    policy: Policy,
    at_least_s: int = 0,
    by_ec2: bool = False,
) -> State:
    """Do not nominate this worker again for a while, twice as long each time in a row; its removal forgets it."""
    failures = times_refused(state, node_name) + 1
    wait_s = max(at_least_s, policy.scale_down.refused_for_s * min(2 ** (failures - 1), REFUSED_AT_MOST))
    fresh = HeldWorker(
        node_name=node_name, reason=reason[:REFUSED_REASON], until_s=now_s + wait_s, failures=failures, by_ec2=by_ec2
    )
    others = no_longer_held(state, node_name).held_workers
    return msgspec.structs.replace(state, held_workers=(*others, fresh)[-MAX_HELD_WORKERS:])


def times_refused(state: State, node_name: str) -> int:
    """How often in a row the removal of this worker was refused or failed."""
    return next((r.failures for r in state.held_workers if r.node_name == node_name), 0)


def held_lately(state: State, node_name: str, now_s: int, *, gone: bool = False) -> Why | None:
    """Why this worker is left alone now; None when it may be asked again. EC2 holds no machine that is `gone`."""
    held = next((one for one in state.held_workers if one.node_name == node_name and now_s < one.until_s), None)
    if held is None or (gone and held.by_ec2):
        return None
    return Why("held", f"{held.reason}; asked again in {held.until_s - now_s} s", held.until_s)


def no_longer_held(state: State, node_name: str) -> State:
    """Forget what a worker was refused for."""
    return msgspec.structs.replace(state, held_workers=tuple(r for r in state.held_workers if r.node_name != node_name))


def remembered_owners(state: State, now_s: int) -> tuple[OwnerLaunches, ...]:
    """What is known of launches made for pod owners, without what has lost its meaning."""
    return tuple(o for o in state.owners if now_s - o.launched_at_s < OWNER_KEPT_S or now_s < o.retry_at_s)


def owner_bytes(record: OwnerLaunches) -> int:
    """What one record takes of `MAX_OWNERS_BYTES`, with the id and the zones that its launch adds."""
    return len(record.owner.encode()) + OWNER_RECORD_BYTES


def launched_for(state: State, owners: Iterable[str], decision_id: str) -> State:
    """Note that this decision launches for these owners, where anything is remembered of them.

    Of an owner of which nothing is, nobody asks whether a launch is under way for it.
    """
    asked = set(owners)
    records = tuple(
        msgspec.structs.replace(o, decision_id=decision_id) if o.owner in asked else o for o in state.owners
    )
    return msgspec.structs.replace(state, owners=records)


def owners_under_way(state: State) -> frozenset[str]:
    """Owners of which something is remembered and for which a launch is open."""
    decisions = {launch.operation_id.rsplit("-l", 1)[0] for launch in state.launches}
    old = (owner for launch in state.launches for owner in launch.for_owners)
    return frozenset((*old, *(o.owner for o in state.owners if o.decision_id in decisions)))


def remember_owner(state: State, record: OwnerLaunches) -> State:
    """Replace what is known of the launches made for one pod owner."""
    return msgspec.structs.replace(state, owners=(*(o for o in state.owners if o.owner != record.owner), record))

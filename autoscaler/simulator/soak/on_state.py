"""Invariants of the protocol: what may be written into the state, and by whom."""

from typing import Final

import msgspec

from autoscaler.model import OPERATION_TAG, LaunchOperation, Mode, Notice, RemovalOperation, RemovalPhase, State
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, INVOCATION_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.watch import Saved, Watch

LEASE_LASTS_S: Final = INVOCATION_S + 10
"""The invocation's time and the margin for its last call."""
MAX_BYTES: Final = 64 * 1024
MAX_OPERATIONS: Final = 50

FORWARD: Final = {
    RemovalPhase.INSPECTING: {RemovalPhase.TERMINATING, RemovalPhase.DELETING},
    RemovalPhase.DRAINING: {
        RemovalPhase.DRAINED,
        RemovalPhase.TERMINATING,
        RemovalPhase.DELETING,
        RemovalPhase.UNCORDONING,
    },
    RemovalPhase.DRAINED: {RemovalPhase.TERMINATING, RemovalPhase.DELETING, RemovalPhase.UNCORDONING},
    RemovalPhase.TERMINATING: {RemovalPhase.DELETING},
    RemovalPhase.DELETING: set(),
    RemovalPhase.UNCORDONING: {RemovalPhase.DELETING},
}
"""Said here once more on purpose: an invariant that read the core's own table would move with it."""

GIVEN_BACK: Final = (RemovalPhase.TERMINATING, RemovalPhase.UNCORDONING)


def fence_only_rises(watch: Watch, saved: Saved) -> str | None:
    """Every acquisition of the lease raises the fence, by one or above all others; nothing lowers it."""
    old, new = saved.old, saved.new
    acquired = new.lease is not None and (old.lease is None or old.lease.owner != new.lease.owner)
    allowed = {old.fence + 1} if acquired else {old.fence}
    if new.lease is not None and new.lease.owner in saved.seen.ids:
        allowed.add(old.fence + 1)  # its own lost write, found and taken once more
    if acquired and abs(new.fence - watch.cluster.now_s) < LEASE_LASTS_S:
        allowed.add(new.fence)  # a command was fenced off, and the next one carries the time
    if new.fence not in allowed:
        return f"the fence went from {old.fence} to {new.fence}" + (" with a new owner" if acquired else "")
    return None


def lease_is_respected(watch: Watch, saved: Saved) -> str | None:
    """While a lease has not expired, others write facts and the operator's mode, and nothing else."""
    lease = saved.old.lease
    if lease is None or lease.owner in saved.seen.ids:
        return None
    if watch.cluster.now_s + CLOCKS_DIFFER_S / 2 + 1 >= lease.expires_at_s:
        return None
    if _without_facts(saved.new) == _without_facts(saved.old):
        return None
    left_s = lease.expires_at_s - watch.cluster.now_s
    return f"{saved.by.process.name} wrote while {lease.owner} held the lease for {left_s:.0f} s more"


def only_the_owner_changes_operations(_watch: Watch, saved: Saved) -> str | None:
    """Whoever changes more than facts holds the lease in what it writes, or has just let go of it."""
    old = saved.old
    if saved.new.mode is not None and saved.new.mode.mode is Mode.OBSERVE:
        # Who only observes asks EC2 what a launch would freeze, and leaves alone what it refuses.
        old = msgspec.structs.replace(old, backoffs=saved.new.backoffs)
    if _without_facts(saved.new) == _without_facts(old):
        return None
    for lease in (saved.new.lease, saved.old.lease):
        if lease is not None:
            owner = lease.owner
            return None if owner in saved.seen.ids else f"{saved.by.process.name} wrote under the lease of {owner}"
    return f"{saved.by.process.name} changed operations without a lease"


def lease_is_short(watch: Watch, saved: Saved) -> str | None:
    """A lease ends with the Lambda that holds it, and ten seconds."""
    lease = saved.new.lease
    latest_s = saved.by.began_s + saved.by.skew_s + LEASE_LASTS_S + 1
    if lease is not None and lease.owner in saved.seen.ids and lease.expires_at_s > latest_s:
        return f"the lease lasts {lease.expires_at_s - watch.cluster.now_s:.0f} s"
    return None


def phases_move_forward(watch: Watch, saved: Saved) -> str | None:
    """A removal never goes back, but for one that EC2 itself refuses to end, or that the present speaks against."""
    new = {removal.operation_id: removal for removal in saved.new.removals}
    for removal in saved.old.removals:
        now = new.get(removal.operation_id)
        if removal.instance_id in watch.cluster.ec2.bill.protected_terminations:
            continue
        given_back = now is not None and (removal.phase, now.phase) == GIVEN_BACK
        if given_back and (_speaks_against_the_end(watch, removal) or not saved.seen.metrics_complete):
            continue
        if now is not None and now.phase is not removal.phase and now.phase not in FORWARD[removal.phase]:
            return f"removal {removal.operation_id} went from {removal.phase} to {now.phase}"
    return None


def _speaks_against_the_end(watch: Watch, removal: RemovalOperation) -> bool:
    """Whether a machine that was to end was open, busy or somebody else's just now, or EC2 did not take it in time."""
    instance_id = removal.instance_id
    if removal.reclaim or instance_id in watch.truth.untagged_s:
        return True
    lately = watch.truth.lately(NOTICED_WITHIN_S)
    return any(instance_id not in m.closed or instance_id in m.busy | m.keeping for m in lately)


def launches_only_accumulate(_watch: Watch, saved: Saved) -> str | None:
    """An open launch keeps its request to the letter, its ids, and the knowledge that it landed."""
    new = {launch.operation_id: launch for launch in saved.new.launches}
    for launch in saved.old.launches:
        now = new.get(launch.operation_id)
        if now is None:
            continue
        if now.request != launch.request:
            return f"launch {launch.operation_id} changed its request"
        if lost := _ids(launch) - _ids(now):
            return f"launch {launch.operation_id} forgot {sorted(lost)}"
        if launch.landed and not now.landed:
            return f"launch {launch.operation_id} forgot that it landed"
    return None


def one_removal_per_worker(_watch: Watch, saved: Saved) -> str | None:
    """No worker is in two removals at once."""
    ids = [removal.instance_id for removal in saved.new.removals]
    twice = {instance_id for instance_id in ids if ids.count(instance_id) > 1}
    return f"{sorted(twice)} are in two removals" if twice else None


def removal_ends_only_when_it_is_done(watch: Watch, saved: Saved) -> str | None:
    """A removal that terminates closes when the machine has gone, one that deletes when the Node has.

    A machine of which nothing has ended yet may turn out to be Ready, be taken up anew, or be given back: where EC2
    refuses to end it, or a server let it go too long ago.
    """
    kept = {removal.operation_id for removal in saved.new.removals}
    stays = {removal.instance_id for removal in new_removals(saved)}
    stays |= {i for moment in watch.truth.lately(NOTICED_WITHIN_S) for i in moment.ready}
    for removal in saved.old.removals:
        if removal.operation_id in kept:
            continue
        instance_id, node = removal.instance_id, watch.truth.node_of(removal.instance_id)
        kept_by_ec2 = not removal.node_name and instance_id in watch.cluster.ec2.bill.protected_terminations
        given_back = kept_by_ec2 or instance_id in stays or watch.answers.let_go(removal.operation_id)
        if removal.phase is RemovalPhase.TERMINATING and watch.truth.alive(instance_id) and not given_back:
            return f"removal {removal.operation_id} closed, and {instance_id} lives"
        if removal.phase is not RemovalPhase.DELETING or node is None:
            continue
        # One that was never seen goes by the name that workers register under; repair finds it under its own.
        if node.name == f"worker-{instance_id}":
            return f"removal {removal.operation_id} closed, and the Node {node.name} is still there"
    return None


def launch_ends_only_when_it_is_done(watch: Watch, saved: Saved) -> str | None:
    """A launch closes when each of its living instances was Ready, is being removed, or was stopped by a person."""
    kept = {launch.operation_id for launch in saved.new.launches}
    leaving = {removal.instance_id for removal in saved.new.removals}
    closed = {launch.operation_id for launch in saved.old.launches} - kept
    if not closed:
        return None
    for instance in watch.cluster.ec2.instances.values():
        operation_id = instance.tags.get(OPERATION_TAG)
        if (
            operation_id not in closed
            or not watch.truth.alive(instance.instance_id)
            or instance.instance_id in watch.truth.stopped
        ):
            continue
        if instance.instance_id not in watch.truth.ever_ready | leaving | watch.truth.untagged_s.keys():
            return f"launch {operation_id} closed, and {instance.instance_id} of it has not joined"
    return None


def state_stays_small(watch: Watch, saved: Saved) -> str | None:
    """Below 64 KB, with at most 50 open operations."""
    count = len(saved.new.launches) + len(saved.new.removals)
    size = len(watch.cluster.item.data)
    if count > MAX_OPERATIONS or size > MAX_BYTES:
        return f"{count} open operations, {size} bytes"
    return None


def new_removals(saved: Saved) -> list[RemovalOperation]:
    """Removals that this write opens."""
    known = {removal.operation_id for removal in saved.old.removals}
    return [removal for removal in saved.new.removals if removal.operation_id not in known]


def new_launches(saved: Saved) -> list[LaunchOperation]:
    """Launches that this write opens."""
    known = {launch.operation_id for launch in saved.old.launches}
    return [launch for launch in saved.new.launches if launch.operation_id not in known]


def _ids(launch: LaunchOperation) -> set[str]:
    return {*launch.instance_ids, *launch.finished_ids}


def _without_facts(state: State) -> tuple[object, ...]:
    return state.fence, state.lease, state.launches, state.removals, state.backoffs, state.held_workers, state.owners


def notices_of(state: State, kind: str) -> list[Notice]:
    """Notices of one kind."""
    return [notice for notice in state.notices if notice.kind == kind]

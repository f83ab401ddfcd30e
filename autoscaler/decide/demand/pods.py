"""Workers wanted by pods that wait: the packing model, corrected by the scheduler where the two disagree."""

from collections.abc import Container, Sequence
from typing import Final

import msgspec

from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.packing import pack, pack_new
from autoscaler.decide.scheduling.rooms import Room, free_room, new_room, zone_of
from autoscaler.model import Asks, Blocked, NewWorkers, OwnerLaunches, Pod, RemovalPhase, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.state.memory import MAX_OWNERS_BYTES, owner_bytes, owners_under_way, remembered_owners

DISAGREE_AFTER_S: Final = 30
"""A pod unschedulable for longer does not fit, whatever the model finds."""
SETTLED_AFTER_S: Final = 60
"""From then on the scheduler has had its chance on a new node."""
RETRY_S: Final = 600
"""First wait after launches that did not help; doubles."""
MAX_RETRY_S: Final = 6 * 3600


class PodDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What waiting pods ask for."""

    waiting: int
    """Unschedulable pods that a worker of ours could help, as far as anybody knows."""
    new_workers: tuple[NewWorkers, ...]
    """Workers to launch: what pods bind to one zone first, then by instance type in the policy's order."""
    take_back: tuple[str, ...]
    """Operation ids of removals to undo instead, newest first."""
    for_owners: tuple[str, ...]
    """Owners of the pods that the new workers are for."""
    unhelped: tuple[OwnerLaunches, ...]
    """Records to keep if the launch is made: the model had found room, the scheduler had not."""
    blocked: tuple[Blocked, ...]
    asks: Asks = Asks()
    """What has to be seen before any of it is known."""
    distrusted: bool = False
    """Pods wait for which the model finds room and the scheduler does not, and nothing is launched for them now."""

    @property
    def extra(self) -> int:
        """Workers to launch."""
        return sum(new.count for new in self.new_workers)


def owner_of(pod: Pod) -> str:
    """`namespace/kind/name` of the owner, or of the bare pod itself."""
    return f"{pod.namespace}/{pod.owner_kind or 'Pod'}/{pod.owner_name or pod.name}"


def pod_demand(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    displaced: Sequence[Pod] = (),
    just_joined: Container[str] = (),
    at_most: int,
) -> PodDemand:
    """Compute the demand of pods that wait, and of `displaced` pods whose machine is being taken away.

    Only for a snapshot whose `cluster_known` holds. At most `at_most` new workers. `just_joined`: instance ids of
    workers that this look saw Ready for the first time.
    """
    now_s = snapshot.metrics_at_s if snapshot.metrics_at_s is not None else snapshot.taken_at_s
    unbound = [pod for pod in snapshot.pods if not pod.node]
    if not snapshot.rooms_known:
        asked = [pod for pod in unbound if pod.unschedulable_since_s is not None]
        nothing = _nothing(len(asked), [])
        return msgspec.structs.replace(nothing, asks=Asks(rooms=True)) if asked or displaced else nothing
    empty = {t: new_room(t, t, fleet, snapshot.daemons, policy) for t in policy.workers.instance_types}
    waiting, blocked = _helpable(unbound, tuple(empty.values()), policy)
    due = any(now_s - since >= policy.scale_up.pending_for_s for pod in waiting if (since := _since(pod)) is not None)
    if not due and not displaced:
        return _nothing(len(waiting), blocked)
    settled, unsettled = _ready_rooms(fleet, now_s, just_joined)
    coming = _coming_rooms(fleet, state, empty, policy)
    back = _take_back_rooms(fleet)
    old = [pod for pod in waiting if now_s - (_since(pod) or now_s) > DISAGREE_AFTER_S]
    fresh = [pod for pod in waiting if now_s - (_since(pod) or now_s) <= DISAGREE_AFTER_S]
    spare = [room.another(room.key) for room in settled]
    after_old = pack(old, [*unsettled, *coming, *back])
    after_fresh = pack([*fresh, *displaced], [*settled, *unsettled, *coming, *back])
    # One that launches did not help is judged so too where no room is left by now: other workers would not help it.
    failed = {record.owner: record for record in state.owners if record.unhelped}
    disputed = [
        pod
        for pod in after_old.left
        if any(room.accepts(pod) for room in spare) or _outwaited(pod, failed.get(owner_of(pod)))
    ]
    refused, records = _judge_disputed(disputed, state, now_s)
    blocked.extend(Blocked(subject=pod.title, reason=f"unhelped: {reason}") for pod, reason in refused if due)
    out = {pod.uid for pod, _ in refused}
    left: Sequence[Pod] = [pod for pod in (*after_old.left, *after_fresh.left) if pod.uid not in out]
    new_workers, owners = _new_workers(left, empty, at_most=at_most)
    used_back = {*after_old.placed.values(), *after_fresh.placed.values()}
    return PodDemand(
        waiting=len(waiting) - len(out),
        new_workers=new_workers,
        take_back=tuple(
            worker.removal.operation_id
            for worker in take_backable(fleet)
            if worker.removal is not None and worker.key in used_back
        ),
        for_owners=owners,
        unhelped=tuple(record for record in records if record.owner in owners),
        blocked=tuple(blocked),
        distrusted=bool(refused),
    )


def _new_workers(
    pods: Sequence[Pod], empty: dict[str, Room], *, at_most: int
) -> tuple[tuple[NewWorkers, ...], tuple[str, ...]]:
    """Workers for these pods, and their owners. Pods that any zone suits fill up what was opened for one zone."""
    new: list[NewWorkers] = []
    owners: dict[str, None] = {}
    opened: list[Room] = []
    zones = sorted({zone_of(pod) for pod in pods} - {""})
    for zone in (*zones, ""):
        group: Sequence[Pod] = [pod for pod in pods if zone_of(pod) == zone]
        if not zone:
            group = pack(group, opened).left
        for instance_type, template in empty.items():
            room = template.in_zone(zone, template.key) if zone else template
            count, packed = pack_new(group, room, at_most=at_most)
            placed = [pod for pod in group if pod.uid in packed.placed]
            if count:
                new.append(NewWorkers(instance_type, count, zone))
                at_most -= count
                owners.update(dict.fromkeys(owner_of(pod) for pod in placed))
                rooms = [room.another(f"{zone}#{instance_type}#{index}") for index in range(count)]
                pack(placed, rooms)
                opened.extend(rooms)
            group = packed.left
    return tuple(new), tuple(owners)


def _nothing(waiting: int, blocked: list[Blocked]) -> PodDemand:
    return PodDemand(waiting=waiting, new_workers=(), take_back=(), for_owners=(), unhelped=(), blocked=tuple(blocked))


def _since(pod: Pod) -> int | None:
    return pod.unschedulable_since_s


def _helpable(pods: Sequence[Pod], empty: Sequence[Room], policy: Policy) -> tuple[list[Pod], list[Blocked]]:
    """Waiting pods that a new worker could hold, and why the others could not be helped by any."""
    helpable: list[Pod] = []
    blocked: list[Blocked] = []
    largest = max(empty, key=lambda room: (room.free.cpu_millicores, room.free.memory_bytes))
    for pod in pods:
        if pod.unschedulable_since_s is None:
            continue
        if pod.owner_kind == "DaemonSet":
            blocked.append(Blocked(subject=pod.title, reason="daemonset: its node is full; a new worker cannot help"))
        elif any(room.accepts(pod) for room in empty):
            helpable.append(pod)
        elif not pod.requests.fits_in(largest.free):
            blocked.append(
                Blocked(
                    subject=pod.title,
                    reason=f"unfittable: asks {pod.requests.cpu_millicores / 1000:g} CPU and "
                    f"{pod.requests.memory_bytes / 2**20:.0f} MiB; the largest worker ({largest.key}) gives "
                    f"{largest.free.cpu_millicores / 1000:g} CPU and {largest.free.memory_bytes / 2**20:.0f} MiB",
                )
            )
        else:
            wanted = ", ".join(f"{key}={value}" for key, value in pod.node_selector)
            types = ", ".join(policy.workers.instance_types)
            blocked.append(
                Blocked(subject=pod.title, reason=f"unfittable: no worker of {types} has the labels {wanted or '-'}")
            )
    return helpable, blocked


def _outwaited(pod: Pod, record: OwnerLaunches | None) -> bool:
    """Whether the pod waited already when that launch was made for its owner."""
    since_s = pod.unschedulable_since_s
    return record is not None and since_s is not None and since_s <= record.launched_at_s


def _ready_rooms(fleet: FleetView, now_s: int, just_joined: Container[str]) -> tuple[list[Room], list[Room]]:
    """Rooms where the scheduler has had its chance, and rooms too new for that."""
    settled: list[Room] = []
    unsettled: list[Room] = []
    for worker in fleet.having(Standing.READY):
        room = free_room(worker) if worker.schedulable else None
        if room is None or worker.node is None or worker.node.created_at_s is None:
            continue
        # A Node may need longer than that from its creation to Ready: what was not Ready before is new as well.
        is_new = (
            now_s - worker.node.created_at_s < SETTLED_AFTER_S or worker.launch is not None or worker.key in just_joined
        )
        (unsettled if is_new else settled).append(room)
    return settled, unsettled


def _coming_rooms(fleet: FleetView, state: State, empty: dict[str, Room], policy: Policy) -> list[Room]:
    """A room for every worker on its way, identified or not."""
    rooms: list[Room] = []
    for worker in fleet.having(Standing.JOINING):
        if worker.removal is not None:  # on its way back: what is on it stays on it
            room = free_room(worker)
            if room is not None:
                rooms.append(room)
            continue
        instance_type = worker.instance.instance_type if worker.instance is not None else ""
        template = empty.get(instance_type) or empty[policy.workers.instance_types[0]]
        zone = worker.zone
        rooms.append(template.another(worker.key) if zone is None else template.in_zone(zone, worker.key))
    unidentified = [
        launch.request.overrides[0]
        for launch in state.launches
        for _ in range(launch.unidentified)
        if launch.request.overrides
    ]
    for index, asked in enumerate(unidentified[: fleet.unidentified]):
        template = empty.get(asked.instance_type) or empty[policy.workers.instance_types[0]]
        rooms.append(template.in_zone(asked.zone, f"unidentified#{index}"))
    return rooms


def take_backable(fleet: FleetView) -> list[Worker]:
    """Workers whose drain may still be undone, newest operation first."""
    candidates = [
        worker
        for worker in fleet.having(Standing.LEAVING)
        if worker.removal is not None
        and worker.removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED}
        and not worker.removal.reclaim
        and worker.node is not None
        and worker.node.ready is True
    ]
    return sorted(candidates, key=lambda w: -(w.removal.created_at_s if w.removal is not None else 0))


def _take_back_rooms(fleet: FleetView) -> list[Room]:
    return [room for worker in take_backable(fleet) if (room := free_room(worker)) is not None]


def _judge_disputed(
    disputed: Sequence[Pod], state: State, now_s: int
) -> tuple[list[tuple[Pod, str]], tuple[OwnerLaunches, ...]]:
    """Pods that the model had placed and the scheduler had not: once more elsewhere, then ever more rarely.

    A record counts against an owner only while one of its pods has waited since before that launch: pods that came
    later say nothing about whether it helped. Nor does anything while the launch is still under way.
    """
    records_of = {record.owner: record for record in state.owners}
    stuck = {owner_of(pod) for pod in disputed if _outwaited(pod, records_of.get(owner_of(pod)))}
    known = {owner: record for owner, record in records_of.items() if owner in stuck}
    under_way = owners_under_way(state)
    remembered = {record.owner: owner_bytes(record) for record in remembered_owners(state, now_s)}
    left_bytes = MAX_OWNERS_BYTES - sum(remembered.values())
    refused: list[tuple[Pod, str]] = []
    records: dict[str, OwnerLaunches] = {}
    for pod in disputed:
        owner = owner_of(pod)
        record = known.get(owner)
        if record is not None and now_s < record.retry_at_s:
            reason = f"{record.unhelped + 1} launches did not help; tried again after {record.retry_at_s - now_s} s"
            refused.append((pod, reason))
            continue
        unhelped = 0 if record is None else record.unhelped + (owner not in under_way)
        wait_s = 0 if unhelped == 0 else min(RETRY_S * 2 ** (unhelped - 1), MAX_RETRY_S)
        fresh = OwnerLaunches(
            owner=owner,
            launched_at_s=now_s,
            zones=record.zones if record is not None else (),
            unhelped=unhelped,
            retry_at_s=now_s + wait_s,
        )
        if owner not in records and owner not in remembered:
            # A launch that nobody remembers would be made again and again for a pod that it does not help.
            if left_bytes < owner_bytes(fresh):
                refused.append((pod, "launches are remembered for as many owners as the state holds"))
                continue
            left_bytes -= owner_bytes(fresh)
        records[owner] = fresh
    return refused, tuple(records.values())

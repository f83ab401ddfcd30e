"""Workers that are replaced although they work: too old, or not what a launch would give now.

What a launch would give is observed: the servers' K3s, the image of the worker that was launched last from the same
template, the template's latest version. Unknown is not drifted.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from autoscaler.decide.capacity.catalogue import UnknownInstanceType, nominal_resources
from autoscaler.decide.capacity.pools import pool_of
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look
from autoscaler.decide.removal.replace import Wish
from autoscaler.model import Asks, NewWorkers, Replacement, Resources, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.state.memory import was_removed
from autoscaler.state.replacing import ROTATION

MAX_AGE: Final = "max_age"
K3S_VERSION: Final = "k3s_version"
IMAGE: Final = "image"
TEMPLATE: Final = "template"


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be rotated, the oldest first, and what has to be seen to know of the others."""

    wishes: tuple[Wish, ...] = ()
    asks: Asks = Asks()


def due(look: Look, state: State, fleet: FleetView) -> Due:
    """Ready workers of ours that are too old or have drifted."""
    rotation = look.policy.rotation
    if not rotation:
        return Due()
    wishes = []
    for worker in _ours(fleet, state):
        reason = next(_reasons(look, worker, fleet, state), None)
        if reason is not None:
            cause, why = reason
            wishes.append(
                Wish(
                    worker=worker,
                    reason=ROTATION,
                    cause=cause,
                    why=why,
                    launches=(one_like(worker, look.policy),),
                )
            )
    seen = look.snapshot
    unseen = TEMPLATE in rotation.drift and seen.templates is None and not seen.templates_problem
    return Due(wishes=tuple(wishes), asks=Asks(templates=unseen))


def in_vain(look: Look, replacement: Replacement, new: Worker) -> str | None:
    """Why one that was launched for a rotation is no better: rotating on would replace worker after worker by the same.

    Only of K3s: launches take the version that a parameter names, servers the one that they were upgraded to.
    """
    if replacement.cause != K3S_VERSION:
        return None
    wanted = servers_version(look.snapshot)
    if wanted is None or new.node is None or new.node.kubelet_version in {"", wanted}:
        return None
    return f"the new {new.title} runs K3s {new.node.kubelet_version} too, not the servers' {wanted}"


def servers_version(snapshot: Snapshot) -> str | None:
    """The K3s that all servers run; None while they differ, or it is not told of each."""
    versions = {node.kubelet_version for node in snapshot.nodes if node.control_plane}
    return versions.pop() if len(versions) == 1 and "" not in versions else None


def one_like(worker: Worker, policy: Policy) -> NewWorkers:
    """A worker of its pool in its zone that holds as much: of its type, or of the first of the pool's that does.

    Where none does, of the first: whether its pods fit there is judged before it is launched.
    """
    pool = pool_of(worker, policy) or policy.default_pool
    types = pool.instance_types
    kind = worker.instance.instance_type if worker.instance is not None else ""
    if kind not in types:
        size = _size(kind, worker, policy)
        kind = next((t for t in types if size.fits_in(nominal_resources(t, policy))), types[0])
    return NewWorkers(kind, 1, worker.zone or "", pool=pool.name)


def _size(instance_type: str, worker: Worker, policy: Policy) -> Resources:
    """What such a worker offers by the catalogue, as the new ones are judged; else what this one does."""
    try:
        return nominal_resources(instance_type, policy)
    except UnknownInstanceType:
        seen = worker.node.allocatable if worker.node is not None else None
        return seen if seen is not None else Resources()


def _ours(fleet: FleetView, state: State) -> list[Worker]:
    return [w for w in fleet.having(Standing.READY) if w.ours and not was_removed(state, w.key)]


def _reasons(look: Look, worker: Worker, fleet: FleetView, state: State) -> Iterator[tuple[str, str]]:
    """Each cause for which it is due, with its words."""
    rotation, instance, node = look.policy.rotation, worker.instance, worker.node
    if instance is None or node is None:
        return
    age_s = look.now_s - instance.launched_at_s
    if rotation.max_age_s is not None and age_s >= rotation.max_age_s:
        yield MAX_AGE, f"it is {age_s} s old and rotation.max_age_s is {rotation.max_age_s}"
    wanted = servers_version(look.snapshot)
    if K3S_VERSION in rotation.drift and wanted is not None and node.kubelet_version not in {"", wanted}:
        yield K3S_VERSION, f"it runs K3s {node.kubelet_version} and the servers {wanted}"
    if TEMPLATE in rotation.drift and instance.template_id:
        latest = dict(look.snapshot.templates or ()).get(instance.template_id)
        if latest is not None and instance.template_version not in {"", latest}:
            yield TEMPLATE, f"its launch template's version is {instance.template_version}, and {latest} is the latest"
    if IMAGE in rotation.drift and instance.image_id:
        last = max((w for w in _ours(fleet, state) if _same_template(w, worker)), key=_launched).instance
        if last is not None and last.image_id not in {"", instance.image_id}:
            yield IMAGE, f"its image is {instance.image_id}, and the last launch got {last.image_id}"


def _launched(worker: Worker) -> tuple[int, str]:
    """When; EC2's launch time is of the last start, and who was stopped meanwhile has a Node that is older than it."""
    times = [worker.instance.launched_at_s] if worker.instance is not None else []
    times += [worker.node.created_at_s] if worker.node is not None and worker.node.created_at_s is not None else []
    return min(times, default=0), worker.key


def _same_template(one: Worker, other: Worker) -> bool:
    """Images are compared within one template: another may be of another architecture."""
    a, b = one.instance, other.instance
    return a is not None and b is not None and a.template_id == b.template_id

"""What pods asked for all through the shrink window: what left a moment ago, and comes back, must find its room.

Measured use has a window by itself; requests change from one second to the next. Replicas that swing every few minutes
would launch and remove the same workers again and again.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from autoscaler.decide.fleet import Worker
from autoscaler.decide.removal.elsewhere import movable_pods
from autoscaler.model import Node, Resources, Snapshot, Why

_NONE: Final = Resources()


def not_known(workers: Iterable[Worker], window_s: int) -> str | None:
    """Whose window has a gap, or is not recorded at all; None where all are whole."""
    gaps = (worker.title for worker in workers if worker.node is None or worker.node.requested_most is None)
    of = list(dict.fromkeys(gaps))
    if not of:
        return None
    more = f" and {len(of) - 1} more" if len(of) > 1 else ""
    return (
        f"it is not known what pods asked of {of[0]}{more} for all of the last {window_s} s: where it never is, "
        "load the present rules (make rules, docs/metrics.md)"
    )


def at_highest(snapshot: Snapshot) -> Snapshot:
    """The snapshot with each Node as full as it was at its fullest in the window."""
    nodes = tuple(msgspec.structs.replace(node, requested=_highest(node)) for node in snapshot.nodes)
    return msgspec.structs.replace(snapshot, nodes=nodes)


def left_with_others(snapshot: Snapshot) -> Resources:
    """What pods asked for at one time of the window beyond what the present workers held at most: it left with others.

    Else each removal of one shrink would be judged by what left its own worker, and the same room given to all of them.
    """
    there = (_highest(node) for node in snapshot.nodes if not node.control_plane)
    held = sum((highest for highest in there if highest is not None), start=Resources())
    most = snapshot.requested_at_once
    return Resources(
        cpu_millicores=max(0, most.cpu_millicores - held.cpu_millicores),
        memory_bytes=max(0, most.memory_bytes - held.memory_bytes),
    )


def lacks_room(
    leaving: Sequence[Worker],
    places: Sequence[Worker],
    window_s: int,
    *,
    elsewhere: Resources = _NONE,
    new: Resources = _NONE,
) -> Why | None:
    """Why pods that ran there in the window and do now could not all run on the places, each at its fullest.

    `elsewhere`: what left with other workers; `new`: what those have free that come for the leaving.

    The filters judge the pods that are there. Of those that left nothing is known but their sum: it is held against the
    sum of what is free, which is not too much where they were small, and may be where one was large.
    """
    left = sum((_left(worker.node) for worker in leaving), start=elsewhere)
    if left == Resources():
        return None
    need = sum((pod.requests for worker in leaving for pod in movable_pods(worker)), start=left)
    gone = {worker.key for worker in leaving}
    free = sum((_free(place.node) for place in places if place.key not in gone), start=new)
    if need.fits_in(free):
        return None
    there = "it" if len(leaving) == 1 else "these"
    there += " and on workers that are gone" if elsewhere != Resources() else ""
    asked = f"in the last {window_s} s pods on {there} asked for up to {_in_words(need)}"
    return Why("needed", f"{asked}, and {_in_words(free)} is free on the others")


def _highest(node: Node) -> Resources | None:
    return node.requested + _left(node) if node.requested is not None else None


def _left(node: Node | None) -> Resources:
    """What pods that have left held at most, beyond what those hold that are there."""
    if node is None or node.requested is None or node.requested_most is None:
        return Resources()
    now, most = node.requested, node.requested_most
    return Resources(
        cpu_millicores=max(0, most.cpu_millicores - now.cpu_millicores),
        memory_bytes=max(0, most.memory_bytes - now.memory_bytes),
        pods=max(0, most.pods - (node.movable or 0)),
    )


def _free(node: Node | None) -> Resources:
    highest = _highest(node) if node is not None else None
    if node is None or node.allocatable is None or highest is None:
        return Resources()
    left = node.allocatable - highest
    return Resources(
        cpu_millicores=max(0, left.cpu_millicores), memory_bytes=max(0, left.memory_bytes), pods=max(0, left.pods)
    )


def _in_words(amount: Resources) -> str:
    return f"{amount.cpu_millicores}m CPU, {amount.memory_bytes // 2**20} MiB and {amount.pods} pods"

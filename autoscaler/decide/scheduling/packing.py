"""First-fit-decreasing of pods into rooms: how many more workers would hold what waits.

The model knows requests and node selectors; kube-state-metrics shows no affinity, spread or host ports, so it may err
both ways. The scheduler stays the oracle: demand/pods.py says what happens when it disagrees.
"""

from collections.abc import Iterable, Sequence

import msgspec

from autoscaler.decide.scheduling.rooms import Room
from autoscaler.model import Pod


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """Where pods went."""

    placed: dict[str, str]
    """Pod uid -> room key."""
    left: tuple[Pod, ...]


def pack(pods: Iterable[Pod], rooms: Sequence[Room]) -> Packed:
    """First-fit-decreasing; ties by name, so the same input always packs the same way. Changes `rooms`."""
    placed: dict[str, str] = {}
    left: list[Pod] = []
    for pod in sorted(pods, key=_largest_first):
        room = next((room for room in rooms if room.takes(pod)), None)
        if room is None:
            left.append(pod)
        else:
            placed[pod.uid] = room.key
    return Packed(placed=placed, left=tuple(left))


def pack_new(pods: Iterable[Pod], empty: Room, *, at_most: int) -> tuple[int, Packed]:
    """Open copies of the `empty` room as pods need them; returns how many, and what found none."""
    rooms: list[Room] = []
    placed: dict[str, str] = {}
    left: list[Pod] = []
    for pod in sorted(pods, key=_largest_first):
        room = next((room for room in rooms if room.takes(pod)), None)
        if room is None and len(rooms) < at_most:
            fresh = empty.another(f"{empty.key}#{len(rooms)}")
            if fresh.takes(pod):
                rooms.append(fresh)
                room = fresh
        if room is None:
            left.append(pod)
        else:
            placed[pod.uid] = room.key
    return len(rooms), Packed(placed=placed, left=tuple(left))


def _largest_first(pod: Pod) -> tuple[int, int, str, str]:
    return -pod.requests.cpu_millicores, -pod.requests.memory_bytes, pod.title, pod.uid

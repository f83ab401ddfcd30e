"""A recording as plans: stretches without a gap, long ones cut into pieces that processors play side by side.

What the record does not say is told (`notes_of`), and what is assumed in its place too.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from autoscaler.backtest.plan import Change, Plan
from autoscaler.backtest.recording import Group, Recording
from autoscaler.model.rules import Toleration
from autoscaler.simulator.metrics.past import Past
from autoscaler.simulator.world.objects import SYSTEM_BURN_CORES, SYSTEM_MEMORY_BYTES
from autoscaler.simulator.world.workload import Ask, Kind, PodTemplate, Workload

WHOLE_S: Final = 2 * 86_400
"""A stretch that is no longer is played in one piece."""
PIECE_S: Final = 8 * 86_400
"""The longest piece. Where a stretch is cut depends on its length alone, however many processors there are: the same
recording gives the same report everywhere. Equal pieces, and an even number of them: two processors end together."""
LEAD_S: Final = 6 * 3600
"""A later piece begins so much earlier, and counts from its own begin on: a policy looks back for some minutes."""
SHORTEST_STEPS: Final = 2

NOTES: Final = (
    "The history does not say what the scheduler was asked beside CPU and memory: selectors, affinity, spread, "
    "volumes, taints and disruption budgets of its pods are left out, so real pods may need more workers.",
    "Pods of one namespace, kind of owner and size are played as one Deployment. A drain may move them; which real "
    "ones a budget or an annotation held is not known.",
    "Each pod has its share, by requested CPU, of what all workers used. Memory in use is a constant share of what "
    "was requested, the mean of the record.",
    "Pods that ran on servers are left out, and no pod exists that an earlier lack of workers kept from being made.",
    "Workers come up as in the simulator (30 to 55 s), EC2 always has what is asked for, and Spot is paid at a fixed "
    "share of the on-demand price.",
)


def plans_of(recording: Recording, name: str) -> list[Plan]:
    """What is played, in the order of time; gaps are in none of them."""
    plans: list[Plan] = []
    for stretch in recording.stretches():
        if len(stretch) < SHORTEST_STEPS:
            continue
        lead = LEAD_S // recording.step_s
        edges = _edges(stretch, recording.step_s)
        for first, last in pairwise(edges):
            ahead = min(lead, first - stretch.start)
            plans.append(_plan(recording, name, range(first - ahead, last), lead_s=float(ahead * recording.step_s)))
    return plans


def _edges(stretch: range, step_s: int) -> list[int]:
    """The steps at which the pieces begin, and the last one's end."""
    length_s = len(stretch) * step_s
    pieces = 1 if length_s <= WHOLE_S else min(2 * math.ceil(length_s / (2 * PIECE_S)), len(stretch))
    return [stretch.start + len(stretch) * piece // pieces for piece in range(pieces + 1)]


def notes_of(recording: Recording) -> tuple[str, ...]:
    """What the record cannot say, and where it says nothing."""
    stretches = recording.stretches()
    gaps = recording.steps - sum(len(stretch) for stretch in stretches)
    told = []
    if gaps:
        hours = gaps * recording.step_s / 3600
        told.append(
            f"Of {recording.steps * recording.step_s / 3600:.1f} hours {hours:.1f} are not recorded, in "
            f"{_gaps(recording, stretches)} gaps. Nothing is played or counted there, and the fleet begins anew "
            "after each."
        )
    if any(plan.lead_s for plan in plans_of(recording, "")):
        told.append(
            "What is longer than two days is cut into pieces. Each but the first begins six hours early to find its "
            "fleet, which need not be worker for worker that of the piece before."
        )
    told.append(f"What was asked is known every {recording.step_s} s: what came and went in between is not.")
    return (*told, *NOTES, *recording.notes)


def past_of(recording: Recording) -> Past:
    """What a forecast reads of earlier days: what was asked for then; nothing where that is not known."""
    cores = [_asked_millicores(recording, step) / 1000 for step in range(recording.steps)]
    sizes = [float(_asked_bytes(recording, step)) for step in range(recording.steps)]

    def at(at_s: float) -> Mapping[tuple[str, str], float]:
        step = int((at_s - recording.begin_s) // recording.step_s)
        if not 0 <= step < recording.steps or not recording.known(step):
            return {}
        used_cores, used_bytes = recording.used_cores[step] or 0.0, recording.used_bytes[step] or 0.0
        return {
            ("requests", "cpu"): cores[step],
            ("requests", "memory"): sizes[step],
            ("use", "cpu"): used_cores,
            ("use", "memory"): used_bytes,
        }

    return at


def _gaps(recording: Recording, stretches: list[range]) -> int:
    edges = (stretches[0].start > 0) + (stretches[-1].stop < recording.steps) if stretches else 1
    return edges + max(0, len(stretches) - 1)


def _asked_millicores(recording: Recording, step: int) -> int:
    return sum((group.pods[step] or 0) * group.cpu_millicores for group in recording.groups)


def _asked_bytes(recording: Recording, step: int) -> int:
    return sum((group.pods[step] or 0) * group.memory_bytes for group in recording.groups)


def _plan(recording: Recording, name: str, steps: range, *, lead_s: float) -> Plan:
    share = _memory_share(recording)
    groups = [group for group in recording.groups if any(group.pods[step] for step in steps)]
    first = _burns(recording, groups, steps.start)
    base = tuple(
        _workload(group, group.pods[steps.start] or 0, burn, share) for group, burn in zip(groups, first, strict=True)
    )
    changes: list[Change] = []
    before = list(zip((workload.replicas for workload in base), first, strict=True))
    for step in steps[1:]:
        at_s = float((step - steps.start) * recording.step_s)
        for number, (group, burn) in enumerate(zip(groups, _burns(recording, groups, step), strict=True)):
            now = (group.pods[step] or 0, burn)
            if now != before[number] and not (now[0] == before[number][0] == 0):
                changes.append(Change(at_s=at_s, owner=base[number].key, replicas=now[0], burn_cores=burn))
                before[number] = now
    return Plan(
        name=name,
        about="a recorded history",
        hours=len(steps) * recording.step_s / 3600,
        base=base,
        changes=tuple(changes),
        begins_at_s=float(recording.begin_s + steps.start * recording.step_s),
        lead_s=lead_s,
        daemon_sets=tuple(_daemon_set(recording, number) for number in range(len(recording.daemon_sets))),
    )


def _burns(recording: Recording, groups: list[Group], step: int) -> list[float]:
    """Cores that one pod of each group uses: by what it requests, or evenly where nobody requests any."""
    used = (recording.used_cores[step] or 0.0) - (recording.workers[step] or 0) * SYSTEM_BURN_CORES
    counts = [group.pods[step] or 0 for group in groups]
    weights: list[float] = [group.cpu_millicores for group in groups]
    if not any(count * weight for count, weight in zip(counts, weights, strict=True)):
        weights = [1.0] * len(groups)
    whole = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    return [round(max(0.0, used) * weight / whole, 4) if whole else 0.0 for weight in weights]


def _memory_share(recording: Recording) -> float:
    """Of what pods requested, what they used in the mean."""
    asked = used = 0.0
    for step in range(recording.steps):
        if recording.known(step):
            asked += _asked_bytes(recording, step)
            used += max(0.0, (recording.used_bytes[step] or 0.0) - (recording.workers[step] or 0) * SYSTEM_MEMORY_BYTES)
    return used / asked if asked else 0.0


def _workload(group: Group, replicas: int, burn_cores: float, memory_share: float) -> Workload:
    size = f"{group.cpu_millicores}m-{group.memory_bytes}"
    return Workload(
        namespace=group.namespace,
        name=f"{group.kind.lower() or 'bare'}-{size}",
        replicas=replicas,
        template=PodTemplate(
            request=Ask(cpu_millicores=group.cpu_millicores, memory_bytes=group.memory_bytes),
            used_memory_bytes=round(group.memory_bytes * memory_share),
            burn_cores=burn_cores,
            start_s=5.0,
            stop_s=3.0,
        ),
    )


def _daemon_set(recording: Recording, number: int) -> Workload:
    """Its use is part of what the pods are given: it uses nothing of its own here."""
    told = recording.daemon_sets[number]
    return Workload(
        namespace=told.namespace,
        name=told.name,
        kind=Kind.DAEMON_SET,
        template=PodTemplate(
            request=Ask(cpu_millicores=told.cpu_millicores, memory_bytes=told.memory_bytes),
            used_memory_bytes=0,
            tolerations=(Toleration(any_value=True),),
        ),
    )

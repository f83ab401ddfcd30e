"""What workers of each type were like, kept for the day on which none is left to look at."""

from collections.abc import Sequence

import msgspec

from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.labels import CAPACITY_LABEL, OF_ONE_NODE, POOL_LABEL, RealNames, implied, shared
from autoscaler.decide.scheduling.offered import smallest
from autoscaler.model import Resources, SeenType, Snapshot, State

MAX_TYPES = 20
MAX_LABELS_BYTES = 1_500
MUCH = 1.05
"""A type that offers this much more than the smallest that was seen of it has changed: the memory follows."""


def types_seen(snapshot: Snapshot, fleet: FleetView, state: State) -> tuple[SeenType, ...]:
    """The memory brought up to date with this look: it changes seldom, as a change is a write.

    Labels and DaemonSets are those of a look that saw them; others leave what is kept of them.
    """
    kept = {seen.instance_type: seen for seen in state.seen_types}
    by_type: dict[str, list[Worker]] = {}
    for worker in fleet.having(Standing.READY):
        if worker.ours and worker.instance is not None and worker.node is not None:
            by_type.setdefault(worker.instance.instance_type, []).append(worker)
    for instance_type, workers in sorted(by_type.items()):
        offers = [w.node.allocatable for w in workers if w.node is not None and w.node.allocatable is not None]
        if not offers:
            continue
        known = kept.pop(instance_type, None)
        fresh = SeenType(instance_type=instance_type, allocatable=_offered(offers, known))
        if known is not None:
            fresh = msgspec.structs.replace(known, allocatable=fresh.allocatable)
        if snapshot.rooms_known:
            fresh = msgspec.structs.replace(
                fresh, daemons=_together(snapshot), labels=_labels(snapshot, instance_type, workers)
            )
        kept[instance_type] = fresh
    order = {seen.instance_type: number for number, seen in enumerate(state.seen_types)}
    return tuple(sorted(kept.values(), key=lambda seen: order.get(seen.instance_type, len(order))))[-MAX_TYPES:]


def _offered(offers: Sequence[Resources], known: SeenType | None) -> Resources:
    """The smallest of all; only what clearly grew makes it larger again."""
    now = smallest(offers)
    if known is None:
        return now
    before = known.allocatable
    grew = now.cpu_millicores > MUCH * before.cpu_millicores or now.memory_bytes > MUCH * before.memory_bytes
    return now if grew or now.pods != before.pods else smallest([now, before])


def _together(snapshot: Snapshot) -> Resources:
    total = Resources()
    for daemon in snapshot.daemons:
        total += daemon.requests
    return msgspec.structs.replace(total, pods=len(snapshot.daemons))


def _labels(snapshot: Snapshot, instance_type: str, workers: Sequence[Worker]) -> tuple[tuple[str, str], ...]:
    """What all of them have beside what each has by its type and zone; none where that is too much to keep."""
    rules = snapshot.scheduling_rules
    told = {node.name: dict(node.labels) for node in rules.nodes} if rules is not None else {}
    names = RealNames(key for labels in told.values() for key in labels)
    nodes = [worker.node for worker in workers if worker.node is not None]
    seen = [told[node.name] for node in nodes if told.get(node.name)]
    shown = [set(node.labels) for node in nodes if not told.get(node.name)]
    if shown:  # what is common is common under either name: one translation is enough
        seen.append(names.of(set.intersection(*shown)))
    own = implied(instance_type, "")
    labels = {k: v for k, v in shared(seen).items() if own.get(k) != v and k not in OF_ONE_NODE}
    labels.pop("topology.kubernetes.io/region", None)
    labels.pop(POOL_LABEL, None)
    labels.pop(CAPACITY_LABEL, None)
    kept = tuple(sorted(labels.items()))
    return kept if len(msgspec.json.encode(kept)) <= MAX_LABELS_BYTES else ()

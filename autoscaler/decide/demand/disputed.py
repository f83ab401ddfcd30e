"""Pods for which the filters find room and the scheduler does not: launched for once, then ever more rarely.

Something holds them that nobody showed: rules that no server told, another scheduler, a limit that is not modelled.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from autoscaler.model import OwnerLaunches, Pod, State
from autoscaler.state.memory import MAX_OWNERS_BYTES, owner_bytes, owners_under_way, remembered_owners

RETRY_S: Final = 600
"""First wait after launches that did not help; doubles."""
MAX_RETRY_S: Final = 6 * 3600


def outwaited(pod: Pod, record: OwnerLaunches | None) -> bool:
    """Whether the pod waited already when that launch was made for its owner."""
    since_s = pod.unschedulable_since_s
    return record is not None and since_s is not None and since_s <= record.launched_at_s


def judge(
    disputed: Sequence[tuple[Pod, str]], state: State, now_s: int
) -> tuple[frozenset[str], list[tuple[Pod, str]], tuple[OwnerLaunches, ...]]:
    """For each disputed pod, with the name under which launches for it are remembered: once more, or not now.

    Returns the uids of the pods that may have a worker, the others with the reason, and the records to keep. A record
    counts against an owner only while one of its pods has waited since before that launch, and as many still wait as
    did then: a launch after which fewer wait has helped. Nor does it count while the launch is still under way.
    """
    records_of = {record.owner: record for record in state.owners}
    still = Counter(owner for _, owner in disputed)
    stuck = {owner for pod, owner in disputed if outwaited(pod, records_of.get(owner))}
    known = {
        owner: record
        for owner, record in records_of.items()
        if owner in stuck and not (record.waiting and still[owner] < record.waiting)
    }
    under_way = owners_under_way(state)
    remembered = {record.owner: owner_bytes(record) for record in remembered_owners(state, now_s)}
    left_bytes = MAX_OWNERS_BYTES - sum(remembered.values())
    allowed: set[str] = set()
    refused: list[tuple[Pod, str]] = []
    records: dict[str, OwnerLaunches] = {}
    for pod, owner in disputed:
        record = known.get(owner)
        if record is not None and now_s < record.retry_at_s:
            reason = f"{record.unhelped + 1} launches did not help; tried again after {record.retry_at_s - now_s} s"
            refused.append((pod, reason))
            continue
        fresh = _record(owner, record, now_s, waiting=still[owner], under_way=owner in under_way)
        if owner not in records and owner not in remembered:
            # A launch that nobody remembers would be made again and again for a pod that it does not help.
            if left_bytes < owner_bytes(fresh):
                refused.append((pod, "launches are remembered for as many owners as the state holds"))
                continue
            left_bytes -= owner_bytes(fresh)
        records[owner] = fresh
        allowed.add(pod.uid)
    return frozenset(allowed), refused, tuple(records.values())


def _record(owner: str, record: OwnerLaunches | None, now_s: int, *, waiting: int, under_way: bool) -> OwnerLaunches:
    unhelped = 0 if record is None else record.unhelped + (not under_way)
    wait_s = 0 if unhelped == 0 else min(RETRY_S * 2 ** (unhelped - 1), MAX_RETRY_S)
    return OwnerLaunches(
        owner=owner,
        launched_at_s=now_s,
        zones=record.zones if record is not None else (),
        unhelped=unhelped,
        retry_at_s=now_s + wait_s,
        waiting=waiting,
    )

"""What a plan asks for over time, and the fewest workers that could hold it."""

import math
from collections.abc import Iterator
from typing import Final

from autoscaler.backtest.plan import Plan
from autoscaler.backtest.results import Demand
from autoscaler.decide.capacity.catalogue import nominal_resources
from autoscaler.policy import Policy

FILLED: Final = 0.9
"""How full a fleet's first workers are: pods do not divide as sand does."""


def demand_of(plan: Plan, policy: Policy) -> Demand:
    """From the moment on at which the plan counts. Jobs ask from their begin for as long as they run."""
    room = nominal_resources(policy.default_pool.instance_types[0], policy)
    begin_s, lead_s = plan.begin_s, plan.lead_s
    cores: list[tuple[float, float]] = []
    sizes: list[tuple[float, float]] = []
    workers: list[tuple[float, int]] = []
    for at_s, millicores, size_bytes in _asked(plan):
        needed = math.ceil(max(millicores / room.cpu_millicores, size_bytes / room.memory_bytes))
        for series, value in ((cores, millicores / 1000), (sizes, float(size_bytes)), (workers, needed)):
            if series and at_s <= lead_s:
                series.clear()  # what holds when counting begins is the first value
            if not series or series[-1][1] != value:
                series.append((begin_s + max(at_s, lead_s), value))  # type: ignore[arg-type]  # as its series has it
    return Demand(
        begin_s=begin_s + lead_s,
        end_s=begin_s + plan.length_s,
        cores=tuple(cores),
        memory_bytes=tuple(sizes),
        workers=tuple(workers),
    )


def first_workers(plan: Plan, policy: Policy) -> int:
    """With how many a fleet begins: what its first pods fill, within the policy's limits."""
    room = nominal_resources(policy.default_pool.instance_types[0], policy)
    _, millicores, size_bytes = next(_asked(plan))
    needed = math.ceil(max(millicores / room.cpu_millicores, size_bytes / room.memory_bytes) / FILLED)
    return max(policy.workers.min, min(policy.workers.max, needed))


def _asked(plan: Plan) -> Iterator[tuple[float, int, int]]:
    """(seconds after the begin, millicores, bytes) at each moment at which it changes."""
    requests = {workload.key: workload.template.request for workload in plan.base}
    replicas = {workload.key: workload.replicas for workload in plan.base}
    moments: dict[float, list[tuple[str, int]]] = {0.0: []}
    for change in plan.changes:
        moments.setdefault(change.at_s, []).append((change.owner, change.replicas))
    for job in plan.jobs:
        key = job.workload.key
        requests[key], replicas[key] = job.workload.template.request, 0
        moments.setdefault(job.at_s, []).append((key, job.workload.replicas))
        moments.setdefault(job.at_s + (job.workload.template.run_for_s or 0.0), []).append((key, 0))
    millicores = sum(count * requests[key].cpu_millicores for key, count in replicas.items())
    size_bytes = sum(count * requests[key].memory_bytes for key, count in replicas.items())
    for at_s in sorted(moments):
        for key, count in moments[at_s]:
            more = count - replicas[key]
            millicores += more * requests[key].cpu_millicores
            size_bytes += more * requests[key].memory_bytes
            replicas[key] = count
        yield at_s, millicores, size_bytes

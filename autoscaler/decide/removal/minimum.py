"""Whether the fleet, or a worker's pool, may be one less: also where another was launched to stand in for it.

That other one may stand in by now for one that was lost since.
"""

from autoscaler.decide.capacity.pools import counted, pool_of
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.looking import Look


def at_min(worker: Worker, fleet: FleetView, look: Look) -> str | None:
    """Why this worker is one of those that are to stay at least; None where it is not."""
    least, pool = look.policy.workers.min, pool_of(worker, look.policy)
    if fleet.ready <= least:
        return f"{fleet.ready} workers are Ready and {look.limits.min_by} is {least}"
    if pool is None or not pool.min:
        return None
    ready = counted(fleet, look.policy, Standing.READY)[pool.name]
    return f"{ready} workers of pool {pool.name} are Ready and its min is {pool.min}" if ready <= pool.min else None

"""Workers that pools lack to their own min, beyond what is asked for in them already."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from autoscaler.decide.capacity.pools import coming, pool_of
from autoscaler.decide.fleet import FleetView
from autoscaler.decide.removal.repair import recovering_workers
from autoscaler.model import NewWorkers, Signal
from autoscaler.policy import Policy

POOL_MINIMUM: Final = "pool_minimum"
BELOW_POOL_MIN: Final = "below_pool_min"
"""The signal, and the reason of a growth that answers it."""


class PoolMinima(msgspec.Struct, frozen=True, kw_only=True):
    """What all pools with a min have, and lack."""

    have: int = 0
    """Workers that count for them."""
    asked: int = 0
    """All minima together."""
    new_workers: tuple[NewWorkers, ...] = ()

    def signals(self, coming_and_asked: int) -> tuple[Signal, ...]:
        """None where no pool has a min. `coming_and_asked`: workers that come, and those that waiting pods ask for."""
        if not self.asked:
            return ()
        missing = sum(new.count for new in self.new_workers)
        wants = coming_and_asked + missing if missing else None
        return (Signal(name=POOL_MINIMUM, value=self.have, threshold=self.asked, wants=wants),)


def pool_minima(fleet: FleetView, policy: Policy, asked: Sequence[NewWorkers], *, now_s: int) -> PoolMinima:
    """`asked`: what is launched anyway. A worker that is NotReady for a moment is not gone, as with the fleet's min."""
    with_min = [pool for pool in policy.pools if pool.min]
    if not with_min:
        return PoolMinima()
    have = coming(fleet, policy)
    recovering = (pool_of(worker, policy) for worker in recovering_workers(fleet, policy, now_s=now_s))
    have += Counter(pool.name for pool in recovering if pool is not None)
    launched: Counter[str] = Counter()
    for new in asked:
        launched[new.pool] += new.count
    lacking = [(pool, pool.min - have[pool.name] - launched[pool.name]) for pool in with_min]
    return PoolMinima(
        have=sum(min(pool.min, have[pool.name]) for pool in with_min),
        asked=sum(pool.min for pool in with_min),
        new_workers=tuple(
            NewWorkers(pool.instance_types[0], missing, pool=pool.name) for pool, missing in lacking if missing > 0
        ),
    )

"""What runs beside the shop in the seeds that have some of it: pods that ask for more than room, or for a pool."""

from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.soak.assumptions import RULES_ARE_USED
from autoscaler.simulator.soak.choosy import OWNER as CHOOSY
from autoscaler.simulator.soak.choosy import choosy_changes, choosy_workload
from autoscaler.simulator.soak.pools import OWNER as CHOOSERS
from autoscaler.simulator.soak.pools import choosers, choosers_changes
from autoscaler.simulator.soak.setting import Change

OWNERS = (CHOOSY, CHOOSERS)


def run_beside(cluster: SimCluster, seed: int, *, first: int, begin_s: float, end_s: float) -> list[Change]:
    """Apply it; returns how many there are of it, now and then. `first`: number of the first change."""
    changes: list[Change] = []
    choosy = choosy_workload(seed) if RULES_ARE_USED else None
    if choosy is not None:
        cluster.apply(choosy)
        changes += choosy_changes(seed, first=first, begin_s=begin_s, end_s=end_s)
    picky = choosers(cluster.policy)
    if picky is not None:
        cluster.apply(picky)
        changes += choosers_changes(seed, first=first + len(changes), begin_s=begin_s, end_s=end_s)
    return changes

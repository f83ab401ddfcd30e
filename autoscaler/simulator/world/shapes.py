"""What people usually ask of the scheduler, as `Constraints` of a workload's pods: `app=NAME` is what they select."""

from autoscaler.model.rules import HOSTNAME_LABEL, PodTerm, SpreadConstraint, equal_to
from autoscaler.simulator.world.labels import ZONE_LABEL
from autoscaler.simulator.world.workload import Constraints, VolumeClaim


def one_per_host(name: str) -> Constraints:
    """No two of them on one Node."""
    return Constraints(anti_affinity=(PodTerm(selector=equal_to({"app": name}), topology_key=HOSTNAME_LABEL),))


def even_over_zones(name: str, *, max_skew: int = 1) -> Constraints:
    """Not more in one zone than in the emptiest, by more than `max_skew`."""
    constraint = SpreadConstraint(topology_key=ZONE_LABEL, max_skew=max_skew, selector=equal_to({"app": name}))
    return Constraints(spread=(constraint,))


def with_volume(name: str = "disk", *, zone: str = "", missing: bool = False) -> Constraints:
    """A claim on a network volume."""
    return Constraints(claims=(VolumeClaim(name=name, zone=zone, missing=missing),))

"""Workloads that ask more of the scheduler than room, in some seeds: helped by the right workers only, or by none.

They have dice of their own, so that a seed's shop, changes and faults are what they are without them.
"""

import random
from typing import Final

from autoscaler.model.rules import HOSTNAME_LABEL, HostPort, NodeTerm, Operator, Requirement
from autoscaler.simulator.soak.setting import Change, tolerant
from autoscaler.simulator.world.labels import REGION_LABEL, ZONE_LABEL
from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.workload import MIB, NOTHING, Ask, Constraints, PodTemplate, Workload

NAME: Final = "choosy"
OWNER: Final = f"shop/{NAME}"
SEEDS: Final = 0.25
"""In how many of them there is one."""
LESS: Final = Ask(cpu_millicores=250, memory_bytes=64 * MIB)


def _wants(key: str, value: str) -> Constraints:
    return Constraints(node_affinity=(NodeTerm(labels=(Requirement(key, Operator.IN, (value,)),)),))


SHAPES: Final = (
    PodTemplate(request=LESS, constraints=one_per_host(NAME)),
    PodTemplate(request=LESS, constraints=one_per_host(NAME)),
    PodTemplate(request=LESS, constraints=even_over_zones(NAME)),
    PodTemplate(request=LESS, constraints=even_over_zones(NAME)),
    PodTemplate(request=NOTHING, pod_level=Ask(cpu_millicores=900, memory_bytes=64 * MIB)),
    PodTemplate(request=LESS, constraints=Constraints(host_ports=(HostPort(port=9000),))),
    PodTemplate(request=LESS, node_selector=((REGION_LABEL, "us-east-1"),)),
    PodTemplate(request=LESS, constraints=_wants(ZONE_LABEL, "us-east-1b")),
    PodTemplate(request=LESS, constraints=with_volume(zone="us-east-1b")),
    PodTemplate(request=LESS, node_selector=(("pool", "batch"),)),
    PodTemplate(request=LESS, constraints=_wants(HOSTNAME_LABEL, "no-such-host")),
    PodTemplate(request=LESS, constraints=with_volume(missing=True)),
    PodTemplate(request=LESS, extended=(("nvidia.com/gpu", 1),)),
)
"""The last four are helped by nobody."""


def choosy_workload(seed: int) -> Workload | None:
    """The seed's, if it has one. It tolerates what the rest of the shop tolerates."""
    dice = _dice(seed)
    if dice.random() >= SEEDS:
        return None
    template = dice.choice(SHAPES)
    return tolerant(Workload(namespace="shop", name=NAME, replicas=dice.randrange(1, 4), template=template))


def choosy_changes(seed: int, *, first: int, begin_s: float, end_s: float) -> list[Change]:
    """How many there are of it, now and then. `first`: number of the first change."""
    dice = _dice(seed)
    dice.random()
    times = sorted(begin_s + (end_s - begin_s) * dice.random() for _ in range(4))
    return [Change(first + n, at_s, OWNER, dice.choice((0, 1, 2, 3, 5)), None) for n, at_s in enumerate(times)]


def _dice(seed: int) -> random.Random:
    return random.Random(f"{seed}: what pods ask of the scheduler")

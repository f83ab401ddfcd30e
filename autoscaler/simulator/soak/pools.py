"""Several pools in a soak: in some seeds, with dice of their own, and pods that only one of them takes.

Every type is of one size, so that what a worker carries is known; they differ in price, architecture and market.
"""

import random
from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.instance_types import arch_of
from autoscaler.model import POOL_TAG, SPOT
from autoscaler.model.rules import Toleration
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool
from autoscaler.requirements import Requirements
from autoscaler.simulator.ec2 import listed_usd
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.soak.setting import DEDICATED, Change
from autoscaler.simulator.soak.truth import Truth
from autoscaler.simulator.world.labels import ARCH_LABEL, POOL_LABEL
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload

SEEDS: Final = 0.3
"""In so many of them there are two pools or three."""
DEARER_SEEDS: Final = 0.6
"""In so many of those a dearer worker goes for a cheaper one."""
NAME: Final = "choosers"
OWNER: Final = f"shop/{NAME}"
_WORK: Final = "work"
_TYPES: Final = ("t3.small", "t3a.small", "t4g.small")


def with_pools(policy: Policy, seed: int) -> Policy:
    """The policy, in some seeds with several pools: the first is what the flat fields of the others are."""
    dice = random.Random(f"{seed}: how many pools")
    if dice.random() >= SEEDS:
        return policy
    flat = policy.workers
    first = WorkerPool(
        name=dice.choice(("general", "general", "web")),
        instance_types=dice.choice((("t3.small",), ("t3.small", "t3a.small"), ("t3.small", "t3a.small"))),
        market=flat.market,
        on_demand_base=flat.on_demand_base,
        on_demand_share=flat.on_demand_share,
        weight=dice.choice((0, 0, 5)),
        max=dice.choice((None, None, 3)),
    )
    others = dice.sample((_batch(dice), _graviton(dice), _spot(dice), _required(dice)), dice.choice((1, 1, 2)))
    pools = _with_minima((first, *others), dice, policy)
    scale_down = policy.scale_down
    if dice.random() < DEARER_SEEDS:
        scale_down = msgspec.structs.replace(scale_down, replace_when_saves=dice.choice((0.05, 0.15)))
    cost = msgspec.structs.replace(policy.cost, spot_usd_per_hour={kind: listed_usd(kind, SPOT) for kind in _TYPES})
    workers = msgspec.structs.replace(flat, pools=pools, market="on-demand", on_demand_base=0, on_demand_share=0.0)
    return msgspec.structs.replace(policy, workers=workers, scale_down=scale_down, cost=cost)


def _batch(dice: random.Random) -> WorkerPool:
    """Behind a taint of its own: a pod has to ask for it."""
    return WorkerPool(
        name="batch",
        instance_types=("t3.small",),
        labels={_WORK: "batch"},
        taints=(f"{_WORK}=batch:NoSchedule",),
        max=dice.choice((None, 1, 2, 3)),
    )


def _graviton(dice: random.Random) -> WorkerPool:
    return WorkerPool(
        name="graviton",
        instance_types=("t4g.small",),
        max=dice.choice((None, 2, 4)),
        weight=dice.choice((0, 10)),
    )


def _spot(dice: random.Random) -> WorkerPool:
    return WorkerPool(
        name="spot",
        instance_types=("t3a.small", "t3.small"),
        market=SPOT,
        on_demand_base=dice.choice((0, 0, 1)),
        on_demand_share=dice.choice((0.0, 0.5)),
        max=dice.choice((None, 2, 4)),
        weight=dice.choice((0, 10)),
    )


def _required(dice: random.Random) -> WorkerPool:
    """Of any type that has as much: of either architecture."""
    asked = Requirements(cpu=2, memory="2 GiB", arch=("arm64", "amd64"), exclude=("c*",))
    return WorkerPool(name="any", requirements=asked, max=dice.choice((None, 3)))


def _with_minima(pools: tuple[WorkerPool, ...], dice: random.Random, policy: Policy) -> tuple[WorkerPool, ...]:
    """Some of them with a min, all together no more than the fleet may have at any time."""
    left = min(policy.workers.max, *(w.max for w in policy.schedules if w.max is not None), 2)
    found = []
    for pool in pools:
        least = min(left, dice.choice((0, 0, 1, 2)), pool.max if pool.max is not None else left)
        left -= least
        found.append(msgspec.structs.replace(pool, min=least))
    return tuple(found)


def choosers(policy: Policy) -> Workload | None:
    """Pods that only the last pool takes; None where there is one pool."""
    pools = policy.pools
    if len(pools) == 1:
        return None
    last = pools[-1]
    wanted = {"batch": (_WORK, "batch"), "graviton": (ARCH_LABEL, "arm64"), "spot": (POOL_LABEL, "spot")}
    template = PodTemplate(
        request=Ask(cpu_millicores=450, memory_bytes=100 * MIB),
        node_selector=(wanted[last.name],) if last.name in wanted else (),
        tolerations=tuple(Toleration(key=key, any_value=True) for key in (DEDICATED.key, _WORK)),
    )
    return Workload(namespace="shop", name=NAME, replicas=1, template=template)


def choosers_changes(seed: int, *, first: int, begin_s: float, end_s: float) -> list[Change]:
    """How many there are of them, now and then. `first`: number of the first change."""
    dice = random.Random(f"{seed}: who chooses a pool")
    times = sorted(begin_s + (end_s - begin_s) * dice.random() for _ in range(6))
    return [Change(first + n, at_s, OWNER, dice.choice((0, 1, 3, 6, 9)), None) for n, at_s in enumerate(times)]


def pool_of_instance(policy: Policy, instance: SimInstance) -> WorkerPool:
    """Whose worker it is, by its tag; without one the default pool's."""
    name = instance.tags.get(POOL_TAG, "")
    return next((pool for pool in policy.pools if pool.name == name), policy.default_pool)


def workers_of(truth: Truth, pool: WorkerPool, instance_ids: Iterable[str]) -> set[str]:
    """Those of them that are workers of ours of this pool."""
    policy, known = truth.cluster.policy, truth.cluster.ec2.instances
    ours = [i for i in instance_ids if i in known and truth.is_ours(known[i])]
    return {i for i in ours if pool_of_instance(policy, known[i]).name == pool.name}


def usd_of(policy: Policy, instance: SimInstance) -> float:
    """What the worker costs an hour by the policy's own prices, else by the list."""
    return price(policy, instance.instance_type, instance.market)


def price(policy: Policy, instance_type: str, market: str) -> float:
    """The same of any worker of that type and market."""
    own = policy.cost.spot_usd_per_hour if market == SPOT else policy.cost.usd_per_hour
    return own.get(instance_type, listed_usd(instance_type, market))


def template_id_of(policy: Policy, pool: WorkerPool, instance_type: str, first_template_id: str) -> str:
    """The launch template that a deployment made for the pool and the type's architecture."""
    default, arch = policy.default_pool, arch_of(instance_type)
    if (pool.name, arch) == (default.name, default.archs[0]):
        return first_template_id
    return f"{first_template_id}-{pool.name}-{arch}"

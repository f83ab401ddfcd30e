"""Fifteen workers that run nothing any more: how long until only the minimum is left."""

from typing import Final

import msgspec

from autoscaler.backtest.plan import Change, Plan
from autoscaler.backtest.play import play
from autoscaler.backtest.service import Service
from autoscaler.policy import Policy
from autoscaler.simulator.world.workload import Ask, PodTemplate, Workload

WORKERS: Final = 15
_BUSY_S: Final = 1200.0
_OWNER: Final = Workload(
    namespace="shop",
    name="web",
    replicas=2 * WORKERS,
    template=PodTemplate(request=Ask(cpu_millicores=800), used_memory_bytes=0, burn_cores=0.9),
)


def seconds_to_minimum(policy: Policy, *, hours: float = 3.0) -> float | None:
    """From the moment at which the shrink window holds nothing but idleness; None: not within the hours.

    Fifteen are the maximum: before that they are as busy as can be, and none may be added.
    """
    workers = msgspec.structs.replace(policy.workers, max=max(policy.workers.min, WORKERS))
    policy = msgspec.structs.replace(policy, workers=workers)
    plan = Plan(
        name="idle",
        about="",
        from_hour=8,
        hours=hours,
        base=(_OWNER,),
        changes=(Change(at_s=_BUSY_S, owner=_OWNER.key, replicas=0, burn_cores=0.0),),
    )
    steps = play(plan, policy, Service, workers=WORKERS).workers
    return next(
        (at_s - _BUSY_S - policy.scale_down.window_s for at_s, count in steps if count <= policy.workers.min), None
    )

"""Small plans: short enough for a test, with everything in them that a workload may hold."""

from typing import Any

from autoscaler.backtest.plan import Change, Jobs, Plan
from autoscaler.simulator.world.workload import MIB, Ask, Kind, PodTemplate, Workload


def web(replicas: int, *, cpu: int = 500, burn: float = 0.0, **more: Any) -> Workload:
    template = PodTemplate(
        request=Ask(cpu_millicores=cpu, memory_bytes=64 * MIB), burn_cores=burn, used_memory_bytes=0, **more
    )
    return Workload(namespace="shop", name="web", replicas=replicas, template=template)


def job(pods: int, *, cpu: int, run_for_s: float) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=cpu), used_memory_bytes=0, run_for_s=run_for_s)
    return Workload(namespace="batch", name="job", kind=Kind.POD, replicas=pods, template=template)


def plan(*base: Workload, hours: float = 0.5, **more: Any) -> Plan:
    return Plan(name="small", about="a test", from_hour=8, hours=hours, base=base, **more)


def to(at_s: float, replicas: int, *, burn: float = 0.0) -> Change:
    return Change(at_s=at_s, owner="shop/web", replicas=replicas, burn_cores=burn)


SHORT = plan(
    web(4, burn=0.2),
    hours=0.6,
    changes=(to(300, 12, burn=0.3), to(1200, 4, burn=0.1)),
    jobs=(Jobs(at_s=600, workload=job(2, cpu=1500, run_for_s=300)),),
)
"""Twelve pods of half a core need four workers, two jobs two more; at the end two are enough."""

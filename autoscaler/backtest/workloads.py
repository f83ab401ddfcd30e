"""The named workloads. Each is the same at every run: its dice are seeded, and nobody asks the clock."""

from collections.abc import Callable, Sequence
from typing import Final

from autoscaler.backtest.autoscaled import autoscaled, curve
from autoscaler.backtest.plan import ZONES, Change, Event, Jobs, Plan, Trouble
from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.workload import MIB, Ask, Budget, Constraints, Kind, PodTemplate, Workload

Points = Sequence[tuple[float, float]]
NOISE: Final = 0.03
MOST_WEB: Final = 65
"""Replicas: with what else runs, ten t3.small hold them (seven on each)."""


def ecommerce_day() -> Plan:
    """The workload of the user's document: five t3.small are 70 to 80 % busy by day, 20 to 30 % at night."""
    points = [(0, 2.5), (8.5, 2.5), (9.5, 7.4), (12, 7.4), (12.05, 12.6), (12.75, 12.6), (13, 7.4)]
    points += [(16.5, 7.4), (16.55, 10.5), (17, 10.5), (17.2, 7.4), (20.75, 7.4), (21.75, 2.5), (24, 2.5)]
    return _web_plan(
        "ecommerce-day",
        "a shop's day: 2.5 cores at night, 7.4 from nine to nine, sales without warning at 12:00 and 16:30",
        points,
        from_hour=0,
        seed=1,
    )


def steady() -> Plan:
    """Nothing happens."""
    return _web_plan("steady", "5.5 cores all the time", [(0, 5.5), (6, 5.5)], from_hour=8, seed=2)


def sawtooth() -> Plan:
    """Up slowly, down at once, eight times."""
    points: list[tuple[float, float]] = []
    for tooth in range(8):
        points += [(tooth * 0.75, 2.5), (tooth * 0.75 + 0.7, 10.5)]
    return _web_plan(
        "sawtooth", "2.5 to 10.5 cores within 42 minutes and back at once, eight times", [*points, (6, 2.5)],
        from_hour=8, seed=3,
    )  # fmt: skip


def batch_burst() -> Plan:
    """Bursts that no use foretells."""
    jobs = tuple(
        Jobs(at_s=hour * 3600, workload=_job(f"burst-{number}", 22, millicores=500, run_for_s=600))
        for number, hour in enumerate((0.5, 1.25, 2.5, 3.0))
    )
    return _web_plan(
        "batch-burst", "22 jobs of half a core and ten minutes at once, four times, beside a small shop",
        [(0, 1.5), (4, 1.5)], from_hour=8, seed=4, jobs=jobs,
    )  # fmt: skip


def night_batch() -> Plan:
    """Long jobs at night, when the shop is small."""
    jobs = tuple(
        Jobs(at_s=(7 + wave * 0.5) * 3600, workload=_job(f"night-{wave}", 2, millicores=1500, run_for_s=5400))
        for wave in range(4)
    )
    points = [(0, 5.0), (3, 5.0), (4, 2.0), (12.5, 2.0), (14, 5.0)]
    return _web_plan(
        "night-batch", "18:00 to 08:00: four waves of two jobs of 1.5 cores and 90 minutes, from 01:00",
        points, from_hour=18, seed=5, jobs=jobs,
    )  # fmt: skip


def mixed_constraints() -> Plan:
    """What keeps pods apart, in a zone, or where they are."""
    ingress = _service("ingress", 3, millicores=100, burn_cores=0.05, constraints=one_per_host("ingress"))
    database = [
        _service(f"db-{zone[-1]}", 1, millicores=400, burn_cores=0.25, constraints=with_volume(f"db-{zone}", zone=zone))
        for zone in ZONES
    ]
    careful = _service("queue", 2, millicores=300, burn_cores=0.2, budget=Budget(min_available=1))
    points = [(0, 2.0), (1, 2.0), (1.5, 7.0), (3, 7.0), (3.5, 3.0), (5, 3.0), (5.05, 7.5), (6, 7.5), (6.5, 2.0), (8, 2)]
    return _web_plan(
        "mixed-constraints", "an ingress on each host, volumes in zones, a budget, and a shop spread over zones",
        points, from_hour=8, seed=6,
        beside=(ingress, *database, careful), constraints=even_over_zones("web", max_skew=2),
    )  # fmt: skip


def zone_outage() -> Plan:
    """Half of the fleet is lost, and comes back."""
    events = (
        Event(at_s=3600, trouble=Trouble.ZONE_LOST, zone=ZONES[1]),
        Event(at_s=2.5 * 3600, trouble=Trouble.ZONE_BACK, zone=ZONES[1]),
    )
    return _web_plan(
        "zone-outage", "5 cores; after an hour one of the two zones is lost for 90 minutes",
        [(0, 5.0), (4, 5.0)], from_hour=8, seed=7, events=events,
    )  # fmt: skip


def capacity_drought() -> Plan:
    """EC2 has nothing when it is needed most."""
    events = (Event(at_s=0.75 * 3600, trouble=Trouble.DROUGHT), Event(at_s=1.75 * 3600, trouble=Trouble.PLENTY))
    return _web_plan(
        "capacity-drought", "EC2 has no t3.small for an hour, in which the shop grows from 2.5 to 8 cores",
        [(0, 2.5), (1, 2.5), (1.1, 8.0), (3, 8.0), (3.25, 2.5), (4, 2.5)], from_hour=8, seed=8, events=events,
    )  # fmt: skip


def spot_storm() -> Plan:
    """Spot ends when it is needed: whoever has none is not touched."""
    taken = (Event(at_s=(75 + minute) * 60, trouble=Trouble.SPOT_TAKEN) for minute in (0, 3, 6, 9))
    return _web_plan(
        "spot-storm", "7.4 cores; within ten minutes EC2 takes a third of the Spot workers, and sells none for an hour",
        [(0, 7.4), (6, 7.4)], from_hour=8, seed=9, events=(*taken, Event(at_s=2.25 * 3600, trouble=Trouble.PLENTY)),
    )  # fmt: skip


WORKLOADS: Final[dict[str, Callable[[], Plan]]] = {
    "ecommerce-day": ecommerce_day,
    "batch-burst": batch_burst,
    "steady": steady,
    "sawtooth": sawtooth,
    "night-batch": night_batch,
    "mixed-constraints": mixed_constraints,
    "zone-outage": zone_outage,
    "capacity-drought": capacity_drought,
    "spot-storm": spot_storm,
}
"""In the order of the table."""


def _web_plan(
    name: str,
    about: str,
    points: Points,
    *,
    from_hour: float,
    seed: int,
    beside: tuple[Workload, ...] = (),
    constraints: Constraints = Constraints(),  # noqa: B008 - frozen
    jobs: tuple[Jobs, ...] = (),
    events: tuple[Event, ...] = (),
) -> Plan:
    """A shop whose web pods follow the load, and what else there is. The points end with the plan."""
    web = _service("web", 1, millicores=250, constraints=constraints, budget=Budget(max_unavailable=3))
    hours = points[-1][0]
    load = curve(points, noise=NOISE, seed=seed)
    changes: list[Change]
    web, changes = autoscaled(web, load, hours=hours, least=2, most=MOST_WEB)
    return Plan(
        name=name,
        about=about,
        from_hour=from_hour,
        hours=hours,
        base=(web, *beside),
        changes=tuple(changes),
        jobs=jobs,
        events=events,
    )


def _service(
    name: str,
    replicas: int,
    *,
    millicores: int,
    burn_cores: float = 0.0,
    budget: Budget | None = None,
    constraints: Constraints = Constraints(),  # noqa: B008 - frozen
) -> Workload:
    template = PodTemplate(
        request=Ask(cpu_millicores=millicores, memory_bytes=128 * MIB),
        used_memory_bytes=80 * MIB,
        burn_cores=burn_cores,
        constraints=constraints,
        start_s=5.0,
        stop_s=3.0,
    )
    return Workload(namespace="shop", name=name, replicas=replicas, template=template, budget=budget)


def _job(name: str, pods: int, *, millicores: int, run_for_s: float) -> Workload:
    template = PodTemplate(
        request=Ask(cpu_millicores=millicores, memory_bytes=128 * MIB),
        used_memory_bytes=100 * MIB,
        burn_cores=0.9 * millicores / 1000,
        run_for_s=run_for_s,
        start_s=5.0,
    )
    return Workload(namespace="batch", name=name, kind=Kind.POD, replicas=pods, template=template)

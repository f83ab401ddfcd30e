"""What the functions write where a policy has pools, prices, live changes, signals, Spot, zones or a forecast.

Played as those of captured.py are, each on a day of its own.
"""

from typing import Final

from autoscaler.forecast import Forecast
from autoscaler.model import SPOT, OfferedPolicy
from autoscaler.policy import Cost, Policy, Workers
from autoscaler.policy_text import parse_policy
from autoscaler.signals import CustomSignal
from autoscaler.simulator.metrics.past import requests
from autoscaler.simulator.metrics.signals import refused
from tests.service.captured import Log, Stage

ZONES: Final = ("us-east-1a", "us-east-1b")
POOLS: Final = """
version: 1
workers:
  pools:
    - {name: general, instance_types: [t3.small]}
    - {name: large, instance_types: [m6i.xlarge], max: 1}
"""


def reaches_the_cost_cap(log: Log) -> None:
    """Prices of us-east-1: three of t3.small and no fourth."""
    stage = Stage(log, Policy(version=1, cost=Cost(max_usd_per_hour=0.07)), day=20)
    stage.burst(20)
    stage.sweep(6)


def a_pool_is_full(log: Log) -> None:
    """Of pods that only the large pool takes one too many waits."""
    stage = Stage(log, parse_policy(POOLS), day=21)
    stage.burst(2, cpu=2500)
    stage.sweep(6)


def live_changes_hold_and_are_refused(log: Log) -> None:
    """A version that is valid, and one that is not."""
    stage = Stage(log, day=22)
    stage.sweep()
    for version, text in ((1, "workers: {max: 12}"), (2, "workers: {max: 1}")):
        stage.offered = OfferedPolicy(text=text, version=version, changed_at_s=int(stage.cluster.now_s))
        stage.event("Parameter Store Change", name="/k3s/demo/policy", operation="Update")
        stage.sweep()


def custom_signals_are_lost(log: Log) -> None:
    """One has no row and is unknown, the other one Prometheus refuses; then pods wait at the maximum as well."""
    queue = CustomSignal(name="orders_queue", query="sum(orders_queued)", per_worker_target=200)
    age = CustomSignal(name="order_age", query="max(order_age_seconds)", above=30)
    stage = Stage(log, Policy(version=1, workers=Workers(max=2), signals=(queue, age)), day=23)
    stage.cluster.recorder.signals.update(orders_queue=lambda _: [], order_age=refused)
    stage.sweep(9)
    stage.burst(20)
    stage.sweep(6)


def spot_has_nothing(log: Log) -> None:
    """What Spot does not give is launched on demand by the same look."""
    types = ("t3.small", "t3a.small")
    workers = Workers(market="spot", on_demand_base=2, instance_types=types)
    stage = Stage(log, Policy(version=1, workers=workers), day=24)
    for instance_type in types:
        for zone in ZONES:
            stage.cluster.ec2.exhaust(instance_type, zone, market=SPOT)
    stage.burst()
    stage.sweep(3)


def spot_has_nothing_and_the_cap_no_room(log: Log) -> None:
    """What is left pays for three on Spot, and for none on demand."""
    cost = Cost(max_usd_per_hour=0.06, spot_usd_per_hour={"t3.small": 0.006})
    stage = Stage(log, Policy(version=1, workers=Workers(market="spot"), cost=cost), day=27)
    for zone in ZONES:
        stage.cluster.ec2.exhaust("t3.small", zone, market=SPOT)
    stage.burst()
    stage.sweep(8)


def a_zone_does_not_join(log: Log) -> None:
    """Workers of one zone never come; the other one serves."""
    workers = Workers(min=1, max=20, join_timeout_s=240)
    stage = Stage(log, Policy(version=1, workers=workers), day=25, workers=2)
    stage.cluster.world.faults.never_join_in = ZONES[0]
    for replicas in (6, 8, 10):
        stage.burst(replicas)
        stage.sweep(5)


def a_forecast_is_compared(log: Log) -> None:
    """In shadow: what it foresaw for the last ten minutes against what was needed."""
    stage = Stage(log, Policy(version=1, forecast=Forecast(mode="shadow", days=4, weeks=1)), day=26)
    stage.cluster.recorder.past = requests(lambda at_s: 6.0 if at_s % 3600 < 1800 else 3.0)
    stage.sweep(30)


SITUATIONS: Final = (
    reaches_the_cost_cap,
    a_pool_is_full,
    live_changes_hold_and_are_refused,
    custom_signals_are_lost,
    spot_has_nothing,
    spot_has_nothing_and_the_cap_no_room,
    a_zone_does_not_join,
    a_forecast_is_compared,
)

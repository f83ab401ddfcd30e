"""Plays every workload on every fleet, as many at once as there are processors."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final

import msgspec

from autoscaler.backtest.plan import Plan, Steps
from autoscaler.backtest.play import SEED, play
from autoscaler.backtest.service import Keeper, Service, Static
from autoscaler.policy import Policy, policy_hash
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import listed_usd
from bench.policy.bound import Bound, launches, node_seconds
from bench.policy.expectations import judge
from bench.policy.idle import seconds_to_minimum
from bench.policy.results import BOUND, BRIEF, DEFAULT, OTHERS, STATIC, Idle, Results, Row, Workload
from bench.policy.thresholds import Thresholds

STATIC_WORKERS: Final = 5

KEEPERS: Final[Mapping[str, Callable[[SimCluster], Keeper]]] = {BRIEF: Thresholds, STATIC: Static}
"""Of fleets that no policy of ours keeps."""

Played = tuple[Row, Steps]


def run(
    plans: Sequence[Plan], policies: Mapping[str, Policy], *, processes: int
) -> tuple[Results, dict[tuple[str, str], Steps]]:
    """Play them; returns the results, and by workload and fleet the workers over time for the picture.

    `policies`: `default` first, then others by name. Raises TooSmall where the default does not
    hold a plan.
    """
    played: dict[tuple[str, str], Future[Played]] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        idle = {name: pool.submit(seconds_to_minimum, policy) for name, policy in policies.items()}
        for plan in sorted(plans, key=lambda plan: -plan.hours):
            for fleet in (*policies, *OTHERS):
                policy = policies.get(fleet, policies[DEFAULT])
                played[plan.name, fleet] = pool.submit(play_fleet, plan, fleet, policy, policies[DEFAULT])
        workloads = tuple(
            Workload(
                name=plan.name,
                about=plan.about,
                hours=plan.hours,
                rows=tuple(played[plan.name, fleet].result()[0] for fleet in (*policies, *OTHERS)),
            )
            for plan in plans
        )
        results = Results(
            seed=SEED,
            policies={name: policy_hash(policy) for name, policy in policies.items()},
            workloads=workloads,
            idle=tuple(Idle(fleet=name, seconds=seconds.result()) for name, seconds in idle.items()),
        )
    results = msgspec.structs.replace(results, expectations=judge(results, policies))
    return results, {key: future.result()[1] for key, future in played.items()}


def play_fleet(plan: Plan, fleet: str, policy: Policy, default: Policy) -> Played:
    """One workload on one fleet. All begin with the bound's workers, but for the static ones."""
    paid = Bound(default).paid(plan)
    if fleet == BOUND:
        hours = node_seconds(paid, plan.length_s) / 3600
        price_usd = listed_usd(default.default_pool.instance_types[0])
        row = Row(
            fleet=fleet,
            node_hours=round(hours, 2),
            usd=round(hours * price_usd, 3),
            waiting_pod_minutes=0.0,
            evictions=0,
            launches=launches(paid),
        )
        return row, paid
    meter = play(plan, policy, KEEPERS.get(fleet, Service), workers=STATIC_WORKERS if fleet == STATIC else paid[0][1])
    return Row(fleet=fleet, **msgspec.structs.asdict(meter.measured())), meter.workers

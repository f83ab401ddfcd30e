"""What earlier days asked for, where a policy forecasts: each of them was like the day that is played."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from autoscaler.backtest.plan import Plan
from autoscaler.simulator.metrics.past import Past

_DAY_S: Final = 86_400


def days_alike(plan: Plan) -> Past:
    """The requests of the plan's workloads at the same time of each day, jobs while they run; else not recorded."""
    times, cores = _cores_over_time(plan)

    def at(at_s: float) -> Mapping[tuple[str, str], float]:
        since_s = (at_s - plan.begin_s) % _DAY_S
        if since_s > plan.length_s:
            return {}
        jobs = sum(
            jobs.workload.replicas * jobs.workload.template.request.cpu_millicores / 1000
            for jobs in plan.jobs
            if jobs.at_s <= since_s < jobs.at_s + (jobs.workload.template.run_for_s or 0.0)
        )
        return {("requests", "cpu"): cores[bisect_right(times, since_s) - 1] + jobs}

    return at


def _cores_over_time(plan: Plan) -> tuple[list[float], list[float]]:
    """From each of these seconds on, what all replicas ask for together."""
    replicas = {workload.key: workload.replicas for workload in plan.base}
    each = {workload.key: workload.template.request.cpu_millicores / 1000 for workload in plan.base}
    times, cores = [0.0], [sum(count * each[key] for key, count in replicas.items())]
    for change in plan.changes:
        replicas[change.owner] = change.replicas
        times.append(change.at_s)
        cores.append(sum(count * each[key] for key, count in replicas.items()))
    return times, cores

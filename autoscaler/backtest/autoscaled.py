"""Load over time, and what a HorizontalPodAutoscaler makes of it: replicas, whatever fleet they run on.

The replicas follow the load alone: pods that wait are wanted all the same, and what they would serve is served by
nobody. So every fleet is asked the very same, and a bound can know it beforehand.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from autoscaler.backtest.plan import Change
from autoscaler.simulator.world.workload import Workload

Load = Callable[[float], float]
"""Seconds after the begin -> cores that all pods of one owner use together."""

SYNC_S: Final = 15
"""How often the controller looks. These five are Kubernetes' defaults: its documentation of Horizontal Pod Autoscaling,
kube-controller-manager's flags --horizontal-pod-autoscaler-*, and the API reference of autoscaling/v2."""
TOLERANCE: Final = 0.10
STABLE_S: Final = 300
"""Replicas fall to the most that was wanted within this time."""
LEAST_STEP_UP: Final = 4
"""In 15 s replicas at most double, or grow by this many if that is more."""
TARGET: Final = 0.80
"""Of its request a pod shall use this much CPU."""
SHOWN_EVERY_S: Final = 60
"""How often the use of pods that stay as many is brought up to date."""


def curve(points: Sequence[tuple[float, float]], *, noise: float, seed: int) -> Load:
    """Straight lines through (hour, cores), each minute a little higher or lower: `noise` is the standard deviation."""
    minutes = math.ceil(points[-1][0] * 60) + 1
    rng = random.Random(seed)  # noqa: S311 - no secret
    factors = [1 + max(-3 * noise, min(3 * noise, rng.gauss(0.0, noise))) for _ in range(minutes)]

    def load(at_s: float) -> float:
        hour = at_s / 3600.0
        for (left, low), (right, high) in itertools.pairwise(points):
            if left <= hour < right:
                cores = low + (high - low) * (hour - left) / (right - left)
                break
        else:
            cores = points[-1][1]
        return cores * factors[min(int(at_s // 60), minutes - 1)]

    return load


def autoscaled(workload: Workload, load: Load, *, hours: float, least: int, most: int) -> tuple[Workload, list[Change]]:
    """The workload as it is at the begin, and every change after it."""
    request = workload.template.request.cpu_millicores / 1000
    replicas = max(least, min(most, math.ceil(load(0.0) / (request * TARGET))))
    first = _with(workload, replicas, _share(load(0.0), replicas))
    changes: list[Change] = []
    wanted: list[tuple[float, int]] = []
    for at_s in range(SYNC_S, int(hours * 3600), SYNC_S):
        ratio = load(at_s) / (replicas * request * TARGET)
        desired = replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(replicas * ratio)
        wanted = [(when_s, count) for when_s, count in wanted if when_s > at_s - STABLE_S] + [(at_s, desired)]
        highest = max(count for _, count in wanted)
        desired = min(highest, replicas) if desired < replicas else desired
        desired = min(desired, max(2 * replicas, replicas + LEAST_STEP_UP))
        desired = max(least, min(most, desired))
        if desired != replicas or at_s % SHOWN_EVERY_S == 0:
            replicas = desired
            burn_cores = _share(load(at_s), replicas)
            changes.append(Change(at_s=at_s, owner=workload.key, replicas=replicas, burn_cores=burn_cores))
    return first, changes


def _share(cores: float, replicas: int) -> float:
    return round(cores / replicas, 4)


def _with(workload: Workload, replicas: int, burn_cores: float) -> Workload:
    template = msgspec.structs.replace(workload.template, burn_cores=burn_cores)
    return msgspec.structs.replace(workload, replicas=replicas, template=template)

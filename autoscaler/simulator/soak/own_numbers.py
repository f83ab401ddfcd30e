"""Custom signals and forecasts in a soak: what some seeds' policy asks of them, and what is really behind them."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.forecast import SLOT_S, Forecast
from autoscaler.policy import Policy
from autoscaler.signals import CustomSignal
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.signals import failing, refused, slow
from autoscaler.simulator.soak.fates import dice

CHANGES_EVERY_S: Final = 900.0
FAULT_LASTS_S: Final = 300.0
_DAY_S: Final = 86_400
CORES: Final = 1.9
"""Of a worker of the soak, all of which are of one type."""
UNKNOWN: Final = frozenset({"absent", "nan", "rows", "failing", "slow"})
"""Faults that leave the signal unknown; one that is `refused` is none."""
_FAULTS: Final = (*sorted(UNKNOWN), "refused")
_QUEUE: Final = CustomSignal(name="queue", query="sum(queue)", per_worker_target=100.0)
_AGE: Final = CustomSignal(name="age", query="max(age_seconds)", above=30.0, below=10.0, window_s=120)


def with_own_numbers(policy: Policy, seed: int) -> Policy:
    """The policy, in one seed of five with a signal or two, in one of six with a forecast."""
    rng = random.Random(f"{seed}: numbers of their own")
    signals = rng.choice(((_QUEUE,), (_AGE,), (_QUEUE, _AGE))) if rng.random() < 1 / 5 else ()
    forecast = Forecast()
    if rng.random() < 1 / 6:
        forecast = Forecast(mode=rng.choice(("shadow", "on", "on")), days=3, weeks=0, max_extra=rng.choice((1, 3)))
    return msgspec.structs.replace(policy, signals=signals, forecast=forecast)


def give_numbers(cluster: SimCluster, seed: int, *, begins_s: float, quiet_s: float) -> None:
    """Let Prometheus know them. From `quiet_s` on they are calm and nothing is wrong with them."""
    for signal in cluster.policy.signals:
        most = cluster.policy.workers.max
        number = Number(seed, signal, most=most, begins_s=begins_s, quiet_s=quiet_s)
        cluster.recorder.signals[signal.name] = number
    if cluster.policy.forecast.mode != "off":
        cluster.recorder.past = Days(seed, most=cluster.policy.workers.max, begins_s=begins_s, quiet_s=quiet_s)


class Number:
    """What is behind a signal: steps of a quarter of an hour, and faults of five minutes."""

    def __init__(self, seed: int, rule: CustomSignal, *, most: int, begins_s: float, quiet_s: float) -> None:
        self.rule = rule
        self._seed, self._most, self._begins_s, self._quiet_s = seed, most, begins_s, quiet_s

    def __call__(self, at_s: float) -> Sequence[float]:
        """What its query gives at that moment."""
        match self.fault(at_s):
            case "absent":
                return ()
            case "nan":
                return (math.nan,)
            case "rows":
                return (self.value(at_s), self.value(at_s))
            case "failing":
                return failing(at_s)
            case "slow":
                return slow(at_s)
            case "refused":
                return refused(at_s)
            case _:
                return (self.value(at_s),)

    def value(self, at_s: float) -> float:
        """What is really so."""
        if not self._begins_s <= at_s < self._quiet_s:
            return 0.0
        pick = dice(f"{self._seed}/{self.rule.name}/{int(at_s // CHANGES_EVERY_S)}")[0]
        if self.rule.per_worker_target is None:
            return (5.0, 5.0, 20.0, 40.0)[int(pick * 4)]
        return float(round((0, 0, 0.5, 1.0, 1.3)[int(pick * 5)] * self._most) * self.rule.per_worker_target)

    def fault(self, at_s: float) -> str | None:
        """What is wrong with it then."""
        if not self._begins_s <= at_s < self._quiet_s:
            return None
        struck, kind, _, _ = dice(f"{self._seed}/{self.rule.name} fault/{int(at_s // FAULT_LASTS_S)}")
        return _FAULTS[int(kind * len(_FAULTS))] if struck < 0.2 else None

    def wants(self, since_s: float, until_s: float) -> int:
        """The most workers that a value between two moments wants; 0 for a signal of thresholds."""
        target = self.rule.per_worker_target
        if target is None:
            return 0
        return max(math.ceil(self.value(at_s) / target) for at_s in _between(since_s, until_s))

    def was_above(self, since_s: float, until_s: float) -> bool:
        """Whether it was above its threshold at any of these moments."""
        above = self.rule.above
        return above is not None and any(self.value(at_s) > above for at_s in _between(since_s, until_s))

    def wanted_all_the_time(self, since_s: float, until_s: float) -> int:
        """The fewest workers that a value between two moments wants."""
        target = self.rule.per_worker_target
        if target is None:
            return 0
        return min(math.ceil(self.value(at_s) / target) for at_s in _between(since_s, until_s))

    def refused_since(self, since_s: float, until_s: float) -> bool:
        """Whether Prometheus called it no query at any of these moments."""
        return any(self.fault(at_s) == "refused" for at_s in _between(since_s, until_s))

    def unknown_all_the_time(self, since_s: float, until_s: float) -> bool:
        """Whether it had no answer at any of these moments."""
        return all(self.fault(at_s) in UNKNOWN for at_s in _between(since_s, until_s))


class Days:
    """What earlier days asked for, and today: the same at the same time, with gaps and nonsense."""

    def __init__(self, seed: int, *, most: int, begins_s: float, quiet_s: float) -> None:
        self._seed, self._most, self._quiet = seed, most, int(quiet_s) % _DAY_S
        self._begins_s = begins_s

    def __call__(self, at_s: float) -> Mapping[tuple[str, str], float]:
        """What was recorded then."""
        struck, kind, _, _ = dice(f"{self._seed}/days/{int(at_s // SLOT_S)}")
        if struck < 0.1 and at_s < self._begins_s:
            return {} if kind < 0.5 else {("requests", "cpu"): math.nan}
        return {("requests", "cpu"): self.workers(at_s) * CORES}

    def workers(self, at_s: float) -> float:
        """How many it asked for."""
        of_day = int(at_s) % _DAY_S
        if of_day >= self._quiet:
            return 0.0
        pick = dice(f"{self._seed}/time of day/{int(of_day // CHANGES_EVERY_S)}")[0]
        return (0.0, 0.3, 0.6, 1.4)[int(pick * 4)] * self._most

    def most_between(self, since_s: float, until_s: float) -> float:
        """The most workers that it asked for between two moments."""
        return max(self.workers(at_s) for at_s in _between(since_s, until_s))


def _between(since_s: float, until_s: float) -> list[float]:
    """Moments close enough together to meet every step."""
    count = max(1, math.ceil((until_s - since_s) / 10))
    return [since_s + (until_s - since_s) * step / count for step in range(count + 1)]

"""Faults of the world: when which of them begins in a run, and how all of them end."""

import random
from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Final

from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.soak.faults import machines, metrics, people, servers
from autoscaler.simulator.soak.faults.stage import Episode, Kinds, Stage

KINDS: Final[Kinds] = {**metrics.KINDS, **machines.KINDS, **servers.KINDS, **people.KINDS}


def plan(rng: random.Random, *, begin_s: float, end_s: float, only: Collection[str] = ()) -> list[Episode]:
    """The episodes of one run: of some kinds only, so that each kind also meets a world without the others.

    `only` names the kinds, where somebody looks for something in particular.
    """
    kinds = sorted(KINDS)
    chosen = sorted(only) or rng.sample(kinds, rng.choice((2, 4, 8, 12, len(kinds))))
    per_hour = rng.choice((2.0, 6.0, 15.0, 40.0))
    episodes: list[Episode] = []
    at_s = begin_s
    while (at_s := at_s + rng.expovariate(per_hour / 3600.0)) < end_s:
        for_s = min(rng.choice((30.0, 120.0, 600.0, 1500.0)) * (0.5 + rng.random()), end_s - at_s)
        episodes.append(Episode(len(episodes), rng.choice(chosen), at_s, for_s, rng.random(), rng.random()))
    return episodes


def mend_everything(stage: Stage) -> None:
    """Every fault that is still on ends."""
    stage.over = True
    episode = Episode(-1, "", stage.cluster.now_s, 0.0, 0.0, 0.0)
    for field in fields(MetricFaults):
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        setattr(stage.cluster.metric_faults, field.name, value)
    stage.cluster.world.faults.unmeasured.clear()
    for kinds in (machines.KINDS, servers.KINDS, people.KINDS):
        for _, end in kinds.values():
            end(stage, episode)
    people.set_mode_by_hand(stage, None)

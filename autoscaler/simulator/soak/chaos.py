"""Faults of the world: when which of them begins in a run, and how all of them end."""

import random
from collections.abc import Collection
from dataclasses import MISSING, fields
from typing import Final

from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.soak.assumptions import RULES_ARE_USED
from autoscaler.simulator.soak.faults import drift, machines, market, metrics, people, rules, servers
from autoscaler.simulator.soak.faults.stage import Episode, Kinds, Stage

_WITHOUT_RULES: Final[Kinds] = {**metrics.KINDS, **machines.KINDS, **servers.KINDS, **people.KINDS}
KINDS: Final[Kinds] = {**_WITHOUT_RULES, **rules.KINDS, **market.KINDS, **drift.KINDS}
RULES_SEEDS: Final = 0.5
"""In how many of them something becomes of the answers about rules."""


def plan(rng: random.Random, *, begin_s: float, end_s: float, only: Collection[str] = ()) -> list[Episode]:
    """The episodes of one run: of some kinds only, so that each kind also meets a world without the others.

    `only` names the kinds, where somebody looks for something in particular.
    """
    kinds = sorted(_WITHOUT_RULES)
    chosen = sorted(only) or rng.sample(kinds, rng.choice((2, 4, 8, 12, len(kinds))))
    per_hour = rng.choice((2.0, 6.0, 15.0, 40.0))
    episodes: list[Episode] = []
    at_s = begin_s
    while (at_s := at_s + rng.expovariate(per_hour / 3600.0)) < end_s:
        for_s = min(rng.choice((30.0, 120.0, 600.0, 1500.0)) * (0.5 + rng.random()), end_s - at_s)
        episodes.append(Episode(len(episodes), rng.choice(chosen), at_s, for_s, rng.random(), rng.random()))
    return episodes


def plan_for_rules(seed: int, *, first: int, begin_s: float, end_s: float, only: Collection[str]) -> list[Episode]:
    """The episodes of answers about rules, with dice of their own: the others are what they are without them."""
    dice = random.Random(f"{seed}: what becomes of answers about rules")
    if only or not RULES_ARE_USED or dice.random() >= RULES_SEEDS:
        return []
    kinds = sorted(rules.KINDS)
    return [
        Episode(first + n, dice.choice(kinds), begin_s + (end_s - begin_s) * dice.random(), 900.0 * dice.random(), 0, 0)
        for n in range(4)
    ]


def mend_everything(stage: Stage) -> None:
    """Every fault that is still on ends."""
    stage.over = True
    episode = Episode(-1, "", stage.cluster.now_s, 0.0, 0.0, 0.0)
    for field in fields(MetricFaults):
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        setattr(stage.cluster.metric_faults, field.name, value)
    stage.cluster.world.faults.unmeasured.clear()
    for kinds in (machines.KINDS, servers.KINDS, people.KINDS, rules.KINDS, market.KINDS, drift.KINDS):
        for _, end in kinds.values():
            end(stage, episode)
    people.set_mode_by_hand(stage, None)

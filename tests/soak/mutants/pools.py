"""Bugs of pools: limits of their own that nobody keeps, another template, a min that nobody asks for."""

from typing import Any, Final

import autoscaler.decide.capacity.launch
import autoscaler.decide.demand.growth
import autoscaler.decide.demand.headroom
import autoscaler.decide.demand.pods
import autoscaler.decide.removal.replace
import autoscaler.decide.removal.shrink
import autoscaler.decide.removal.spot_return
from autoscaler.decide.capacity.pools import template_of
from autoscaler.decide.demand.pool_minima import PoolMinima
from tests.soak.mutants.put import Mutant, put


def pool_max_ignored() -> None:
    """A pool grows as far as the fleet may."""
    demand = autoscaler.decide.demand
    for module in (demand.growth, demand.headroom, demand.pods):
        put(module, "rooms", lambda *_: {})


def replaced_above_a_pools_max() -> None:
    """What comes before another one leaves is held by the fleet's max alone."""
    for module in (autoscaler.decide.removal.replace, autoscaler.decide.removal.spot_return):
        put(module, "rooms", lambda *_: {})


def pool_min_ignored_at_removal() -> None:
    """A shrink leaves the fleet its min, whosever workers go."""
    put(autoscaler.decide.removal.shrink._Choice, "_kept_by_pool", lambda *_: None)


def pool_min_not_asked_for() -> None:
    """What a pool lacks to its min is launched when something else wants it."""
    put(autoscaler.decide.demand.growth, "pool_minima", lambda *_args, **_more: PoolMinima())


def another_pools_template() -> None:
    """Every launch is from the first pool's template."""

    def first(context: Any, pool: Any, arch: str, policy: Any) -> Any:
        default = policy.default_pool
        own = template_of(context, pool, arch, policy)
        return own and template_of(context, default, default.archs[0], policy)

    put(autoscaler.decide.capacity.launch, "template_of", first)


def another_pools_types() -> None:
    """What EC2 may launch in place of the wanted type is any type of any pool."""
    module = autoscaler.decide.capacity.launch
    put(module, "pool_named", lambda _name, policy: policy.default_pool)


MUTANTS: Final[tuple[Mutant, ...]] = (
    pool_max_ignored,
    replaced_above_a_pools_max,
    pool_min_ignored_at_removal,
    pool_min_not_asked_for,
    another_pools_template,
    another_pools_types,
)

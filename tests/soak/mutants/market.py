"""Bugs of Spot: fallbacks that are too many or too dear, a base that is let go, a return that is churn."""

from typing import Any, Final

import msgspec

import autoscaler.act.perform
import autoscaler.decide.removal.shrink
import autoscaler.decide.removal.spot_return
import autoscaler.decide.steps
import autoscaler.model
from autoscaler.state.fallback import with_fallback
from tests.soak.mutants.put import Mutant, put


def fallback_without_a_shortfall() -> None:
    """What is on demand is launched beside Spot, whatever Spot gave."""
    put(
        autoscaler.act.perform,
        "with_fallback",
        lambda state, fallback, missing: with_fallback(state, fallback, max(1, missing)),
    )


def fallback_costs_nothing() -> None:
    """What takes Spot's place is not held against the cap."""
    put(autoscaler.model.Fallback, "paid_for", lambda _self, missing: missing)


def base_let_go() -> None:
    """A shrink takes whom base and share ask to be on demand."""
    put(autoscaler.decide.removal.shrink, "needed_on_demand", lambda *_args, **_more: None)


def drained_before_spot_has_come() -> None:
    """A return drains at once, and hopes for Spot."""
    module = autoscaler.decide.removal.spot_return
    plan = module._begin

    def at_once(look: Any, state: Any, fleet: Any, pool: Any) -> Any:
        begun = plan(look, state, fleet, pool)
        workers = {worker.key: worker for worker in fleet.workers}
        if not begun.launches or begun.record is None:
            return begun
        record = msgspec.structs.replace(begun.record, draining=True)
        return msgspec.structs.replace(begun, launches=(), record=record, removes=workers[begun.record.instance_id])

    put(module, "_begin", at_once)


def returns_forgotten() -> None:
    """A return that was begun is not remembered, and so begun again."""
    plan = autoscaler.decide.removal.spot_return.plan_return
    put(autoscaler.decide.steps, "plan_return", lambda *args: msgspec.structs.replace(plan(*args), record=None))


MUTANTS: Final[tuple[Mutant, ...]] = (
    fallback_without_a_shortfall,
    fallback_costs_nothing,
    base_let_go,
    drained_before_spot_has_come,
    returns_forgotten,
)

_DROUGHT: Final = ("Spot drought",)
BROUGHT_OUT_BY: Final[dict[str, tuple[str, ...]]] = {mutant.__name__: _DROUGHT for mutant in MUTANTS}
"""Spot that is short again and again."""

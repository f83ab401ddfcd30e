"""Bugs of who leaves by choice: in a blackout, too many together, or before anybody came instead."""

from typing import Any, Final

import msgspec

import autoscaler.decide.removal.holds
import autoscaler.decide.removal.pace
import autoscaler.decide.removal.replace
import autoscaler.decide.removal.rotation
import autoscaler.decide.removal.shrink
from autoscaler.state.replacing import replacement_drains
from tests.soak.mutants.put import Mutant, put


def blackouts_ignored() -> None:
    """A blackout holds nobody back."""
    for module in (autoscaler.decide.removal.holds, autoscaler.decide.removal.pace, autoscaler.decide.removal.replace):
        put(module, "blackout_at", lambda *_: None)


def budget_ignored() -> None:
    """As many leave together as fit elsewhere."""
    put(autoscaler.decide.removal.shrink, "at_once", lambda *_: 100)


def next_ones_do_not_wait() -> None:
    """Those that leave hold up nobody."""
    for module in (autoscaler.decide.removal.holds, autoscaler.decide.removal.replace):
        put(module, "holds_up_others", lambda *_: False)


def drained_before_launched() -> None:
    """A worker that is due goes, and what replaces it is launched when its pods wait."""
    module = autoscaler.decide.removal.replace
    begun = module._begun

    def straight(look: Any, state: Any, fleet: Any, wish: Any) -> Any:
        plan = begun(look, state, fleet, wish)
        going = replacement_drains(plan.state)
        return msgspec.structs.replace(plan, state=going, launches=(), removes=wish.worker, reason=wish.reason)

    put(module, "_begun", straight)


def joining_is_enough() -> None:
    """What was launched for it need not be Ready."""
    module = autoscaler.decide.removal.replace
    put(module, "launched_for", lambda _by, fleet: [w for w in fleet.workers if w.ours])


def everybody_is_due() -> None:
    """A worker is rotated whatever its age and whatever it is."""
    put(autoscaler.decide.removal.rotation, "_reasons", lambda *_: iter([("max_age", "it is")]))


MUTANTS: Final[tuple[Mutant, ...]] = (
    blackouts_ignored,
    budget_ignored,
    next_ones_do_not_wait,
    drained_before_launched,
    joining_is_enough,
    everybody_is_due,
)

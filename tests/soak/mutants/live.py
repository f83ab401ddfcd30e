"""Bugs of live changes and prices: what is not valid holds, what is older wins, a price is what it once was."""

from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

import autoscaler.decide.capacity.cost
import autoscaler.decide.capacity.pools
import autoscaler.decide.demand.schedules
import autoscaler.decide.removal.cheaper
import autoscaler.live_policy
import autoscaler.reconcile
from autoscaler.decide.capacity.prices import price_of
from autoscaler.document import Outcome
from autoscaler.live_policy import taken_up
from autoscaler.model import PolicyOverride
from tests.soak.mutants.put import Mutant, put

replace = msgspec.structs.replace
UTC = ZoneInfo("UTC")


def invalid_policy_taken() -> None:
    """A change is taken up as it stands."""

    def believed(state: Any, offered: Any, _deployed: Any) -> Any:
        new = PolicyOverride(version=offered.version, text=offered.text or "", changed_at_s=offered.changed_at_s)
        return replace(state, policy_override=new if offered.text is not None else None)

    put(autoscaler.reconcile, "taken_up", believed)


def last_good_one_forgotten() -> None:
    """With a change that is not valid the deployed policy holds alone."""

    def dropped(state: Any, offered: Any, deployed: Any) -> Any:
        new = taken_up(state, offered, deployed)
        override = new.policy_override
        if override is None or not override.invalid_version:
            return new
        return replace(new, policy_override=replace(override, version=0, text=""))

    put(autoscaler.reconcile, "taken_up", dropped)


def older_policy_wins() -> None:
    """The parameter is read once, before the state, and whatever comes last was written last."""
    begin = autoscaler.reconcile._Run.__init__

    def reads_first(self: Any, *args: Any, offered: Any, **more: Any) -> None:
        kept = offered() if offered is not None else None
        begin(self, *args, offered=None if kept is None else lambda: kept, **more)

    def hasty(state: Any, offered: Any, deployed: Any) -> Any:
        held = state.policy_override
        seen = held and replace(held, changed_at_s=0, version=-1, invalid_version=0)
        new = taken_up(replace(state, policy_override=seen), offered, deployed).policy_override
        if new is not None and held is not None and new.invalid_version:
            new = replace(new, version=held.version)
        return replace(state, policy_override=new)

    put(autoscaler.reconcile._Run, "__init__", reads_first)
    put(autoscaler.reconcile, "taken_up", hasty)


def refused_policy_told_to_nobody() -> None:
    """What is not valid is noted, and nobody hears of it."""
    put(autoscaler.reconcile, "policy_told", lambda *_: Outcome())


def deployed_policy_holds_alone() -> None:
    """What was changed live is noted, and decisions are made without it."""
    in_force = autoscaler.live_policy.in_force

    def alone(deployed: Any, override: Any) -> Any:
        return in_force(deployed, override)._replace(policy=deployed)

    put(autoscaler.reconcile, "in_force", alone)


def _priced(price: Any) -> None:
    capacity = autoscaler.decide.capacity
    for module in (capacity.prices, capacity.cost, capacity.pools, autoscaler.decide.removal.cheaper):
        put(module, "price_of", price)


def prices_frozen() -> None:
    """A price is what it was when it was first asked for."""
    known: dict[tuple[str, str, str], Any] = {}

    def first(kind: str, zone: str, market: str, policy: Any, *table: Any) -> Any:
        return known.setdefault((kind, zone, market), price_of(kind, zone, market, policy, *table))

    _priced(first)


def dearer_taken_for_cheaper() -> None:
    """Any other type of its pool is worth a replacement."""

    def of_others(kind: str, zone: str, market: str, policy: Any, *table: Any) -> Any:
        usd = price_of(kind, zone, market, policy, *table)
        return usd and 0.9 * usd if kind.startswith("t3a") else usd

    put(autoscaler.decide.removal.cheaper, "price_of", of_others)


def clocks_never_change() -> None:
    """A window is where it is in winter."""
    module = autoscaler.decide.demand.schedules
    moment = module._moment

    def in_winter(wall: Any, zone: Any, *, last: bool) -> int:
        away = zone.utcoffset(wall.replace(month=1, day=15))
        return moment(wall - away, UTC, last=last)

    put(module, "_moment", in_winter)


MUTANTS: Final[tuple[Mutant, ...]] = (
    invalid_policy_taken,
    last_good_one_forgotten,
    older_policy_wins,
    refused_policy_told_to_nobody,
    deployed_policy_holds_alone,
    prices_frozen,
    dearer_taken_for_cheaper,
    clocks_never_change,
)

"""Live changes of the policy in a soak: what people write into the parameter, and which policy each version makes.

Said here once more, field by field: not by the code that is tested. Prices change this way, too.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from autoscaler.model import OfferedPolicy, PolicyOverride
from autoscaler.policy import Policy
from autoscaler.simulator.ec2 import listed_usd

SEEDS: Final = 0.3
"""In so many of them somebody changes the policy while faults last."""
MOST_OFFERS: Final = 12
AT_ONCE_S: Final = 20.0
"""Within this time the next change comes, where somebody corrects what he wrote."""
NOTHING: Final = "{}"
"""What `k3s-autoscaler policy clear` writes."""
_TYPES: Final = ("t3.small", "t3a.small", "t4g.small")
_WRONG: Final = (
    "workers: {min: 9, max: 3}",
    "workers: {most: 5}",
    "workers: [",
    "metrics: {max_age_s: 60}",
    "scale_down: {cpu_below: 0.69}",
    "workers: {market: sideways}",
    "workers: {pools: [{name: other, instance_types: [t3.small]}]}",
)
"""Not valid: nonsense, no YAML, what is rendered or deployed, limits that contradict each other."""


@dataclass(frozen=True, slots=True)
class Offer:
    """At a time, the parameter gets another text, or is deleted."""

    number: int
    at_s: float
    text: str | None
    """None: it is deleted."""
    policy: Policy | None
    """What holds with it; None where it is refused, and the one before stays."""

    @property
    def key(self) -> str:
        """Its name in a history."""
        return f"policy {self.number}"


def plan_offers(policy: Policy, seed: int, *, begin_s: float, end_s: float) -> list[Offer]:
    """What is written in this seed, with dice of its own: in most of them nothing."""
    dice = random.Random(f"{seed}: what operators change live")
    if dice.random() >= SEEDS:
        return []
    offers: list[Offer] = []
    at_s = begin_s
    for number in range(dice.choice((2, 4, 8, MOST_OFFERS))):
        again = bool(offers) and dice.random() < 0.3
        at_s = at_s + AT_ONCE_S * dice.random() if again else begin_s + (end_s - begin_s) * dice.random()
        offers.append(Offer(number, min(at_s, end_s), *_written(dice, policy, offers)))
    return offers


def _written(dice: random.Random, policy: Policy, before: list[Offer]) -> tuple[str | None, Policy | None]:
    pick = dice.random()
    if pick < 0.25:
        return dice.choice(_WRONG), None
    if pick < 0.35:
        return None, policy
    if pick < 0.45:
        return NOTHING, policy
    if pick < 0.55 and before:
        earlier = dice.choice(before)  # a roll-back is an earlier text as a new version
        return (NOTHING, policy) if earlier.text is None else (earlier.text, earlier.policy)
    return dice.choice(_CHANGES)(dice, policy)


_Change = Callable[[random.Random, Policy], tuple[str, Policy]]


def _limits(dice: random.Random, policy: Policy) -> tuple[str, Policy]:
    most = max(policy.workers.max + dice.choice((-2, 0, 2)), 2)
    least = min(most, max(0, policy.workers.min + dice.choice((-1, 0, 1))))
    workers = msgspec.structs.replace(policy.workers, min=least, max=most)
    return f"workers: {{min: {least}, max: {most}}}", msgspec.structs.replace(policy, workers=workers)


def _prices(dice: random.Random, policy: Policy) -> tuple[str, Policy]:
    """What was the dearest may be the cheapest from now on."""
    usd = {kind: round(listed_usd(kind) * dice.choice((0.5, 1.0, 2.0)), 4) for kind in _TYPES}
    told = ", ".join(f"{kind}: {price}" for kind, price in usd.items())
    cost = msgspec.structs.replace(policy.cost, usd_per_hour=usd)
    return f"cost: {{usd_per_hour: {{{told}}}}}", msgspec.structs.replace(policy, cost=cost)


def _prices_count(dice: random.Random, policy: Policy) -> tuple[str, Policy]:
    """Prices, and that a dearer worker goes for a cheaper one."""
    text, priced = _prices(dice, policy)
    share = dice.choice((0.05, 0.2))
    down = msgspec.structs.replace(policy.scale_down, replace_when_saves=share)
    return f"{text}\nscale_down: {{replace_when_saves: {share}}}", msgspec.structs.replace(priced, scale_down=down)


def _cap(dice: random.Random, policy: Policy) -> tuple[str, Policy]:
    usd = round((policy.workers.min + dice.choice((1, 3))) * listed_usd("t3.small"), 4)
    cost = msgspec.structs.replace(policy.cost, max_usd_per_hour=usd)
    return f"cost: {{max_usd_per_hour: {usd}}}", msgspec.structs.replace(policy, cost=cost)


def _calm(dice: random.Random, policy: Policy) -> tuple[str, Policy]:
    seconds = dice.choice((60, 300, 1200))
    down = msgspec.structs.replace(policy.scale_down, cool_down_s=seconds)
    return f"scale_down: {{cool_down_s: {seconds}}}", msgspec.structs.replace(policy, scale_down=down)


_CHANGES: Final[tuple[_Change, ...]] = (_limits, _limits, _prices, _prices_count, _prices_count, _cap, _calm)


class Parameter:
    """The parameter of Parameter Store: each write is a version, and a new one begins at 1 again."""

    def __init__(self, deployed: Policy) -> None:
        self.deployed = deployed
        self._writes: list[tuple[int, int, Offer]] = []
        """Version, time and what was written, in their order; a deletion has the version 0."""

    def write(self, offer: Offer, now_s: float) -> None:
        """Somebody writes it, or deletes it."""
        before = self._writes[-1][0] if self._writes else 0
        self._writes.append((before + 1 if offer.text is not None else 0, int(now_s), offer))

    def read(self) -> OfferedPolicy:
        """What stands there."""
        version, changed_at_s, offer = self._writes[-1] if self._writes else (0, 0, None)
        if offer is None or offer.text is None:
            return OfferedPolicy(text=None)
        return OfferedPolicy(text=offer.text, version=version, changed_at_s=changed_at_s)

    def order_of(self, version: int, changed_at_s: int) -> int | None:
        """Which of the writes that was; None where none was."""
        known = [n for n, write in enumerate(self._writes, start=1) if write[:2] == (version, changed_at_s) and version]
        return known[-1] if known else None

    def deleted_after(self, order: int) -> int | None:
        """The last deletion after that write; None where there is none."""
        return max((n for n, write in enumerate(self._writes, 1) if n > order and write[0] == 0), default=None)

    def policy_of(self, override: PolicyOverride | None) -> Policy | None:
        """What holds with what the state says; None where no write was like that."""
        if override is None or not override.version:
            return self.deployed
        texts = [o for version, _, o in self._writes if (version, o.text) == (override.version, override.text)]
        return texts[-1].policy if texts else None

    def is_refused(self, version: int, changed_at_s: int) -> bool:
        """Whether that write makes no valid policy."""
        order = self.order_of(version, changed_at_s)
        return order is not None and self._writes[order - 1][2].policy is None

    def is_seen(self, override: PolicyOverride | None) -> bool:
        """Whether the state has seen what stands there, valid or not."""
        stands = self.read()
        if stands.text is None:
            return override is None
        return override is not None and (override.seen_version, override.changed_at_s) == (
            stands.version,
            stands.changed_at_s,
        )

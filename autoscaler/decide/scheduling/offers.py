"""What new nodes there could be for a sizing: in which turn they are tried, and which of several is the cheapest."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from autoscaler.decide.scheduling.placing import Template
from autoscaler.model.rules import PodRules

NO_LIMIT: Final = 2**31
_DECIMALS: Final = 9
"""Prices per pod are quotients: what differs by less costs the same."""


Order = tuple[bool, bool, float, int]


def order_of(template: Template, pods: int) -> Order:
    """Where a node for so many pods stands among others: the cheapest per pod first; of equal ones by weight.

    What nobody knows the price of comes last, and behind it what EC2 has nothing left of.
    """
    usd = template.usd_per_hour
    return template.exhausted, usd is None, round((usd or 0.0) / pods, _DECIMALS), -template.weight


class Offers:
    """Templates by rank, and how many more nodes each pool may have."""

    def __init__(self, templates: Sequence[Template], rooms: Mapping[str, int]) -> None:
        self.templates = tuple(templates)
        self._rooms = rooms
        self._most: dict[PodRules, dict[str, int]] = {}
        self.room_for: dict[tuple[PodRules, str], int] = {}
        """How many pods of a class a fresh node takes, by template: of classes that mind no other pod."""
        self._pool_of = {template.name: template.pool for template in templates}

    @cached_property
    def compared(self) -> bool:
        """Whether there is more than one choice."""
        return len({template.choice for template in self.templates}) > 1

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """What nodes are evened out over."""
        return tuple(dict.fromkeys(self.domain(template) for template in self.templates))

    def domain(self, template: Template) -> str:
        """Its zone; without zones each template is its own, where they are not compared by price."""
        return template.zone or ("" if self.compared else template.name)

    def in_turn(self, opened: Mapping[str, int], favourite: str | None) -> list[Template]:
        """Which to try first, given how many of each were opened: by rank, and evenly over the domains.

        Or all in one domain, the favourite. None of a pool that is full.
        """
        taken: dict[str, int] = {}
        for name, count in opened.items() if self._rooms else ():
            taken[self._pool_of[name]] = taken.get(self._pool_of[name], 0) + count
        there = [t for t in self.templates if taken.get(t.pool, 0) < self._rooms.get(t.pool, NO_LIMIT)]
        if favourite is None:
            return sorted(there, key=lambda template: (template.rank, opened.get(template.name, 0)))
        return sorted(there, key=lambda template: (template.rank, self.domain(template) != favourite))

    def room_of(self, template: Template) -> int:
        """How many more nodes its pool may have."""
        return self._rooms.get(template.pool, NO_LIMIT)

    def first_of(self, new_nodes: Mapping[str, int]) -> list[Template]:
        """The first rank of the choice that a plan begins with, in every zone; of a plan without nodes the first."""
        used = next((template for template in self.templates if template.name in new_nodes), None)
        lead = used or next(iter(self.templates), None)
        of_choice = [t for t in self.templates if lead is not None and t.choice == lead.choice]
        return [template for template in of_choice if template.rank == of_choice[0].rank]

    def most_pods(self, template: Template, rules: PodRules) -> int:
        """No node of this template takes more pods of this class than this, whatever else is on it."""
        if rules not in self._most:
            self._most[rules] = {one.name: _most_pods(one, rules) for one in self.templates}
        return self._most[rules][template.name]

    def price(self, new_nodes: Mapping[str, int]) -> tuple[int, int, float]:
        """How many of these nodes EC2 has nothing left of, or nobody knows the price of; and what the others cost."""
        chosen = [(template, new_nodes[template.name]) for template in self.templates if template.name in new_nodes]
        usd = sum(one.usd_per_hour * count for one, count in chosen if one.usd_per_hour is not None)
        return (
            sum(count for one, count in chosen if one.exhausted),
            sum(count for one, count in chosen if one.usd_per_hour is None),
            round(usd, _DECIMALS),
        )


def _most_pods(template: Template, rules: PodRules) -> int:
    room = dict(template.node.allocatable)
    return min(
        room.get("pods", NO_LIMIT), *(room.get(name, 0) // asked for name, asked in rules.requests if asked), NO_LIMIT
    )

"""How many new nodes of which template hold what waits, by classes: equal rules and equal requests, with counts.

Of several choices (pools, or types that no order of preference tells apart) each class takes the one whose node is
cheapest per pod of the class that it takes; of whole plans the cheapest wins. Else the fewest nodes do.

First the nodes that are there, then copies of a template. Several orders are tried, as first-fit-decreasing is good in
most and best in none; the fewest pods left over win, then the fewest nodes, then the evener zones, then the first. So
the cost grows with classes x nodes, and the same question always gets the same answer.

With one template for each zone a plan that can hold all pods may still strand one when the scheduler chooses
unluckily. For a handful of pods such plans are passed over (guard.py), at the price of a node more here and there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.node_resources_fit import how_many_fit
from autoscaler.decide.scheduling.guard import Budget, guaranteed
from autoscaler.decide.scheduling.offers import Offers, Order, order_of
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.shelves import Opened, Shelves, shelves_of
from autoscaler.model.rules import PodRules

TRIED_PODS: Final = 3_000
"""Orders are tried until so many pods were placed, all of them together: a crowd is packed well by the first."""
REJOINED: Final = 4
"""So many times a plan is mended that does not hold its pods once all its nodes are there."""
GUARDED_PODS: Final = 8
"""Up to so many pods every choice of the scheduler is followed."""
GUARDED_LOOKS: Final = 200_000
"""And up to so many looks at a class on a node, for all plans together."""
GUARDED_LOOKS_OF_A_MOVE: Final = 20_000
"""So many for one worker that may go: many are judged in one look."""


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    new_nodes: dict[str, int]
    """By template; one that is not needed is not listed."""
    left: tuple[Waiting, ...]
    """What has no place even so."""
    sure: int | None = None
    """How many of the pods find a place whatever the scheduler chooses; None where not all choices were followed."""

    @property
    def total(self) -> int:
        """All new nodes."""
        return sum(self.new_nodes.values())


def size(
    waiting: Sequence[Waiting],
    templates: Sequence[Template],
    cluster: Cluster,
    *,
    at_most: int,
    rooms: Mapping[str, int] | None = None,
) -> Sizing:
    """Up to `at_most` new nodes for what waits; the cluster is afterwards as it was before.

    `templates` by rank. A class that no template can take costs no node; one that the first rank cannot take gets the
    next. `rooms`: how many more nodes a pool may have, where it has a limit of its own.
    """
    trial = Trial(cluster)
    classes = merged(waiting)
    offers = Offers(templates, rooms or {})
    best = min(_plans(trial, classes, offers, at_most), key=_cost(offers), default=None)
    if best is None:
        best = Sizing(new_nodes={}, left=tuple(classes))
    first = offers.first_of(best.new_nodes)
    few = sum(group.count for group in classes) <= GUARDED_PODS and all(group.on is None for group in classes)
    if len(first) > 1 and few and {template.name for template in first}.issuperset(best.new_nodes):
        return _guard(trial, classes, first, best, min(at_most, offers.room_of(first[0])))
    return best


def may_be_left(waiting: Sequence[Waiting], cluster: Cluster, on: frozenset[str]) -> tuple[Waiting, ...]:
    """What may find no place on the nodes of these names, without a new one; the cluster is afterwards as it was.

    That one packing holds all is not enough: the scheduler chooses its own, and evicted pods come back in any order.
    Every order that plans try has to place them, and for a handful of pods every choice there is.
    """
    trial = Trial(cluster)
    classes = [Waiting(group.rules, group.count, on) for group in merged(waiting)]
    room = _room(trial, (), classes)
    for way in _ways(Offers((), {})):
        shelves = shelves_of(trial.cluster, classes, emptiest_first=way.emptiest_first)
        for order in _orders(classes, room):
            left = _fill_existing(trial, order, shelves)
            trial.undo()
            if left:
                return tuple(left)
    pods = sum(group.count for group in classes)
    if len(classes) > 1 and pods <= GUARDED_PODS:
        budget = Budget(GUARDED_LOOKS_OF_A_MOVE)
        existing = [cluster.nodes[name] for name in sorted(on & cluster.nodes.keys())]
        reached = guaranteed(trial, classes, existing, budget, beat=pods - 1)
        trial.undo()
        if reached < pods and not budget.spent:
            return (max(classes, key=lambda group: sum(value for _, value in group.rules.requests)),)
    return ()


def merged(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Each class once, in an order of their own: pods are told in any."""
    counts: dict[tuple[PodRules, frozenset[str] | None], int] = {}
    for group in waiting:
        if group.count > 0:
            counts[group.rules, group.on] = counts.get((group.rules, group.on), 0) + group.count
    classes = [Waiting(rules, count, on) for (rules, on), count in counts.items()]
    named = {group.on: sorted(group.on or ()) for group in classes}
    return sorted(classes, key=lambda group: (msgspec.json.encode(group.rules), named[group.on]))


# --------------------------------------------------------------------------------------------------- orders and choices


class _Way(msgspec.Struct, frozen=True):
    """How a plan is made, beside the order of the classes."""

    offers: Offers
    favourite: str | None = None
    """A domain to open in; None: evenly over all of them."""
    emptiest_first: bool = False
    """Spread pods over the nodes instead of packing the first: better where room is left for pods of other shapes."""


def _plans(trial: Trial, classes: list[Waiting], offers: Offers, at_most: int) -> Iterator[Sizing]:
    pods, tried = sum(group.count for group in classes), 0
    templates = offers.templates
    room = _room(trial, templates, classes)
    for way in _ways(offers):
        shelves = shelves_of(trial.cluster, classes, emptiest_first=way.emptiest_first)
        for order in _orders(classes, room):
            left = _fill_existing(trial, order, shelves)
            mark = trial.mark
            plan = _grow(trial, left, way, at_most)
            trial.undo(mark)
            yield _joined_at_once(trial, plan, left, templates, way, at_most=at_most)
            trial.undo()
            tried += pods
            if tried >= TRIED_PODS:
                return


def _room(trial: Trial, templates: Sequence[Template], classes: Sequence[Waiting]) -> dict[str, int]:
    """What shares are shares of: the largest of the new nodes, or of those that are there where none may be new."""
    wholes = [dict(template.node.allocatable) for template in templates]
    wholes = wholes or [node.whole for node in trial.cluster.nodes.values()]
    names = {name for group in classes for name, _ in group.rules.requests}
    return {name: max([whole.get(name, 0) for whole in wholes], default=0) for name in names}


def _orders(classes: list[Waiting], room: Mapping[str, int]) -> Iterator[list[Waiting]]:
    """Large ones first, by their shares of a node: in sum, after the choosier ones; in sum; by the largest share.

    And small ones first: more of them find room on the nodes that are there.
    """

    def shares(group: Waiting) -> list[float]:
        return [value / room[name] if room.get(name) else 1.0 for name, value in group.rules.requests] or [0.0]

    def choosy(group: Waiting) -> int:
        rules = group.rules
        return len(rules.spread) + len(rules.anti_affinity) + len(rules.affinity) + len(rules.host_ports)

    yield sorted(classes, key=lambda group: (-choosy(group), -sum(shares(group))))
    yield sorted(classes, key=lambda group: -sum(shares(group)))
    yield sorted(classes, key=lambda group: -max(shares(group)))
    yield sorted(classes, key=lambda group: sum(shares(group)))


def _ways(offers: Offers) -> Iterator[_Way]:
    """Evenly over the zones; or as much as possible in one of them, as a zone without nodes is no domain."""
    yield _Way(offers)
    yield _Way(offers, emptiest_first=True)
    if len(offers.domains) > 1:
        yield from (_Way(offers, favourite=favourite) for favourite in offers.domains)


def _fill_existing(trial: Trial, classes: list[Waiting], shelves: Shelves) -> list[Waiting]:
    placed = [trial.fill(group.rules, group.count, shelves[group.on].that_may_hold(group.rules)) for group in classes]
    return _without(classes, placed)


def _without(classes: Sequence[Waiting], placed: Sequence[int]) -> list[Waiting]:
    return [
        Waiting(group.rules, group.count - done, group.on)
        for group, done in zip(classes, placed, strict=True)
        if done < group.count
    ]


def _grow(trial: Trial, classes: list[Waiting], way: _Way, at_most: int) -> Sizing:
    """Class by class, and again as long as it helps: a pod may wait for another that was placed after it."""
    before: list[Waiting] = []
    left, opened = classes, Opened(trial, classes)
    while left and left != before:
        before = left
        left = _without(before, [_grow_for(trial, group, way, at_most, opened) for group in before])
    return Sizing(new_nodes=dict(sorted(trial.numbers.items())), left=tuple(left))


def _joined_at_once(
    trial: Trial, plan: Sizing, classes: list[Waiting], templates: Sequence[Template], way: _Way, *, at_most: int
) -> Sizing:
    """The plan once more with all its nodes there from the start, and what is missing then.

    A plan opens one node after the other, and a new domain tightens a spread constraint: pods that were let into the
    first zone while it was the only one are refused there when the second one has joined.
    So with hosts: a new, empty one lowers the count that the others are held against.
    """
    mark = trial.mark
    if plan.total < 2 or not any(group.rules.spread for group in classes):
        return plan
    for _ in range(REJOINED):
        _open_all(trial, templates, plan.new_nodes)
        again = _grow(trial, classes, way, at_most)
        trial.undo(mark)
        if again.total == plan.total:
            return again
        plan = again
    return plan


def _open_all(trial: Trial, templates: Sequence[Template], numbers: Mapping[str, int]) -> None:
    for turn in range(max(numbers.values(), default=0)):
        for template in templates:
            if turn < numbers.get(template.name, 0):
                trial.open(template)


def _grow_for(trial: Trial, group: Waiting, way: _Way, at_most: int, opened: Opened) -> int:
    """Fill what was opened, then open one after the other as long as each takes a pod. Returns how many are placed."""
    rules, there = group.rules, opened.with_room()
    nodes = there
    if way.emptiest_first:
        nodes = sorted(there, key=lambda node: [-node.free.get(name, 0) for name, _ in rules.requests])
    placed = trial.fill(rules, group.count, nodes)
    # With the other new nodes that have room: one domain more may let pods into the old ones.
    spreads = rules.spread and placed < group.count
    others = [node for node in there if trial.may_ever_fit(rules, node)] if spreads else []
    while placed < group.count and len(trial.opened) < at_most:
        node = _open_for(trial, rules, group.count - placed, way)
        if node is None:
            break
        placed += trial.fill(rules, group.count - placed, [node, *others])
        if rules.spread:
            others.append(node)
    return placed


def _open_for(trial: Trial, rules: PodRules, wanted: int, way: _Way) -> NodeInfo | None:
    """A node of the cheapest choice for up to `wanted` pods, or of the only one; None where none takes one."""
    templates = way.offers.in_turn(trial.numbers, way.favourite)
    if way.offers.compared:
        cheapest = _cheapest(trial, rules, wanted, templates, way.offers)
        return trial.open(cheapest) if cheapest is not None else None
    for template in templates:
        mark = trial.mark
        node = trial.open(template)
        if trial.fits(rules, node):
            return node
        trial.undo(mark)
    return None


def _cheapest(
    trial: Trial, rules: PodRules, wanted: int, templates: Sequence[Template], offers: Offers
) -> Template | None:
    best: tuple[Order, Template] | None = None
    seen: set[str] = set()
    for template in templates:
        most = 0 if template.choice in seen else min(wanted, offers.most_pods(template, rules))
        if not most or (best is not None and order_of(template, most) > best[0]):
            continue  # with as many pods as it could ever hold it would not be the cheapest
        taken = _taken(trial, rules, wanted, template, offers)
        if taken:
            seen.add(template.choice)
            order = order_of(template, taken)
            best = (order, template) if best is None or order < best[0] else best
    return best[1] if best is not None else None


def _taken(trial: Trial, rules: PodRules, wanted: int, template: Template, offers: Offers) -> int:
    """How many of these pods a node of the template would take now. The trial stands where it stood before."""
    alone = trial.minds_nobody(rules)
    known = offers.room_for.get((rules, template.name)) if alone else None
    if known is not None:
        return min(wanted, known)
    mark = trial.mark
    node = trial.open(template)
    fits = trial.fits(rules, node)
    if alone:
        offers.room_for[rules, template.name] = how_many_fit(rules, node) if fits else 0
    taken = max(1, trial.fill(rules, wanted, [node])) if fits else 0
    trial.undo(mark)
    return taken


def _cost(offers: Offers) -> Callable[[Sizing], tuple[float, ...]]:
    def cost(sizing: Sizing) -> tuple[float, ...]:
        numbers = dict.fromkeys(offers.domains, 0)
        for template in offers.templates:
            numbers[offers.domain(template)] += sizing.new_nodes.get(template.name, 0)
        unevenness = max(numbers.values(), default=0) - min(numbers.values(), default=0)
        prices = offers.price(sizing.new_nodes) if offers.compared else ()
        return sum(group.count for group in sizing.left), *prices, sizing.total, unevenness

    return cost


# ------------------------------------------------------------------------------------------------------ unlucky choices


def _guard(trial: Trial, classes: list[Waiting], templates: Sequence[Template], plan: Sizing, at_most: int) -> Sizing:
    """The fewest new nodes with which the most pods are sure to find a place; `plan` if that cannot be found out."""
    budget = Budget(GUARDED_LOOKS)
    pods = sum(group.count for group in classes)
    existing = [
        node
        for _, node in sorted(trial.cluster.nodes.items())
        if any(trial.may_ever_fit(group.rules, node) for group in classes)
    ]
    best, sure = plan, -1
    for total in range(min(at_most, pods) + 1):
        for numbers in _numbers(total, len(templates)):
            names = [template.name for template in templates]
            _open_all(trial, templates, dict(zip(names, numbers, strict=True)))
            reached = guaranteed(trial, classes, existing, budget, beat=sure)
            opened = dict(sorted(trial.numbers.items()))
            trial.undo()
            if budget.spent:
                return plan
            if reached > sure:
                sure = reached
                best = Sizing(new_nodes=opened, left=_left_with(trial, classes, templates, opened), sure=sure)
            if sure == pods:
                return best
    return best


def _left_with(
    trial: Trial, classes: list[Waiting], templates: Sequence[Template], new_nodes: Mapping[str, int]
) -> tuple[Waiting, ...]:
    """What finds no place on these nodes with the choices that the plans make."""
    way = _Way(Offers(templates, {}))
    order = next(_orders(classes, _room(trial, templates, classes)))
    left = _fill_existing(trial, order, shelves_of(trial.cluster, classes))
    _open_all(trial, templates, new_nodes)
    filled = _grow(trial, left, way, at_most=0)
    trial.undo()
    return filled.left


def _numbers(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share `total` nodes out, evener ones first."""
    ways = sorted(_compositions(total, parts), key=lambda numbers: (max(numbers) - min(numbers), [-n for n in numbers]))
    yield from ways


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)

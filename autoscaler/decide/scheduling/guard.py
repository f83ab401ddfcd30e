"""How many pods find a place whatever the scheduler chooses: every order of the pods, every node that fits.

A plan that can hold all pods may still strand one: a pod that could have gone anywhere takes the only place of another.
For few pods all choices are followed; equal nodes count as one, so are equal situations.
"""

from collections.abc import Sequence

import msgspec

from autoscaler.decide.scheduling.cluster import NodeInfo
from autoscaler.decide.scheduling.filters.node_resources_fit import how_many_fit
from autoscaler.decide.scheduling.placing import Trial, Waiting
from autoscaler.model.rules import PodRules

_Situation = tuple[tuple[int, tuple[int, ...]], ...]


class Budget:
    """How often a class may still be looked at on a node: the search is bounded by work, not by a clock."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def spent(self) -> bool:
        """Whether no more may be looked at: what was found is then not proven."""
        return self.left <= 0


def guaranteed(
    trial: Trial, waiting: Sequence[Waiting], existing: Sequence[NodeInfo], budget: Budget, *, beat: int
) -> int:
    """The fewest of the waiting pods that can end up placed; once that is no more than `beat`, any number up to it.

    On the `existing` nodes and those that the trial has opened: existing ones each count for themselves, new ones of a
    template for one another. The trial stands afterwards where it stood before. When the budget is spent the answer is
    `beat`: nothing is promised that was not proven.
    """
    nodes = [*existing, *(node for _, node in trial.opened)]
    if _are_interchangeable(trial, waiting, nodes):
        rules = waiting[0].rules
        room = sum(how_many_fit(rules, node) for node in nodes if trial.fits(rules, node))
        return min(room, sum(group.count for group in waiting))
    return _Search(trial, waiting, existing, budget, beat).fewest([group.count for group in waiting], 0)


def _are_interchangeable(trial: Trial, waiting: Sequence[Waiting], nodes: Sequence[NodeInfo]) -> bool:
    """Whether each takes the room of one of the others, wherever it goes: then no choice is better than another.

    They ask the same, look at no other pods, and each fits wherever the first of them does.
    """
    if not waiting:
        return False
    first = waiting[0].rules
    if first.affinity or first.anti_affinity or first.spread or first.host_ports or first.claims:
        return False
    nameless = _nameless(first)
    if any(_nameless(group.rules) != nameless for group in waiting[1:]):
        return False
    roomy = [node for node in nodes if how_many_fit(first, node)]
    there = [trial.fits(first, node) for node in roomy]
    return all([trial.fits(group.rules, node) for node in roomy] == there for group in waiting[1:])


def _nameless(rules: PodRules) -> PodRules:
    return msgspec.structs.replace(rules, namespace="", labels=())


class _Search:
    def __init__(
        self, trial: Trial, waiting: Sequence[Waiting], existing: Sequence[NodeInfo], budget: Budget, beat: int
    ) -> None:
        self._trial, self._waiting, self._budget, self._beat = trial, waiting, budget, beat
        kinds: dict[str, int] = {}
        named = [*((f"old {node.name}", node) for node in existing), *((f"new {t}", node) for t, node in trial.opened)]
        self._nodes = [(kinds.setdefault(kind, len(kinds)), node) for kind, node in named if self._may_take(node)]
        self._on = {node: [0] * len(waiting) for _, node in self._nodes}
        self._known: dict[_Situation, int] = {}

    def _may_take(self, node: NodeInfo) -> bool:
        """Whether any of them may come to fit there: a pod that is placed opens a node only to rules about others."""
        return any(
            group.rules.affinity or group.rules.spread or self._trial.fits(group.rules, node) for group in self._waiting
        )

    def fewest(self, left: list[int], placed: int) -> int:
        """The fewest that are placed in the end, from here on."""
        situation = tuple(sorted((kind, tuple(self._on[node])) for kind, node in self._nodes))
        known = self._known.get(situation)
        if known is not None:
            return known
        self._budget.left -= len(self._nodes) * len(left)
        if self._budget.spent:
            return self._beat
        worst: int | None = None
        for number, node in self._choices(left):
            reached = self._choose(number, node, left, placed)
            worst = reached if worst is None else min(worst, reached)
            if worst <= self._beat:
                return worst
        result = self._known[situation] = placed if worst is None else worst
        return result

    def _choose(self, number: int, node: NodeInfo, left: list[int], placed: int) -> int:
        mark = self._trial.mark
        self._trial.put(self._waiting[number].rules, node)
        self._on[node][number] += 1
        left[number] -= 1
        reached = self.fewest(left, placed + 1)
        left[number] += 1
        self._on[node][number] -= 1
        self._trial.undo(mark)
        return reached

    def _choices(self, left: list[int]) -> list[tuple[int, NodeInfo]]:
        """One node of each kind and filling, for each class that still waits."""
        choices: list[tuple[int, NodeInfo]] = []
        for number, group in enumerate(self._waiting):
            seen: set[tuple[int, tuple[int, ...]]] = set()
            for kind, node in self._nodes if left[number] else ():
                look = (kind, tuple(self._on[node]))
                if look not in seen:
                    seen.add(look)
                    if self._trial.fits(group.rules, node):
                        choices.append((number, node))
        return choices

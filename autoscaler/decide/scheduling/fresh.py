"""New workers as the filters would see them, each type in each zone that matters: who would take a pod, and why not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec

from autoscaler.decide.scheduling.book import label_keys
from autoscaler.decide.scheduling.cluster import NodeInfo
from autoscaler.decide.scheduling.filters import LASTING, first_refusal
from autoscaler.decide.scheduling.filters.refusal import Plugin, Refusal
from autoscaler.decide.scheduling.labels import CAPACITY_LABEL
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model import ON_DEMAND, SPOT, NewWorkers, Why
from autoscaler.model.rules import PodRules
from autoscaler.pools import WorkerPool

_ORDER: Final = tuple(Plugin)
_OF_OTHER_PODS: Final = frozenset({Plugin.POD_TOPOLOGY_SPREAD, Plugin.INTER_POD_AFFINITY})
_BY_ZONE: Final = _OF_OTHER_PODS | {Plugin.NODE_AFFINITY, Plugin.VOLUME_BINDING, Plugin.VOLUME_ZONE}
_OF_EVERY_POD: Final = frozenset({"cpu", "memory"})
MIB: Final = 1024 * 1024


class NewRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why no new worker takes a pod: the word of the one that comes nearest."""

    instance_type: str
    refusal: Refusal
    rules: PodRules
    room: dict[str, int]
    """What such a worker has left beside its DaemonSets."""
    unsure: str = ""
    """Why another zone, of which nobody knows, might take it all the same; empty where that is known."""

    @property
    def lasts(self) -> bool:
        """Whether it holds whatever other pods do."""
        return self.refusal.plugin not in _OF_OTHER_PODS and not self.unsure

    @property
    def why(self) -> Why:
        """As it is told of a pod."""
        if self.unsure:
            return Why("unknown", self.unsure)
        asks, new = dict(self.rules.requests), f"a new {self.instance_type}"
        if self.refusal.plugin is not Plugin.NODE_RESOURCES_FIT:
            return Why("unhelpable", f"{new} is refused by {self.refusal.plugin}: {self.refusal.reasons[0]}")
        other = next((n for n in asks if n not in _OF_EVERY_POD and asks[n] > self.room.get(n, 0)), None)
        if other is not None:
            return Why("unfittable", f"asks {asks[other]} {other}; {new} has {self.room.get(other, 0)}")
        largest = f"the largest worker ({self.instance_type}) gives {_cpu_and_memory(self.room)}"
        return Why("unfittable", f"asks {_cpu_and_memory(asks)}; {largest}")


def _cpu_and_memory(amounts: Mapping[str, int]) -> str:
    return f"{amounts.get('cpu', 0) / 1000:g} CPU and {amounts.get('memory', 0) / MIB:.0f} MiB"


class FreshWorkers:
    """What could be launched."""

    def __init__(
        self, picture: Picture, pools: Sequence[WorkerPool], zones: Sequence[str], *, zones_problem: str = ""
    ) -> None:
        self._picture, self._pools, self._zones = picture, pools, zones
        self.templates = [template for pool in pools for template in self._of(pool)]
        self._cluster, self._zone_keys = picture.cluster, picture.machines.zone_keys
        self._zones_problem = zones_problem
        self._known: dict[PodRules, NewRefusal | None] = {}
        self._minds: dict[PodRules, bool] = {}

    def _of(self, pool: WorkerPool, only_market: str = "") -> list[Template]:
        kinds = pool.instance_types
        return [
            template for kind in kinds for template in self._picture.templates(pool, kind, self._zones, only_market)
        ]

    @cached_property
    def _of_markets(self) -> list[Template]:
        """What there is for pods that mind the market: where a pool buys on both, one for each."""
        return [template for pool in self._pools for market in pool.markets for template in self._of(pool, market)]

    def offered_to(self, rules: PodRules) -> list[Template]:
        """What could be launched for such a pod."""
        return self._of_markets if self.minds_market(rules) else self.templates

    def minds_market(self, rules: PodRules) -> bool:
        """Whether such a pod runs on a Spot pool's workers of one market, and not on the same ones of the other."""
        if CAPACITY_LABEL not in label_keys(rules):
            return False
        if rules not in self._minds:
            self._minds[rules] = any(self._may_take(a, rules) != self._may_take(b, rules) for a, b in self._twins)
        return self._minds[rules]

    @cached_property
    def _twins(self) -> list[tuple[Template, Template]]:
        """Of Spot pools each worker on Spot, and the same on demand."""
        pools = [pool for pool in self._pools if pool.market == SPOT]
        return [pair for pool in pools for pair in zip(self._of(pool, SPOT), self._of(pool, ON_DEMAND), strict=True)]

    def _may_take(self, template: Template, rules: PodRules) -> bool:
        node = NodeInfo(template.node)
        return not any(check(rules, node, self._cluster) for _, check in LASTING)

    def for_pods(
        self, wanted: Iterable[Waiting], *, at_most: int, rooms: Mapping[str, int]
    ) -> tuple[tuple[NewWorkers, ...], tuple[Waiting, ...]]:
        """Workers for what waits, as `size` finds them, and what has no place even so.

        Those for pods that mind the market are counted apart, and come last: Spot that EC2 does not give them is bought
        on no other market, and what anybody else needs is not to hang on it.
        """
        others: list[Waiting] = []
        choosy: list[Waiting] = []
        for group in wanted:
            (choosy if self.minds_market(group.rules) else others).append(group)
        sizing = size(others, self.templates, self._cluster, at_most=at_most, rooms=rooms)
        workers = _as_workers(self.templates, sizing.new_nodes)
        if not choosy:
            return workers, sizing.left
        taken = Counter[str]()
        for new in workers:
            taken[new.pool] += new.count
        left = {name: room - taken[name] for name, room in rooms.items()}
        more = size(choosy, self._of_markets, self._cluster, at_most=at_most - taken.total(), rooms=left)
        pinned = _as_workers(self._of_markets, more.new_nodes, only_market=True)
        return (*workers, *pinned), (*sizing.left, *more.left)

    def refusal(self, rules: PodRules) -> NewRefusal | None:
        """Why none of them takes such a pod as things are; None where one would."""
        if rules not in self._known:
            self._known[rules] = self._look(rules)
        return self._known[rules]

    def _look(self, rules: PodRules) -> NewRefusal | None:
        found: list[NewRefusal] = []
        for template in self.offered_to(rules):
            trial = Trial(self._cluster)
            node = trial.open(template)
            refusal, room = first_refusal(rules, node, self._cluster), dict(node.free)
            trial.undo()
            if refusal is None:
                return None
            found.append(NewRefusal(instance_type=template.instance_type, refusal=refusal, rules=rules, room=room))
        nearest = max(found, key=_nearness)
        by_zone = nearest.refusal.plugin in _BY_ZONE and label_keys(rules) & self._zone_keys
        return msgspec.structs.replace(nearest, unsure=self._zones_problem) if by_zone else nearest

    def takers(self, rules: PodRules) -> frozenset[str]:
        """The pools of which a new worker would take such a pod as things are."""
        trial, found = Trial(self._cluster), set()
        for template in self.offered_to(rules):
            if template.pool not in found:
                node = trial.open(template)
                if first_refusal(rules, node, self._cluster) is None:
                    found.add(template.pool)
                trial.undo()
        return frozenset(found)


def _as_workers(
    templates: Iterable[Template], new_nodes: Mapping[str, int], *, only_market: bool = False
) -> tuple[NewWorkers, ...]:
    """A sizing's answer in the policy's order of types, what has to be in one zone by that zone."""
    chosen = ((template, new_nodes.get(template.name, 0)) for template in templates)
    return tuple(
        NewWorkers(
            t.instance_type,
            count,
            t.zone,
            pool=t.pool,
            market=t.market if only_market else ON_DEMAND,
            only_market=only_market,
        )
        for t, count in chosen
        if count
    )


def _nearness(refused: NewRefusal) -> tuple[int, int, int]:
    """The later the check that refuses, the nearer; then the larger worker."""
    return (
        _ORDER.index(refused.refusal.plugin),
        refused.room.get("cpu", 0),
        refused.room.get("memory", 0),
    )

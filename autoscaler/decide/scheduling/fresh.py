"""New workers as the filters would see them, each type in each zone that matters: who would take a pod, and why not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec

from autoscaler.decide.scheduling.book import label_keys
from autoscaler.decide.scheduling.cluster import NodeInfo
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.filters.refusal import Plugin, Refusal
from autoscaler.decide.scheduling.labels import CAPACITY_LABEL
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Lasting, Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.instance_types import arch_of
from autoscaler.model import ON_DEMAND, SPOT, NewWorkers, Why
from autoscaler.model.rules import HOSTNAME_LABEL, PodRules
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
        self._choices: dict[PodRules, _Choice | None] = {}

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
        choice = self._choice_of(rules)
        return self._of_markets if choice is not None and choice.one_market else self.templates

    def for_pods(
        self, wanted: Iterable[Waiting], *, at_most: int, rooms: Mapping[str, int]
    ) -> tuple[tuple[NewWorkers, ...], tuple[Waiting, ...]]:
        """Workers for what waits, as `size` finds them, and what has no place even so.

        Those for pods that mind what EC2 gives are counted apart, and come last: nothing else is bought in the place of
        what it does not give them, and what anybody else needs is not to hang on it.
        """
        groups: dict[_Choice | None, list[Waiting]] = {None: []}
        for group in wanted:
            groups.setdefault(self._choice_of(group.rules), []).append(group)
        workers: list[NewWorkers] = []
        left: list[Waiting] = []
        taken = Counter[str]()
        for choice, asked in groups.items():
            one_market = choice is not None and choice.one_market
            templates = self._of_markets if one_market else self.templates
            room = {name: most - taken[name] for name, most in rooms.items()}
            sizing = size(asked, templates, self._cluster, at_most=at_most - taken.total(), rooms=room)
            left += sizing.left
            for template in templates:
                count = sizing.new_nodes.get(template.name, 0)
                if count:
                    taken[template.pool] += count
                    workers.append(
                        NewWorkers(
                            template.instance_type,
                            count,
                            template.zone,
                            pool=template.pool,
                            market=template.market if one_market else ON_DEMAND,
                            only_market=one_market,
                            only_types=choice.types(template, self._covering(template)) if choice is not None else (),
                        )
                    )
        return tuple(workers), tuple(left)

    def _choice_of(self, rules: PodRules) -> "_Choice | None":
        """None where whatever is given in the place of a worker takes such a pod as well, as nearly always."""
        keys = label_keys(rules)
        if not keys or not keys & self._differing:
            return None
        if rules not in self._choices:
            self._choices[rules] = self._chosen(rules)
        return self._choices[rules]

    def _chosen(self, rules: PodRules) -> "_Choice | None":
        lasting = Lasting(rules, self._cluster)
        good = frozenset(_id(template) for template, node in self._every if lasting.accepts(node))
        one_market = any((_id(a) in good) != (_id(b) in good) for a, b in self._twins)
        covers = ((template, self._covering(template)) for template, _ in self._every if _id(template) in good)
        one_type = any(_id(template, kind) not in good for template, kinds in covers for kind in kinds)
        return _Choice(good=good, one_market=one_market, one_type=one_type) if one_market or one_type else None

    @cached_property
    def _twins(self) -> list[tuple[Template, Template]]:
        """Each worker as its pool buys it and, where that is on Spot, on demand; elsewhere twice the same."""
        return [pair for pool in self._pools for pair in zip(self._of(pool), self._of(pool, ON_DEMAND), strict=True)]

    @cached_property
    def _every(self) -> list[tuple[Template, NodeInfo]]:
        return [(template, NodeInfo(template.node)) for pair in self._twins for template in pair]

    @cached_property
    def _differing(self) -> frozenset[str]:
        """Labels of which a launch may give one value in the place of another."""
        keys = {CAPACITY_LABEL} if any(pool.market == SPOT for pool in self._pools) else set()
        firsts: dict[tuple[str, str, str], dict[str, str]] = {}
        for template in self.templates:
            labels = dict(template.node.labels)
            first = firsts.setdefault((template.pool, template.zone, arch_of(template.instance_type)), labels)
            keys |= {key for key, _ in first.items() ^ labels.items()}
        return frozenset(keys) - {HOSTNAME_LABEL}

    def _covering(self, template: Template) -> tuple[str, ...]:
        """The types that a launch of it may give."""
        pool = next(pool for pool in self._pools if pool.name == template.pool)
        return self._picture.machines.costs.in_its_place(template.instance_type, pool)

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


_Id = tuple[str, str, str, str]


class _Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What pods run on that do not run on all that a launch may give."""

    good: frozenset[_Id]
    one_market: bool
    one_type: bool

    def types(self, template: Template, covering: Iterable[str]) -> tuple[str, ...]:
        """Those of the covering types that do; none where all do."""
        return tuple(kind for kind in covering if _id(template, kind) in self.good) if self.one_type else ()


def _id(template: Template, instance_type: str = "") -> _Id:
    return template.pool, instance_type or template.instance_type, template.zone, template.market


def _nearness(refused: NewRefusal) -> tuple[int, int, int]:
    """The later the check that refuses, the nearer; then the larger worker."""
    return (
        _ORDER.index(refused.refusal.plugin),
        refused.room.get("cpu", 0),
        refused.room.get("memory", 0),
    )

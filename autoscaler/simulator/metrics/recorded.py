"""The recorded series `k3s_autoscaler:*` of a World, as Prometheus would answer with the rules of `monitoring/rules/`.

Nothing runs per scrape: states are kept as runs with the index of the scrape that first saw them, and only the windows
that something happened in are evaluated. Scrapes happen at multiples of their interval, rules half an interval later,
so the answer is as old as it would really be.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from autoscaler.model import Sample
from autoscaler.observe.series import (
    CLUSTER_FAMILIES,
    CLUSTER_GROUP,
    KUBE_STATE_METRICS,
    NODE_EXPORTER,
    PREFIX,
    UTILISATION_FAMILIES,
    UTILISATION_GROUP,
)
from autoscaler.policy import Policy
from autoscaler.simulator.metrics.promql import Window, parse_query
from autoscaler.simulator.metrics.rate import counter_rate
from autoscaler.simulator.metrics.recorded_cluster import ClusterRows, ClusterView, Row, named
from autoscaler.simulator.world.objects import Machine
from autoscaler.simulator.world.world import World, exporter_answers

Value = TypeVar("Value")
Series = dict[tuple[str, str], float]
"""workers_utilisation by (resource, bound)."""
BOUNDS: Final = (("low", 0.0), ("high", 1.0))
"""What a worker that is not measured counts as."""


@dataclass(frozen=True, slots=True)
class Grid:
    """When one job is scraped and its rule group evaluated: index n means the scrape at `n * interval_s`."""

    interval_s: int

    @property
    def delay_s(self) -> float:
        """From the scrape to the evaluation."""
        return self.interval_s / 2

    def first_scrape(self, at_s: float) -> int:
        """The first scrape that sees a state which began at `at_s`."""
        return math.ceil(at_s / self.interval_s)

    def evaluation_s(self, index: int) -> float:
        """When the rules see the scrape."""
        return index * self.interval_s + self.delay_s

    def last_evaluation(self, at_s: float) -> int:
        """The last evaluation that is over at `at_s`."""
        return math.floor((at_s - self.delay_s) / self.interval_s)

    def window(self, at_s: float, window_s: int) -> range:
        """The evaluations in `(at_s - window_s, at_s]`: Prometheus 3's left-open windows."""
        return range(self.last_evaluation(at_s - window_s) + 1, self.last_evaluation(at_s) + 1)


class Runs(Generic[Value]):
    """Values by index, kept as runs: each holds from its first index to the next run's."""

    __slots__ = ("_firsts", "_values")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._values: list[Value] = []

    def set(self, first: int, value: Value) -> None:
        """From `first` on it is `value`; what was said of later indices is forgotten."""
        while self._firsts and self._firsts[-1] >= first:
            self._firsts.pop()
            self._values.pop()
        if not self._values or self._values[-1] != value:
            self._firsts.append(first)
            self._values.append(value)

    def get(self, index: int) -> Value | None:
        """The value at `index`; None before the first run."""
        run = bisect_right(self._firsts, index) - 1
        return self._values[run] if run >= 0 else None

    def over(self, indices: range) -> Iterable[tuple[Value, int]]:
        """Each run's value in the range, with the number of indices that it holds there."""
        if not indices:
            return
        for run in range(max(0, bisect_right(self._firsts, indices.start) - 1), len(self._firsts)):
            start = max(indices.start, self._firsts[run])
            end = min(indices.stop, self._firsts[run + 1] if run + 1 < len(self._firsts) else indices.stop)
            if start >= indices.stop:
                return
            if end > start:
                yield self._values[run], end - start

    def forget(self, before: int) -> None:
        """Drop the runs that ended before the index."""
        keep = max(0, bisect_right(self._firsts, before) - 1)
        if keep:
            del self._firsts[:keep], self._values[:keep]


@dataclass(frozen=True, slots=True)
class Targets:
    """node-exporter's targets at one scrape: machines by node name, and which of them answered."""

    machines: dict[str, Machine]
    up: frozenset[str]


class Recorder:
    """Listens to a World and answers the core's query."""

    def __init__(self, world: World, policy: Policy) -> None:
        metrics = policy.metrics
        self._world = world
        self._cluster = Grid(metrics.cluster_interval_s)
        self._utilisation = Grid(metrics.utilisation_interval_s)
        self._rate_window_s = metrics.cpu_rate_window_s
        longest_s = max(policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s)
        self.horizon_s = longest_s + 2 * metrics.cpu_rate_window_s + 4 * metrics.utilisation_interval_s
        if world.settings.keep_s < self.horizon_s:
            raise ValueError(
                f"the world keeps {world.settings.keep_s:.0f} s of history, and the policy's windows need "
                f"{self.horizon_s} s: raise WorldSettings.keep_s"
            )
        self.since_s = world.now_s
        """Windows hold nothing older: Prometheus started here. Set it later to lose its history."""
        self._rows = ClusterRows()
        self._views: Runs[ClusterView] = Runs()
        self._ready: dict[str, Runs[float | None]] = {}
        self._targets: Runs[Targets] = Runs()
        self._workers: Runs[Series] = Runs()
        self._changes: list[float] = [world.now_s]
        self._evaluated = self._utilisation.first_scrape(world.now_s) - 1
        """The last index of the utilisation group that `_workers` knows."""
        world.state.before_change.append(self._remember)

    # --------------------------------------------------------------------------------------------------------- history

    def _remember(self, since_s: float, until_s: float) -> None:
        """The state as it is now held from `since_s` and ends at `until_s`: keep it if a scrape saw it."""
        first = self._cluster.first_scrape(since_s)
        if first * self._cluster.interval_s < until_s:
            self._see_cluster(first)
        first = self._utilisation.first_scrape(since_s)
        if first * self._utilisation.interval_s < until_s:
            self._see_targets(first)
        self._changes.append(until_s)
        if len(self._changes) > 512:
            self._forget(until_s)

    def _see_cluster(self, index: int) -> None:
        view = self._rows.view(self._world.state)
        self._views.set(index, view)
        for name in self._ready.keys() | view.ready.keys():
            self._ready.setdefault(name, Runs()).set(index, view.ready.get(name))

    def _see_targets(self, index: int) -> None:
        state = self._world.state
        # The Service's addresses are its ready pods: a node that is NotReady is no target any more.
        machines = {node.name: node.machine for node in state.nodes.values() if node.ready}
        up = frozenset(name for name in machines if exporter_answers(state, state.nodes[name]))
        self._targets.set(index, Targets(machines, up))

    def _forget(self, now_s: float) -> None:
        before_s = now_s - self.horizon_s
        del self._changes[: max(0, bisect_right(self._changes, before_s) - 1)]
        index = self._cluster.last_evaluation(before_s)
        self._views.forget(index)
        for name, runs in list(self._ready.items()):
            runs.forget(index)
            if all(value is None for value, _ in runs.over(range(index, self._cluster.last_evaluation(now_s) + 1))):
                del self._ready[name]
        index = self._utilisation.last_evaluation(before_s)
        self._targets.forget(index)
        self._workers.forget(index)

    # ----------------------------------------------------------------------------------------------------- utilisation

    def _catch_up(self, now_s: float) -> None:
        """Evaluate the utilisation group up to now; stretches in which nothing changed are one run."""
        grid = self._utilisation
        last = grid.last_evaluation(now_s)
        index = max(self._evaluated + 1, grid.last_evaluation(now_s - self.horizon_s) + 1)
        settle_s = self._rate_window_s + 2 * grid.interval_s
        while index <= last:
            at_s = grid.evaluation_s(index)
            self._workers.set(index, self._workers_at(index))
            position = bisect_right(self._changes, at_s)
            last_change_s = self._changes[position - 1] if position else -math.inf
            if at_s - last_change_s > settle_s:
                # Nothing moved in the whole window: it stays so until the next change.
                next_change_s = self._changes[position] if position < len(self._changes) else math.inf
                index = last if next_change_s > now_s else max(index, grid.last_evaluation(next_change_s) - 1)
            index += 1
        self._evaluated = max(self._evaluated, last)

    def _workers_at(self, index: int) -> Series:
        view = self._views.get(self._cluster.last_evaluation(self._utilisation.evaluation_s(index)))
        if view is None:
            return {}
        measured = self._nodes_at(index, view)
        result: Series = {}
        for resource in ("cpu", "memory"):
            room = sum(allocatable[resource] for allocatable in view.workers.values())
            if room == 0:
                continue
            for bound, unmeasured in BOUNDS:
                used = sum(
                    allocatable[resource] * measured.get((name, resource), unmeasured)
                    for name, allocatable in view.workers.items()
                )
                result[resource, bound] = round(used / room, 9)
        return result

    def _nodes_at(self, index: int, view: ClusterView) -> dict[tuple[str, str], float]:
        """node_utilisation by (node, resource)."""
        targets = self._targets.get(index)
        result: dict[tuple[str, str], float] = {}
        if targets is None:
            return result
        at_s = self._utilisation.evaluation_s(index)
        for name, machine in targets.machines.items():
            if name not in view.ready:
                continue
            busy = self._busy(name, machine, index, at_s)
            if busy is not None:
                result[name, "cpu"] = min(1.0, max(0.0, busy))
            if name in targets.up:
                used = machine.memory.rate(index * self._utilisation.interval_s) / machine.memory_bytes
                result[name, "memory"] = min(1.0, max(0.0, used))
        return result

    def _busy(self, name: str, machine: Machine, index: int, at_s: float) -> float | None:
        """`1 - avg(rate(idle))` over the samples in the rate window; None with fewer than two."""
        interval_s = self._utilisation.interval_s
        oldest = math.floor((at_s - self._rate_window_s) / interval_s) + 1
        scrapes = [
            n * float(interval_s)
            for n in range(oldest, index + 1)
            if (targets := self._targets.get(n)) is not None and name in targets.up
        ]
        if len(scrapes) < 2:
            return None
        first_s, last_s = scrapes[0], scrapes[-1]
        idle_rate = counter_rate(
            first=(first_s, machine.idle_seconds(first_s)),
            last=(last_s, machine.idle_seconds(last_s)),
            samples=len(scrapes),
            start_s=at_s - self._rate_window_s,
            end_s=at_s,
            lost=_lost_by_reset(machine, scrapes),
        )
        return 1 - idle_rate

    # ----------------------------------------------------------------------------------------------------------- query

    def query(self, promql: str, now_s: float) -> list[Sample]:
        """Answer the core's query at `now_s`, the world's present. Raises ValueError for an unknown expression."""
        query = parse_query(promql)
        state = self._world.state
        # What changed at this very moment was not scraped yet; what changed before may have been.
        if state.changed_at_s < now_s:
            self._see_unremembered(state.changed_at_s, now_s)
        self._catch_up(now_s)
        index = self._cluster.last_evaluation(now_s)
        samples = [
            Sample(labels, (now_s, text))
            for family, labels, text in self._instant(index, now_s)
            if query.selects(family)
        ]
        for window in query.windows:
            samples.extend(self._window(window, now_s))
        return samples

    def _see_unremembered(self, since_s: float, now_s: float) -> None:
        first = self._cluster.first_scrape(since_s)
        if first * self._cluster.interval_s <= now_s and self._views.get(first) is not self._rows.view(
            self._world.state
        ):
            self._see_cluster(first)
        first = self._utilisation.first_scrape(since_s)
        if first * self._utilisation.interval_s <= now_s:
            self._see_targets(first)

    def _instant(self, index: int, now_s: float) -> Iterable[Row]:
        view = self._views.get(index)
        if view is not None and self._cluster.evaluation_s(index) >= self.since_s:
            yield from view.rows
            yield from named(self._about_the_cluster(view, index))
        yield from named(self._instant_utilisation(self._utilisation.last_evaluation(now_s)))

    def _about_the_cluster(self, view: ClusterView, index: int) -> Iterable[Row]:
        for family in CLUSTER_FAMILIES:
            yield "expected", {"family": family}, str(view.counts.get(family, 0))
        yield "scraped_at", {"source": KUBE_STATE_METRICS}, _text(index * self._cluster.interval_s)
        yield "source_up", {"source": KUBE_STATE_METRICS}, "1"
        yield "source_restarted", {"source": KUBE_STATE_METRICS}, "0"
        yield "evaluated_at", {"group": CLUSTER_GROUP}, _text(self._cluster.evaluation_s(index))

    def _instant_utilisation(self, index: int) -> Iterable[Row]:
        at_s = self._utilisation.evaluation_s(index)
        targets = self._targets.get(index)
        view = self._views.get(self._cluster.last_evaluation(at_s))
        if targets is None or view is None or at_s < self.since_s:
            return
        nodes, workers = self._nodes_at(index, view), self._workers.get(index) or {}
        for (name, resource), used in nodes.items():
            yield "node_utilisation", {"node": name, "resource": resource}, _text(used)
        for (resource, bound), used in workers.items():
            yield "workers_utilisation", {"resource": resource, "bound": bound}, _text(used)
        all_up = bool(targets.machines) and len(targets.up) == len(targets.machines)
        if targets.up:
            yield "scraped_at", {"source": NODE_EXPORTER}, _text(index * self._utilisation.interval_s)
        yield "source_up", {"source": NODE_EXPORTER}, "1" if all_up else "0"
        if all_up:
            for family, count in zip(UTILISATION_FAMILIES, (len(nodes), len(workers)), strict=True):
                yield "expected", {"family": family}, str(count)
        yield "evaluated_at", {"group": UTILISATION_GROUP}, _text(at_s)

    # --------------------------------------------------------------------------------------------------------- windows

    def _window(self, window: Window, now_s: float) -> Iterable[Sample]:
        if window.family == "node_ready":
            indices = self._clip(self._cluster, now_s, window.seconds)
            for name, runs in self._ready.items():
                yield from self._sample(window, {"node": name}, list(runs.over(indices)), now_s)
        elif window.family == "workers_utilisation":
            indices = self._clip(self._utilisation, now_s, window.seconds)
            runs_of_all = list(self._workers.over(indices))
            for resource in ("cpu", "memory"):
                for bound, _ in BOUNDS:
                    labels = {"resource": resource, "bound": bound}
                    runs_of_one = [(series.get((resource, bound)), count) for series, count in runs_of_all]
                    yield from self._sample(window, labels, runs_of_one, now_s)
        else:
            raise ValueError(f"no window is kept of {PREFIX}{window.family}")

    def _clip(self, grid: Grid, now_s: float, window_s: int) -> range:
        indices = grid.window(now_s, window_s)
        return range(max(indices.start, grid.first_scrape(self.since_s)), indices.stop)

    @staticmethod
    def _sample(
        window: Window, labels: dict[str, str], runs: Sequence[tuple[float | None, int]], now_s: float
    ) -> Iterable[Sample]:
        present = [(value, count) for value, count in runs if value is not None]
        if present and window.matchers.items() <= labels.items():
            number = float(_OVER_TIME[window.function](present))
            yield Sample({**labels, "window": window.name}, (now_s, _text(number)))


_OVER_TIME: Final[dict[str, Callable[[list[tuple[float, int]]], float]]] = {
    "min_over_time": lambda runs: min(value for value, _ in runs),
    "max_over_time": lambda runs: max(value for value, _ in runs),
    "count_over_time": lambda runs: sum(count for _, count in runs),
}


def _lost_by_reset(machine: Machine, scrapes: Sequence[float]) -> float:
    """What the counter of idle seconds had reached when it was last seen before a reset among the scrapes."""
    reset_s = machine.counters_reset_at_s
    if reset_s is None or not scrapes[0] < reset_s <= scrapes[-1]:
        return 0.0
    return machine.idle_seconds(max(at_s for at_s in scrapes if at_s < reset_s))


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)

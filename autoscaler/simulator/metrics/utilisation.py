"""How busy machines are, as the recorded series `node_utilisation` and `workers_utilisation` have it.

Nothing runs per scrape: who answered is kept as runs, and only stretches in which something happened are evaluated.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.observe.query import INTERVAL_WINDOW_S, OFTEN, SETTLED_WINDOW_S
from autoscaler.simulator.metrics.rate import counter_rate
from autoscaler.simulator.metrics.recorded_cluster import RESOURCES, ClusterView
from autoscaler.simulator.metrics.runs import Grid, Runs
from autoscaler.simulator.world.objects import ClusterState, Machine
from autoscaler.simulator.world.world import exporter_answers

Series = dict[tuple[str, str], float]
"""workers_utilisation by (resource, bound)."""
BOUNDS: Final = (("low", 0.0), ("high", 1.0))
"""What a worker that is not measured counts as."""


@dataclass(frozen=True, slots=True)
class Targets:
    """node-exporter's targets at one scrape: machines by node name, and which of them answered."""

    machines: dict[str, Machine]
    up: frozenset[str]


class Exporters:
    """Who was a target of node-exporter's job at which scrape, and who answered."""

    def __init__(self, interval_s: int) -> None:
        self.grid = Grid(interval_s)
        self._targets: Runs[Targets] = Runs()

    def see(self, index: int, state: ClusterState) -> None:
        """From this scrape on the targets are those of the state."""
        # The Service's addresses are its ready pods: a node that is NotReady is no target any more.
        machines = {node.name: node.machine for node in state.nodes.values() if node.ready}
        up = frozenset(name for name in machines if exporter_answers(state, state.nodes[name]))
        self._targets.set(index, Targets(machines, up))

    def forget(self, before_s: float) -> None:
        """Drop what is older."""
        self._targets.forget(self.grid.last(before_s))

    def at(self, index: int, since_s: float) -> Targets | None:
        """The targets of one scrape; None where none was taken yet."""
        return self._targets.get(index) if self.grid.at_s(index) >= since_s else None

    def samples(self, now_s: float, window_s: float, since_s: float) -> dict[str, int]:
        """`count_over_time(up[window])` by target; one that is gone counts while the window holds it."""
        counts: dict[str, int] = {}
        for targets, count in self._targets.over(self.grid.window(now_s, window_s, since_s)):
            if not counts:
                counts = dict.fromkeys(targets.machines, count)
                continue
            for name in targets.machines:
                counts[name] = counts.get(name, 0) + count
        return counts

    def unsettled(self, now_s: float, since_s: float, usually: Mapping[str, int]) -> int:
        """How many targets answer now, and left or did not answer a little while ago.

        `usually`: the samples of INTERVAL_WINDOW_S.
        """
        now = self.at(self.grid.last(now_s), since_s)
        before = self.at(self.grid.last(now_s - SETTLED_WINDOW_S), since_s)
        if now is None:
            return 0
        settled = set(now.up) & before.machines.keys() if before is not None else set()
        for targets, _ in self._targets.over(self.grid.window(now_s, SETTLED_WINDOW_S, since_s)):
            settled -= targets.machines.keys() - targets.up
        lately = self.samples(now_s, SETTLED_WINDOW_S, since_s)
        return len(now.up) - sum(not seldom(lately.get(name, 0), usually.get(name, 0)) for name in settled)


def seldom(lately: int, usually: int) -> bool:
    """Whether a target was scraped less often of late than the longer window shows; one scrape is allowed for."""
    return (lately + 1) / SETTLED_WINDOW_S < OFTEN * usually / INTERVAL_WINDOW_S


class Utilisation:
    """The utilisation group's series. `view_at` gives what the last scrape of the cluster before a moment saw."""

    def __init__(
        self,
        exporters: Exporters,
        evaluations: Grid,
        *,
        rate_window_s: int,
        view_at: Callable[[float], ClusterView | None],
    ) -> None:
        self.evaluations = evaluations
        self.since_s = -math.inf
        """Counters hold nothing older."""
        self._exporters = exporters
        self._rate_window_s = rate_window_s
        self._view_at = view_at
        self._workers: Runs[Series] = Runs()
        self._measured: tuple[int, frozenset[str], dict[tuple[str, str], float]] = (-1, frozenset(), {})
        """The last evaluation that was looked at, of which Nodes, and what they used."""
        self._evaluated: int | None = None
        """The last evaluation that `_workers` knows."""

    def catch_up(self, now_s: float, horizon_s: float, changes: Sequence[float]) -> None:
        """Evaluate up to now; stretches in which nothing changed are one run. `changes`: when the world changed."""
        grid = self.evaluations
        last = grid.last(now_s)
        index = grid.last(now_s - horizon_s) + 1
        if self._evaluated is not None:
            index = max(index, self._evaluated + 1)
        settle_s = self._rate_window_s + 2 * grid.interval_s
        while index <= last:
            at_s = grid.at_s(index)
            self._workers.set(index, self._workers_at(index))
            position = bisect_right(changes, at_s)
            last_change_s = changes[position - 1] if position else -math.inf
            if at_s - last_change_s > settle_s:
                # Nothing moved in the whole window: it stays so until the next change.
                next_change_s = changes[position] if position < len(changes) else math.inf
                index = last if next_change_s > now_s else max(index, grid.last(next_change_s) - 1)
            index += 1
        self._evaluated = last if self._evaluated is None else max(self._evaluated, last)

    def forget(self, before_s: float) -> None:
        """Drop what is older."""
        self._workers.forget(self.evaluations.last(before_s))

    def forget_all(self, now_s: float) -> None:
        """Counters hold nothing of before."""
        self.since_s = now_s
        self._measured = (-1, frozenset(), {})

    def workers(self, index: int) -> Series:
        """workers_utilisation of one evaluation."""
        return self._workers.get(index) or {}

    def workers_over(self, indices: range) -> list[tuple[Series, int]]:
        """workers_utilisation, and at how many of the evaluations it was this."""
        return list(self._workers.over(indices))

    def unmeasured(self, index: int, view: ClusterView) -> dict[tuple[str, str], float]:
        """Allocatable of the workers that take pods and have no node_utilisation since that evaluation."""
        known_at, names, measured = self._measured
        if known_at != index or not names >= view.takers.keys():
            measured = self._nodes_at(index, only=view.takers.keys())
        return {
            (name, resource): allocatable[resource]
            for name, allocatable in view.takers.items()
            for resource in RESOURCES
            if (name, resource) not in measured
        }

    def _workers_at(self, index: int) -> Series:
        view = self._view_at(self.evaluations.at_s(index))
        if view is None:
            return {}
        workers = {facts.name: facts.allocatable["cpu"] for facts in view.nodes if not facts.server}
        names = view.takers.keys() | workers.keys()
        measured = self._nodes_at(index, only=names)
        self._measured = index, frozenset(names), measured
        used_cores = sum(cores * measured.get((name, "cpu"), 0.0) for name, cores in workers.items())
        result: Series = {("cpu", "demand"): round(used_cores, 9)}
        for resource in RESOURCES:
            room = used = unmeasured = 0.0
            for name, allocatable in view.takers.items():
                size, share = allocatable[resource], measured.get((name, resource))
                room += size
                if share is None:
                    unmeasured += size
                else:
                    used += size * share
            if room:
                for bound, counts_as in BOUNDS:
                    result[resource, bound] = round((used + unmeasured * counts_as) / room, 9)
        return result

    def _nodes_at(self, index: int, *, only: Iterable[str]) -> dict[tuple[str, str], float]:
        """node_utilisation by (node, resource)."""
        at_s = self.evaluations.at_s(index)
        scrape = self._exporters.grid.last(at_s)
        targets, view = self._exporters.at(scrape, self.since_s), self._view_at(at_s)
        result: dict[tuple[str, str], float] = {}
        if targets is None or view is None:
            return result
        oldest = self._exporters.grid.last(at_s - self._rate_window_s)
        before = [seen.up for n in (oldest - 1, oldest) if (seen := self._exporters.at(n, self.since_s)) is not None]
        filled = before[0].union(*before[1:]) if before else frozenset()
        within = self._scrapes(range(oldest + 1, scrape + 1))
        every = [when_s for when_s, _ in within]
        always = targets.up.intersection(*{id(up): up for _, up in within}.values())
        for name in only:
            # Whose Node a machine is follows from `up == 1`: one that does not answer now is measured in nothing.
            if name not in targets.up or name not in view.ready:
                continue
            machine = targets.machines[name]
            scrapes = every if name in always else [when_s for when_s, up in within if name in up]
            busy = self._busy(machine, scrapes if name in filled else (), at_s)
            if busy is not None:
                result[name, "cpu"] = min(1.0, max(0.0, busy))
            used = machine.memory.rate(self._exporters.grid.at_s(scrape)) / machine.memory_bytes
            result[name, "memory"] = min(1.0, max(0.0, used))
        return result

    def _busy(self, machine: Machine, scrapes: Sequence[float], at_s: float) -> float | None:
        """`1 - avg(rate(idle))` over the rate window; None where the counters do not fill it."""
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

    def _scrapes(self, indices: range) -> list[tuple[float, frozenset[str]]]:
        """When each scrape was taken, and who answered."""
        found = ((index, self._exporters.at(index, self.since_s)) for index in indices)
        return [(self._exporters.grid.at_s(index), targets.up) for index, targets in found if targets is not None]


def _lost_by_reset(machine: Machine, scrapes: Sequence[float]) -> float:
    """What the counter of idle seconds had reached when it was last seen before a reset among the scrapes."""
    reset_s = machine.counters_reset_at_s
    if reset_s is None or not scrapes[0] < reset_s <= scrapes[-1]:
        return 0.0
    return machine.idle_seconds(max(at_s for at_s in scrapes if at_s < reset_s))

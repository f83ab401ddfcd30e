"""What Prometheus would answer of a World: raw series as the last scrape saw them, and the few that rules record.

Nothing runs per scrape: states are kept as runs with the index of the scrape that first saw them. Scrapes happen at
multiples of their interval, rules half an interval after node-exporter's scrape, so each part of an answer is as old as
it would really be.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.model import Sample
from autoscaler.observe.query import INTERVAL_WINDOW_S, NAMED, SETTLED_WINDOW_S
from autoscaler.observe.series import FAMILY, KUBE_STATE_METRICS, NODE_EXPORTER, UTILISATION_GROUP
from autoscaler.policy import Policy
from autoscaler.simulator.metrics.exposition import OWN_VERSION
from autoscaler.simulator.metrics.past import Past, past_rows
from autoscaler.simulator.metrics.promql import (
    About,
    History,
    Moving,
    Places,
    Question,
    Reader,
    Rooms,
    Sight,
    Signals,
)
from autoscaler.simulator.metrics.recorded_cluster import RESOURCES, ClusterRows, ClusterView, Row, counted_rows, row
from autoscaler.simulator.metrics.rooms import moving_rows, places_rows, requested_of, rooms_rows
from autoscaler.simulator.metrics.runs import Grid, Runs
from autoscaler.simulator.metrics.signals import Source, signal_rows
from autoscaler.simulator.metrics.text_format import number_text
from autoscaler.simulator.metrics.utilisation import Exporters, Utilisation, seldom
from autoscaler.simulator.world.world import World

INSTANCE: Final = f"{KUBE_STATE_METRICS}:8080"
"""The target of kube-state-metrics."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """All that Prometheus holds at one moment: it answers each question, however much later it is asked."""

    view: ClusterView | None
    sight: tuple[Row, ...]
    requested: tuple[Row, ...]
    """The window of `node_requested`."""
    at_s: float


class Recorder:
    """Listens to a World and answers the core's queries."""

    def __init__(self, world: World, policy: Policy) -> None:
        metrics = policy.metrics
        self._world = world
        self._policy = policy
        self.reader = Reader(policy)
        self._cluster = Grid(metrics.cluster_interval_s)
        self._exporters = Exporters(metrics.utilisation_interval_s)
        self._evaluations = Grid(metrics.utilisation_interval_s, metrics.utilisation_interval_s / 2)
        self._utilisation = Utilisation(
            self._exporters, self._evaluations, rate_window_s=metrics.cpu_rate_window_s, view_at=self._view_at
        )
        longest_s = max(policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s)
        self.horizon_s = longest_s + 2 * metrics.cpu_rate_window_s + 4 * metrics.utilisation_interval_s
        if world.settings.keep_s < self.horizon_s:
            raise ValueError(
                f"the world keeps {world.settings.keep_s:.0f} s of history, and the policy's windows need "
                f"{self.horizon_s} s: raise WorldSettings.keep_s"
            )
        self._since_s = world.now_s
        """Prometheus holds nothing older: it started here."""
        self.signals: dict[str, Source] = {}
        """What stands behind the custom signals, by name; a signal without a source has no answer."""
        self.past: Past | None = None
        """What all workers were asked for at any time; None: that was never recorded."""
        self.rendered = ""
        """The mark of the rules that are loaded (deploy/rules.py); empty: rules of before there were marks."""
        self._told = dict(metrics.matchers)
        self._rows = ClusterRows({"instance": INSTANCE, "job": KUBE_STATE_METRICS, **self._told})
        self._views: Runs[ClusterView] = Runs()
        self._requested_of: dict[ClusterView, dict[tuple[str, str], float]] = {}
        self._requested_rows: dict[tuple[str, str, float, int], tuple[Row, Row]] = {}
        self._ready: dict[str, Runs[float | None]] = {}
        self._seen_ready: dict[str, float] = {}
        """What the last entries of `_ready` say."""
        self._changes: list[float] = [world.now_s]
        world.state.before_change.append(self._remember)

    def lose_history(self) -> None:
        """Prometheus starts anew, with nothing on its disk."""
        now_s = self._world.now_s
        self._world.state.touch()
        self._utilisation.catch_up(now_s, self.horizon_s, self._changes)
        self._utilisation.forget_all(now_s)
        self._since_s = now_s
        self._changes.append(now_s)

    # --------------------------------------------------------------------------------------------------------- history

    def _remember(self, since_s: float, until_s: float) -> None:
        """The state as it is now held from `since_s` and ends at `until_s`: keep it if a scrape saw it."""
        first = self._cluster.first(since_s)
        if self._cluster.at_s(first) < until_s:
            self._see_cluster(first)
        first = self._exporters.grid.first(since_s)
        if self._exporters.grid.at_s(first) < until_s:
            self._exporters.see(first, self._world.state)
        self._changes.append(until_s)
        if len(self._changes) > 512:
            self._forget(until_s)

    def _see_cluster(self, index: int) -> None:
        view = self._rows.view(self._world.state)
        self._views.set(index, view)
        if view.ready == self._seen_ready:
            return
        self._seen_ready = view.ready
        evaluation = self._evaluations.first(self._cluster.at_s(index))
        for name in self._ready.keys() | view.ready.keys():
            self._ready.setdefault(name, Runs()).set(evaluation, view.ready.get(name))

    def _forget(self, now_s: float) -> None:
        before_s = now_s - self.horizon_s
        del self._changes[: max(0, bisect_right(self._changes, before_s) - 1)]
        self._views.forget(self._cluster.last(before_s))
        self._exporters.forget(before_s)
        self._utilisation.forget(before_s)
        first, last = self._evaluations.last(before_s), self._evaluations.last(now_s)
        for name, runs in list(self._ready.items()):
            runs.forget(first)
            if all(value is None for value, _ in runs.over(range(first, last + 1))):
                del self._ready[name]

    def _view_at(self, at_s: float) -> ClusterView | None:
        index = self._cluster.last(at_s)
        return self._views.get(index) if self._cluster.at_s(index) >= self._since_s else None

    def _see_unremembered(self, now_s: float) -> None:
        """What changed at this very moment was not scraped yet; what changed before may have been."""
        state = self._world.state
        if state.changed_at_s >= now_s:
            return
        first = self._cluster.first(state.changed_at_s)
        seen = self._views.get(first) is self._rows.view(state)
        if self._cluster.at_s(first) <= now_s and not seen:
            self._see_cluster(first)
        first = self._exporters.grid.first(state.changed_at_s)
        if self._exporters.grid.at_s(first) <= now_s:
            self._exporters.see(first, state)

    # ----------------------------------------------------------------------------------------------------------- query

    def query(self, promql: str, now_s: float) -> list[Sample]:
        """Answer at `now_s`, the world's present. Raises ValueError for any text but the core's queries."""
        return as_samples(self.rows(self.reader.read(promql), now_s), now_s)

    def rows(
        self, question: Question, now_s: float, *, scraped_every_s: int | None = None, lag_s: float = 0.0
    ) -> Sequence[Row]:
        """The answer's rows. kube-state-metrics is really scraped as seldom as every `scraped_every_s`, and lags."""
        self._see_unremembered(now_s)
        grid = Grid(scraped_every_s) if scraped_every_s is not None else self._cluster
        view = self._view_at(grid.at_s(grid.last(now_s - lag_s)))
        if isinstance(question, Sight):
            return self._sight(view, now_s, grid, question)
        requested = self._requested(now_s) if isinstance(question, Rooms) else ()
        return self._rare_rows(question, view, requested, now_s)

    def rows_of(self, scene: Scene, question: Question) -> Sequence[Row]:
        """The answer's rows from what was held then."""
        if isinstance(question, Sight):
            return seen(scene.sight, question)
        return self._rare_rows(question, scene.view, scene.requested, scene.at_s)

    def _rare_rows(
        self,
        question: Rooms | Moving | Places | Signals | History | About,
        view: ClusterView | None,
        requested: Iterable[Row],
        at_s: float,
    ) -> Sequence[Row]:
        """The answer's rows to what is not asked at each look."""
        if isinstance(question, History):
            return tuple(past_rows(question.points, self.past, now_s=at_s)) if self.past is not None else ()
        if isinstance(question, Signals):
            return tuple(signal_rows(question.names, self.signals, self._policy, since_s=self._since_s, now_s=at_s))
        if isinstance(question, About):
            return tuple(self._about(view, at_s))
        if isinstance(question, Places):
            return tuple(places_rows(view, question))
        if isinstance(question, Rooms):
            return (*(rooms_rows(view, question, self._told) if view is not None else ()), *requested)
        return tuple(moving_rows(view, question, self._told)) if view is not None else ()

    def scene(self, now_s: float) -> Scene:
        """What Prometheus holds now, to be answered from later."""
        sight = tuple(self.rows(Sight(with_owners=True, with_versions=True), now_s))
        return Scene(self._view_at(now_s), sight, tuple(self._requested(now_s)), now_s)

    def _sight(self, view: ClusterView | None, now_s: float, grid: Grid, question: Sight) -> list[Row]:
        self._utilisation.catch_up(now_s, self.horizon_s, self._changes)
        rows: list[Row] = []
        if view is not None:
            rows.extend(view.sight)
            rows.extend(view.youngest_owner if question.with_owners else ())
            rows.extend([facts.version_row for facts in view.nodes] if question.with_versions else ())
            rows.extend(self._unbound_long(view, self._view_at(grid.at_s(grid.last(now_s - SETTLED_WINDOW_S)))))
            rows.extend(self._ready_windows(view, now_s))
        else:
            rows.extend(counted_rows(()))
        rows.extend(self._unmeasured(view, now_s))
        rows.extend(self._use(now_s))
        rows.extend(self._about_kube_state_metrics(now_s, grid))
        rows.extend(self._about_node_exporter(now_s))
        rows.extend(self._evaluated_at(now_s))
        return rows

    def _evaluated_at(self, now_s: float) -> Iterable[Row]:
        last_s = self._evaluations.at_s(self._evaluations.last(now_s))
        if last_s >= self._since_s:
            interval_s = str(self._evaluations.interval_s)
            yield row("evaluated_at", number_text(last_s), group=UTILISATION_GROUP, interval_s=interval_s)

    def _about(self, view: ClusterView | None, now_s: float) -> Iterable[Row]:
        mark = {"rendered": self.rendered} if self.rendered else {}
        for labels, text in self._evaluated_at(now_s):
            yield {**labels, **mark, FAMILY: "rules"}, text
        told = [facts.version_row for facts in view.nodes] if view is not None else []
        versions = Counter(labels["kubelet_version"] for labels, _ in told)
        for version, count in versions.items():
            yield row("kubelets", str(count), kubelet_version=version)

    def _requested(self, now_s: float) -> Iterable[Row]:
        """The shrink window of `node_requested`."""
        grid = self._evaluations
        views = Counter(
            view
            for index in grid.window(now_s, self._policy.scale_down.window_s, self._since_s)
            if (view := self._view_at(grid.at_s(index))) is not None
        )
        # Windows overlap: what one scrape saw is summed up once. Most scrapes of a window saw the same Nodes.
        self._requested_of = {view: self._requested_of.get(view) or requested_of(view) for view in views}
        alike: dict[tuple[str, ...], list[ClusterView]] = {}
        for view in views:
            alike.setdefault(view.names, []).append(view)
        most: dict[tuple[str, str], float] = {}
        samples: dict[tuple[str, str], int] = {}
        for same in alike.values():
            values = [self._requested_of[view].values() for view in same]
            highest = values[0] if len(values) == 1 else map(max, *values)
            count = sum(views[view] for view in same)
            for key, value in zip(self._requested_of[same[0]], highest, strict=True):
                most[key] = value if key not in most else max(most[key], value)
                samples[key] = samples.get(key, 0) + count
        # Most are what they were at the last look: their rows are kept.
        before, self._requested_rows = self._requested_rows, {}
        for (name, resource), value in most.items():
            mark = (name, resource, value, samples[name, resource])
            kept = before.get(mark) or _requested_rows(*mark)
            self._requested_rows[mark] = kept
            yield from kept
        self._utilisation.catch_up(now_s, self.horizon_s, self._changes)
        runs = self._utilisation.workers_over(grid.window(now_s, self._policy.scale_down.window_s, self._since_s))
        used = [series["cpu", "demand"] for series, _ in runs if series]
        if used:
            yield row("used_at_once", number_text(max(used)), resource="cpu")
        for resource in RESOURCES:
            sums = (sum(of[f.name, resource] for f in v.nodes if not f.server) for v, of in self._requested_of.items())
            if views:
                yield row("requested_at_once", number_text(max(sums)), resource=resource)
        yield from self._evaluated_at(now_s)

    @staticmethod
    def _unbound_long(view: ClusterView, before: ClusterView | None) -> Iterable[Row]:
        for facts in view.pods if before is not None and view.unbound else ():
            pod = facts.pod
            if not facts.node and before is not None and pod.uid in before.unbound:
                yield row("pod_unbound_long", "1", namespace=pod.namespace, pod=pod.name, uid=pod.uid)

    def _unmeasured(self, view: ClusterView | None, now_s: float) -> Iterable[Row]:
        found = self._utilisation.unmeasured(self._evaluations.last(now_s), view) if view is not None else {}
        yield row("counted", str(len(found)), of="node_unmeasured")
        for (name, resource), size in sorted(found.items(), key=lambda item: -item[1])[:NAMED]:
            yield row("node_unmeasured", number_text(size), node=name, resource=resource)

    def _ready_windows(self, view: ClusterView, now_s: float) -> Iterable[Row]:
        indices = self._evaluations.window(now_s, self._policy.repair.not_ready_s, self._since_s)
        for facts in view.nodes:
            runs = None if facts.ready else self._ready.get(facts.name)
            if runs is None:
                continue
            present = [(value, count) for value, count in runs.over(indices) if value is not None]
            if present:
                yield row("ready_max", number_text(max(value for value, _ in present)), node=facts.name)
                yield row("ready_count", str(sum(count for _, count in present)), node=facts.name)

    def _use(self, now_s: float) -> Iterable[Row]:
        last = self._evaluations.last(now_s)
        present = self._utilisation.workers(last) if self._evaluations.at_s(last) >= self._since_s else {}
        for resource in RESOURCES:
            if (resource, "low") in present:
                yield row("use", number_text(present[resource, "low"]), resource=resource)
        yield from self._use_window("use_grow_min", min, "low", self._policy.scale_up.window_s, now_s)
        yield from self._use_window("use_shrink_max", max, "high", self._policy.scale_down.window_s, now_s)

    def _use_window(
        self, family: str, best: Callable[[Iterable[float]], float], bound: str, window_s: int, now_s: float
    ) -> Iterable[Row]:
        runs = self._utilisation.workers_over(self._evaluations.window(now_s, window_s, self._since_s))
        for resource in RESOURCES:
            present = [(series[resource, bound], count) for series, count in runs if (resource, bound) in series]
            if present:
                yield row(family, number_text(best(value for value, _ in present)), resource=resource)
                count = sum(count for _, count in present)
                yield row(f"{family.rpartition('_')[0]}_count", str(count), resource=resource)

    # --------------------------------------------------------------------------------------------------------- sources

    def _about_kube_state_metrics(self, now_s: float, grid: Grid) -> Iterable[Row]:
        """Its telemetry port is scraped as seldom as node-exporter."""
        scraped_s = grid.at_s(grid.last(now_s))
        if scraped_s < self._since_s:
            return
        yield row("scraped_at", number_text(scraped_s), source=KUBE_STATE_METRICS)
        usually = len(grid.window(now_s, INTERVAL_WINDOW_S, self._since_s))
        yield row("scrape_interval", number_text(INTERVAL_WINDOW_S / usually), source=KUBE_STATE_METRICS)
        if self._exporters.grid.at_s(self._exporters.grid.last(now_s)) >= self._since_s:
            yield row("version", "1", version=OWN_VERSION)
        lately = len(grid.window(now_s, SETTLED_WINDOW_S, self._since_s))
        if grid.at_s(grid.last(now_s - SETTLED_WINDOW_S)) < self._since_s or seldom(lately, usually):
            yield row("restarted", "1", source=KUBE_STATE_METRICS)

    def _about_node_exporter(self, now_s: float) -> Iterable[Row]:
        grid = self._exporters.grid
        targets = self._exporters.at(grid.last(now_s), self._since_s)
        samples = self._exporters.samples(now_s, INTERVAL_WINDOW_S, self._since_s)
        if samples:
            yield row("scrape_interval", number_text(INTERVAL_WINDOW_S / max(samples.values())), source=NODE_EXPORTER)
        if targets is None:
            return
        if targets.up:
            yield row("scraped_at", number_text(grid.at_s(grid.last(now_s))), source=NODE_EXPORTER)
        for family, count in (
            ("targets_down", len(targets.machines) - len(targets.up)),
            ("restarted", self._exporters.unsettled(now_s, self._since_s, samples)),
        ):
            if count:
                yield row(family, str(count), source=NODE_EXPORTER)


def _requested_rows(name: str, resource: str, most: float, samples: int) -> tuple[Row, Row]:
    return (
        row("requested_max", number_text(most), node=name, resource=resource),
        row("requested_count", str(samples), node=name, resource=resource),
    )


def seen(rows: Sequence[Row], question: Sight) -> Sequence[Row]:
    """Of all that a sight may tell, what it was asked."""
    unasked = {
        family
        for family, asked in (("owner_youngest", question.with_owners), ("node_version", question.with_versions))
        if not asked
    }
    return [one for one in rows if one[0][FAMILY] not in unasked]


def as_samples(rows: Iterable[Row], now_s: float) -> list[Sample]:
    """Rows as Prometheus' HTTP API writes them."""
    return [Sample(labels, (now_s, text)) for labels, text in rows]

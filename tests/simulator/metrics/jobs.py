"""What Prometheus' jobs scrape of a world, whole or as a fault of metrics has it, and what its rules record of that."""

from collections.abc import Mapping
from typing import Final

from autoscaler.observe.promql import Raw
from autoscaler.observe.requested import requested_for_windows
from autoscaler.observe.series import KUBE_STATE_METRICS, NODE_EXPORTER, PREFIX, PROOF_VOLUME, UTILISATION_GROUP
from autoscaler.policy import Policy
from autoscaler.simulator.metrics.elsewhere import ELSEWHERE, abroad
from autoscaler.simulator.metrics.exposition import PROOF_NODE, telemetry
from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.metrics.recorded import INSTANCE
from autoscaler.simulator.world.world import World
from tests.simulator.metrics.replay import Labels, Replay, read

START_S: Final = 1_699_999_200.0
"""A multiple of every interval."""
HISTORY_S: Final = 900.0
MOMENT_S: Final = START_S + HISTORY_S + 7.25
"""Of the queries: no sample lies at the edge of a window, where versions of Prometheus differ."""
SCRAPE_S, EVALUATION_S = 5, 15
GONE_S: Final = START_S + HISTORY_S - 30
"""When a source goes down, or restarts."""
HIDDEN: Final = frozenset(
    {
        "kube_node_labels",
        "kube_persistentvolume_annotations",
        "kube_pod_annotations",
        "kube_pod_nodeselectors",
    }
)
"""What kube-state-metrics does not show without allow-lists: see the sample."""

Series = dict[Labels, float]


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, world: World, prometheus: Replay, policy: Policy, faults: MetricFaults) -> None:
        self._world = world
        self._prometheus = prometheus
        self._policy = policy
        self._faults = faults
        self._matchers = policy.metrics.matchers
        self._page: tuple[int, Series] = (-1, {})

    def live(self) -> None:
        """Let the world live its story, scraped all the while."""
        for scrape in range(int(HISTORY_S / SCRAPE_S) + 2):
            at_s = START_S + scrape * SCRAPE_S
            self._world.advance(at_s)
            if at_s % (self._faults.scraped_every_s or SCRAPE_S) == 0:
                self._scrape_cluster(at_s)
            if at_s % EVALUATION_S == 0:
                own = {"job": f"{KUBE_STATE_METRICS}-telemetry", "instance": INSTANCE, **self._matchers}
                self._scraped(own, read(telemetry(), **own), at_s)
                self._scrape_machines(at_s)
        self._world.advance(MOMENT_S)

    def record(self) -> None:
        """What the rules record."""
        raw, metrics, matchers = Raw(self._matchers), self._policy.metrics, self._matchers
        count = int((MOMENT_S - START_S) / EVALUATION_S - 0.5) + 1
        moments = [START_S + EVALUATION_S * (n + 0.5) for n in range(count)]
        self._prometheus.record(f"{PREFIX}node_ready", raw.ready, moments, **matchers)
        self._prometheus.record(f"{PREFIX}node_requested", requested_for_windows(raw), moments, **matchers)
        self._prometheus.record(f"{PREFIX}workers_demand", raw.workers_requested(), moments, of="requests", **matchers)
        busy = raw.node_utilisation(metrics.cpu_rate_window_s, EVALUATION_S)
        self._prometheus.record(f"{PREFIX}node_utilisation", busy, moments, **matchers)
        self._prometheus.record(f"{PREFIX}workers_demand", raw.workers_used(), moments, of="use", **matchers)
        for bound, unmeasured in (("low", 0), ("high", 1)):
            used = raw.workers_utilisation(unmeasured=unmeasured)
            self._prometheus.record(f"{PREFIX}workers_utilisation", used, moments, bound=bound, **matchers)
        about = {"group": UTILISATION_GROUP, "interval_s": str(EVALUATION_S), **matchers}
        self._prometheus.record(f"{PREFIX}evaluated_at", "vector(time())", moments, **about)

    def _scrape_cluster(self, at_s: float) -> None:
        target = {"job": KUBE_STATE_METRICS, "instance": INSTANCE, **self._matchers}
        if self._world.state.version != self._page[0]:
            page = read(self._world.kube_state_metrics(), **target)
            self._page = (self._world.state.version, page)
        series = self._page[1]
        if self._faults.no_allow_lists:
            series = {labels: value for labels, value in series.items() if dict(labels)["__name__"] not in HIDDEN}
        if self._faults.target_gone:
            gone = {**target, "instance": "gone:8080"}
            self._prometheus.see(str(gone), {_up(gone): 0.0}, at_s)
        self._scraped(target, None if self._faults.restarted and at_s == GONE_S else series, at_s)

    def _scrape_machines(self, at_s: float) -> None:
        pages = self._world.node_exporters()
        for node in self._world.state.nodes.values():
            target = {"job": NODE_EXPORTER, "instance": f"{node.machine.ip}:9100", **self._matchers}
            page = pages.get(node.name)
            if node.ready:
                self._scraped(target, None if page is None else read(page, **target), at_s)
            else:
                for source in (str(target), str(_moved(target))):
                    self._prometheus.see(source, {}, at_s)

    def _scraped(self, target: Mapping[str, str], series: Series | None, at_s: float) -> None:
        """One target, ours or the other cluster's or both; None: it does not answer."""
        source = NODE_EXPORTER if target["job"] == NODE_EXPORTER else KUBE_STATE_METRICS
        if source in self._faults.sources_down and at_s >= GONE_S:
            series = None
        found = {_up(target): 0.0} if series is None else {**series, _up(target): 1.0}
        if not self._faults.foreign:
            self._prometheus.see(str(target), found, at_s)
        if self._faults.foreign or self._faults.two_clusters:
            other = {frozenset(_moved(dict(labels)).items()): value for labels, value in found.items()}
            self._prometheus.see(str(_moved(target)), other, at_s)


def _up(target: Mapping[str, str]) -> Labels:
    return frozenset({**target, "__name__": "up"}.items())


def _moved(labels: Mapping[str, str]) -> dict[str, str]:
    """A series of the other cluster."""
    moved, _ = abroad((dict(labels), ""))
    for name, value in labels.items():
        local = name in {"address", "internal_ip", "nodename"}
        volume = name == "persistentvolume" and value != PROOF_VOLUME
        place = name == "annotation_local_path_provisioner_selected_node" and value != PROOF_NODE
        if local or volume or place:
            moved[name] = ELSEWHERE + value
    return moved

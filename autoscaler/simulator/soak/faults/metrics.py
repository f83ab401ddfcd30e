"""Prometheus and its sources: silent, wrong, late, or somebody else's."""

from typing import Final

from autoscaler.observe.series import (
    COUNTED,
    KUBE_STATE_METRICS,
    MOVING_FAMILIES,
    NODE_EXPORTER,
    PLACE_FAMILIES,
    ROOM_FAMILIES,
    SIGHT_FAMILIES,
)
from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.soak.faults.stage import Action, Episode, Kinds, Stage, nothing

FAMILIES: Final = {
    "nan": tuple(dict.fromkeys((*SIGHT_FAMILIES, *ROOM_FAMILIES, *MOVING_FAMILIES, *PLACE_FAMILIES))),
    "missing": ("node", "node_not_ready", "node_cordoned", "node_local_volumes", "node_managed", "requested", "pod"),
    "dropped": (
        *COUNTED,
        "use_shrink_count",
        "requested_max",
        "requested_count",
        "ready_count",
        "shown",
        "counted",
        "scraped_at",
    ),
}
"""What each fault of a family may strike: any, or those whose absence the core can tell from none (assumptions.py)."""
LAG_S: Final = 25.0
"""How long Nodes that are gone are still shown (a watch that lags behind the API server, and the scrape after it)."""
SELDOM_S: Final = 30
"""How often a kube-state-metrics is scraped that somebody else set up."""


def _metric(name: str, *, value: object) -> tuple[Action, Action]:
    def begin(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.metric_faults, name, value)

    def end(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.metric_faults, name, getattr(MetricFaults(), name))

    return begin, end


def _struck(pick: float, fault: str) -> str:
    """A family that the fault may strike."""
    families = FAMILIES[fault]
    return families[int(pick * len(families))]


def _family(name: str) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        getattr(stage.cluster.metric_faults, name).add(_struck(episode.pick, name))

    def end(stage: Stage, episode: Episode) -> None:
        getattr(stage.cluster.metric_faults, name).discard(_struck(episode.pick, name))

    return begin, end


def _source(name: str) -> tuple[Action, Action]:
    def begin(stage: Stage, _episode: Episode) -> None:
        stage.cluster.metric_faults.sources_down.add(name)

    def end(stage: Stage, _episode: Episode) -> None:
        stage.cluster.metric_faults.sources_down.discard(name)

    return begin, end


def _freeze(stage: Stage, _episode: Episode) -> None:
    stage.cluster.freeze_metrics()
    stage.watch.frozen_since_s = stage.cluster.now_s


def _thaw(stage: Stage, _episode: Episode) -> None:
    stage.cluster.metric_faults.frozen = None


def _lose_history(stage: Stage, _episode: Episode) -> None:
    stage.cluster.recorder.lose_history()
    stage.watch.metrics_since_s = stage.cluster.now_s


def _unmeasured(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None:
        stage.cluster.world.faults.unmeasured.add(name)


def _measured(stage: Stage, _episode: Episode) -> None:
    stage.cluster.world.faults.unmeasured.clear()


def _reset_counters(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None:
        stage.cluster.world.reset_counters(name)


KINDS: Final[Kinds] = {
    "Prometheus down": _metric("down", value=True),
    "Prometheus answers nonsense": _metric("not_an_answer", value=True),
    "Prometheus empty": _metric("empty", value=True),
    "values are no numbers": _metric("garbage", value=True),
    "half the series missing": _metric("half", value=True),
    "kube-state-metrics restarted": _metric("restarted", value=True),
    "one target of kube-state-metrics gone": _metric("target_gone", value=True),
    "kube-state-metrics scraped seldom": _metric("scraped_every_s", value=SELDOM_S),
    "metrics lag after a removal": _metric("lag_s", value=LAG_S),
    "kube-state-metrics without allow-lists": _metric("no_allow_lists", value=True),
    "metrics of another cluster": _metric("foreign", value=True),
    "metrics of two clusters": _metric("two_clusters", value=True),
    "rules evaluated too seldom": _metric("slow_rules", value=True),
    "family NaN": _family("nan"),
    "family missing": _family("missing"),
    "family dropped": _family("dropped"),
    "kube-state-metrics down": _source(KUBE_STATE_METRICS),
    "node-exporter down": _source(NODE_EXPORTER),
    "metrics stale": (_freeze, _thaw),
    "Prometheus lost its history": (_lose_history, nothing),
    "counters reset": (_reset_counters, nothing),
    "node not measured": (_unmeasured, _measured),
}

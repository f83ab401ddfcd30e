"""Faults of the world: what breaks, for how long, and how it is mended."""

import random
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Final

from autoscaler.model import MANAGED_BY_TAG, Mode, ModeSetting, Notice
from autoscaler.observe.series import (
    COUNTED,
    KUBE_STATE_METRICS,
    MOVING_FAMILIES,
    NODE_EXPORTER,
    ROOM_FAMILIES,
    SIGHT_FAMILIES,
)
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.faults import MetricFaults
from autoscaler.simulator.soak.fates import FateKind, Fates
from autoscaler.simulator.soak.watch import Watch
from autoscaler.simulator.wires import DYNAMODB, EC2, SSM
from autoscaler.simulator.world.objects import Faults
from autoscaler.state.modes import set_mode

FAMILIES: Final = {
    "nan": tuple(dict.fromkeys((*SIGHT_FAMILIES, *ROOM_FAMILIES, *MOVING_FAMILIES))),
    "missing": ("node", "node_not_ready", "node_cordoned", "node_local_volumes", "node_managed", "requested", "pod"),
    "dropped": (*COUNTED, "use_shrink_count", "ready_count", "shown", "counted", "scraped_at"),
}
"""What each fault of a family may strike: any, or those whose absence the core can tell from none (assumptions.py)."""
LAG_S: Final = 25.0
"""How long Nodes that are gone are still shown (a watch that lags behind the API server, and the scrape after it)."""
SELDOM_S: Final = 30
"""How often a kube-state-metrics is scraped that somebody else set up."""
INTERRUPTION_S: Final = 120.0
"""From EC2's Spot notice to the end (EC2 user guide, "Spot Instance interruption notices")."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault: `pick` and `size`, from 0 to 1, choose whom it strikes and how hard."""

    number: int
    kind: str
    at_s: float
    for_s: float
    pick: float
    size: float

    @property
    def key(self) -> str:
        """Its name in a history."""
        return f"episode {self.number}: {self.kind}"


class Stage:
    """What episodes act on."""

    def __init__(
        self,
        cluster: SimCluster,
        watch: Watch,
        fates: Fates,
        later: Callable[[float, Callable[[], None]], None],
        notify: Callable[[tuple[Notice, ...]], None],
    ) -> None:
        self.cluster = cluster
        self.watch = watch
        self.fates = fates
        self.later = later
        """Do something after so many seconds."""
        self.notify = notify
        """EventBridge brings a notice."""
        self.broken: set[str] = set()

    def worker(self, pick: float) -> str | None:
        """A living worker of ours."""
        alive = [i.instance_id for i in self.cluster.ec2.instances.values() if i.ended_at_s is None]
        ours = [i for i in alive if self.cluster.ec2.instances[i].tags.get(MANAGED_BY_TAG) == "autoscaler"]
        return ours[int(pick * len(ours))] if ours else None

    def node(self, pick: float) -> str | None:
        """The Node of a worker, ours or not."""
        names = [n.name for n in self.cluster.world.state.nodes.values() if not n.machine.server]
        return names[int(pick * len(names))] if names else None

    def family(self, pick: float, fault: str) -> str:
        """A family that the fault may strike."""
        families = FAMILIES[fault]
        return families[int(pick * len(families))]


Action = Callable[[Stage, Episode], None]


def _metric(name: str, *, value: object) -> tuple[Action, Action]:
    def begin(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.metric_faults, name, value)

    def end(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.metric_faults, name, getattr(MetricFaults(), name))

    return begin, end


def _family(name: str) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        getattr(stage.cluster.metric_faults, name).add(stage.family(episode.pick, name))

    def end(stage: Stage, episode: Episode) -> None:
        getattr(stage.cluster.metric_faults, name).discard(stage.family(episode.pick, name))

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


def _world(name: str, value: Callable[[Episode], object] = lambda _episode: True) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        setattr(stage.cluster.world.faults, name, value(episode))

    def end(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.world.faults, name, getattr(Faults(), name))

    return begin, end


def _exhaust(stage: Stage, episode: Episode) -> None:
    codes = ("InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "Unsupported")
    for index, (_, zone) in enumerate(stage.cluster.ec2.settings.subnet_zones):
        if episode.pick < 0.5 or index == int(episode.size * 2):
            code = codes[int(episode.size * len(codes))]
            instance_type = stage.cluster.policy.workers.instance_types[0]
            stage.cluster.ec2.exhaust(instance_type, zone, left=int(episode.size * 3), code=code)


def _replenish(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ec2.replenish()


def _end_worker(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is not None:
        stage.watch.tell(f"{victim} is ended from outside")
        stage.cluster.ec2.end(victim)


def _protect(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is not None:
        stage.watch.tell(f"{victim} is protected from termination")
        stage.cluster.ec2.protected.add(victim)


def _unprotect(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ec2.protected.clear()


def _end_joining(stage: Stage, _episode: Episode) -> None:
    young = [
        i.instance_id
        for i in stage.cluster.ec2.instances.values()
        if i.ended_at_s is None and stage.watch.truth.is_ours(i) and stage.watch.truth.node_of(i.instance_id) is None
    ]
    if young:
        stage.watch.tell(f"{young[0]} is ended while it joins")
        stage.cluster.ec2.end(young[0])


def _interrupt(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is None:
        return
    kind = ("interruption", "interruption", "retirement", "rebalance")[int(episode.size * 4)]
    stage.watch.tell(f"EC2 gives notice of {victim}: {kind}")
    now_s = stage.cluster.now_s
    if kind == "interruption":
        stage.watch.truth.noticed.setdefault(victim, now_s)
    elif kind == "retirement":
        stage.watch.truth.announced.add(victim)
    stage.notify((Notice(kind=kind, subject=victim, received_at_s=int(now_s)),))
    if kind == "interruption":
        stage.later(INTERRUPTION_S, lambda: _end_if_alive(stage, victim))


def _end_if_alive(stage: Stage, instance_id: str) -> None:
    if stage.watch.truth.alive(instance_id):
        stage.cluster.ec2.end(instance_id)


def _notice_of_stranger(stage: Stage, episode: Episode) -> None:
    strangers = [i.instance_id for i in stage.cluster.ec2.instances.values() if not stage.watch.truth.is_ours(i)]
    subject = strangers[int(episode.pick * len(strangers))]
    stage.notify((Notice(kind="interruption", subject=subject, received_at_s=int(stage.cluster.now_s)),))


def _reset_counters(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None:
        stage.cluster.world.reset_counters(name)


def _break_node(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None and stage.cluster.world.state.nodes[name].kubelet_works:
        stage.cluster.world.break_node(name)
        stage.broken.add(name)


def _mend_nodes(stage: Stage, _episode: Episode) -> None:
    for name in sorted(stage.broken):
        if name in stage.cluster.world.state.nodes:
            stage.cluster.world.mend_node(name)
    stage.broken.clear()


def _cordon(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None:
        stage.watch.truth.hand_cordoned.add(name)
        stage.cluster.world.cordon(name)


def _uncordon(stage: Stage, _episode: Episode) -> None:
    for name in sorted(stage.watch.truth.hand_cordoned & stage.cluster.world.state.nodes.keys()):
        stage.cluster.world.uncordon(name)


def _server_offline(stage: Stage, episode: Episode) -> None:
    servers = [m.instance_id for m in stage.cluster.world.state.machines.values() if m.server]
    stage.cluster.ssm.offline.add(servers[int(episode.pick * len(servers))])


def _servers_online(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ssm.offline.clear()


def _ssm(name: str, value: Callable[[Episode], object] = lambda _episode: True) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        setattr(stage.cluster.ssm, name, value(episode))

    def end(stage: Stage, _episode: Episode) -> None:
        setattr(stage.cluster.ssm, name, 0.0 if name == "delay_s" else False)

    return begin, end


def _outage(service: str) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        kinds = (FateKind.FAILS, FateKind.LOST, FateKind.LATE, FateKind.SLOW)
        stage.fates.outages[service] = kinds[int(episode.pick * len(kinds))]

    def end(stage: Stage, _episode: Episode) -> None:
        stage.fates.outages.pop(service, None)

    return begin, end


def _pause(stage: Stage, episode: Episode) -> None:
    now_s = int(stage.cluster.now_s)
    mode = Mode.PAUSED if episode.pick < 0.5 else Mode.OBSERVE
    _set_mode(stage, ModeSetting(mode=mode, set_at_s=now_s, until_s=now_s + int(episode.for_s), by="soak"))


def _set_mode(stage: Stage, setting: ModeSetting | None) -> None:
    """The operator's own write: it takes no virtual time, so nobody comes between."""
    stage.watch.written_by_hand(set_mode(stage.cluster.state, setting))


def _nothing(_stage: Stage, _episode: Episode) -> None:
    """It ends by itself."""


KINDS: Final[Mapping[str, tuple[Action, Action]]] = {
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
    "Prometheus lost its history": (_lose_history, _nothing),
    "counters reset": (_reset_counters, _nothing),
    "node not measured": (_unmeasured, _measured),
    "EC2 out of capacity": (_exhaust, _replenish),
    "instances never join": _world("never_join"),
    "instances join late": _world("join_delay_s", lambda episode: 900.0 * episode.size),
    "broken image": _world("broken_image"),
    "termination protection": (_protect, _unprotect),
    "instance dies": (_end_worker, _nothing),
    "instance dies while joining": (_end_joining, _nothing),
    "EC2 gives notice": (_interrupt, _nothing),
    "notice of a stranger": (_notice_of_stranger, _nothing),
    "kubelet breaks": (_break_node, _mend_nodes),
    "node cordoned by hand": (_cordon, _uncordon),
    "SSM agent offline": (_server_offline, _servers_online),
    "SSM delivers late": _ssm("delay_s", lambda episode: 55.0 * episode.size),
    "SSM takes no commands": _ssm("refusing"),
    "node command crashes": _ssm("crashing"),
    "node command never reports": _ssm("mute"),
    "Kubernetes API unreachable": _world("api_unreachable"),
    "failed drain stays cordoned": _world("cordon_stays"),
    "EC2 in trouble": _outage(EC2),
    "DynamoDB in trouble": _outage(DYNAMODB),
    "SSM in trouble": _outage(SSM),
    "operator pauses": (_pause, _nothing),
}


def plan(rng: random.Random, *, begin_s: float, end_s: float) -> list[Episode]:
    """The episodes of one run: of some kinds only, so that each kind also meets a world without the others."""
    kinds = sorted(KINDS)
    chosen = rng.sample(kinds, rng.choice((2, 4, 8, 12, len(kinds))))
    per_hour = rng.choice((2.0, 6.0, 15.0, 40.0))
    episodes: list[Episode] = []
    at_s = begin_s
    while (at_s := at_s + rng.expovariate(per_hour / 3600.0)) < end_s:
        for_s = min(rng.choice((30.0, 120.0, 600.0, 1500.0)) * (0.5 + rng.random()), end_s - at_s)
        episodes.append(Episode(len(episodes), rng.choice(chosen), at_s, for_s, rng.random(), rng.random()))
    return episodes


def mend_everything(stage: Stage) -> None:
    """Every fault that is still on ends."""
    episode = Episode(-1, "", stage.cluster.now_s, 0.0, 0.0, 0.0)
    for field in fields(MetricFaults):
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        setattr(stage.cluster.metric_faults, field.name, value)
    for kind, (_, end) in KINDS.items():
        if not kind.startswith(("Prometheus", "family", "values", "half")):
            end(stage, episode)
    _set_mode(stage, None)

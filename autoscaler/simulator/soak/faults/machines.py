"""EC2 and its machines: nothing left to buy, unasked ends, notices that come early, late, or for others."""

from collections.abc import Callable
from typing import Final

from autoscaler.model import SPOT, Notice
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S
from autoscaler.simulator.soak.faults.stage import Action, Episode, Kinds, Stage, nothing
from autoscaler.simulator.world.objects import Faults

INTERRUPTION_S: Final = 120.0
"""From EC2's Spot notice to the end (EC2 user guide, "Spot Instance interruption notices")."""
NEAR_S: Final = 1800.0 + 2 * CLOCKS_DIFFER_S
"""This long before a retirement there is no time any more for an ordinary removal."""
AHEAD_S: Final = (600.0, 2400.0, 5400.0, 10_800.0, None)
"""How long before a retirement AWS Health tells of it: days, shortened to fit a run. None: it does not say when."""
OUT_OF_DATE_S: Final = 7200.0


def world_fault(name: str, value: Callable[[Episode], object] = lambda _episode: True) -> tuple[Action, Action]:
    """A switch of the world that is on while the episode lasts."""

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
            instance_type = stage.cluster.policy.instance_types[0]
            stage.cluster.ec2.exhaust(instance_type, zone, left=int(episode.size * 3), code=code)


def _replenish(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ec2.replenish()


def _end_worker(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is not None:
        stage.watch.tell(f"{victim} is ended from outside")
        stage.cluster.ec2.end(victim)


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
    """Of a Spot worker where a pool is on Spot; elsewhere any stands for one: a notice knows no market."""
    on_spot = any(pool.market == SPOT for pool in stage.cluster.policy.pools)
    victim = stage.worker(episode.pick, market=SPOT if on_spot else None)
    if victim is None:
        return
    kind = ("interruption", "interruption", "rebalance")[int(episode.size * 3)]
    stage.watch.tell(f"EC2 gives notice of {victim}: {kind}")
    now_s = stage.cluster.now_s
    if kind == "interruption":
        stage.watch.truth.noticed.setdefault(victim, now_s)
        stage.later(INTERRUPTION_S, lambda: end_if_alive(stage, victim))
    stage.notify((Notice(kind=kind, subject=victim, received_at_s=int(now_s)),))


def _retire(stage: Stage, episode: Episode) -> None:
    """AWS Health announces a retirement, and EC2 carries it out at the time that it named."""
    victim = stage.worker(episode.pick)
    if victim is None:
        return
    now_s, ahead_s = stage.cluster.now_s, AHEAD_S[int(episode.size * len(AHEAD_S))]
    stage.watch.truth.announced[victim] += 1
    if ahead_s is None:
        stage.watch.tell(f"EC2 will retire {victim}, and does not say when")
        stage.notify((Notice(kind="retirement", subject=victim, received_at_s=int(now_s)),))
        return
    stage.watch.tell(f"EC2 will retire {victim} in {ahead_s:.0f} s")
    due_at_s = now_s + ahead_s
    stage.later(max(0.0, ahead_s - NEAR_S), lambda: _now_near(stage, victim))
    stage.later(ahead_s, lambda: end_if_alive(stage, victim))
    stage.notify((Notice(kind="retirement", subject=victim, received_at_s=int(now_s), due_at_s=int(due_at_s)),))


def _now_near(stage: Stage, instance_id: str) -> None:
    stage.watch.truth.noticed.setdefault(instance_id, stage.cluster.now_s)


def _notice_of_the_past(stage: Stage, episode: Episode) -> None:
    """A notice that somebody kept back: what it announced was hours ago, and the machine runs."""
    victim = stage.worker(episode.pick)
    if victim is None:
        return
    then_s = int(stage.cluster.now_s - OUT_OF_DATE_S)
    stage.watch.tell(f"a notice of hours ago about {victim}")
    if episode.size < 0.5:
        stage.notify((Notice(kind="interruption", subject=victim, received_at_s=then_s, due_at_s=then_s + 120),))
    else:
        stage.notify((Notice(kind="retirement", subject=victim, received_at_s=then_s - 600, due_at_s=then_s),))


def end_if_alive(stage: Stage, instance_id: str) -> None:
    """EC2 takes what it announced, unless it is gone already."""
    if stage.watch.truth.alive(instance_id):
        stage.cluster.ec2.end(instance_id)


def _notice_of_stranger(stage: Stage, episode: Episode) -> None:
    truth = stage.watch.truth
    known = truth.untagged_s.keys()
    strangers = [
        i.instance_id
        for i in stage.cluster.ec2.instances.values()
        if not truth.is_ours(i) and i.instance_id not in known
    ]
    subject = strangers[int(episode.pick * len(strangers))]
    stage.notify((Notice(kind="interruption", subject=subject, received_at_s=int(stage.cluster.now_s)),))


def break_node(stage: Stage, episode: Episode) -> None:
    """A kubelet stops working."""
    name = stage.node(episode.pick)
    if name is not None and stage.cluster.world.state.nodes[name].kubelet_works:
        stage.cluster.world.break_node(name)
        stage.broken.add(name)


def mend_nodes(stage: Stage, _episode: Episode) -> None:
    """Every kubelet works again."""
    for name in sorted(stage.broken):
        if name in stage.cluster.world.state.nodes:
            stage.cluster.world.mend_node(name)
    stage.broken.clear()


KINDS: Final[Kinds] = {
    "EC2 out of capacity": (_exhaust, _replenish),
    "instances never join": world_fault("never_join"),
    "instances join late": world_fault("join_delay_s", lambda episode: 900.0 * episode.size),
    "broken image": world_fault("broken_image"),
    "instance dies": (_end_worker, nothing),
    "instance dies while joining": (_end_joining, nothing),
    "EC2 gives notice": (_interrupt, nothing),
    "EC2 announces a retirement": (_retire, nothing),
    "notice out of date": (_notice_of_the_past, nothing),
    "notice of a stranger": (_notice_of_stranger, nothing),
    "kubelet breaks": (break_node, mend_nodes),
}

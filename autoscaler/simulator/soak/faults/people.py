"""People with good reasons: they pause, cordon and uncordon, take tags away, stop machines, and protect them."""

from typing import Final

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, Mode, ModeSetting, RemovalPhase
from autoscaler.simulator.soak.faults.machines import break_node, mend_nodes
from autoscaler.simulator.soak.faults.stage import Action, Episode, Kinds, Stage, nothing
from autoscaler.simulator.world.preflight import OPERATION_ANNOTATION
from autoscaler.state.modes import set_mode

WAITS_S: Final = 1500.0
"""How long an operator waits for the moment at which to pause."""
PAUSES_S: Final = (300.0, 800.0, 1600.0, 2400.0)
LOOKS_EVERY_S: Final = 3.0
"""How often somebody who waits for a drain looks for one."""


def _protect(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is not None:
        stage.watch.tell(f"{victim} is protected from termination")
        stage.cluster.ec2.protected.add(victim)


def _unprotect(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ec2.protected.clear()


def _cordon(stage: Stage, episode: Episode) -> None:
    name = stage.node(episode.pick)
    if name is not None:
        stage.watch.truth.hand_cordoned.add(name)
        stage.cluster.world.cordon(name)


def _uncordon(stage: Stage, _episode: Episode) -> None:
    for name in sorted(stage.watch.truth.hand_cordoned & stage.cluster.world.state.nodes.keys()):
        stage.cluster.world.uncordon(name)


def _uncordon_ours(stage: Stage, episode: Episode) -> None:
    """Somebody needs the Node that is drained next, and opens it again: while it is drained, or later."""
    until_s = stage.cluster.now_s + episode.for_s

    def look() -> None:
        nodes = stage.cluster.world.state.nodes.values()
        ours = [node.name for node in nodes if node.cordoned and OPERATION_ANNOTATION in node.annotations]
        if ours and not stage.over:
            after_s = (20.0 if episode.size < 0.5 else 400.0) * episode.pick
            stage.later(after_s, lambda: _uncordon_one(stage, ours[0]))
        elif stage.cluster.now_s < until_s and not stage.over:
            stage.later(LOOKS_EVERY_S, look)

    look()


def _uncordon_one(stage: Stage, name: str) -> None:
    node = stage.cluster.world.state.nodes.get(name)
    if node is not None and node.cordoned:
        stage.watch.tell(f"somebody uncordons {name}")
        stage.watch.truth.opened_s[name] = stage.cluster.now_s
        stage.cluster.world.uncordon(name)


def _take_tag(tag: str) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        victim = stage.worker(episode.pick)
        if victim is not None:
            stage.watch.tell(f"somebody takes the tag {tag} off {victim}")
            stage.untag(victim, tag)

    def end(stage: Stage, _episode: Episode) -> None:
        stage.tag_again(tag)

    return begin, end


def _stop(stage: Stage, episode: Episode) -> None:
    victim = stage.worker(episode.pick)
    if victim is not None:
        stage.watch.tell(f"somebody stops {victim}")
        stage.watch.truth.stopped.add(victim)
        stage.cluster.ec2.stop(victim)


def _start(stage: Stage, _episode: Episode) -> None:
    for victim in sorted(stage.watch.truth.stopped & stage.cluster.ec2.instances.keys()):
        stage.cluster.ec2.start(victim)


def _pause(stage: Stage, episode: Episode) -> None:
    _pause_for(stage, Mode.PAUSED if episode.pick < 0.5 else Mode.OBSERVE, episode.for_s)


def _pause_for(stage: Stage, mode: Mode, for_s: float) -> None:
    now_s = int(stage.cluster.now_s)
    set_mode_by_hand(stage, ModeSetting(mode=mode, set_at_s=now_s, until_s=now_s + int(for_s), by="soak"))


def _pause_while(phase: RemovalPhase, meanwhile: Action, before: Action = nothing) -> Action:
    """Pause once a server was asked in that phase, let something happen, and look again after minutes or hours."""

    def begin(stage: Stage, episode: Episode) -> None:
        until_s = stage.cluster.now_s + WAITS_S
        before(stage, episode)

        def look() -> None:
            asked = [r for r in stage.watch.state.removals if r.phase is phase and r.command is not None]
            if asked and stage.watch.state.mode is None and not stage.over:
                for_s = PAUSES_S[int(episode.size * len(PAUSES_S))]
                _pause_for(stage, Mode.PAUSED, for_s)
                stage.later(for_s / 3, lambda: meanwhile(stage, episode))
            elif stage.cluster.now_s < until_s and not stage.over:
                stage.later(LOOKS_EVERY_S, look)

        look()

    return begin


def _open_drained(stage: Stage, episode: Episode) -> None:
    """What was drained for nothing is opened again, half of the times."""
    nodes = stage.cluster.world.state.nodes.values()
    for name in [node.name for node in nodes if node.cordoned and OPERATION_ANNOTATION in node.annotations]:
        if episode.pick < 0.5:
            _uncordon_one(stage, name)


def set_mode_by_hand(stage: Stage, setting: ModeSetting | None) -> None:
    """The operator's own write: it takes no virtual time, so nobody comes between."""
    stage.watch.written_by_hand(set_mode(stage.cluster.state, setting))


KINDS: Final[Kinds] = {
    "operator pauses": (_pause, nothing),
    "operator pauses in a drain": (_pause_while(RemovalPhase.DRAINING, _open_drained), nothing),
    "operator pauses while a server is asked": (
        _pause_while(RemovalPhase.INSPECTING, mend_nodes, before=break_node),
        nothing,
    ),
    "node cordoned by hand": (_cordon, _uncordon),
    "drain undone by hand": (_uncordon_ours, nothing),
    "worker loses the tag of ours": _take_tag(MANAGED_BY_TAG),
    "worker loses the cluster's tag": _take_tag(CLUSTER_TAG),
    "worker stopped by hand": (_stop, _start),
    "termination protection": (_protect, _unprotect),
}

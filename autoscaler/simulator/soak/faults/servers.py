"""Servers and what they run: SSM that does not deliver, servers that vanish, an API that is away, pods that stay."""

from collections.abc import Callable
from typing import Final

from autoscaler.model import Verb
from autoscaler.simulator.soak.fates import FateKind
from autoscaler.simulator.soak.faults.machines import world_fault
from autoscaler.simulator.soak.faults.stage import Action, Episode, Kinds, Stage, nothing
from autoscaler.simulator.wires import DYNAMODB, EC2, SSM

LOOKS_EVERY_S: Final = 3.0
"""How often a fault that waits for a drain looks for one."""


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


def _draining_server(stage: Stage) -> str | None:
    """A server on which a drain runs."""
    for command, server_id, _ in stage.cluster.ssm.sent.values():
        if command.verb is Verb.DRAIN and stage.cluster.world.drains(command):
            return server_id
    return None


def _in_a_drain(strike: Callable[[Stage, str], None]) -> Action:
    """Strike the server of the next drain, within the time of the episode."""

    def begin(stage: Stage, episode: Episode) -> None:
        until_s = stage.cluster.now_s + episode.for_s

        def look() -> None:
            server_id = _draining_server(stage)
            if server_id is not None and not stage.over:
                strike(stage, server_id)
            elif stage.cluster.now_s < until_s and not stage.over:
                stage.later(LOOKS_EVERY_S, look)

        look()

    return begin


def _vanish(stage: Stage, server_id: str) -> None:
    """For good; never the last one: without a server there is no cluster."""
    alive = [m.instance_id for m in stage.cluster.world.state.machines.values() if m.server and m.alive]
    if len(alive) > 1:
        stage.watch.tell(f"the server {server_id} vanishes in the middle of a drain")
        stage.cluster.ssm.lose(server_id)
        stage.cluster.ec2.end(server_id)


def _restart(stage: Stage, server_id: str) -> None:
    stage.watch.tell(f"the server {server_id} restarts in the middle of a drain")
    stage.cluster.ssm.lose(server_id)


def _outage(service: str) -> tuple[Action, Action]:
    def begin(stage: Stage, episode: Episode) -> None:
        kinds = (FateKind.FAILS, FateKind.LOST, FateKind.LATE, FateKind.SLOW)
        stage.fates.outages[service] = kinds[int(episode.pick * len(kinds))]

    def end(stage: Stage, _episode: Episode) -> None:
        stage.fates.outages.pop(service, None)

    return begin, end


KINDS: Final[Kinds] = {
    "SSM agent offline": (_server_offline, _servers_online),
    "SSM delivers late": _ssm("delay_s", lambda episode: 55.0 * episode.size),
    "SSM takes no commands": _ssm("refusing"),
    "node command crashes": _ssm("crashing"),
    "node command never reports": _ssm("mute"),
    "server vanishes in a drain": (_in_a_drain(_vanish), nothing),
    "server restarts in a drain": (_in_a_drain(_restart), nothing),
    "Kubernetes API unreachable": world_fault("api_unreachable"),
    "admission denies evictions": world_fault("admission_denies"),
    "pods that do not end": world_fault("pods_stay"),
    "failed drain stays cordoned": world_fault("cordon_stays"),
    "EC2 in trouble": _outage(EC2),
    "DynamoDB in trouble": _outage(DYNAMODB),
    "SSM in trouble": _outage(SSM),
}

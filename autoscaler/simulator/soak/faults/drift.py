"""What people change under the workers: the image, the template, the servers' K3s."""

import random
from typing import Final

import msgspec

from autoscaler.policy import Policy
from autoscaler.simulator.soak.faults.stage import Episode, Kinds, Stage, nothing


def _new_template(stage: Stage, episode: Episode) -> None:
    ec2 = stage.cluster.ec2
    ec2.settings = msgspec.structs.replace(ec2.settings, template_version=str(2 + episode.number))


def _new_image(stage: Stage, episode: Episode) -> None:
    ec2 = stage.cluster.ec2
    ec2.settings = msgspec.structs.replace(ec2.settings, image_id=f"ami-0simulated{episode.number:07x}")


def _upgrade(stage: Stage, episode: Episode) -> None:
    stage.cluster.world.upgrade_servers(f"v1.37.{episode.number}+k3s1")


def _upgrade_servers_only(stage: Stage, episode: Episode) -> None:
    """Who writes the version into the parameter does so at the end of the episode."""
    stage.cluster.world.upgrade_servers(f"v1.38.{episode.number}+k3s1", new_workers=False)


def _upgrade_workers(stage: Stage, _episode: Episode) -> None:
    machines = stage.cluster.world.state.machines.values()
    newest = max((machine.k3s_version for machine in machines if machine.server), default="")
    if newest:
        stage.cluster.world.upgrade_servers(newest)


KINDS: Final[Kinds] = {
    "a new launch template": (_new_template, nothing),
    "a new image": (_new_image, nothing),
    "servers upgraded": (_upgrade, nothing),
    "servers upgraded alone": (_upgrade_servers_only, _upgrade_workers),
}


def plan_drift(policy: Policy, seed: int, *, first: int, begin_s: float, end_s: float) -> list[Episode]:
    """Changes, where workers are rotated for them; with dice of their own, so that other faults stay."""
    dice = random.Random(f"{seed}: what people change under the workers")
    if not policy.rotation.drift:
        return []
    kinds = sorted(KINDS)
    return [
        Episode(
            first + n, dice.choice(kinds), begin_s + (end_s - begin_s) * dice.random(), 1200.0 * dice.random(), 0, 0
        )
        for n in range(dice.choice((1, 2, 4)))
    ]

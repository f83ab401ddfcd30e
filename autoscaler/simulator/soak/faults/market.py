"""The market and the zones: Spot gives nothing, takes much at once, or a whole zone is of no use."""

from typing import Final

from autoscaler.model import ON_DEMAND, SPOT, Notice
from autoscaler.simulator.soak.faults.machines import INTERRUPTION_S, end_if_alive
from autoscaler.simulator.soak.faults.stage import Episode, Kinds, Stage, nothing
from autoscaler.simulator.world.objects import Faults

STORM_SHARE: Final = 0.5
STORM_LASTS_S: Final = 400.0
CODES: Final = (
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
)


def _drought(stage: Stage, episode: Episode) -> None:
    """Spot has little left, or nothing, in every zone."""
    ec2 = stage.cluster.ec2
    for instance_type in stage.cluster.policy.instance_types:
        for _, zone in ec2.settings.subnet_zones:
            code = CODES[int(episode.size * len(CODES))]
            ec2.exhaust(instance_type, zone, left=int(episode.pick * 3), code=code, market=SPOT)


def _replenish(stage: Stage, _episode: Episode) -> None:
    stage.cluster.ec2.replenish()


def _storm(stage: Stage, episode: Episode) -> None:
    """EC2 takes half of the Spot workers within minutes, some of which have just come in the place of others."""
    spot = stage.workers(SPOT)
    for number in range(max(1, round(len(spot) * STORM_SHARE))):
        stage.later(episode.size * STORM_LASTS_S * number, lambda: interrupt(stage, episode.pick))


def interrupt(stage: Stage, pick: float) -> None:
    """EC2's warning of one Spot worker, and its end two minutes later."""
    victim = None if stage.over else stage.worker(pick, market=SPOT)
    if victim is None:
        return
    now_s = stage.cluster.now_s
    stage.watch.tell(f"EC2 takes {victim} back")
    stage.watch.truth.noticed.setdefault(victim, now_s)
    stage.later(INTERRUPTION_S, lambda: end_if_alive(stage, victim))
    stage.notify((Notice(kind="interruption", subject=victim, received_at_s=int(now_s)),))


def _outage(stage: Stage, episode: Episode) -> None:
    """A zone has nothing to sell on any market, or sells what never joins."""
    zones = [zone for _, zone in stage.cluster.ec2.settings.subnet_zones]
    zone = zones[int(episode.pick * len(zones))]
    if episode.size < 0.5:
        stage.cluster.world.faults.never_join_in = zone
        return
    for instance_type in stage.cluster.policy.instance_types:
        for market in (ON_DEMAND, SPOT):
            stage.cluster.ec2.exhaust(instance_type, zone, market=market)


def _zone_is_back(stage: Stage, episode: Episode) -> None:
    stage.cluster.world.faults.never_join_in = Faults().never_join_in
    _replenish(stage, episode)


DROUGHT: Final = "Spot drought"
ZONE_OUTAGE: Final = "zone outage"
KINDS: Final[Kinds] = {
    DROUGHT: (_drought, _replenish),
    "Spot storm": (_storm, nothing),
    ZONE_OUTAGE: (_outage, _zone_is_back),
}

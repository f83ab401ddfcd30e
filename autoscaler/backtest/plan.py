"""What happens while a workload is played, as values: nothing in it depends on the fleet that it is played on."""

from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.simulator.world.workload import Kind, Workload

MIDNIGHT_S: Final = 1_799_971_200.0
"""Every plan begins at its hour of this day: 2027-01-15, a Friday, 00:00 UTC."""
ZONES: Final = ("us-east-1a", "us-east-1b")
"""The server is in the first."""

Steps = list[tuple[float, int]]
"""From this second on so many workers."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """From now on an owner has so many replicas, and each of its pods uses so much."""

    at_s: float
    """After the plan's begin, as all times here."""
    owner: str
    replicas: int
    burn_cores: float


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Pods that are made once and run to their end: bare ones, as no drain evicts those."""

    at_s: float
    workload: Workload

    def __post_init__(self) -> None:
        if self.workload.kind is not Kind.POD or self.workload.template.run_for_s is None:
            raise ValueError(f"{self.workload.key} is no job: it has to be bare pods with run_for_s")


class Trouble(StrEnum):
    """What happens to the cloud."""

    ZONE_LOST = "zone lost"
    """No kubelet of the zone answers any more, and EC2 gives nothing there; what is lost is still billed."""
    ZONE_BACK = "zone back"
    DROUGHT = "drought"
    """EC2 has no more of the default's instance type in any zone, on any market."""
    SPOT_TAKEN = "Spot taken"
    """EC2 takes a tenth of the Spot workers back, one at least, and sells no more Spot of any type."""
    PLENTY = "plenty"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One trouble begins or ends."""

    at_s: float
    trouble: Trouble
    zone: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A workload from its first second to its last."""

    name: str
    about: str
    """One line for the document."""
    from_hour: float = 0.0
    """Of the bench's day, UTC."""
    hours: float
    base: tuple[Workload, ...]
    """What runs when it begins."""
    changes: tuple[Change, ...] = ()
    """In the order of time, as jobs and events."""
    jobs: tuple[Jobs, ...] = ()
    events: tuple[Event, ...] = ()
    begins_at_s: float | None = None
    """Of what was recorded: epoch seconds; None: `from_hour` of the bench's day."""
    lead_s: float = 0.0
    """So much of it is played before anything counts: the fleet finds its size."""
    daemon_sets: tuple[Workload, ...] | None = None
    """What runs on every worker; None: what K3s brings along, and node-exporter."""

    @property
    def begin_s(self) -> float:
        """Epoch seconds."""
        return MIDNIGHT_S + self.from_hour * 3600.0 if self.begins_at_s is None else self.begins_at_s

    @property
    def length_s(self) -> float:
        """How long it is played."""
        return self.hours * 3600.0

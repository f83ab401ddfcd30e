"""What is decided: one look's outcome, in words and in numbers."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from autoscaler.model.forecast import Foreseen, KeptForecast
from autoscaler.model.observed import Asks
from autoscaler.model.operations import LaunchOperation
from autoscaler.model.signals import AsideSignal
from autoscaler.model.state import OwnerLaunches, State

HAIR_USD: Final = 1e-9
"""Sums of decimal prices are this exact: three of $0.1 fit under a cap of $0.3."""


class Action(StrEnum):
    """What a decision did, in one word."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    REPAIR = "repair"
    NONE = "none"
    HELD_BACK = "held_back"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """What woke us. It says *look now*; `correlation_id` is the request id of the sender."""

    kind: str
    """`alert`, `sweep` or `lifecycle`."""
    correlation_id: str = ""
    detail: str = ""


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Workers, static ones included."""

    ready: int | None
    """None, as `desired`, while the metrics cannot tell."""
    joining: int
    draining: int
    desired: int | None
    min: int
    max: int


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A window of the policy's schedules that bears on this moment; times are epoch seconds."""

    name: str
    holds: bool
    """False: it begins soon, and what it asks for is launched ahead."""
    from_s: int
    until_s: int | None
    """None: it begins again wherever it ends."""


class FleetCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers that a look found cost an hour, in US dollars; what it launches shows in the next one."""

    usd_per_hour: float
    """Of those whose price is known, static ones included."""
    known_workers: int
    unknown_workers: int | None
    """Whose price nobody knows: they are not in the sum. None while nobody knows how many there are."""
    baseline_usd_per_hour: float | None = None
    """What `cost.baseline_workers` would cost; None where none are given, or their price is not known."""
    saved_usd_per_hour: float | None = None
    """The baseline less the sum, below 0 where more is spent; None unless both are known to the last worker."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to want workers: what was measured, where its threshold lies, how many workers it wants."""

    name: str
    value: float | None
    threshold: float | None
    wants: int | None


class Why(NamedTuple):
    """A reason."""

    code: str
    """Stable: queries and alarms go by it."""
    text: str = ""
    """One clause for a person."""
    until_s: int | None = None
    """When it ends by itself, in epoch seconds; None where that depends on something else."""

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A node or pod that was passed over, and why."""

    subject: str
    code: str
    """Stable: queries and alarms go by it."""
    text: str
    """One clause for a person."""

    @property
    def reason(self) -> str:
        """Both in one line."""
        return str(Why(self.code, self.text))


def blocked_by(subject: str, why: Why) -> Blocked:
    """Who was passed over for this reason."""
    return Blocked(subject=subject, code=why.code, text=why.text)


class NewWorkers(msgspec.Struct, frozen=True):
    """Workers of one type to launch; `zone` is empty where any will do."""

    instance_type: str
    count: int
    zone: str = ""
    usd_at_most: float | None = None
    """What one of them may cost an hour, also where another type is launched in its place; None without a cap."""
    pool: str = "general"
    """Of `Policy.pools`."""
    market: str = "on-demand"
    """`spot`: bought there while it gives any, else on demand."""
    only_market: bool = False
    """Whether its pods run on no other: nothing is bought in its place."""
    only_types: tuple[str, ...] = ()
    """The types that its pods run on, where EC2 may not give just any that holds as much."""

    @property
    def kind(self) -> "NewWorkers":
        """What tells them from others, whatever their number."""
        return self.times(0)

    def times(self, count: int) -> "NewWorkers":
        """So many of the same."""
        return msgspec.structs.replace(self, count=count)


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Workers to launch. It becomes operations once the launch template's version and the zones are known."""

    workers: tuple[NewWorkers, ...]
    """What to launch, what has to be in one zone first."""
    reason: str
    for_owners: tuple[str, ...] = ()
    unhelped: tuple[OwnerLaunches, ...] = ()
    """Records to keep with the launch: the model had found room for these owners' pods, the scheduler had not."""
    may_fall_back: bool = True
    """Whether what Spot does not give is launched on demand at once."""

    @property
    def count(self) -> int:
        """Workers altogether."""
        return sum(new.count for new in self.workers)


def fitting(count: int, left_usd: float, usd_each: float | None) -> int:
    """How many of `count` workers what is left pays for: none where their price is not known."""
    if usd_each is None or left_usd < -HAIR_USD:
        return 0
    return count if usd_each == 0 else min(count, int((left_usd + HAIR_USD) / usd_each))


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """What is launched on demand, in the same look, for workers that a launch on Spot does not give."""

    of: str
    """Operation id of the launch on Spot."""
    operation: LaunchOperation
    """Complete but for its count: as many as are missing, and paid for."""
    usd_each: float | None
    """What one of them costs an hour at most; None where that is not known."""
    usd_at_most: float | None
    """What one worker of the launch on Spot may cost; None without a cap."""

    def paid_for(self, missing: int) -> int:
        """How many of the missing workers cost no more together than all of them may."""
        return fitting(missing, missing * self.usd_at_most, self.usd_each) if self.usd_at_most is not None else missing


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do and why: it explains itself. `state` is what holds once the decision is taken."""

    action: Action
    reason: str
    message: str
    nodes: NodeCounts
    signals: tuple[Signal, ...]
    blocked: tuple[Blocked, ...]
    done: tuple[str, ...]
    """One sentence for each step that open operations took in this look."""
    growth: Growth | None
    state: State
    cost: FleetCost | None = None
    """None where nobody looked."""
    news: bool = False
    """One of these is for people, although nothing begins."""
    ec2_codes: tuple[str, ...] = ()
    """Error codes of EC2 for which a launch is refused: people hear of each once."""
    signals_aside: tuple[AsideSignal, ...] = ()
    """Custom signals that are set aside after this look: people hear of each once."""
    forecast: KeptForecast | None = None
    """What is kept of the forecast after this look."""
    foreseen: Foreseen | None = None
    """What it says now; None without one."""
    fallbacks: tuple[Fallback, ...] = ()
    """By launch on Spot."""
    schedules: tuple[Schedule, ...] = ()
    """Windows that hold now, or that are served ahead."""
    asks: Asks = Asks()
    """What it could not judge because it was not seen: look closer, and decide again."""

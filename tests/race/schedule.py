"""Which rounds a race has."""

import enum
import itertools
from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.model import Lease, State
from autoscaler.simulator.cluster import START_S
from tests.race.ports import Need


class Kind(enum.StrEnum):
    """What happens in a round."""

    TOGETHER = "all look at the same moment"
    SAME_WRITE = "all have decided, and write at the same moment"
    SLOW_HOLDER = "the winner is held while it holds the lease"
    KILLED_BEFORE = "the winner is killed between its intent and the effect"
    KILLED_AFTER = "the winner is killed between the effect and saving its answer"
    OVERTAKEN = "the winner is held until another has taken its lease over, and then goes on"


KILLED: Final = frozenset({Kind.KILLED_BEFORE, Kind.KILLED_AFTER})
CYCLE: Final = (
    *(Kind.SAME_WRITE, Kind.TOGETHER, Kind.SLOW_HOLDER, Kind.TOGETHER, Kind.KILLED_BEFORE),
    *(Kind.SAME_WRITE, Kind.TOGETHER, Kind.KILLED_AFTER, Kind.TOGETHER, Kind.SAME_WRITE),
    *(Kind.SAME_WRITE, Kind.TOGETHER, Kind.SLOW_HOLDER, Kind.SAME_WRITE, Kind.KILLED_BEFORE),
    *(Kind.SAME_WRITE, Kind.TOGETHER, Kind.KILLED_AFTER, Kind.OVERTAKEN, Kind.SAME_WRITE),
)
STARTS: Final = (
    None,
    State(fence=41),
    State(fence=41, lease=Lease(owner="of-a-dead-function", expires_at_s=int(START_S) - 1)),
)
"""The first look ever, a usual one, and one that meets a lease that nobody let go: each has its own condition."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: everybody sees the same need at the same virtual time."""

    number: int
    kind: Kind
    need: Need
    start: State | None = None
    """What is stored before it; None: nothing."""
    listed: bool = False
    """Whether DescribeInstances shows at once what was launched, or lags behind for the whole round."""


def schedule(need: Need, rounds: int, kinds: Iterable[Kind] = CYCLE) -> tuple[Round, ...]:
    """The kinds in turn, over each start, with EC2 slow and quick to list."""
    return tuple(
        Round(
            number=number,
            kind=kind,
            need=need,
            start=STARTS[number % len(STARTS)],
            listed=number // len(CYCLE) % 2 == 1,
        )
        for number, kind in zip(range(rounds), itertools.cycle(kinds), strict=False)
    )

"""What becomes of each call: dice that depend on the seed, the invocation and the call's number, and on nothing else.

So one fault can be taken out of a history without changing the dice of any other: that is how histories are shortened.
"""

import hashlib
from collections.abc import Container
from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.simulator.soak.assumptions import FROZEN_S, LANDS_LATE_S
from autoscaler.simulator.wires import DYNAMODB, EC2, PROMETHEUS, SSM


class FateKind(StrEnum):
    """Everything that can become of a call."""

    NORMAL = "normal"
    SLOW = "slow call"
    FAILS = "call refused"
    LOST = "response lost"
    LATE = "response lost, effect late"
    FROZEN = "frozen in a call"
    KILL_BEFORE = "killed before a call"
    KILL_AFTER = "killed after a call"
    KILL_IN_FLIGHT = "killed, effect late"


_AFTER_THE_CALLER: Final = frozenset({FateKind.LATE, FateKind.KILL_IN_FLIGHT, FateKind.SLOW})
KILLS: Final = frozenset({FateKind.KILL_BEFORE, FateKind.KILL_AFTER, FateKind.KILL_IN_FLIGHT})
CODES: Final = {
    EC2: (
        "RequestLimitExceeded",
        "InsufficientInstanceCapacity",
        "UnauthorizedOperation",
        "InternalError",
        "",
    ),
    DYNAMODB: ("ProvisionedThroughputExceededException", "InternalServerError"),
    SSM: ("ThrottlingException", "InternalServerError"),
    PROMETHEUS: ("",),
}


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one call. Times in seconds."""

    kind: FateKind
    before_s: float
    """From the call to its effect."""
    after_s: float
    """From the effect to its answer."""
    late_s: float = 0.0
    """From the caller's end to an effect that comes late."""
    code: str = ""


class FateRates(msgspec.Struct, frozen=True, kw_only=True):
    """How often, per call, from 0 to 1."""

    slow: float = 0.0
    fails: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    frozen: float = 0.0
    kill_before: float = 0.0
    kill_after: float = 0.0
    kill_in_flight: float = 0.0

    def pick(self, dice: float) -> FateKind:
        """Which of them, by a number from 0 to 1."""
        for rate, kind in (
            (self.slow, FateKind.SLOW),
            (self.fails, FateKind.FAILS),
            (self.lost, FateKind.LOST),
            (self.late, FateKind.LATE),
            (self.frozen, FateKind.FROZEN),
            (self.kill_before, FateKind.KILL_BEFORE),
            (self.kill_after, FateKind.KILL_AFTER),
            (self.kill_in_flight, FateKind.KILL_IN_FLIGHT),
        ):
            if dice < rate:
                return kind
            dice -= rate
        return FateKind.NORMAL


class Fates:
    """The fates of one run."""

    def __init__(self, seed: int, rates: FateRates, left_out: Container[str] = ()) -> None:
        self._seed = seed
        self._left_out = left_out
        self.rates = rates
        self.outages: dict[str, FateKind] = {}
        """Services that are in trouble now, and what becomes of three calls in four."""
        self.prompt_launches = False
        """Whether every launch takes effect before its caller ends (assumptions.py, REPLAYS_TOKENS)."""

    def draw(self, invocation: str, number: int, service: str, name: str) -> Fate:
        """The fate of an invocation's call."""
        key = f"{invocation}/{number}"
        kind_dice, before, after, late = dice(f"{self._seed}/{key}")
        kind = self.rates.pick(kind_dice)
        if service in self.outages and late < 0.75:
            kind = self.outages[service]
        if self.prompt_launches and (kind is FateKind.FROZEN or (name == "launch" and kind in _AFTER_THE_CALLER)):
            kind = FateKind.LOST
        if kind is not FateKind.NORMAL and key in self._left_out:
            kind = FateKind.NORMAL
        # Mostly milliseconds, sometimes long enough for a whole other invocation.
        before_s = 0.004 + 0.4 * before**4
        after_s = 0.002 + 0.2 * after**4
        if kind is FateKind.SLOW:
            before_s += 12.0 * late**2
        if kind is FateKind.FROZEN:
            before_s += FROZEN_S * late
        codes = CODES.get(service, ("",))
        return Fate(kind, before_s, after_s, LANDS_LATE_S * late, codes[int(late * len(codes))])


def dice(key: str) -> tuple[float, float, float, float]:
    """Four numbers in [0, 1) that follow from the key."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    first, second, third, fourth = (int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in range(0, 16, 4))
    return first, second, third, fourth

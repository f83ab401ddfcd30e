"""What is known of the policy's custom signals: as a look saw them, and as they are remembered."""

from enum import StrEnum

import msgspec


class SignalFailure(StrEnum):
    """Why the query of a custom signal gave no answer when it was asked alone."""

    REFUSED = "refused"
    """Prometheus calls it no query: it never had an answer, and has none until somebody mends it."""
    FAILED = "failed"
    """No answer in time, or an error while it was evaluated: it may do better later."""


class SeenSignal(msgspec.Struct, frozen=True, kw_only=True):
    """What a look saw of a custom signal of the policy. What is None is unknown, and `problem` says why."""

    name: str
    now: float | None = None
    least: float | None = None
    """The smallest value in the signal's window."""
    most: float | None = None
    """The largest value in the shrink window."""
    problem: str = ""
    failure: SignalFailure | None = None
    """Its query was set aside; None where it was answered, or could not be asked for another reason."""
    asked: bool = True
    """False: it was set aside before and was not asked in this look."""


class AsideSignal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom signal whose query failed when it was asked alone: people know of it, and it is tried again later."""

    name: str
    fingerprint: str
    """Of the query: another one is asked at once."""
    failure: SignalFailure
    problem: str
    until_s: int

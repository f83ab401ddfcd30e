"""What was asked for on earlier days, and what is kept of a forecast."""

import msgspec


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """What all workers together were asked for at most in five minutes. None is unknown; 0 where nothing ran."""

    cpu_requested_millicores: int | None = None
    memory_requested_mib: int | None = None
    cpu_used_millicores: int | None = None
    memory_used_mib: int | None = None


class PastSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Five minutes of an earlier day."""

    days_back: int
    at_s: int
    """When the same five minutes begin today."""
    demand: Demand


class DemandHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What a look saw of earlier days; `problem` says why where it is nothing."""

    now: Demand = Demand()
    before: tuple[tuple[int, Demand], ...] = ()
    """By days back: the five minutes that ended at this time."""
    slots: tuple[PastSlot, ...] = ()
    problem: str = ""


class KeptSlot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """What is expected of five minutes that begin at `at_s`."""

    at_s: int
    demand: Demand


class KeptForecast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The last forecast, until it is made anew: about 3 KB at most."""

    made_at_s: int
    """When the history was asked for, answered or not: not again before its time."""
    now: Demand = Demand()
    """What was measured at the last answer."""
    slots: tuple[KeptSlot, ...] = ()
    earlier_days: int = 0
    """How many of them had a value."""
    problem: str = ""
    """Why there is none, or none that is new."""
    compared: tuple[tuple[int, int], ...] = ()
    """Workers that were foreseen for a moment, and that it needed: the last day's, the newest last."""


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast as a decision tells it. What is None is not known."""

    mode: str
    wants: int | None = None
    """Workers altogether within the horizon, `max_extra` considered; with `shadow` nothing follows."""
    keeps: int | None = None
    """Workers altogether within half an hour: a shrink leaves as many."""
    uncapped: int | None = None
    """Workers altogether before `max_extra`."""
    needed_now: int | None = None
    """Workers that what ran when it was made needs."""
    at_s: int | None = None
    """When the most are wanted, epoch seconds."""
    made_at_s: int | None = None
    earlier_days: int = 0
    error_workers: float | None = None
    """Mean absolute error of what was foreseen for the last day's moments."""
    error_percent: float | None = None
    """The same as a share of what was needed."""
    compared: int = 0
    """How many moments that is over."""
    problem: str = ""

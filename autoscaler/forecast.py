"""The forecast's part of `policy.yml`: typed, and what is wrong with it in sentences.

How it is made is decide's question (decide/demand/forecast.py).
"""

from collections.abc import Iterator
from datetime import tzinfo
from typing import Annotated, Final, Literal

import msgspec

from autoscaler.time_zones import is_known, zone_of

SLOT_S: Final = 300
"""The history is looked at so many seconds at a time."""
REFRESH_S: Final = 600
"""A forecast is made so often at most."""
AHEAD_S: Final = 1_800
"""The farthest that one is looked at: `horizon_s` at its longest, and who stays for what comes soon."""
LEAST_DAYS: Final = 2
"""Of one earlier day nobody knows whether it was like others."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers for what the same time of earlier days asked for."""

    mode: Literal["off", "shadow", "on"] = "off"
    """`shadow`: computed and told, and nothing follows."""
    time_zone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "UTC"
    """Whose clock says what the same time is: a name of the IANA database."""
    days: Annotated[int, msgspec.Meta(ge=0, le=14)] = 7
    """So many days before today."""
    weeks: Annotated[int, msgspec.Meta(ge=0, le=8)] = 4
    """And the same day of so many weeks before."""
    trend: bool = True
    """Scale by how today compares with the same days until now."""
    horizon_s: Annotated[int, msgspec.Meta(ge=60, le=1_800)] | None = None
    """How far growth looks ahead. None: as long as a worker needs to join, as measured."""
    max_extra: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 5
    """At most so many workers more than what runs needs now."""

    @property
    def zone(self) -> tzinfo:
        """Its rules. Raises KeyError (ZoneInfoNotFoundError) where no such zone is known: such a policy is refused."""
        return zone_of(self.time_zone)

    @property
    def days_back(self) -> tuple[int, ...]:
        """How many days ago each of the days is that are looked at, the nearest first."""
        weekly = (7 * week for week in range(1, self.weeks + 1))
        return tuple(sorted({*range(1, self.days + 1), *weekly}))


def faults_of_forecast(forecast: Forecast) -> Iterator[str]:
    """What is wrong with it, a sentence each."""
    if not is_known(forecast.time_zone):
        yield (
            f"forecast.time_zone {forecast.time_zone} is unknown: give a name of the IANA database, such as "
            "Europe/Berlin"
        )
    if len(forecast.days_back) < LEAST_DAYS:
        yield (
            f"forecast.days is {forecast.days} and forecast.weeks is {forecast.weeks}: give at least {LEAST_DAYS} "
            "earlier days in all, as one alone may have been like no other"
        )

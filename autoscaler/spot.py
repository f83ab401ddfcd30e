"""Section `spot` of `policy.yml`: how pools that buy on the Spot market stay away from it, and come back."""

from typing import Annotated, Final

import msgspec

REMEMBERED_S: Final = 3600
"""So long an interruption is remembered (state/notices.py; a test compares): no storm is known for longer."""

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]
_Span = Annotated[int, msgspec.Meta(ge=60, le=REMEMBERED_S)]


class Spot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When growth stays on demand for a while, and when workers that were launched so are replaced by Spot."""

    storm_share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.30
    """EC2 took back this share of the Spot workers, two at least, within the window: a storm."""
    storm_window_s: _Span = 600
    """So far back interruptions count."""
    storm_pause_s: _Span = 1800
    """For so long after it growth is on demand."""
    return_after_s: _Seconds = 1800
    """On-demand workers beyond base and share are replaced by Spot one at a time, once they are this old and so long
    after the last interruption; 0: as soon as Spot may give any again."""
    return_min_types: Annotated[int, msgspec.Meta(ge=1, le=50)] = 3
    """Not while the pool names fewer types: one type is one shortage."""

    def __post_init__(self) -> None:
        if self.storm_window_s + self.storm_pause_s > REMEMBERED_S:
            raise ValueError(
                f"spot.storm_window_s is {self.storm_window_s} and spot.storm_pause_s is {self.storm_pause_s}: give "
                f"{REMEMBERED_S} at most together, because an interruption is remembered for so long"
            )

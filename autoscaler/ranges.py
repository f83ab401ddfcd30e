"""Numbers of a policy, each with its ends."""

from typing import Annotated

import msgspec

Seconds = Annotated[int, msgspec.Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]
Ratio = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
Step = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Usd = Annotated[float, msgspec.Meta(ge=0.0, le=100_000.0)]

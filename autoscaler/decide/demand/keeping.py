"""How many Ready workers stay although pods and use would let them go, and for whose sake."""

from typing import Final

import msgspec


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """A floor for a shrink; `by` says in words what it is for."""

    workers: int = 0
    by: str = ""


NOBODY_KEPT: Final = Keeping()


def most_kept(*keeping: Keeping) -> Keeping:
    """The highest floor; of equal ones the first."""
    return max(keeping, key=lambda one: one.workers, default=NOBODY_KEPT)

"""Seeded bugs: each is put in by replacing one attribute of a production module, from out here.

`python -m tests.soak.mutants` plays seeds against each until an invariant fails: a soak that lets one through is weak.
"""

from typing import Final

from tests.soak.mutants import (
    choices,
    endings,
    fleet,
    live,
    market,
    numbers,
    pools,
    protocol,
    removals,
    rules,
    sight,
)
from tests.soak.mutants.put import Mutant

BROUGHT_OUT_BY: Final = endings.BROUGHT_OUT_BY | market.BROUGHT_OUT_BY
MUTANTS: Final[tuple[Mutant, ...]] = (
    *protocol.MUTANTS,
    *sight.MUTANTS,
    *fleet.MUTANTS,
    *removals.MUTANTS,
    *endings.MUTANTS,
    *rules.MUTANTS,
    *numbers.MUTANTS,
    *market.MUTANTS,
    *choices.MUTANTS,
    *pools.MUTANTS,
    *live.MUTANTS,
)

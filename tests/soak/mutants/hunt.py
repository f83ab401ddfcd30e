"""Seeds against one bug, until an invariant fails."""

import multiprocessing

from autoscaler.simulator.soak.run import Run
from tests.soak.mutants import BROUGHT_OUT_BY, MUTANTS


def hunt(name: str, seeds: int) -> tuple[str, str, int]:
    """Put one bug in - for good, in this process - and play until it is caught: (mutant, invariant, seed)."""
    mutant = next(one for one in MUTANTS if one.__name__ == name)
    mutant()
    for seed in range(seeds):
        violation = Run(seed, only=BROUGHT_OUT_BY.get(name, ())).run().violation
        if violation is not None:
            return name, violation.invariant, seed
    return name, "", seeds


def fails_without(name: str, seed: int) -> bool:
    """Whether the seed that caught it fails without the bug, too. Call it in a process that no bug was put in."""
    return Run(seed, only=BROUGHT_OUT_BY.get(name, ())).run().violation is not None


def hunt_in_a_child(name: str, seeds: int) -> tuple[str, str, int]:
    """Hunt one in a process of its own, which takes the bug away with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(hunt, (name, seeds))

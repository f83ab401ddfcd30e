"""`make soak-mutants`: hunts every bug and says by which invariant it was caught."""

import argparse
import multiprocessing
import sys
import time
from typing import Final

from tests.soak.mutants import MUTANTS
from tests.soak.mutants.hunt import fails_without, hunt

SEEDS: Final = 200


def main() -> int:
    """Hunt every mutant, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants to hunt (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    names = options.names or [mutant.__name__ for mutant in MUTANTS]
    began_s = time.monotonic()
    caught = 0
    # One process a mutant: what was patched is never patched back.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        waiting = [(name, pool.apply_async(hunt, (name, options.seeds))) for name in names]
        for name, answer in waiting:
            _, invariant, seed = answer.get()
            verdict = f"caught by {invariant} (seed {seed})" if invariant else f"NOT CAUGHT by {seed} seeds"
            if invariant and pool.apply(fails_without, (name, seed)):
                invariant, verdict = "", f"NOT CAUGHT: seed {seed} fails without it, too"
            caught += bool(invariant)
            sys.stdout.write(f"  {name:32} {verdict}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{caught}/{len(names)} mutants caught in {time.monotonic() - began_s:.0f} s\n")
    return 0 if caught == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())

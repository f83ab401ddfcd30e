"""`make bench-check`: a fresh run of the benches whose results are committed, judged by those.

A ratio that is more than a quarter worse in each of three runs fails, and so does a count that differs. Ratios are CPU
time over a floor of the same run, and sizes, so that another machine, or a busy one, judges alike; seconds are compared
with nothing. One run of many figures has one that is worse by chance: what is as good in any run is as good.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.results import FOLDER, path_of

ALLOWED: Final = 1.25
ROOT: Final = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compare, tell; returns 1 where something is worse, 2 for a bench that has no baseline."""
    known = baselines()
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="bench", help=f"one of {', '.join(known)}; default: all of them")
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.names} - {*known}):
        parser.error(f"no results of {', '.join(unknown)} are committed: name some of {', '.join(known)}")
    worse = [f"{name}: {fault}" for name in options.names or known for fault in lasting(known[name], name, fresh)]
    print("\n".join(worse) if worse else f"No ratio is more than {ALLOWED - 1:.0%} worse, and no count differs.")
    return 1 if worse else 0


def baselines() -> dict[str, dict[str, Any]]:
    """Committed results that have ratios, by the bench's name."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    return {name: one for name, one in found.items() if isinstance(one, dict) and "ratios" in one}


def fresh(name: str) -> dict[str, Any]:
    """Run a bench, which writes its results in the place of the committed ones; those are put back."""
    path = path_of(name)
    committed = path.read_bytes()
    try:
        ran = subprocess.run([sys.executable, "-m", f"bench.{name}", "--json"], cwd=ROOT, check=False)
        if ran.returncode != 0:
            raise SystemExit(f"bench.{name} failed: nothing was compared.")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    finally:
        path.write_bytes(committed)
    return found


def lasting(
    committed: Mapping[str, Any], name: str, run: Callable[[str], Mapping[str, Any]], runs: int = 3
) -> list[str]:
    """What is worse in every run; a bench runs again only while something is."""
    found = run(name)
    for _ in range(runs - 1):
        if not list(faults(committed, found)):
            break
        found = best_of(found, run(name))
    return list(faults(committed, found))


def best_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The lower of each ratio; what is counted is the later run's."""
    both = {**one["ratios"], **other["ratios"]}
    lower = {name: min(run["ratios"].get(name, ratio) for run in (one, other)) for name, ratio in both.items()}
    return {"ratios": lower, "exact": other["exact"]}


def faults(committed: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """What is worse, a sentence each. What is new is nothing worse; what is gone is told."""
    for name, before in committed["ratios"].items():
        now = found["ratios"].get(name)
        if now is None:
            yield f"{name} is no longer measured: run the bench with --json, and commit the results"
        elif now > before * ALLOWED:
            yield f"{name} is {now:.2f} and was {before:.2f}: {now / before - 1:.0%} worse"
    for name, before in committed["exact"].items():
        now = found["exact"].get(name)
        if now != before:
            yield f"{name} is {now} and was {before}"


if __name__ == "__main__":
    sys.exit(main())

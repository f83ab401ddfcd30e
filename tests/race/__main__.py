"""`python -m tests.race`: the race's table; exit code 1 when anything was not as it must be."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from autoscaler.simulator.stack.processes import StackError
from tests.race.arena import Arena, Stuck
from tests.race.dynalite import clients_at, dynalite
from tests.race.play import Ground
from tests.race.ports import Need
from tests.race.schedule import schedule
from tests.race.table import Tally, lines, race

PROBLEMS_SHOWN = 20


def main() -> int:
    """Race, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("--rounds", type=_whole(1, 100_000), default=100, help="rounds of each race (default: 100)")
    parser.add_argument(
        "--processes", type=_whole(2, 64), nargs="+", default=[2, 10], metavar="N", help="processes (default: 2 10)"
    )
    options = parser.parse_args()
    try:
        tallies = _races(options.processes, options.rounds)
    except (StackError, Stuck) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    found = [problem for tally in tallies for problem in tally.problems]
    print(*lines(tallies), *found[:PROBLEMS_SHOWN], sep="\n")  # noqa: T201 - the table is what it is for
    return 1 if found else 0


def _races(processes: list[int], rounds: int) -> list[Tally]:
    tallies = []
    with tempfile.TemporaryDirectory(prefix="race-") as name, dynalite(Path(name)) as url:
        ground = Ground(url=url, clients=clients_at(url), folder=Path(name))
        for count in processes:
            with Arena(url, count) as arena:
                for need in Need:
                    tally = Tally(need=need, store="conditional", processes=count)
                    tallies.append(race(arena, ground, schedule(need, rounds), tally))
    return tallies


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


if __name__ == "__main__":
    sys.exit(main())

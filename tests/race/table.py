"""What the races came to: rows of a table."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.race.arena import Arena
from tests.race.judge import Ended, problems
from tests.race.play import Ground, Play
from tests.race.ports import Need
from tests.race.schedule import Kind, Round

TITLES: Final = (
    *("need", "store", "processes", "rounds", "once", "doubly", "nobody"),
    *("lost writes", "busy", "killed", "overtaken", "seconds"),
)


@dataclass(kw_only=True)
class Tally:
    """One row: a race and how it ended."""

    need: Need
    store: str
    processes: int
    rounds: int = 0
    once: int = 0
    doubly: int = 0
    nobody: int = 0
    lost_writes: int = 0
    busy: int = 0
    killed: int = 0
    overtaken: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, ended: Ended) -> None:
        """Count one round, and keep a sentence for each thing that was not as it must be."""
        self.rounds += 1
        self.once += len(ended.acts) == 1
        self.doubly += len(ended.acts) > 1
        self.nobody += not ended.acts
        self.lost_writes += ended.writes_lost
        self.busy += sum(looked.action == "busy" for looked in ended.looked)
        self.killed += ended.killed
        self.overtaken += ended.played.kind is Kind.OVERTAKEN
        where = f"{self.need} with {self.processes} processes, round {ended.played.number} ({ended.played.kind})"
        self.problems += [f"{where}: {problem}" for problem in problems(ended)]


def race(arena: Arena, ground: Ground, rounds: Iterable[Round], tally: Tally) -> Tally:
    """Play the rounds and count them. Raises Stuck."""
    began_s = time.monotonic()
    name = f"{tally.need}-{tally.processes}-{tally.store}"
    for played in rounds:
        tally.add(Play(arena, ground, name, played).run())
    tally.seconds += time.monotonic() - began_s
    return tally


def lines(tallies: Sequence[Tally]) -> list[str]:
    """The table. `once`: rounds in which one effect happened, however often its request was sent."""
    rows = [TITLES, *(_cells(tally) for tally in tallies)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(TITLES))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cells(tally: Tally) -> tuple[str, ...]:
    counts = (tally.processes, tally.rounds, tally.once, tally.doubly, tally.nobody, tally.lost_writes)
    rest = (tally.busy, tally.killed, tally.overtaken)
    return (str(tally.need), tally.store, *(str(count) for count in (*counts, *rest)), f"{tally.seconds:.1f}")

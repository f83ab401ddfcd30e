"""Every single thing that can go wrong in a story, one after the other: nothing is left to chance here.

`python -m autoscaler.simulator.soak.exhaustive` tries it all and prints how much that was; `--case NAME` plays one
thing again and prints its history.

1. Each call of a story goes wrong in each way: its caller is killed before it, after it, or with its effect still to
   come; it is refused; it is answered to nobody; it is carried out only after its caller gave it up; its caller stands
   still in it until the lease is over.
2. Each order of two invocations that look at once, with at most two preemptions, at every trigger that finds something
   to do and at one that does not; and each order in which a second one takes over from one that stands still.

After every step every invariant of `rules()` holds, and each play ends with the fleet of the undisturbed story.
"""

import argparse
import functools
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from autoscaler.simulator.soak.fates import KILLS, FateKind
from autoscaler.simulator.soak.play import LEASE_OVER_S, Ending, Overlap, Play, Trouble
from autoscaler.simulator.soak.story import STORIES, Story

KILLED: Final = tuple(sorted(KILLS))
FAILED: Final = (FateKind.FAILS, FateKind.LOST, FateKind.LATE, FateKind.FROZEN)
"""With those, all that can become of a call; a slow one is an order of two, or late."""
AT_ONCE: Final = "two at once"
TAKEN_OVER: Final = "one takes over"
TWO_CALLS: Final = "two calls"
WAYS: Final = (*KILLED, *FAILED, AT_ONCE, TAKEN_OVER)
_COMES_LATE: Final = frozenset({FateKind.KILL_IN_FLIGHT, FateKind.LATE})
_LOOKED_AT: Final = "looked at before it lands"
_SWAPPED: Final = "swapped"
_THEN: Final = ", then "
_FOR_EVER: Final = 1_000
"""More moments than any invocation has."""
HISTORY_LINES: Final = 60


class UnknownCase(ValueError):
    """There is no such case; the message says what a name looks like."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is tried."""

    story: Story
    way: str
    troubles: tuple[Trouble, ...] = ()
    overlap: Overlap | None = None

    @property
    def name(self) -> str:
        """`story/way/number of the call`, or `story/way/trigger/moments of the first/moments of the second`."""
        if self.overlap is None:
            return f"{self.story.name}/{_THEN.join(map(_words, self.troubles))}"
        numbers = (self.overlap.trigger, self.overlap.first, self.overlap.second)
        return "/".join((self.story.name, self.way, *map(str, numbers), *([_SWAPPED] if self.overlap.swapped else [])))

    def play(self) -> Play:
        """What plays it."""
        return Play(self.story, troubles=self.troubles, overlap=self.overlap)


def _words(trouble: Trouble) -> str:
    return "/".join((trouble.kind, str(trouble.call), *([_LOOKED_AT] if trouble.looked_at else [])))


@dataclass(frozen=True, slots=True)
class Tried:
    """One play: what was tried in it, and what came of it. Small enough to be handed from process to process."""

    story: str
    way: str
    case: str
    wrong: str | None
    checks: int
    """Invariants checked."""
    lines: tuple[str, ...]
    """Its history, if anything was wrong."""


@functools.cache
def undisturbed(story: Story) -> Ending:
    """The story as it goes when nothing goes wrong. Raises ValueError if that alone breaks an invariant."""
    ending = Play(story).run()
    if ending.violation is not None or ending.missing:
        raise ValueError(f"{story.name} goes wrong by itself: {ending.violation or ending.missing}")
    return ending


def judge(case: Case, ending: Ending) -> Tried:
    """Hold a play's ending against the undisturbed story."""
    wrong = ending.wrong(undisturbed(case.story))
    return Tried(case.story.name, case.way, case.name, wrong, ending.checks, ending.lines if wrong else ())


def try_all(story: Story, way: str) -> Iterator[Tried]:
    """Everything of one way in one story."""
    if way not in (AT_ONCE, TAKEN_OVER):
        yield from _one_call(story, FateKind(way))
        return
    for trigger in something_to_do(story):
        yield from orders(story, way, trigger)


def _one_call(story: Story, kind: FateKind) -> Iterator[Tried]:
    """Each call of the story, gone wrong in this way."""
    for number in range(undisturbed(story).calls):
        for looked_at in (False, True) if kind in _COMES_LATE else (False,):
            case = Case(story, kind.value, (Trouble(number, kind, looked_at),))
            yield judge(case, case.play().run())


def two_calls(story: Story, first: FateKind) -> Iterator[Tried]:
    """Each call of the story, gone wrong in this way, and then each later one, gone wrong in every way."""
    for number in range(undisturbed(story).calls):
        for second in (*KILLED, *FAILED):
            for later in range(number + 1, _FOR_EVER):
                case = Case(story, TWO_CALLS, (Trouble(number, first), Trouble(later, second)))
                ending = case.play().run()
                if ending.calls <= later:
                    break  # the play was over before
                yield judge(case, ending)


def something_to_do(story: Story) -> tuple[int, ...]:
    """The triggers of the undisturbed story whose invocation writes, and the first that finds nothing to do."""
    ending = undisturbed(story)
    quiet = next(number for number in range(len(ending.kinds)) if number not in ending.writing)
    return tuple(sorted({*ending.writing, quiet}))


def orders(story: Story, way: str, trigger: int) -> Iterator[Tried]:
    """Each order of two invocations at one trigger: one runs for so long, then the other, the one again, the other.

    At once: with at most two preemptions, that is all there are. Whether the one stops before or after it reads an
    answer is the same order, for in between is nothing that the other could see; and two sweeps are alike, so it does
    not matter which of them is the first. Beside a notice the sweep is tried as the first and as the second.

    Taken over: the one stands still until its lease is over, and goes on while its successor works. Here it does matter
    whether it stops before or after it reads an answer, and the clock.
    """
    if way == TAKEN_OVER:
        yield from _orders(story, way, trigger, moments=range(_FOR_EVER), wait_s=LEASE_OVER_S, swapped=False)
        return
    for swapped in (False, True) if undisturbed(story).kinds[trigger] != "sweep" else (False,):
        yield from _orders(story, way, trigger, moments=range(2, _FOR_EVER, 2), wait_s=0.0, swapped=swapped)


def _orders(
    story: Story, way: str, trigger: int, *, moments: Iterable[int], wait_s: float, swapped: bool
) -> Iterator[Tried]:
    for first in moments:
        for second in range(2, _FOR_EVER, 2):
            case = Case(story, way, overlap=Overlap(trigger, first, second, wait_s, swapped))
            play = case.play()
            yield judge(case, play.run())
            if play.first_ended:
                return  # from here on it is one after the other, however long the second runs
            if play.second_ended:
                break


def case_named(name: str) -> Case:
    """The case of this name. Raises UnknownCase."""
    story_name, _, rest = name.partition("/")
    story = next((story for story in STORIES if story.name == story_name), None)
    if story is None:
        raise UnknownCase(f'"{name}" is no case: its story is none of {", ".join(story.name for story in STORIES)}')
    way, *parts = rest.split("/")
    if way in (AT_ONCE, TAKEN_OVER):
        numbers = [int(part) for part in parts[:3] if part.isdecimal()]
        if len(numbers) != 3 or parts[3:] not in ([], [_SWAPPED]):
            raise UnknownCase(f'"{name}" is no case: after "{way}" come trigger/first/second, as printed')
        wait_s = LEASE_OVER_S if way == TAKEN_OVER else 0.0
        return Case(story, way, overlap=Overlap(numbers[0], numbers[1], numbers[2], wait_s, bool(parts[3:])))
    troubles = tuple(_trouble_named(words, name) for words in rest.split(_THEN))
    return Case(story, way if len(troubles) == 1 else TWO_CALLS, troubles)


def _trouble_named(words: str, name: str) -> Trouble:
    way, *parts = words.split("/")
    if way not in WAYS or not parts or not parts[0].isdecimal() or parts[1:] not in ([], [_LOOKED_AT]):
        ways = ", ".join(f'"{way}"' for way in WAYS)
        raise UnknownCase(f'"{name}" is no case: "{words}" is not WAY/NUMBER as printed, with a way of {ways}')
    return Trouble(int(parts[0]), FateKind(way), bool(parts[1:]))


def table(tried: Sequence[Tried]) -> list[str]:
    """How many plays of each story and way, for people."""
    counts = Counter((one.story, one.way) for one in tried)
    stories = [story.name for story in STORIES if any(one.story == story.name for one in tried)]
    lines = [f"{'':30}" + "".join(f"{story:>13}" for story in stories)]
    ways = [way for way in (*WAYS, TWO_CALLS) if any(one.way == way for one in tried)]
    lines += (f"  {way:28}" + "".join(f"{counts[story, way] or '-':>13}" for story in stories) for way in ways)
    sums = (sum(count for (name, _), count in counts.items() if name == story) for story in stories)
    lines.append(f"  {'plays':28}" + "".join(f"{number:>13,}" for number in sums))
    failed = sum(1 for one in tried if one.wrong)
    lines.append(f"{len(tried):,} plays, {failed:,} of them wrong; {sum(t.checks for t in tried):,} invariants checked")
    return lines


def failure_lines(tried: Tried) -> list[str]:
    """Why a play is wrong: its history, and how to see it again."""
    left_out = len(tried.lines) - HISTORY_LINES
    return [
        f"{tried.case}: {tried.wrong}",
        *([f"  ({left_out} earlier lines left out)"] if left_out > 0 else []),
        *(f"  {line}" for line in tried.lines[-HISTORY_LINES:]),
        f'  again: python -m autoscaler.simulator.soak.exhaustive --case "{tried.case}"',
    ]


def _everything_of(story_and_way: tuple[int, str]) -> list[Tried]:
    index, way = story_and_way
    return list(try_all(STORIES[index], way))


def main() -> int:
    """Try everything in two processes; returns 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m autoscaler.simulator.soak.exhaustive", description=__doc__)
    parser.add_argument("--case", help="only this one, with its history; its name as printed")
    options = parser.parse_args()
    if options.case is not None:
        try:
            case = case_named(options.case)
        except UnknownCase as error:
            parser.error(str(error))
        ending = case.play().run()
        wrong = ending.wrong(undisturbed(case.story))
        sys.stdout.write("\n".join([*ending.lines, f"{case.name}: {wrong or 'as it should be'}"]) + "\n")
        return 1 if wrong else 0
    began_s = time.monotonic()
    tried: list[Tried] = []
    work = [(index, way) for way in reversed(WAYS) for index in range(len(STORIES))]
    # One process a piece of work: killed invocations are kept for as long as their process lives.
    with multiprocessing.Pool(2, maxtasksperchild=1) as pool:
        for piece in pool.imap_unordered(_everything_of, work):
            tried += piece
            for one in piece:
                if one.wrong:
                    sys.stdout.write("\n".join(failure_lines(one)) + "\n")
    sys.stdout.write("\n".join([*table(tried), f"seconds {time.monotonic() - began_s:.0f}"]) + "\n")
    return 1 if any(one.wrong for one in tried) else 0


if __name__ == "__main__":
    sys.exit(main())

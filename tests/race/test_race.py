"""Processes of their own see the same need at the same moment, on a store whose conditional writes are atomic.

Who wins is left to chance; that exactly one effect follows is not. `python -m tests.race` prints the table alone.
"""

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from autoscaler.model import Lease
from tests.race.__main__ import main
from tests.race.arena import Arena
from tests.race.evidence import Launched, Saved
from tests.race.judge import Ended, problems
from tests.race.play import Ground, Play
from tests.race.ports import Need
from tests.race.schedule import KILLED, Kind, Round, schedule
from tests.race.table import Tally, race
from tests.race.worker import Looked, Unconditional

pytestmark = pytest.mark.real_programs
replace = msgspec.structs.replace


@pytest.mark.parametrize(("need", "count"), [(Need.GROW, 100), (Need.SHRINK, 20)])
def test_one_of_many_processes_acts(arena: Arena, ground: Ground, tallies: list[Tally], need: Need, count: int) -> None:
    rounds = schedule(need, count)
    tally = Tally(need=need, store="conditional", processes=arena.processes)
    tallies.append(tally)
    race(arena, ground, rounds, tally)
    assert tally.problems == []
    assert (tally.once, tally.doubly, tally.nobody) == (count, 0, 0)
    kinds = Counter(played.kind for played in rounds)
    assert tally.killed == sum(kinds[kind] for kind in KILLED) > 0
    contests = count - kinds[Kind.TOGETHER]
    assert tally.lost_writes >= contests * (arena.processes - 1), "all but one lose each write that all want"


def test_without_the_condition_of_the_write_everybody_acts(ground: Ground, tallies: list[Tally]) -> None:
    """The race can be lost: what keeps it is the store's condition, and the judge sees when it is gone."""
    tally = Tally(need=Need.GROW, store="unconditional", processes=2)
    tallies.append(tally)
    with Arena(ground.url, 2, Unconditional) as arena:
        race(arena, ground, schedule(Need.GROW, 10, [Kind.SAME_WRITE]), tally)
    assert (tally.once, tally.doubly) == (0, 10)
    assert sum("2 effects instead of one" in problem for problem in tally.problems) == 10
    assert sum("one overwrote another" in problem for problem in tally.problems) == 10


@pytest.fixture(scope="module")
def ended(ground: Ground) -> Ended:
    """A round as it must be."""
    with Arena(ground.url, 2) as arena:
        played = Round(number=0, kind=Kind.SLOW_HOLDER, need=Need.GROW)
        ended = Play(arena, ground, "judged", played).run()
    assert problems(ended) == []
    return ended


def without_launch(ended: Ended) -> Ended:
    return replace(ended, entries=tuple(entry for entry in ended.entries if not isinstance(entry, Launched)))


def sent_twice(ended: Ended) -> Ended:
    return replace(ended, entries=(*ended.entries, *(e for e in ended.entries if isinstance(e, Launched))))


def operation_lost(ended: Ended) -> Ended:
    return replace(ended, state=replace(ended.state, launches=()))


def instance_forgotten(ended: Ended) -> Ended:
    return replace(ended, state=replace(ended.state, launches=(replace(ended.state.launches[0], instance_ids=()),)))


def lease_kept(ended: Ended) -> Ended:
    return replace(ended, state=replace(ended.state, lease=Lease(owner="me", expires_at_s=1)))


def fence_not_raised(ended: Ended) -> Ended:
    return replace(ended, state=replace(ended.state, fence=0))


def write_overwritten(ended: Ended) -> Ended:
    return replace(ended, entries=(*ended.entries, next(e for e in ended.entries if isinstance(e, Saved))))


def nobody_busy(ended: Ended) -> Ended:
    return replace(ended, while_leased=(Looked(action="none", message="calm"),))


def one_failed(ended: Ended) -> Ended:
    return replace(ended, looked=(*ended.looked, Looked(action="failed", message="no store")))


def two_say_so(ended: Ended) -> Ended:
    return replace(ended, looked=(*ended.looked, Looked(action="scale_up", message="me too")))


def nothing_recorded(ended: Ended) -> Ended:
    return replace(ended, recorded=())


def no_contest(ended: Ended) -> Ended:
    return replace(ended, contenders=1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_launch, "0 effects instead of one"),
        (sent_twice, "was sent 2 times instead of 1"),
        (operation_lost, "0 launches and 0 removals are open"),
        (instance_forgotten, "the launch knows ()"),
        (lease_kept, "the lease was not let go"),
        (fence_not_raised, "the fence rose from 0 to 0"),
        (write_overwritten, "one overwrote another"),
        (nobody_busy, "did not stop at another one's lease"),
        (one_failed, "a look failed: no store"),
        (two_say_so, "2 looks say that they acted"),
        (nothing_recorded, "0 decisions are recorded"),
        (no_contest, "that was no race"),
    ],
)
def test_the_judge_sees(ended: Ended, spoil: Callable[[Ended], Ended], says: str) -> None:
    assert any(says in problem for problem in problems(spoil(ended)))


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--rounds", "ten"], ["--processes", "1"]])
def test_a_wrong_argument_is_refused_in_a_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["race", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "is not a whole number from" in capsys.readouterr().err

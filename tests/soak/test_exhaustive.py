"""Every call of the stories gone wrong, and the orders of two invocations: part of it here, all of it by the command.

The part is chosen by time: every kill in every story, every failure of a call and every order of two looks in the
scale-up and the scale-down story, and the take-overs and the notice where they are most dangerous.
"""

import multiprocessing
import re
from collections.abc import Iterator

import pytest

from autoscaler.simulator.soak.exhaustive import (
    AT_ONCE,
    FAILED,
    KILLED,
    TAKEN_OVER,
    WAYS,
    Case,
    Tried,
    UnknownCase,
    case_named,
    failure_lines,
    main,
    orders,
    something_to_do,
    table,
    try_all,
    undisturbed,
)
from autoscaler.simulator.soak.fates import FateKind
from autoscaler.simulator.soak.play import Ending, Trouble
from autoscaler.simulator.soak.story import INTERRUPTED, SCALE_DOWN, SCALE_UP, SEEN_LATE, STORIES, Story
from tests.soak import mutants

TWO_STORIES = (SCALE_UP, SCALE_DOWN)


def all_right(plays: Iterator[Tried], tried: list[Tried]) -> int:
    """Play on until one is wrong; returns how many were played."""
    count = 0
    for one in plays:
        tried.append(one)
        count += 1
        assert one.wrong is None, "\n".join(failure_lines(one))
    return count


@pytest.mark.parametrize("way", KILLED)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_killed_at_any_call_a_story_ends_the_same(story: Story, way: str, tried: list[Tried]) -> None:
    assert all_right(try_all(story, way), tried) >= undisturbed(story).calls > 20


@pytest.mark.parametrize("way", FAILED)
@pytest.mark.parametrize("story", TWO_STORIES, ids=lambda story: story.name)
def test_whatever_becomes_of_a_call_a_story_ends_the_same(story: Story, way: str, tried: list[Tried]) -> None:
    assert all_right(try_all(story, way), tried) >= undisturbed(story).calls


@pytest.mark.parametrize(
    ("story", "trigger"),
    [pytest.param(s, trigger, id=f"{s.name}-{trigger}") for s in TWO_STORIES for trigger in something_to_do(s)],
)
def test_in_whatever_order_two_look_at_once_a_story_ends_the_same(
    story: Story, trigger: int, tried: list[Tried]
) -> None:
    quiet = trigger not in undisturbed(story).writing
    assert all_right(orders(story, AT_ONCE, trigger), tried) >= (4 if quiet else 20)


def test_a_notice_and_a_sweep_at_once_end_the_same_in_whatever_order(tried: list[Tried]) -> None:
    [notice] = [number for number, kind in enumerate(undisturbed(INTERRUPTED).kinds) if kind == "lifecycle"]
    assert all_right(orders(INTERRUPTED, AT_ONCE, notice), tried) > 60


@pytest.mark.parametrize(
    ("story", "trigger"),
    [
        pytest.param(SEEN_LATE, 0, id="a launch that is not listed yet"),
        pytest.param(SCALE_DOWN, 1, id="a terminate"),
    ],
)
def test_a_successor_and_whoever_wakes_up_beside_it_end_the_same(
    story: Story, trigger: int, tried: list[Tried]
) -> None:
    assert all_right(orders(story, TAKEN_OVER, trigger), tried) > 100


def test_a_launch_whose_answer_is_lost_and_whose_copy_is_refused_is_still_one_launch() -> None:
    """Found by trying two calls that go wrong: the refused copy closed the launch, its worker was not yet listed."""
    calls = range(undisturbed(SEEN_LATE).calls + 20)

    def play(*troubles: Trouble) -> Ending:
        return Case(SEEN_LATE, "two calls", troubles).play().run()

    def number(line: str, kind: FateKind, *before: Trouble) -> int:
        """Of the call that leaves such a line when it goes wrong."""
        later = calls[before[0].call + 1 :] if before else calls
        return next(call for call in later if any(line in told for told in play(*before, Trouble(call, kind)).lines))

    lost = Trouble(number("ec2 launch: response lost", FateKind.LOST), FateKind.LOST)
    ending = play(lost, Trouble(number("ec2 launch: call refused", FateKind.FAILS, lost), FateKind.FAILS))
    assert any("ec2 launch: response lost" in line for line in ending.lines)
    assert any("ec2 launch: call refused" in line for line in ending.lines)
    assert ending.wrong(undisturbed(SEEN_LATE)) is None


# ---------------------------------------------------------------------------------------------------------------- teeth


def first_wrong(mutant: str, story: Story, way: str) -> str:
    """Put one bug in - for good, in this process - and try until something is wrong: what that is."""
    undisturbed(story)  # what is right is known from before
    next(one for one in mutants.MUTANTS if one.__name__ == mutant)()
    return next((f"{one.case}: {one.wrong}" for one in try_all(story, way) if one.wrong), "")


@pytest.mark.parametrize(
    ("mutant", "story", "way", "found"),
    [
        ("lost_write_taken_for_granted", SCALE_UP, FateKind.FAILS, "intent_comes_first"),
        ("lost_launch_counts_as_refused", SEEN_LATE, FateKind.LOST, "launch_ends_only_when_it_is_done"),
        ("no_expiry", SCALE_DOWN, FateKind.KILL_BEFORE, "busy_only_while_somebody_acts"),
        ("resume_forgotten", SCALE_DOWN, FateKind.KILL_BEFORE, "it ended with"),
        ("lease_ignored", SCALE_UP, AT_ONCE, "lease_is_respected"),
        ("conflict_overwritten", SCALE_UP, AT_ONCE, "fence_only_rises"),
        ("no_owner_check", SCALE_DOWN, TAKEN_OVER, "lease_is_respected"),
    ],
)
def test_a_bug_that_only_faults_or_races_show_is_found(mutant: str, story: Story, way: str, found: str) -> None:
    # A fresh process for each: what a mutant patches is never patched back.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert found in pool.apply(first_wrong, (mutant, story, str(way)))


# -------------------------------------------------------------------------------------------------------------- command


def test_a_case_is_played_again_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["exhaustive", "--case", "scale-up/killed after a call/5"])
    assert main() == 0
    told = capsys.readouterr().out
    assert "dynamodb save: killed after a call" in told
    assert told.endswith("scale-up/killed after a call/5: as it should be\n")


@pytest.mark.parametrize(
    "name",
    [
        "scale-down/frozen in a call/7",
        "scale-up/killed, effect late/0/looked at before it lands",
        "interrupted/two at once/1/2/4/swapped",
        "seen late/one takes over/0/3/2",
        "seen late/response lost/5, then call refused/16",
    ],
)
def test_names_of_cases_mean_what_they_say(name: str) -> None:
    assert case_named(name).name == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "its story is none of scale-up, seen late"),
        ("scale-up", "is not WAY/NUMBER"),
        ("scale-up/killed before a call/x", "is not WAY/NUMBER"),
        ("scale-up/struck by lightning/3", "is not WAY/NUMBER"),
        ("scale-up/killed before a call/3/often", "is not WAY/NUMBER"),
        ("scale-up/two at once/3", "come trigger/first/second"),
        ("scale-up/two at once/3/2/2/again", "come trigger/first/second"),
    ],
)
def test_a_name_that_is_no_case_is_refused(
    name: str, complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownCase, match=re.escape(complaint)):
        case_named(name)
    monkeypatch.setattr("sys.argv", ["exhaustive", "--case", name])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_table_counts_what_was_tried() -> None:
    tried = [
        Tried("scale-up", AT_ONCE, "a", None, 7, ()),
        Tried("scale-down", AT_ONCE, "b", None, 7, ()),
        Tried("scale-up", WAYS[0], "c", "the fleet is gone", 7, ("0.000 begins",)),
    ]
    lines = table(tried)
    assert lines[0].split() == ["scale-up", "scale-down"]
    assert [line.split()[-2:] for line in lines[1:4]] == [["1", "-"], ["1", "1"], ["2", "1"]]
    assert lines[-1] == "3 plays, 1 of them wrong; 21 invariants checked"
    assert failure_lines(tried[2])[:2] == ["c: the fleet is gone", "  0.000 begins"]

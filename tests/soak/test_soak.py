"""Seeds of the fault simulator: every invariant after every step, and the demand reached once the faults stop."""

import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from autoscaler.simulator.soak.live import MOST_OFFERS
from autoscaler.simulator.soak.report import Totals, failure_lines
from autoscaler.simulator.soak.run import Run, SeedResult
from autoscaler.simulator.soak.shorten import shorten
from tests.soak.mutants import hunt, removals

FOUND = {
    "pods of another cluster's metrics were served while no worker of ours had settled": 275,
    "our new workers were given up for want of a Node in another cluster's metrics": 373,
}
"""Seeds that once failed, by what was wrong. What they found in the core has tests of its own beside the room's."""


def failure(result: SeedResult) -> str:
    return "\n".join(failure_lines(shorten(result), faults_before=len(result.faults)))


@pytest.mark.parametrize("seed", range(1, 31))
def test_no_fault_breaks_an_invariant(seed: int) -> None:
    result = Run(seed).run()
    assert result.violation is None, failure(result)
    assert result.injected.total() > 0
    assert result.checks.total() > 0


@pytest.mark.parametrize("seed", FOUND.values(), ids=FOUND)
def test_what_a_seed_once_found_stays_mended(seed: int) -> None:
    """As it was played then: nobody changed the policy live."""
    result = Run(seed, left_out=[f"policy {number}" for number in range(MOST_OFFERS)]).run()
    assert result.violation is None, failure(result)


def test_the_clock_changes_the_limits_of_some_of_them() -> None:
    lines = Run(7).run().lines
    for words in ("max of the schedule w", "as headroom asks", "above_max"):
        assert any(words in line for line in lines), words


def test_a_seed_is_the_same_every_time() -> None:
    first, second = Run(2).run(), Run(2).run()
    assert first == second
    assert len(first.lines) > 100


# ------------------------------------------------------------------------------------------------------ failing seeds


def in_a_child(mutant: Callable[[], None], seed: int) -> tuple[SeedResult, SeedResult, list[str]]:
    """Play a seed against a seeded bug, in a process of its own: what was patched is never patched back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_failing, (mutant, seed))


def _failing(mutant: Callable[[], None], seed: int) -> tuple[SeedResult, SeedResult, list[str]]:
    mutant()
    failed = Run(seed).run()
    shorter = shorten(failed, attempts=40)
    return failed, shorter, failure_lines(shorter, faults_before=len(failed.faults))


def test_a_failing_seed_is_shortened_and_says_how_to_see_it_again() -> None:
    name, invariant, seed = hunt.hunt_in_a_child("terminate_without_drain", 40)
    assert invariant
    failed, shorter, lines = in_a_child(removals.terminate_without_drain, seed)
    assert failed.violation is not None
    assert shorter.violation is not None
    assert failed.violation.invariant == shorter.violation.invariant == invariant, name
    assert len(shorter.faults) < len(failed.faults) / 2
    text = "\n".join(lines)
    assert lines[0].startswith(f"seed {seed}: {invariant}: ")
    assert f"shortened from {len(failed.faults)} faults to {len(shorter.faults)}" in text
    assert "VIOLATION" in text
    assert f"make soak SEED={seed}" in lines[-1]


def test_a_seed_that_held_has_nothing_to_shorten() -> None:
    with pytest.raises(ValueError, match="did not fail"):
        shorten(Run(1, hours=0.1).run())


# ----------------------------------------------------------------------------------------------------- the command


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoscaler.simulator.soak", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_tells_what_was_tried() -> None:
    ended = soak("--seeds", "4", "--first", "31")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"^(\S[a-z ]*?)  +([\d,]+)", ended.stdout, re.MULTILINE)
    }
    totals = Totals()
    for seed in range(31, 35):
        totals.add(Run(seed).run())
    assert told["seeds"] == 4
    assert told["steps"] == totals.steps
    assert told["invocations"] == totals.invocations
    assert told["faults injected"] == totals.injected.total() > 0
    assert told["crash points"] == len(totals.crash_points) > 0
    assert told["invariants checked"] == len(totals.checks) > 30
    assert {"simulated hours", "seconds"} <= told.keys()


def test_one_seed_is_told_whole() -> None:
    ended = soak("--seed", "3")
    assert ended.returncode == 0
    assert "sweep 1 begins" in ended.stdout
    assert "seed 3: every invariant held" in ended.stdout


def test_a_count_that_is_none_is_refused() -> None:
    ended = soak("--seeds", "0")
    assert ended.returncode == 2
    assert "--seeds is 0; it is a number from 1 on" in ended.stderr

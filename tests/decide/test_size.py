"""What a decision does grows as the cluster does, and no faster: counted, not timed (`python -m bench decide_size`)."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

import autoscaler.decide
from autoscaler.decide.scheduling import sizing
from bench.crowds import MIXES, Crowd
from bench.decide_size import Look

DECIDING = str(Path(autoscaler.decide.__file__).parent)
SIZES = (200, 300, 400)
STEEPER = 1.15
"""How much more a worker may cost between the larger two than between the smaller: a square would make it 1.4."""


def calls(mix: str, nodes: int, folder: Path) -> Counter[str]:
    """How often each function of decide/ ran, or went on, in one look with all that it asks."""
    answers = folder / str(nodes)
    answers.mkdir()
    look = Look(Crowd(MIXES[mix], nodes), answers)
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(DECIDING):
            counted[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        look.whole()
    finally:
        sys.setprofile(before)
    return counted


@pytest.mark.parametrize("mix", MIXES)
def test_each_further_worker_costs_as_much_as_the_one_before(
    mix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "TRIED_PODS", 1)  # one order of the classes: of few pods more of them are tried
    counts = [calls(mix, nodes, tmp_path) for nodes in SIZES]
    few, some, many = (count.total() for count in counts)
    assert some - few > SIZES[1] - SIZES[0], "each worker is looked at"
    first, then = (some - few) / (SIZES[1] - SIZES[0]), (many - some) / (SIZES[2] - SIZES[1])
    grew = (counts[2] - counts[1]).most_common(3)
    assert then <= STEEPER * first, f"{first:.0f} calls a worker became {then:.0f}; the most are {grew}"

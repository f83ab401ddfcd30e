"""The garbage collector rests during a look, and a look leaves it nothing to find."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from autoscaler.collector import collector_at_rest
from bench import decide_size
from bench.crowds import MIXES, Crowd
from handlers import sweep
from tests.handlers.support import DOCUMENT, FakeContext, desk


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("was_on", [True, False])
def test_it_rests_and_is_then_as_it_was(*, was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_it_works_on_after_a_look_that_failed() -> None:
    gc.enable()
    with pytest.raises(RuntimeError), collector_at_rest():
        raise RuntimeError("the look failed")
    assert gc.isenabled()


def test_a_handlers_look_is_one() -> None:
    gc.enable()
    seen: list[bool] = []

    def look(*_: Any, **_more: Any) -> dict[str, Any]:
        seen.append(gc.isenabled())
        return DOCUMENT

    sweep.handle(replace(desk().app, reconcile=look), {}, FakeContext())
    assert seen == [False]
    assert gc.isenabled()


@pytest.mark.parametrize("mix", MIXES)
def test_a_look_leaves_no_circle(mix: str, tmp_path: Path) -> None:
    """Else what it leaves would stay, look after look, until the collector comes by."""
    look = decide_size.Look(Crowd(MIXES[mix], 20), tmp_path)
    look.whole()
    gc.collect()
    with collector_at_rest():
        look.whole()
        assert gc.collect() == 0

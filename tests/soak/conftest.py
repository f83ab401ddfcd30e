"""How much the exhaustive tests tried is told at the end of the run: a green dot does not say it."""

from collections.abc import Iterator

import pytest

from autoscaler.simulator.soak.exhaustive import Tried
from tests.summary import STORIES, send_home


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[list[Tried]]:
    """What was tried in this test, which adds to it."""
    kept: list[Tried] = []
    yield kept
    send_home(request, STORIES, kept)

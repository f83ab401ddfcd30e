"""One dynalite for all races, stopped after the last of them."""

from collections.abc import Iterator

import pytest

from tests.race.arena import Arena
from tests.race.dynalite import clients_at, dynalite
from tests.race.play import Ground
from tests.race.table import Tally
from tests.summary import RACES, send_home


@pytest.fixture(scope="package")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("race")
    with dynalite(folder) as url:
        yield Ground(url=url, clients=clients_at(url), folder=folder)


@pytest.fixture(scope="module", params=[2, 10], ids=lambda count: f"{count} processes")
def arena(ground: Ground, request: pytest.FixtureRequest) -> Iterator[Arena]:
    with Arena(ground.url, request.param) as processes:
        yield processes


@pytest.fixture
def tallies(request: pytest.FixtureRequest) -> Iterator[list[Tally]]:
    """What is put in here is shown when everything has run."""
    kept: list[Tally] = []
    yield kept
    send_home(request, RACES, kept)

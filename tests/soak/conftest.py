"""How much the exhaustive tests tried is told at the end of the run: a green dot does not say it."""

import pytest

from autoscaler.simulator.soak.exhaustive import Tried, table

_TRIED = pytest.StashKey[list[Tried]]()


@pytest.fixture
def tried(pytestconfig: pytest.Config) -> list[Tried]:
    """What was tried in this session; tests add to it."""
    return pytestconfig.stash.setdefault(_TRIED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tried = config.stash.get(_TRIED, [])
    if tried:
        terminalreporter.section("exhaustive stories (the rest: python -m autoscaler.simulator.soak.exhaustive)")
        terminalreporter.write_line("\n".join(table(tried)))

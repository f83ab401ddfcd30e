"""Tables at the end of the run: how much was tried, which a green dot does not say.

Tests run in several processes: what they counted comes home with their reports, and is told by the process that
started the others. It reads no other conftest than the root's, so all tables are told here.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from autoscaler.simulator.soak import exhaustive
from bench import verdict_cases
from tests.race.table import Tally, lines

RACES = "races"
STORIES = "exhaustive stories"
VERDICTS = "verdicts"


def send_home(request: pytest.FixtureRequest, table: str, rows: Iterable[object]) -> None:
    """Let these rows stand in the table; call it when the test has ended, as a copy is sent."""
    request.node.user_properties.append((table, msgspec.to_builtins(list(rows))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the tables of the tests that ran."""
    if tallies := msgspec.convert(_rows(terminalreporter, RACES), list[Tally]):
        terminalreporter.section("races on a real conditional store")
        terminalreporter.write_line("\n".join(lines(tallies)))
    if tried := msgspec.convert(_rows(terminalreporter, STORIES), list[exhaustive.Tried]):
        terminalreporter.section("exhaustive stories (the rest: python -m autoscaler.simulator.soak.exhaustive)")
        terminalreporter.write_line("\n".join(exhaustive.table(tried)))
    if counts := msgspec.convert(_rows(terminalreporter, VERDICTS), list[verdict_cases.Tally]):
        terminalreporter.section("verdicts of the real scheduler and autoscaler (python -m bench.verdicts names each)")
        terminalreporter.write_line("\n".join(verdict_cases.table(counts)))


def _rows(terminalreporter: pytest.TerminalReporter, table: str) -> list[Any]:
    """What was sent home. It is sent when a test has ended, so it is in the report of its teardown and in no other."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    return [
        row
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, rows in report.user_properties
        if name == table and isinstance(rows, list)
        for row in rows
    ]

"""Which tests may run side by side: a worker of pytest-xdist takes one unit of these after the other.

A file is a unit, so that what its fixtures make is made once. What shares more than a file is one unit too, and tests
that share nothing are a unit each. Units begin in the order of the table: the longest first, small ones at the end,
when they fill what the others leave.
"""

from collections.abc import Iterable
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it says no types

TOGETHER: Final = {
    # The framework deploys from one folder of the project, .serverless; and the demo's story is played once, mostly by
    # waiting, which leaves the other worker a processor.
    "deployments": (
        "tests/e2e/test_ending.py",
        "tests/e2e/test_questions.py",
        "tests/e2e/test_recorded_parity.py",
        "tests/e2e/test_story.py",
        "tests/e2e/test_trying_it.py",
        "tests/service/test_deploy_both.py",
    ),
    # The artifact and the generated templates are made once.
    "templates": (
        "tests/service/iam/",
        "tests/service/test_alarms.py",
        "tests/service/test_calls_and_roles.py",
        "tests/service/test_cluster_settings.py",
        "tests/service/test_cluster_template.py",
        "tests/service/test_iam.py",
        "tests/service/test_news.py",
        "tests/service/test_node_document.py",
        "tests/service/test_observability.py",
        "tests/service/test_package.py",
        "tests/service/test_policy_checks.py",
        "tests/service/test_pool_templates.py",
        "tests/service/test_saved_queries.py",
        "tests/service/test_setting_extremes.py",
        "tests/service/test_settings.py",
        "tests/service/test_template.py",
        "tests/service/test_verify_template.py",
    ),
    # The stores are started once.
    "stores": ("tests/attach/",),
}
LATE: Final = {
    # One store, and up to ten processes that want a processor at the same moment.
    "races": ("tests/race/",),
}
APART: Final = ("tests/soak/", "tests/service/test_node_command")
"""Each test has all that it needs to itself, and a file would keep one worker busy alone."""

_UNITS: Final = {path: unit for units in (TOGETHER, LATE) for unit, paths in units.items() for path in paths}
_PATHS: Final = tuple(_UNITS)


def unit_of(nodeid: str) -> str:
    """What this test is in one unit with: a name of the table, its file, or nothing but itself."""
    file = nodeid.partition("::")[0]
    if file.startswith(APART):
        return nodeid
    return next((_UNITS[path] for path in _PATHS if file.startswith(path)), file)


def order_of(nodeid: str) -> int:
    """When its unit begins: those of TOGETHER, then files, then LATE, then single tests."""
    unit = unit_of(nodeid)
    if unit in TOGETHER:
        return list(TOGETHER).index(unit)
    return len(TOGETHER) + (unit in LATE) + 2 * (unit == nodeid)


def missing(files: Iterable[str]) -> list[str]:
    """Entries of the table for which there is no file."""
    found = list(files)
    return [path for path in (*_PATHS, *APART) if not any(file.startswith(path) for file in found)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Called where the workers are told what to do: units are handed out in the order in which they collected them."""
    config.option.loadscopereorder = False  # it would sort by the number of tests
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = unit_of
    return scheduler


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Called in each worker, and in a run without any."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: order_of(item.nodeid))

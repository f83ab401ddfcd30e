"""The table of what runs side by side means what it says."""

import re
from pathlib import Path

import pytest

from tests import side_by_side
from tests.side_by_side import order_of, unit_of

ROOT = Path(__file__).parent.parent


def test_every_entry_of_the_table_is_there() -> None:
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    assert side_by_side.missing(files) == []
    assert side_by_side.missing(files[:1]) != []


def test_the_artifact_and_the_templates_are_made_once() -> None:
    """In another unit they would be made again: 9 s of CPU, and 3 for each template."""
    asks = re.compile(r"\b(artifact: Path|\w+: (Template|Rendered))\b")
    units = {
        path.name: unit_of(str(path.relative_to(ROOT)))
        for path in (ROOT / "tests" / "service").rglob("test_*.py")
        if asks.search(path.read_text(encoding="utf-8"))
    }
    assert {name: unit for name, unit in units.items() if unit not in {"deployments", "templates"}} == {}
    assert len(units) > 10


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("tests/e2e/test_story.py::test_a", "deployments"),
        ("tests/service/test_deploy_both.py::test_a[x::y]", "deployments"),
        ("tests/race/test_lease.py::test_a", "races"),
        ("tests/test_docs.py::test_a[README.md]", "tests/test_docs.py"),
        ("tests/soak/test_soak.py::test_a[1]", "tests/soak/test_soak.py::test_a[1]"),
    ],
)
def test_what_a_test_is_in_one_unit_with(nodeid: str, unit: str) -> None:
    assert unit_of(nodeid) == unit


def test_the_longest_begin_and_single_tests_fill_the_end() -> None:
    files = (
        "tests/e2e/test_story.py",
        "tests/service/test_iam.py",
        "tests/attach/test_stores.py",
        "tests/test_docs.py",
        "tests/race/test_race.py",
    )
    assert [order_of(f"{file}::test_a") for file in (*files, "tests/soak/test_soak.py")] == [0, 1, 2, 3, 4, 5]

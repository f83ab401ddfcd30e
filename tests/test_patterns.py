"""Packaged patterns: taken whole where they fit this Python's matcher, and not at all otherwise."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from autoscaler import patterns
from tests.service.test_package import script

RECORDED = script("package_patterns")["recorded"]
PATTERN = r"(?P<name>[a-z]+)-(\d+) tests of packaged patterns"


@pytest.fixture
def rows() -> list[Any]:
    """What packaging writes of PATTERN, asked for twice; `re` has forgotten it afterwards."""
    re.purge()
    rows: list[Any]
    with RECORDED() as rows:
        re.compile(PATTERN)
        re.compile(PATTERN, re.IGNORECASE)
    re.purge()
    return rows


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, rows: list[Any]) -> Any:
    module: Any = ModuleType(patterns.PACKAGED)
    module.MATCHER, module.PATTERNS = patterns.matcher(), tuple(rows)
    monkeypatch.setitem(sys.modules, patterns.PACKAGED, module)
    return module


@pytest.mark.usefixtures("packaged")
def test_what_was_packaged_is_compiled_no_more_and_matches_as_ever() -> None:
    assert patterns.remember() == 2
    with RECORDED() as compiled:
        found = re.compile(PATTERN)
        large = re.compile(PATTERN, re.IGNORECASE)
    assert compiled == []
    match = found.fullmatch("worker-12 tests of packaged patterns")
    assert match is not None
    assert (match["name"], match[2], found.groups, dict(found.groupindex)) == ("worker", "12", 2, {"name": 1})
    assert large.fullmatch("WORKER-1 TESTS OF PACKAGED PATTERNS")
    assert not found.fullmatch("WORKER-1 TESTS OF PACKAGED PATTERNS")
    re.purge()
    assert (re.compile(PATTERN), re.compile(PATTERN, re.IGNORECASE)) == (found, large), "the same to the last code"


def test_without_a_package_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, patterns.PACKAGED, None)
    assert patterns.remember() == 0


def _another_python(packaged: Any) -> None:
    packaged.MATCHER = (packaged.MATCHER[0], packaged.MATCHER[1] + 1, *packaged.MATCHER[2:])


def _another_matcher(packaged: Any) -> None:
    packaged.MATCHER = (*packaged.MATCHER[:2], packaged.MATCHER[2] + 1, packaged.MATCHER[3])


def _a_code_that_is_not_valid(packaged: Any) -> None:
    first, (pattern, asked, flags, code, groups) = packaged.PATTERNS
    packaged.PATTERNS = (first, (pattern, asked, flags, (*code[:-1], 99), groups))


def _another_form(packaged: Any) -> None:
    packaged.PATTERNS = tuple(row[:-1] for row in packaged.PATTERNS)


@pytest.mark.parametrize("change", [_another_python, _another_matcher, _a_code_that_is_not_valid, _another_form])
def test_where_anything_differs_every_pattern_is_compiled(packaged: Any, change: Any) -> None:
    change(packaged)
    assert patterns.remember() == 0
    with RECORDED() as compiled:
        assert re.compile(PATTERN).fullmatch("a-1 tests of packaged patterns")
        re.compile(PATTERN, re.IGNORECASE)
    assert len(compiled) == 2


@pytest.mark.usefixtures("packaged")
def test_a_re_that_remembers_elsewhere_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as another:
        another.delattr(re, "_cache")
        assert patterns.remember() == 0

"""What the documents claim exists: tests, files and targets that they name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.simulator.soak.run import Run

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_TEST = re.compile(r"`(tests/[\w/]+\.py)?(::\w+)?`")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_TARGET = re.compile(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)")


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """(file, test) of each mention; `::test` alone means the file named before it."""
    file = ""
    for match in _TEST.finditer(text):
        if match[1] or match[2]:
            file = match[1] or file
            yield file, (match[2] or "").removeprefix("::")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    for file, test in named_tests(document.read_text(encoding="utf-8")):
        path = ROOT / file
        assert path.is_file(), f"{document.name} names {file}, which does not exist"
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        assert not test or test in functions, f"{document.name} names {file}::{test}, which does not exist"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for match in _LINK.finditer(document.read_text(encoding="utf-8")):
        if "://" not in match[1]:
            assert (document.parent / match[1]).exists(), f"{document.name} links to {match[1]}, which does not exist"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for match in _TARGET.finditer(document.read_text(encoding="utf-8")):
        assert match[1] in targets, f"{document.name} names `make {match[1]}`, which does not exist"


def test_every_invariant_that_the_promises_name_is_checked_by_the_soak() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = {
        name
        for mention in re.findall(r"the soak's ((?:`\w+`(?:, )?)+)", text)
        for name in re.findall(r"`(\w+)`", mention)
    }
    assert len(named) > 10
    assert named <= set(Run(12).run().checks)

"""The snippets of docs/attach.md, which the tests use as they stand there."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "attach.md"


@cache
def snippets(language: str) -> tuple[str, ...]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return tuple(re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def snippet(language: str, begins: str) -> str:
    """The one snippet whose first line begins so."""
    (found,) = (text for text in snippets(language) if text.startswith(begins))
    return found


def configuration(begins: str) -> Any:
    return yaml.safe_load(snippet("yaml", begins))

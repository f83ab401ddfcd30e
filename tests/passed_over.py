"""A row of a document's `blocked`, in one line."""

from collections.abc import Mapping
from typing import Any


def why(row: Mapping[str, Any]) -> str:
    """Code and words."""
    return f"{row['code']}: {row['text']}"

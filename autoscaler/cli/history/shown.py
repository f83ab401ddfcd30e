"""Records of the history for a person."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from autoscaler.cli.tables import table
from autoscaler.cli.times import of_utc


def show_history(console: Console, records: Iterable[Mapping[str, Any]], *, title: str = "decisions") -> None:
    """Print them as they come, the newest first."""
    rows = [
        (
            of_utc(str(record.get("decided_at", ""))),
            *(str(record.get(f, "")) for f in ("action", "reason")),
            _what(record),
        )
        for record in records
    ]
    table(console, title, ("time", "action", "reason", "what"), rows, empty="none recorded")


def _what(record: Mapping[str, Any]) -> str:
    by = record.get("by")
    return f"{by}: {record.get('message', '')}" if by else str(record.get("message", ""))

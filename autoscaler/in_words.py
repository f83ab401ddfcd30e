"""A decision document as the few lines that a person reads in a mail or a chat, and what to do next."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

MOST_ROWS: Final = 5
"""Of failures, and of what is passed over; the log has all."""


def plain_text(document: Mapping[str, Any]) -> str:
    """The message first, then what it stands on, each line with its name; no JSON. A digest brings its own lines."""
    if isinstance(document.get("text"), str):
        return str(document["text"])
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield str(document.get("message") or "No message.")
    yield ""
    yield f"cluster   {document.get('cluster_id', '?')}, mode {document.get('mode', '?')}"
    nodes = document.get("nodes")
    if isinstance(nodes, Mapping):
        yield (
            f"workers   {_known(nodes.get('ready'))} ready, {_known(nodes.get('joining'))} joining, "
            f"{_known(nodes.get('draining'))} draining; min {nodes.get('min')}, max {nodes.get('max')}"
        )
    cost = document.get("cost")
    if isinstance(cost, Mapping) and cost.get("usd_per_hour") is not None:
        more = f", and {cost['unknown_workers']} of unknown price" if cost.get("unknown_workers") else ""
        yield f"cost      ${cost['usd_per_hour']:.4f} an hour{more}"
    for failure in _some(document.get("failures")):
        yield f"failed    {failure}"
    for row in _some(document.get("blocked")):
        yield (
            f"held back {row.get('subject')}: {row.get('code')}: {row.get('text')}"
            if isinstance(row, Mapping)
            else f"held back {row}"
        )
    if document.get("policy_problem"):
        yield f"policy    {document['policy_problem']}"
    if document.get("withheld"):
        yield f"before it {document['withheld']} messages were not sent: notify.most_an_hour of the policy"
    yield ""
    decision_id = document.get("decision_id", "?")
    yield f"decision  {decision_id}: k3s-autoscaler explain --decision {decision_id}"
    yield "stop it   k3s-autoscaler pause"


def _some(rows: Any) -> list[Any]:
    """The first few of a list; a sentence in its place, as where a list was too long, is one row."""
    if not rows:
        return []
    if isinstance(rows, str):
        return [rows]
    more = len(rows) - MOST_ROWS
    return [*rows[:MOST_ROWS], *([f"and {more} more: the log has them"] if more > 0 else [])]


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)

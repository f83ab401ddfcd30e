"""Another cluster that is just like ours, with other machines, in the answers of a Prometheus that holds both."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from autoscaler.observe.query import NAMED
from autoscaler.observe.series import COUNTED, FAMILY, PROOF_VOLUME
from autoscaler.simulator.metrics.exposition import PROOF_NODE
from autoscaler.simulator.metrics.promql import Moving, Places, Question, Rooms
from autoscaler.simulator.metrics.recorded_cluster import Row, counted_rows
from autoscaler.simulator.metrics.text_format import number_text

ELSEWHERE: Final = "elsewhere-"
_SUMMED: Final = frozenset(
    {
        "counted",
        "shown",
        "volumes_of",
        "volumes_unplaced",
        "targets_down",
        "restarted",
        "requested_at_once",
        "used_at_once",
    }
)
"""Families that count, or sum, over everything; the others take the largest of what is the same thing."""
_INSTANCE: Final = re.compile(r"/i-.")


def abroad(one: Row) -> Row:
    """A row as the other cluster has it."""
    labels, text = one
    moved = {key: _renamed(key, value) for key, value in labels.items()}
    return moved, text


def _renamed(key: str, value: str) -> str:
    if key in {"pod", "uid", "instance"} or (key == "node" and value != PROOF_NODE):
        return ELSEWHERE + value
    return _INSTANCE.sub("/i-f", value) if key == "provider_id" else value


def native(question: Question) -> Question:
    """The question in our names; Nodes that only we have are none of the other cluster's."""
    if isinstance(question, Rooms):
        return msgspec.structs.replace(question, daemon_nodes=_ours(question.daemon_nodes))
    if isinstance(question, Places):
        return msgspec.structs.replace(question, pods=None if question.pods is None else _ours(question.pods))
    return Moving(nodes=_ours(question.nodes)) if isinstance(question, Moving) else question


def _ours(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix(ELSEWHERE) for name in names if name.startswith(ELSEWHERE))


def merged(ours: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    """Both, as the queries' aggregations put them together."""
    found: dict[frozenset[tuple[str, str]], Row] = {}
    for labels, text in (*ours, *others):
        key = frozenset(labels.items())
        before = found.get(key)
        found[key] = (labels, text if before is None else _together(labels, before[1], text))
    unmeasured = sorted(
        (one for one in found.values() if one[0][FAMILY] == "node_unmeasured"), key=lambda one: -float(one[1])
    )
    rows = [
        one
        for one in found.values()
        if one[0][FAMILY] != "node_unmeasured" and not (one[0][FAMILY] == "counted" and one[0]["of"] in COUNTED)
    ]
    # What is the same in both counts once.
    recounted = counted_rows(rows) if len(rows) < len(found) else ()
    return [*rows, *recounted, *unmeasured[:NAMED]]


def _together(labels: dict[str, str], one: str, other: str) -> str:
    # The volume that proves it has one name everywhere, and counts as one.
    if labels[FAMILY] in _SUMMED and labels.get("csi_driver") != PROOF_VOLUME:
        return number_text(float(one) + float(other))
    return max(one, other, key=float)

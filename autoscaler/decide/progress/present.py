"""Whether the present look bears out what was true when a step was decided: a terminate cannot be taken back.

A success says how things were when it was reported: days ago, after a pause; or before a person uncordoned the Node.
"""

from typing import Final

from autoscaler.decide.looking import INSPECTED_FOR, Look
from autoscaler.model import Instance, Node, RemovalOperation
from autoscaler.state.notices import OVER_AFTER_S

WORD_HOLDS_S: Final = 900
"""What was true this long ago, and is not seen now, is history."""
SHOWN_AFTER_S: Final = 120
"""Metrics have shown a change by then, also where they are scraped every 30 s."""
FRESH_S: Final = 30
"""A server's word is as good as a look of one's own for this long."""


STALE: Final = "what a server said of it is too long ago"
UNSEEN: Final = "that it was drained is some time ago, and its Node is not seen now"


def against_ending(look: Look, removal: RemovalOperation, instance: Instance) -> str | None:
    """What speaks against ending a machine of ours that was decided to end; None where nothing does."""
    if not instance.managed:
        return "it does not carry the tags of ours any more"
    if removal.reclaim:
        return "EC2 did not take it at the time that it gave notice of" if is_out_of_date(look, removal) else None
    if removal.reason not in INSPECTED_FOR and removal.node_name:
        return against_drained(look, removal, since_s=removal.phase_since_s)
    node = look.nodes.get(removal.instance_id)
    if look.snapshot.cluster_known and node is not None and node.ready is True:
        return f"its Node {node.name} is Ready"
    if look.now_s - removal.phase_since_s > WORD_HOLDS_S:
        return STALE
    return None


def against_drained(look: Look, removal: RemovalOperation, *, since_s: int) -> str | None:
    """What speaks against a worker being drained; None where nothing does, or what would is asked for first.

    `since_s`: when the drain ended, or its success was believed. While the Node is not seen, or metrics may lack pods,
    a server's fresh word has to do.
    """
    node = look.nodes.get(removal.instance_id)
    fresh = look.now_s - since_s <= FRESH_S
    if not look.snapshot.cluster_known or node is None:
        return None if fresh else UNSEEN
    if node.cordoned is True and not look.snapshot.rooms_known:
        look.asks_rooms = True
        return None
    against = _contradiction(node, emptied=not removal.failure)
    return against if against is not None or fresh or look.snapshot.absence_proven else UNSEEN


def is_out_of_date(look: Look, removal: RemovalOperation) -> bool:
    """Whether the time at which EC2 would take it passed long ago, perhaps during a pause, and it still runs."""
    return removal.due_at_s is not None and look.now_s - removal.due_at_s > OVER_AFTER_S


def _contradiction(node: Node, *, emptied: bool) -> str | None:
    if node.cordoned is not True:
        return "somebody uncordoned it while it was drained"
    if emptied and node.movable:
        return f"{node.movable} pods run there again"
    if node.local_volumes:
        return f"{node.local_volumes} node-local volumes live on it"
    return None

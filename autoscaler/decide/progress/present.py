"""Whether the present look bears out what was true when a step was decided: a terminate cannot be taken back.

A success says how things were when it was reported: days ago, after a pause; or before a person uncordoned the Node.
"""

from typing import Final

from autoscaler.decide.looking import Look
from autoscaler.decide.progress.moves import uncordon
from autoscaler.model import Node, RemovalOperation, State
from autoscaler.state.memory import remember_refusal

WORD_HOLDS_S: Final = 900
"""A success is believed for the drain's time-out and this long after it was sent; later it is history."""
SHOWN_AFTER_S: Final = 120
"""Metrics have shown a change by then, also where they are scraped every 30 s."""


def overtaken(
    look: Look, state: State, removal: RemovalOperation, *, since_s: int, shown_after_s: int = 0
) -> State | None:
    """What follows where the present look does not bear out that the worker is drained; None where it does.

    `since_s`: when the drain was sent, or its success believed. What contradicts it counts once metrics must have shown
    the drain, `shown_after_s` later. While the Node is not seen the server's own young word has to do.
    """
    age_s = look.now_s - since_s
    node = look.nodes.get(removal.instance_id)
    if not look.snapshot.cluster_known or node is None:
        if age_s > look.policy.drain.timeout_s + WORD_HOLDS_S:
            return uncordon(look, state, removal, "that it was drained is too long ago, and it is not seen now")
        return None
    if node.cordoned is True and not look.snapshot.rooms_known:
        look.asks_rooms = True
        return state
    why = _contradiction(node, emptied=not removal.failure)
    if why is None:
        return None
    if age_s <= shown_after_s:
        return state  # the metrics may be older than the cordon, or the last eviction
    state = remember_refusal(state, removal.node_name, why, now_s=look.now_s, policy=look.policy)
    return uncordon(look, state, removal, why)


def _contradiction(node: Node, *, emptied: bool) -> str | None:
    if node.cordoned is not True:
        return "somebody uncordoned it while it was drained"
    if emptied and node.movable:
        return f"{node.movable} pods run there again"
    if node.local_volumes:
        return f"{node.local_volumes} node-local volumes live on it"
    return None

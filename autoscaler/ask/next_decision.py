"""The question `next`: which decision a look now would make, and what it would begin."""

from typing import Any

import msgspec

from autoscaler.act.effects import Effect, SendCommand, SendLaunch
from autoscaler.ask.looking import Seen, Service, look
from autoscaler.model import Mode, Verb
from autoscaler.state.transitions import lease_held_by_other

NOBODY = ""
"""Owner of no lease."""


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None."""


def answer(service: Service, _arguments: Arguments) -> dict[str, Any]:
    """`decision`: the document that a look would log; `would`: a sentence for each thing that it would begin."""
    seen = look(service)
    return {
        "now_s": seen.now_s,
        "decision": seen.document(),
        "would": [_in_words(effect, seen) for effect in seen.effects],
        "withheld": withheld(seen),
        "would_ask": list(seen.would_ask),
    }


def withheld(seen: Seen) -> str:
    """Why a look now would begin nothing, whatever it decides; empty where it would."""
    if seen.mode is Mode.PAUSED:
        return "The mode is paused: a look asks nobody and begins nothing. `k3s-autoscaler resume` ends it."
    if seen.mode is Mode.OBSERVE:
        return "The mode is observe: a look tells this and begins nothing. `k3s-autoscaler resume` lets it act."
    if lease_held_by_other(seen.state, NOBODY, seen.now_s):
        return "Another invocation is at work and holds the lease: a look now would leave this to it."
    return ""


_VERBS = {
    Verb.DRAIN: "drain",
    Verb.INSPECT: "inspect",
    Verb.UNCORDON: "uncordon",
    Verb.DELETE_NODE: "delete the Node of",
}


def _in_words(effect: Effect, seen: Seen) -> str:
    if isinstance(effect, SendLaunch):
        request = effect.operation.request
        types = ", ".join(dict.fromkeys(override.instance_type for override in request.overrides))
        zones = ", ".join(dict.fromkeys(override.zone for override in request.overrides))
        workers = f"{request.count} worker{'' if request.count == 1 else 's'}"
        pool = f"pool {request.pool}, " if len(seen.policy.pools) > 1 else ""
        return f"launch {workers}: {pool}{request.market}, {types} in {zones}, for {effect.operation.reason}"
    removal = effect.operation
    name = removal.node_name or removal.instance_id
    if isinstance(effect, SendCommand):
        return f"{_VERBS[effect.command.verb]} {name}, by the server {effect.server_id}, for {removal.reason}"
    return f"terminate {removal.instance_id} ({name}), for {removal.reason}"

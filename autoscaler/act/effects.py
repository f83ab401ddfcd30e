"""Which calls the open operations ask for now: derived from the state alone, so any later invocation resumes them."""

import msgspec

from autoscaler.model import (
    ALIVE,
    ENDING,
    LaunchOperation,
    NodeCommand,
    RemovalOperation,
    RemovalPhase,
    Snapshot,
    State,
    Verb,
)
from autoscaler.policy import Policy
from autoscaler.state.backoffs import path_held

_VERBS = {
    RemovalPhase.INSPECTING: Verb.INSPECT,
    RemovalPhase.DRAINING: Verb.DRAIN,
    RemovalPhase.DELETING: Verb.DELETE_NODE,
    RemovalPhase.UNCORDONING: Verb.UNCORDON,
}


class SendLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """Send CreateFleet, to the letter as frozen."""

    operation: LaunchOperation


class SendCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Hand a node command to one server."""

    operation: RemovalOperation
    command: NodeCommand
    server_id: str


class Terminate(msgspec.Struct, frozen=True, kw_only=True):
    """End one instance of ours."""

    operation: RemovalOperation


Effect = SendLaunch | SendCommand | Terminate


def due_effects(state: State, snapshot: Snapshot, policy: Policy, *, waits: bool = True) -> tuple[Effect, ...]:
    """Launches first (somebody waits), then commands, then terminations.

    `waits` False: what EC2 refused to end is tried again at once, for a person who waits to hear how it went.
    """
    existing = {i.instance_id: i for i in snapshot.instances if i.state not in ENDING}
    servers = sorted(i.instance_id for i in snapshot.instances if i.server and i.state in ALIVE)
    now_s = snapshot.taken_at_s
    held = path_held(state, now_s) is not None
    launches = [
        SendLaunch(operation=launch)
        for launch in state.launches
        if not held and not launch.landed and launch.unidentified
    ]
    commands: list[Effect] = []
    terminations: list[Effect] = []
    for removal in state.removals:
        verb = _VERBS.get(removal.phase)
        if removal.phase is RemovalPhase.TERMINATING:
            # Only what EC2 itself shows as ours, and not yet ending, now: the tag is the licence.
            instance = existing.get(removal.instance_id)
            due = not waits or removal.retry_at_s is None or now_s >= removal.retry_at_s
            if due and removal.held_since_s is None and instance is not None and instance.managed:
                terminations.append(Terminate(operation=removal))
        elif verb is not None and removal.command is None and servers:
            server_id = servers[removal.attempts % len(servers)]
            command = node_command(removal, verb, policy)
            commands.append(SendCommand(operation=removal, command=command, server_id=server_id))
    return (*launches, *commands, *terminations)


def node_command(removal: RemovalOperation, verb: Verb, policy: Policy) -> NodeCommand:
    """The command of a removal's phase."""
    return NodeCommand(
        verb=verb,
        node_name=removal.node_name,
        provider_id=removal.provider_id,
        operation_id=removal.operation_id,
        fence=removal.fence,
        not_after_s=removal.not_after_s,
        timeout_s=policy.drain_timeout_s(reclaim=removal.reclaim),
        grace_s=policy.interruption.grace_s if removal.reclaim else -1,
        reclaim=removal.reclaim,
    )

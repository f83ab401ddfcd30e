"""One look in progress: the snapshot with its lookups, and the sentences that are told about it."""

from typing import Final

from autoscaler.model import Instance, Node, RemovalOperation, RemovalPhase, Snapshot
from autoscaler.policy import Policy

START_WITHIN_S: Final = 120
"""A command that has not started by then must not start any more (delivery time-out 60 s, and as much to spare)."""


INSTANCE_GONE: Final = "instance_gone"
JOIN_TIMEOUT: Final = "join_timeout"
TEARDOWN: Final = "teardown"
"""Reasons of removals that more than one step knows."""


class Look:
    """What every step of one decision shares. `events` and `asks_rooms` collect what steps say; nothing else does."""

    def __init__(self, snapshot: Snapshot, policy: Policy, *, now_s: int, fence: int, decision_id: str) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.now_s = now_s
        self.fence = fence
        """The fence that this decision's commands will carry: one above the last."""
        self.decision_id = decision_id
        self.events: list[str] = []
        self.news = False
        """Whether one of the events is for people, although nothing begins."""
        self.asks_rooms = False
        """Whether a step has to see what is free on the Nodes before it can go on."""
        self.instances = {i.instance_id: i for i in snapshot.instances}
        self.nodes = {n.instance_id: n for n in snapshot.nodes if n.instance_id is not None}
        self.commands = dict(snapshot.commands)

    @property
    def start_by_s(self) -> int:
        """The not-after time of a command that is sent now."""
        return self.now_s + START_WITHIN_S


def node_name_of(instance: Instance) -> str:
    """The name under which a worker of ours registers (cloudformation/scripts/worker-bootstrap.sh)."""
    return f"worker-{instance.instance_id}"


def new_removal(
    look: Look, instance: Instance, node: Node | None, *, reason: str, phase: RemovalPhase, reclaim: bool = False
) -> RemovalOperation:
    """Intend to remove one worker, beginning in `phase`."""
    return RemovalOperation(
        operation_id=f"{look.decision_id}-{instance.instance_id.removeprefix('i-')}",
        created_at_s=look.now_s,
        reason=reason,
        instance_id=instance.instance_id,
        node_name=node.name if node is not None else "",
        provider_id=node.provider_id if node is not None else f"aws:///{instance.zone}/{instance.instance_id}",
        phase=phase,
        phase_since_s=look.now_s,
        fence=look.fence,
        not_after_s=look.start_by_s,
        reclaim=reclaim,
    )

"""One look in progress: the snapshot with its lookups, and the sentences that are told about it."""

from collections.abc import Sequence
from typing import Final

from autoscaler.decide.demand.schedules import Limits
from autoscaler.model import ALIVE, Instance, Node, RemovalOperation, RemovalPhase, Snapshot
from autoscaler.policy import Policy
from autoscaler.state.notices import STOPPED

START_WITHIN_S: Final = 120
"""A command that has not started by then must not start any more (delivery time-out 60 s, and as much to spare)."""


INSTANCE_GONE: Final = "instance_gone"
JOIN_TIMEOUT: Final = "join_timeout"
TEARDOWN: Final = "teardown"
NO_NODE: Final = "no_node"
RETURN_TO_SPOT: Final = "return_to_spot"
NOT_READY: Final = "not_ready"
"""Reasons of removals that more than one step knows."""
INSPECTED_FOR: Final = frozenset({INSTANCE_GONE, JOIN_TIMEOUT, NO_NODE, NOT_READY, STOPPED})
"""Those of machines that end without a drain of their own: a server was asked first."""


class Look:
    """What every step of one decision shares. `done` and what is asked collect what steps say; nothing else does."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy,
        *,
        now_s: int,
        fence: int,
        decision_id: str,
        limits: Limits | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.policy = policy
        """As this moment has it: its `workers.min` and `workers.max` are those of the schedules that hold."""
        self.limits = limits or Limits(min=policy.workers.min, max=policy.workers.max)
        self.now_s = now_s
        self.fence = fence
        """The fence that this decision's commands will carry: one above the last."""
        self.decision_id = decision_id
        self.done: list[str] = []
        self.news = False
        """Whether one of the events is for people, although nothing begins."""
        self.asks_rooms = False
        """Whether a step has to see what is free on the Nodes before it can go on."""
        self.asks_instances: list[str] = []
        """Machines that EC2 has to be asked for by id before a step can go on."""
        self.instances = {i.instance_id: i for i in (*snapshot.instances, *snapshot.unlisted)}
        """Those that carry the cluster's tag, and those that were asked for by id."""
        self.nodes = {n.instance_id: n for n in snapshot.nodes if n.instance_id is not None}
        self.commands = dict(snapshot.commands)

    def is_unknown_to_ec2(self, instance_id: str) -> bool:
        """Whether EC2 was asked for it by id and knows no such machine; where it was not, that is asked."""
        if instance_id in self.instances:
            return False
        if instance_id in self.snapshot.looked_up:
            return True
        self.asks_instances.append(instance_id)
        return False

    @property
    def start_by_s(self) -> int:
        """The not-after time of a command that is sent now."""
        return self.now_s + START_WITHIN_S


def node_name_of(instance: Instance) -> str:
    """The name under which a worker of ours registers (cloudformation/scripts/worker-bootstrap.sh)."""
    return f"worker-{instance.instance_id}"


def why_ended(instance: Instance) -> str:
    """EC2's word why a machine does not live any more; empty while it does, and where EC2 gave none."""
    return "" if instance.state in ALIVE else instance.state_reason


def maybe_its_node(nodes: Sequence[Node], instance: Instance) -> str | None:
    """Name of a Node that shows no EC2 provider-id and may be this worker's; None where none may.

    It registered with K3s' own (`k3s://<name>`) or without any. A Node of a foreign id under a foreign name is another
    machine, and so is one that is older than the instance.
    """
    for node in nodes:
        if node.instance_id is not None or node.control_plane:
            continue
        if node.created_at_s is not None and node.created_at_s < instance.launched_at_s:
            continue
        named = instance.instance_id in node.name or node.name == instance.private_dns_name
        if named or node.managed or not node.provider_id:
            return node.name
    return None


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

"""What a server may answer about worker 1, and one step of a teardown that hears it."""

from typing import Any

from autoscaler.cli.teardown.memory import Memory, Wishes
from autoscaler.cli.teardown.plan import Plan, plan_teardown
from autoscaler.model import (
    CommandOutcome,
    CommandResult,
    Found,
    Instance,
    InstanceState,
    MetricsStatus,
    RemovalOperation,
    RemovalPhase,
    Snapshot,
    State,
)
from tests.decide.builders import NOW_S, SERVER, bare, iid, inspection, policy, removal, snapshot

Phase = RemovalPhase
RENAMED = "worker-i-001-1f2e3d4c"
"""K3s' --with-node-id: not the name that we gave."""
DATA = Found(count=1, names=("pvc-7",))
BARE = Found(count=1, names=("batch/job",))
OLD: dict[str, Any] = {}
YOUNG = {"launched_at_s": NOW_S - 60}
STOPPED = {"state": InstanceState.STOPPED}
DEAD = {"state": InstanceState.TERMINATED}
FORCE = Wishes(force=True)
HELD = Memory(refused={iid(1): "it stays"}, refused_since_s={iid(1): NOW_S - 300})
"""Refused for as long as a drain may take."""
FRESH = Memory(refused={iid(1): "it stays"}, refused_since_s={iid(1): NOW_S - 299})


def node(*, ready: bool = True, **changes: Any) -> CommandResult:
    """The server found its Node."""
    seen = inspection(**{"node": RENAMED, "ready": ready, "movable_pods": 0, **changes})
    return CommandResult(outcome=CommandOutcome.SUCCEEDED, inspection=seen, message="The Node.")


def refused(rule: str) -> CommandResult:
    return CommandResult(outcome=CommandOutcome.REFUSED, rule=rule, message=f"It is refused by {rule}.")


NO_NODE = CommandResult(outcome=CommandOutcome.NO_SUCH_NODE)


def look(*machines: Any, result: CommandResult | None = None, servers: tuple[Instance, ...] = (SERVER,)) -> Snapshot:
    """A desk that sees EC2 and what commands came to, and no metrics."""
    commands = () if result is None else (("r1", result),)
    return snapshot(machines, status=MetricsStatus.UNAVAILABLE, commands=commands, servers=servers)


def plan(seen: Snapshot, state: State, *, wishes: Wishes | None = None, memory: Memory | None = None) -> Plan:
    return plan_teardown(seen, state, policy(), wishes or Wishes(), memory or Memory(), now_s=NOW_S, decision_id="d1")


def asked(**changes: Any) -> RemovalOperation:
    """The question about worker 1, asked 30 s ago."""
    return removal(1, Phase.INSPECTING, **{"reason": "teardown", "node_name": "", **changes})


def answered(
    result: CommandResult | None,
    instance: dict[str, Any],
    *,
    operation: RemovalOperation | None = None,
    wishes: Wishes | None = None,
    memory: Memory | None = None,
) -> Plan:
    state = State(fence=9, removals=(operation or asked(),))
    return plan(look(bare(1, **instance), result=result), state, wishes=wishes, memory=memory)


def under_way(done: Plan) -> tuple[Phase, str, bool] | None:
    """Phase, Node and whether without checks; None where nothing is under way."""
    return next(((r.phase, r.node_name, r.reclaim) for r in done.state.removals), None)


DRAINED = (Phase.DRAINING, RENAMED, False)
FORCED = (Phase.DRAINING, RENAMED, True)
ENDED = (Phase.TERMINATING, RENAMED, False)
NAMELESS = (Phase.TERMINATING, "", False)
ASKING = (Phase.INSPECTING, "", False)
STAYS = None

"""One look at a removal, in a fleet of three other workers."""

from typing import Any

import msgspec

from autoscaler.model import (
    Decision,
    RemovalOperation,
    RemovalPhase,
    State,
)
from tests.decide.builders import (
    SERVER,
    Machine,
    decided,
    full,
    snapshot,
    use,
    worker,
)

OTHER_SERVER = msgspec.structs.replace(SERVER, instance_id="i-0bbb")
BUSY = use(cpu=0.5)
"""Neither growth nor shrink comes in between."""


def look(operation: RemovalOperation, *machines: Machine, its_policy: Any = None, **changes: Any) -> Decision:
    """One look at a fleet of three others and `machines` (worker 1, if none)."""
    seen = snapshot([full(101), full(102), full(103), *(machines or (worker(1),))], utilisation=BUSY, **changes)
    return decided(seen, State(fence=9, removals=(operation,)), its_policy)


def left_of(decision: Decision) -> RemovalOperation | None:
    return decision.state.removals[0] if decision.state.removals else None


def phase_of(decision: Decision) -> RemovalPhase | None:
    """None where the removal is over."""
    left = left_of(decision)
    return left.phase if left is not None else None

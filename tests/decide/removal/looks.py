"""One look at a fleet of four full workers and those that a test is about."""

from typing import Any

from autoscaler.model import (
    Decision,
    RemovalPhase,
    State,
)
from tests.decide.builders import (
    Machine,
    decided,
    full,
    snapshot,
    use,
)

CALM = use(cpu=0.5)
FULL = [full(n) for n in range(101, 105)]
NOT_READY: dict[str, Any] = {"ready": False, "unready_long": True}


def look(*machines: Machine, state: State | None = None, **changes: Any) -> Decision:
    seen = snapshot([*FULL, *machines], **{"utilisation": CALM, **changes})
    return decided(seen, state if state is not None else State(fence=9))


def begun(decision: Decision) -> list[tuple[str, str, RemovalPhase]]:
    """(instance, reason, phase) of the removals that this decision began."""
    return [(r.instance_id, r.reason, r.phase) for r in decision.state.removals if r.operation_id.startswith("d1-")]

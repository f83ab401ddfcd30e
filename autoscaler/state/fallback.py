"""What Spot did not give is opened on demand in the very save that notes it: nobody sees the one without the other."""

from autoscaler.model import Fallback, State
from autoscaler.state.size import workers_that_fit
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_launch, open_operations


def with_fallback(state: State, fallback: Fallback | None, missing: int) -> State:
    """The state with the launch on demand of the workers that are missing, as far as they are paid for and fit in.

    Each takes the place of one that the look counted, so max holds. Once it is there it is not opened again.
    """
    if fallback is None or any(o.operation_id == fallback.operation.operation_id for o in state.launches):
        return state
    count = fallback.paid_for(missing)
    if count <= 0 or open_operations(state) >= MAX_OPEN_OPERATIONS:
        return state
    operation = fallback.operation.asking_for(count)
    fits = workers_that_fit(state, operation)
    return open_launch(state, operation.asking_for(fits)) if fits else state

"""Bugs of removals on their way."""

from typing import Any, Final

import autoscaler.act.perform
import autoscaler.decide.looking
import autoscaler.decide.progress.draining
import autoscaler.decide.progress.moves
import autoscaler.decide.progress.removal
import autoscaler.decide.steps
import autoscaler.state.transitions
from autoscaler.model import RemovalPhase, State
from tests.soak.mutants.put import Mutant, put


def uncordon_forgotten() -> None:
    """A removal that is given up is closed, and its Node stays cordoned."""
    module = autoscaler.decide.progress.removal

    def close(_look: Any, state: State, removal: Any, _why: str) -> State:
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: None)

    put(module, "uncordon", close)


def removals_forgotten() -> None:
    """What we removed is a loss like any other when the metrics show it once more."""

    def close(state: State, removal: Any, **_times: int) -> State:
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: None)

    put(autoscaler.decide.progress.removal, "removal_ended", close)


def protected_worker_kept_cordoned() -> None:
    """A worker that EC2 refuses to end stays in its removal for ever."""
    put(autoscaler.act.perform, "hand_back", lambda state, *_args, **_more: state)


def terminate_without_drain() -> None:
    """A drain that failed counts as one that is over."""
    terminate = autoscaler.decide.progress.moves.terminate
    put(
        autoscaler.decide.progress.draining,
        "_failed",
        lambda look, state, removal, _result: terminate(look, state, removal),
    )


def drain_skipped() -> None:
    """A worker is terminated as soon as it is chosen."""
    new_removal = autoscaler.decide.looking.new_removal

    def straight(*args: Any, **more: Any) -> Any:
        return new_removal(*args, **{**more, "phase": RemovalPhase.TERMINATING})

    put(autoscaler.decide.steps, "new_removal", straight)


def node_deleted_first() -> None:
    """The Node goes before its instance."""
    module = autoscaler.decide.progress.removal

    def delete(look: Any, state: State, removal: Any) -> State:
        changed = autoscaler.state.transitions.enter_phase(
            removal, RemovalPhase.DELETING, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s
        )
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: changed)

    put(module, "_terminate", delete)


def phases_go_backwards() -> None:
    """A worker that is being terminated is taken back when pods wait."""
    module = autoscaler.decide.progress.removal
    forward = autoscaler.state.transitions._FORWARD
    forward[RemovalPhase.TERMINATING] = forward[RemovalPhase.DRAINING]
    advance = module.advance_removal

    def back(look: Any, state: State, removal: Any, **more: Any) -> State:
        if removal.phase is RemovalPhase.TERMINATING and removal.node_name and look.now_s % 3 == 0:
            return autoscaler.decide.progress.moves.uncordon(look, state, removal, "changed our mind")
        return advance(look, state, removal, **more)

    put(autoscaler.decide.steps, "advance_removal", back)


MUTANTS: Final[tuple[Mutant, ...]] = (
    uncordon_forgotten,
    removals_forgotten,
    protected_worker_kept_cordoned,
    terminate_without_drain,
    drain_skipped,
    node_deleted_first,
    phases_go_backwards,
)

"""Invariants of what may end a machine: what proves that nothing is lost with it, and that the proof is of now.

Dead by EC2's own word, or taken by EC2, needs no proof.
"""

from typing import Final

from autoscaler.model import CommandOutcome, RemovalOperation, RemovalPhase
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.truth import Moment
from autoscaler.simulator.soak.watch import Effect, Saved, Watch

ANSWER_HOLDS_S: Final = 600.0
"""An inspection that was asked for longer ago says nothing of now."""
DRAIN_HOLDS_S: Final = 900.0
"""So does a drain's success, after the time that the drain itself may take."""
ASKED_AGAIN_S: Final = 2 * CLOCKS_DIFFER_S + 30
"""What clocks, and an invocation between looking and writing, add to both."""
IRREVERSIBLE: Final = frozenset({RemovalPhase.TERMINATING, RemovalPhase.DELETING})


def _needs_proof(watch: Watch, instance_id: str) -> bool:
    return watch.truth.running(instance_id) and instance_id not in watch.truth.noticed


def _forced(watch: Watch, operation_id: str) -> bool:
    """The policy ends a machine whose drain did not end in time."""
    return watch.policy.drain.force and watch.answers.drained(operation_id, CommandOutcome.TIMED_OUT)


def _entered(saved: Saved) -> list[RemovalOperation]:
    """Removals that this write lets take a step that cannot be taken back."""
    before = {removal.operation_id: removal.phase for removal in saved.old.removals}
    return [r for r in saved.new.removals if r.phase in IRREVERSIBLE and before.get(r.operation_id) != r.phase]


def termination_is_earned(watch: Watch, saved: Saved) -> str | None:
    """A removal comes to `terminating` by its own finished drain, or a server's word that nothing is lost.

    Otherwise only for a machine that EC2 takes, that is dead, or that the policy forces out.
    """
    for removal in _entered(saved):
        operation_id, instance_id = removal.operation_id, removal.instance_id
        if removal.phase is not RemovalPhase.TERMINATING or not _needs_proof(watch, instance_id):
            continue
        proven = watch.answers.drained(operation_id) or watch.answers.let_go(operation_id)
        if not proven and not _forced(watch, operation_id):
            return f"{instance_id} is terminated ({removal.reason}); it was not drained, and no server let it go"
    return None


def nothing_is_lost_unasked(watch: Watch, effect: Effect) -> str | None:
    """When a machine ends, no volume is lost with it, and no pod unless a server said that its Node was dead."""
    instance_id = effect.subject
    if not isinstance(instance_id, str) or instance_id in watch.truth.noticed or not watch.truth.alive(instance_id):
        return None
    removals = [removal for removal in watch.state.removals if removal.instance_id == instance_id]
    lately = list(watch.truth.lately(NOTICED_WITHIN_S))
    if all(instance_id in moment.keeping for moment in lately):
        return f"{instance_id} is terminated with a volume on it"
    if not watch.truth.running(instance_id):
        return None  # a person stopped it: no pod runs there
    asked = any(watch.answers.let_go(r.operation_id) or _forced(watch, r.operation_id) for r in removals)
    if not asked and all(instance_id in moment.busy & moment.ready for moment in lately):
        return f"{instance_id} is terminated with pods on it, and no server said that they are lost already"
    return None


def no_step_rests_on_an_old_answer(watch: Watch, saved: Saved) -> str | None:
    """What cannot be taken back rests on a look that bears it out, or on an answer that is young where none can."""
    if saved.new.lease is not None and saved.new.lease.expires_at_s <= watch.cluster.now_s:
        return None  # frozen in between: it has no time left to act, and the next look looks again
    for removal in _entered(saved):
        if not _needs_proof(watch, removal.instance_id) or _forced(watch, removal.operation_id):
            continue
        seen = saved.seen.metrics_complete or saved.seen.drains_in_sight
        told = _contradicted(watch, removal) if seen else _too_old(watch, removal)
        if told is not None:
            return f"{removal.instance_id} goes to {removal.phase}: {told}"
    return None


def no_end_rests_on_an_old_look(watch: Watch, effect: Effect) -> str | None:
    """Whoever sends a terminate, for the first time or again, has seen nothing that speaks against it."""
    if not isinstance(effect.subject, str) or not _needs_proof(watch, effect.subject):
        return None
    for removal in watch.state.removals:
        if removal.instance_id != effect.subject or _forced(watch, removal.operation_id):
            continue
        told = _contradicted(watch, removal) if effect.seen.metrics_complete else None
        if told is not None:
            return f"{effect.subject} is terminated: {told}"
    return None


def _too_old(watch: Watch, removal: RemovalOperation) -> str | None:
    now_s, operation_id = watch.cluster.now_s, removal.operation_id
    for word, asked_s, holds_s in (
        ("drain", watch.answers.drain_asked_s(operation_id), watch.policy.drain.timeout_s + DRAIN_HOLDS_S),
        ("inspection", watch.answers.let_go_asked_s(operation_id), ANSWER_HOLDS_S),
    ):
        if asked_s is not None and now_s - asked_s > holds_s + ASKED_AGAIN_S:
            return f"the {word} that it rests on was asked for {now_s - asked_s:.0f} s ago"
    return None


def _contradicted(watch: Watch, removal: RemovalOperation) -> str | None:
    """What was so all through the time that a picture may be old, and speaks against the answer."""
    instance_id = removal.instance_id
    lately: list[Moment] = list(watch.truth.lately(NOTICED_WITHIN_S))
    ready = all(instance_id in moment.ready for moment in lately)
    if watch.answers.let_go(removal.operation_id):
        return "a server let it go, and its Node has been Ready ever since" if ready else None
    if ready and all(instance_id not in moment.closed for moment in lately):
        return "it was drained, and its Node is open again"
    if ready and all(instance_id in moment.busy for moment in lately):
        return "it was drained, and pods run there again"
    return None

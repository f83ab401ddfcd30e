"""Bugs of what may end a machine: a server's word, the present look, notices and their time."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

import autoscaler.decide.looking
import autoscaler.decide.progress.draining
import autoscaler.decide.progress.inspection
import autoscaler.decide.progress.launch
import autoscaler.decide.progress.present
import autoscaler.decide.progress.removal
import autoscaler.decide.removal.reclaim
import autoscaler.decide.removal.repair
import autoscaler.decide.removal.retire
import autoscaler.decide.steps
import autoscaler.observe.instances
import autoscaler.observe.snapshot
from autoscaler.model import CommandOutcome, CommandResult, Found, RemovalPhase, State
from tests.soak.mutants.put import Mutant, put

replace = msgspec.structs.replace


def _heard_as(change: Callable[[CommandResult], CommandResult]) -> None:
    """What a server says of a machine is heard as something else."""
    module = autoscaler.decide.progress.removal
    judge = autoscaler.decide.progress.inspection.judge_inspection

    def deaf(look: Any, state: State, removal: Any) -> State:
        told = look.commands.get(removal.operation_id)
        if told is not None:
            look.commands[removal.operation_id] = change(told)
        return judge(look, state, removal)

    put(module, "judge_inspection", deaf)


def ready_word_ignored() -> None:
    """That a server calls the Node Ready saves nobody."""
    _heard_as(lambda told: replace(told, inspection=replace(told.inspection, ready=False)) if told.inspection else told)


def local_volumes_ignored() -> None:
    """That volumes live on it saves nobody."""
    _heard_as(
        lambda told: (
            replace(told, inspection=replace(told.inspection, local_volumes=Found(count=0, names=())))
            if told.inspection
            else told
        )
    )


def no_answer_lets_go() -> None:
    """A server that does not say leaves nothing to lose."""
    silent = frozenset({CommandOutcome.API_UNREACHABLE, CommandOutcome.FAILED, CommandOutcome.UNDELIVERED})
    _heard_as(lambda told: replace(told, outcome=CommandOutcome.NO_SUCH_NODE) if told.outcome in silent else told)


def nobody_is_asked() -> None:
    """What is not drained ends without a question."""
    for module in (autoscaler.decide.progress.launch, autoscaler.decide.removal.repair):
        begin = module.new_removal

        def straight(*args: Any, begin: Any = begin, **more: Any) -> Any:
            asked = more["phase"] is RemovalPhase.INSPECTING
            return begin(*args, **{**more, "phase": RemovalPhase.TERMINATING if asked else more["phase"]})

        put(module, "new_removal", straight)


def old_drain_believed() -> None:
    """A drain that succeeded before a long pause counts as just over."""
    put(autoscaler.decide.progress.present, "FRESH_S", 10**9)


def overtaken_not_checked() -> None:
    """A drain's success is believed, whatever the present look shows."""
    put(autoscaler.decide.progress.draining, "against_drained", lambda *_args, **_more: None)


def not_listed_is_gone() -> None:
    """A machine that the cluster's tag does not list counts as gone, without asking for it by id."""
    put(autoscaler.decide.looking.Look, "is_unknown_to_ec2", lambda look, key: key not in look.instances)
    put(autoscaler.observe.snapshot, "look_up", lambda _fleet, snapshot, *_args: snapshot)


def half_an_answer_proves_ready() -> None:
    """A Node counts as joined where the row that says NotReady did not arrive."""
    put(autoscaler.decide.progress.launch, "_has_joined", lambda _look, node, _instance: node.ready is True)


def far_notice_taken_for_near() -> None:
    """What EC2 will retire in days is drained at once, without checks."""
    for module in (autoscaler.decide.removal.reclaim, autoscaler.decide.removal.retire):
        put(module, "is_far", lambda _notice, _now_s: False)


def notice_of_the_past_acted_on() -> None:
    """What should have ended hours ago, and runs, is ended."""
    put(autoscaler.decide.removal.reclaim, "is_over", lambda _notice, _now_s: False)
    put(autoscaler.decide.progress.draining, "is_out_of_date", lambda _look, _removal: False)
    put(autoscaler.decide.progress.present, "is_out_of_date", lambda _look, _removal: False)


def replacements_forgotten() -> None:
    """For a worker that will be retired another one is launched at every look."""
    put(autoscaler.decide.steps, "mark_replaced", lambda state, *_args: state)


def a_tag_is_never_lost() -> None:
    """What was ours once stays ours, whatever its tags say now."""
    parse = autoscaler.observe.instances.parse_instances
    ours: set[str] = set()

    def faithful(rows: Any, cluster_id: str) -> Any:
        found = parse(rows, cluster_id)
        ours.update(i.instance_id for i in found if i.managed)
        return tuple(replace(i, managed=i.instance_id in ours) for i in found)

    put(autoscaler.observe.snapshot, "parse_instances", faithful)


BLIND: Final = ("Prometheus down", "metrics of two clusters", "family missing")
IN_A_DRAIN: Final = ("drain undone by hand", "operator pauses in a drain")
BROUGHT_OUT_BY: Final[dict[str, tuple[str, ...]]] = {
    "local_volumes_ignored": ("kubelet breaks", "kube-state-metrics without allow-lists"),
    "old_drain_believed": (*IN_A_DRAIN, *BLIND),
    "overtaken_not_checked": IN_A_DRAIN,
    "not_listed_is_gone": ("worker loses the cluster's tag", "kubelet breaks", "EC2 in trouble"),
    "half_an_answer_proves_ready": ("half the series missing", "family dropped", "broken image"),
    "replacements_forgotten": ("EC2 announces a retirement",),
}
"""The faults that bring a bug out, where a soak of all kinds seldom meets them together."""

MUTANTS: Final[tuple[Mutant, ...]] = (
    ready_word_ignored,
    local_volumes_ignored,
    no_answer_lets_go,
    nobody_is_asked,
    old_drain_believed,
    overtaken_not_checked,
    not_listed_is_gone,
    half_an_answer_proves_ready,
    far_notice_taken_for_near,
    notice_of_the_past_acted_on,
    replacements_forgotten,
    a_tag_is_never_lost,
)

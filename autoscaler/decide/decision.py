"""The judgement: one snapshot, one state, one policy, one moment -> one decision that explains itself."""

from collections.abc import Callable
from typing import Final

import msgspec

from autoscaler.decide import steps
from autoscaler.decide.capacity.cost import fleet_cost
from autoscaler.decide.capacity.launch import LaunchPlan
from autoscaler.decide.capacity.market import storms_told
from autoscaler.decide.demand.custom import passed_over
from autoscaler.decide.demand.schedules import in_force, limits_at
from autoscaler.decide.fleet import Standing
from autoscaler.decide.looking import Look
from autoscaler.decide.steps import Course
from autoscaler.decide.words import in_words, not_launched
from autoscaler.model import (
    Action,
    Blocked,
    CommandOutcome,
    Decision,
    MetricsStatus,
    NodeCounts,
    Snapshot,
    State,
)
from autoscaler.policy import Policy
from autoscaler.state.transitions import outbid_fences

STEPS: Final[tuple[Callable[[Course], None], ...]] = (
    # What is under way, as far as the snapshot proves.
    steps.advance_launches,
    steps.reclaim,
    steps.weigh_pods,
    steps.weigh_headroom,
    steps.weigh_signals,
    steps.weigh_forecast,
    steps.take_back,
    steps.advance_removals,
    # At most one of these begins: each looks whether an earlier one came first.
    steps.repair,
    steps.grow,
    steps.retire,
    steps.replace,
    steps.shrink,
    steps.rotate,
    steps.cheapen,
    steps.return_to_spot,
)
"""The order of judgement. docs/architecture.md tells the same."""


def decide(snapshot: Snapshot, state: State, policy: Policy, *, now_s: int, decision_id: str) -> Decision:
    """Advance what is under way, then repair, grow or shrink - at most one of the three begins in one decision.

    Pure and total: it never raises for a valid snapshot. `growth` of the result becomes operations in `plan_launch`.
    """
    return decision_of(judge(snapshot, state, policy, now_s=now_s, decision_id=decision_id), policy)


def judge(snapshot: Snapshot, state: State, policy: Policy, *, now_s: int, decision_id: str) -> Course:
    """Every step of the judgement, taken: what `decide` tells in words, and ask/ explains."""
    if any(result.outcome is CommandOutcome.FENCED_OFF for _, result in snapshot.commands):
        state = outbid_fences(state, now_s)
    limits = limits_at(policy, state, now_s)
    look = Look(
        snapshot,
        in_force(policy, limits),
        now_s=now_s,
        fence=state.fence + 1,
        decision_id=decision_id,
        limits=limits,
    )
    course = Course(look, state)
    for step in STEPS:
        step(course)
    return course


def decision_of(course: Course, policy: Policy) -> Decision:
    """The judgement in words and numbers. `policy`: as it is written, without what its schedules make of it now."""
    look, snapshot, state, now_s = course.look, course.look.snapshot, course.before, course.look.now_s
    grow, shrink, pods = course.grow, course.shrink, course.pods
    action, reason, message = in_words(
        look,
        course.judged,
        pods,
        grow,
        shrink,
        repaired=course.repaired,
        replaced=course.replacing.reason if course.replacing.removes is not None else "",
        short_of=course.headroom.short_of,
        foreseen=course.forecast.foreseen,
    )
    return Decision(
        action=action,
        reason=reason,
        message=message,
        nodes=_nodes(course),
        signals=grow.signals,
        blocked=(
            *pods.blocked,
            *course.headroom.blocked,
            *course.unhealthy,
            *course.retirement.blocked,
            *course.replacing.blocked,
            *shrink.blocked,
            *passed_over(snapshot, policy),
            *course.spot_return.blocked,
            *(storms_told(course.judged, state, policy, now_s=now_s) if grow.growth is not None else ()),
        ),
        done=tuple(look.done),
        news=look.news,
        growth=grow.growth,
        cost=fleet_cost(
            course.fleet, state, policy, all_shown=snapshot.metrics_status is not MetricsStatus.UNAVAILABLE
        ),
        state=course.state,
        schedules=look.limits.schedules,
        signals_aside=course.signals_aside,
        forecast=course.forecast.record,
        foreseen=course.forecast.foreseen,
        asks=steps.asks(course),
    )


def _nodes(course: Course) -> NodeCounts:
    snapshot, workers, fleet = course.look.snapshot, course.look.policy.workers, course.judged
    known = snapshot.metrics_status is not MetricsStatus.UNAVAILABLE
    more = course.grow.growth.count if course.grow.growth is not None else -len(course.shrink.candidates)
    return NodeCounts(
        ready=fleet.ready if known else None,
        joining=fleet.joining,
        draining=len(fleet.having(Standing.LEAVING)) + len(course.shrink.candidates),
        desired=fleet.ready + fleet.joining + more if known else None,
        min=workers.min,
        max=workers.max,
    )


def with_plan(decision: Decision, plan: LaunchPlan, *, blocked: tuple[Blocked, ...] = ()) -> Decision:
    """The decision once its growth became operations, or could not."""
    if decision.growth is not None and plan.unplaced >= decision.growth.count:
        reason, message = not_launched(plan)
        decision = msgspec.structs.replace(
            decision, action=Action.HELD_BACK, reason=reason, message=message, ec2_codes=plan.codes
        )
    elif decision.growth is not None and plan.unplaced:
        told = f"{decision.message} {not_launched(plan)[1]}"
        decision = msgspec.structs.replace(decision, message=told)
    return msgspec.structs.replace(
        decision,
        state=plan.state,
        growth=None,
        fallbacks=plan.fallbacks,
        blocked=(*decision.blocked, *plan.blocked, *blocked),
    )

"""Growth becomes operations: what a launch freezes is asked of EC2, unless no launch may be sent now."""

import msgspec

from autoscaler.decide.capacity.launch import LaunchPlan, plan_launch
from autoscaler.decide.decision import with_plan
from autoscaler.model import NO_CODE, Blocked, Decision, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.ports import Fleet, FleetUnavailable
from autoscaler.state.backoffs import LAUNCH_PATH, back_off, path_held, spread_of


def open_launches(
    decision: Decision,
    unanswered: State,
    fleet: Fleet,
    snapshot: Snapshot,
    policy: Policy,
    *,
    cluster_id: str,
    now_s: int,
    decision_id: str,
) -> Decision:
    """The decision with its growth turned into operations. `unanswered` is the state where none could be opened."""
    if decision.growth is None:
        return msgspec.structs.replace(decision, state=unanswered)
    nothing = LaunchPlan(state=unanswered, opened=(), unplaced=decision.growth.count)
    held = path_held(unanswered, now_s)
    if held is not None:
        return with_plan(decision, msgspec.structs.replace(nothing, codes=(held.error_code,)))
    try:
        context = fleet.launch_context()
    except FleetUnavailable as error:
        code = error.code or NO_CODE
        waiting = back_off(unanswered, [(LAUNCH_PATH, code)], now_s=now_s, policy=policy, spread=spread_of(decision_id))
        blocked = (Blocked(subject="ec2", code="launch_context", text=str(error)),)
        return with_plan(decision, msgspec.structs.replace(nothing, state=waiting, codes=(code,)), blocked=blocked)
    plan = plan_launch(
        decision.growth,
        context,
        snapshot,
        decision.state,
        policy,
        cluster_id=cluster_id,
        now_s=now_s,
        decision_id=decision_id,
    )
    return with_plan(decision, plan if plan.opened else msgspec.structs.replace(plan, state=unanswered))

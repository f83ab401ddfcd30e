"""How many workers may leave by choice at once, and at which times of the week none begins to.

By choice: a shrink, a rotation, a cheaper replacement, a return to Spot. What is broken, what EC2 takes or retires,
and what is on its way out already is held by neither.
"""

from datetime import datetime

from autoscaler.decide.demand.schedules import last_end, spans_of
from autoscaler.policy import Policy


def at_once(policy: Policy, ready: int) -> int:
    """How many workers that run pods may leave together; `ready`: how many there are.

    A share is rounded down, but to no less than one: what is not meant to stop everything does not.
    """
    budget = policy.scale_down.budget
    if isinstance(budget, int):
        return budget
    percent = int(budget.removesuffix("%"))
    return max(1, ready * percent // 100) if percent else 0


def blackout_at(policy: Policy, now_s: int) -> str | None:
    """Which blackout holds, and until when; None where none does. Of several the one that ends last."""
    last = _last_blackout(policy, now_s)
    return last[1] if last is not None else None


def nobody_goes(policy: Policy, ready: int, now_s: int) -> str | None:
    """Why no worker that runs pods begins to leave by choice now: the budget, or a blackout; None where one may."""
    return blackout_at(policy, now_s) if at_once(policy, ready) else "scale_down.budget is 0"


def blackout_ends_s(policy: Policy, now_s: int) -> int | None:
    """When the last of those that hold ends, in epoch seconds; None where none holds, or it has no end."""
    last = _last_blackout(policy, now_s)
    return int(last[0]) if last is not None and last[0] != float("inf") else None


def _last_blackout(policy: Policy, now_s: int) -> tuple[float, str] | None:
    ends: list[tuple[float, str]] = []
    for window in policy.scale_down.blackouts:
        for begin_s, end_s in spans_of(window, now_s, now_s):
            if not begin_s <= now_s < end_s:
                continue
            last_s = last_end(window, end_s, now_s)
            if last_s is None:
                ends.append((float("inf"), f"the blackout {window.name} has no end: it begins again wherever it ends"))
            else:
                until = f"{datetime.fromtimestamp(last_s, window.zone):%Y-%m-%d %H:%M} ({window.time_zone})"
                ends.append((last_s, f"the blackout {window.name} holds until {until}"))
    return max(ends) if ends else None

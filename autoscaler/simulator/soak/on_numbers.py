"""Invariants of custom signals and forecasts: who asks had a reason, and what is unknown lets nobody go."""

from collections.abc import Iterator
from typing import Final

from autoscaler.decide.demand.schedules import LONGEST_AHEAD_S
from autoscaler.forecast import AHEAD_S as FORESEEN_S
from autoscaler.forecast import REFRESH_S, SLOT_S
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.clockwork import AHEAD_S, limits_between
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.own_numbers import Days, Number
from autoscaler.simulator.soak.watch import Saved, Watch
from autoscaler.state.signals import ASIDE_S

CALM: Final = frozenset({"low_utilisation", "consolidation"})
"""Reasons of a shrink that rests on the window."""


def numbers(watch: Watch) -> Iterator[Number]:
    """What is behind the signals of the policy."""
    return (one for one in watch.cluster.recorder.signals.values() if isinstance(one, Number))


def a_signal_asks(watch: Watch, fewest: int) -> bool:
    """Whether any of them wanted more workers than there were, lately. `fewest`: Ready and not leaving."""
    now_s = watch.cluster.now_s
    for number in numbers(watch):
        since_s = now_s - NOTICED_WITHIN_S - number.rule.window_s
        if number.wants(since_s, now_s) > fewest or number.was_above(since_s, now_s):
            return True
    return False


def a_forecast_asks(watch: Watch, fewest: int) -> bool:
    """Whether earlier days asked for more than there was, within the time that a forecast looks ahead."""
    days = watch.cluster.recorder.past
    if watch.policy.forecast.mode != "on" or not isinstance(days, Days):
        return False
    now_s = watch.cluster.now_s
    since_s = now_s - NOTICED_WITHIN_S - SLOT_S
    until_s = now_s + LONGEST_AHEAD_S + SLOT_S + CLOCKS_DIFFER_S
    # Scaled by today over the days before: which are alike here, but for what of them is missing.
    return 2 * days.most_between(since_s, until_s) > fewest


def a_forecast_stays_within_its_cap(watch: Watch, saved: Saved) -> str | None:
    """What it launches brings the fleet no higher than what runs needs, and `max_extra`."""
    launches = [launch for launch in new_launches(saved) if launch.reason == "forecast"]
    days = watch.cluster.recorder.past
    if not launches or not isinstance(days, Days):
        return None
    now_s, kept = watch.cluster.now_s, saved.new.forecast
    # After a question that failed the last answer holds as far as it reaches.
    made_s = REFRESH_S + (FORESEEN_S if kept is not None and kept.problem else 0)
    needed = days.most_between(now_s - made_s - 2 * SLOT_S - NOTICED_WITHIN_S, now_s)
    least = limits_between(
        watch.policies_since(now_s - NOTICED_WITHIN_S), now_s - NOTICED_WITHIN_S, now_s + AHEAD_S
    ).most_min
    most = max(int(needed) + 1, least) + watch.policy.forecast.max_extra
    asked = sum(launch.request.count for launch in launches)
    leaving = {removal.instance_id for removal in (*saved.old.removals, *saved.new.removals)}
    # EC2 shows a machine's end before its Node is NotReady.
    leaving |= {i.instance_id for i in watch.cluster.ec2.instances.values() if i.ended_at_s is not None}
    ready = min(len(moment.ready - leaving) for moment in watch.truth.lately(NOTICED_WITHIN_S))
    if ready + asked > most:
        return f"a forecast launches {asked} beside {ready}, and {most} are the most that it may want"
    return None


def nobody_leaves_while_a_signal_is_unknown(watch: Watch, saved: Saved) -> str | None:
    """For want of load nobody goes while a signal has no answer, whatever pods and use say."""
    leaving = [removal for removal in new_removals(saved) if removal.reason in CALM]
    now_s = watch.cluster.now_s
    for number in numbers(watch) if leaving else ():
        # A query that was refused before is left alone for a while, and counts neither way.
        refused_s = now_s - ASIDE_S - NOTICED_WITHIN_S - CLOCKS_DIFFER_S
        if number.unknown_all_the_time(now_s - NOTICED_WITHIN_S, now_s) and not number.refused_since(refused_s, now_s):
            return f"{leaving[0].instance_id} is removed, and the signal {number.rule.name} is unknown"
    return None


def a_shrink_leaves_what_a_signal_wants(watch: Watch, saved: Saved) -> str | None:
    """For want of load nobody goes whom a signal wants that was answered all the time."""
    leaving = {removal.instance_id for removal in new_removals(saved) if removal.reason in CALM}
    now_s = watch.cluster.now_s
    for number in numbers(watch) if leaving else ():
        since_s = now_s - ASIDE_S - NOTICED_WITHIN_S - CLOCKS_DIFFER_S
        if number.refused_since(since_s, now_s):
            continue
        least_max = min(policy.workers.max for policy in watch.policies_since(now_s - NOTICED_WITHIN_S))
        wanted = min(number.wanted_all_the_time(now_s - NOTICED_WITHIN_S, now_s), least_max)
        most = max(len(moment.ready - leaving) for moment in watch.truth.lately(NOTICED_WITHIN_S))
        if most < wanted:
            return f"{len(leaving)} leave and {most} stay, and the signal {number.rule.name} wants {wanted}"
    return None

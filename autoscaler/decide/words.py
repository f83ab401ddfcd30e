"""The sentences of a decision: judgement and prose change apart."""

from autoscaler.decide.capacity.launch import LaunchPlan
from autoscaler.decide.demand.custom import REASON as CUSTOM_SIGNAL
from autoscaler.decide.demand.custom import why_it_asks
from autoscaler.decide.demand.forecast import NAME as FORECAST
from autoscaler.decide.demand.forecast import why_it_asks as forecast_asks
from autoscaler.decide.demand.growth import AT_COST_CAP, GrowPlan, wants_most
from autoscaler.decide.demand.pods import PodDemand
from autoscaler.decide.demand.pool_minima import BELOW_POOL_MIN, POOL_MINIMUM
from autoscaler.decide.fleet import FleetView
from autoscaler.decide.looking import RETURN_TO_SPOT, Look
from autoscaler.decide.removal.shrink import ShrinkPlan
from autoscaler.model import Action, Cause, Foreseen, MetricsStatus, Signal, Snapshot, cause_of
from autoscaler.model import in_words as meaning
from autoscaler.state.replacing import REPLACING


def in_words(
    look: Look,
    fleet: FleetView,
    pods: PodDemand,
    grow: GrowPlan,
    shrink: ShrinkPlan,
    *,
    repaired: bool,
    replaced: str,
    short_of: str,
    foreseen: Foreseen | None = None,
) -> tuple[Action, str, str]:
    """Action, stable reason code, and one sentence for a person.

    `replaced`: for what reason a worker is drained that others were launched for; `short_of`: what headroom lacks.
    """
    snapshot = look.snapshot
    if grow.growth is not None:
        workers = grow.growth.count
        limited = f"; {_limit(look, fleet, grow)}" if grow.limit else ""
        why = f"{_why_grow(look, grow, pods, short_of, foreseen)}{_asks_for(grow) if grow.limit else ''}{limited}"
        return Action.SCALE_UP, grow.growth.reason, f"Launching {count(workers, 'worker')}: {why}."
    if repaired:
        return Action.REPAIR, replaced or "repair", sentence("; ".join(look.done))
    if shrink.candidates:
        return Action.SCALE_DOWN, shrink.reason, sentence(f"Draining: {shrink.message}; {_why_shrink(snapshot)}")
    if grow.limit == "never_seen":
        message = "An alert fires, and nothing is launched: the cluster was never seen whole, so max cannot be kept."
        return Action.HELD_BACK, grow.limit, message
    if grow.limit:
        why = f"{_why_grow(look, grow, pods, short_of, foreseen)}{_asks_for(grow)}; {_limit(look, fleet, grow)}"
        return Action.HELD_BACK, grow.limit, sentence(f"{why}: nothing is launched")
    if snapshot.metrics_status is MetricsStatus.UNAVAILABLE:
        return Action.HELD_BACK, "metrics_unavailable", sentence(f"Nothing is decided: {snapshot.metrics_problems[0]}")
    if not snapshot.cluster_known:
        return Action.HELD_BACK, "metrics_partial", sentence(f"Nothing is computed: {snapshot.metrics_problems[0]}")
    if look.done:
        return Action.NONE, "progress", sentence("; ".join(look.done))
    if fleet.joining:
        return (
            Action.NONE,
            "waiting_for_nodes",
            f"{count(fleet.joining, 'worker')} on the way; nothing more is needed now.",
        )
    if pods.waiting:
        return (
            Action.NONE,
            "pods_waiting",
            f"{count(pods.waiting, 'pod')} unscheduled: too short a time to count, or there is room.",
        )
    return Action.NONE, shrink.reason, sentence(f"Nothing to do: {shrink.message}")


def _why_grow(look: Look, grow: GrowPlan, pods: PodDemand, short_of: str, foreseen: Foreseen | None) -> str:
    reason = grow.growth.reason if grow.growth is not None else grow.reason
    by_name: dict[str, Signal] = {signal.name: signal for signal in grow.signals}
    if reason == "pods_unschedulable":
        return f"{count(pods.waiting, 'pod')} {'fits' if pods.waiting == 1 else 'fit'} on no worker"
    if reason == "interruption":
        return "EC2 takes a worker back and its pods need room"
    if reason in REPLACING:
        return grow.because
    if reason == "retirement":
        return "EC2 will retire a worker, and its replacement comes first"
    if reason == RETURN_TO_SPOT:
        return "a worker that need not be on demand is replaced by Spot, and its replacement comes first"
    if reason == "blind_growth":
        return "a scale-up alert fires while Prometheus cannot be asked"
    if reason == "below_min":
        return f"there are fewer than {look.limits.min_by} ({by_name['minimum'].threshold:.0f})"
    if reason == BELOW_POOL_MIN:
        minimum = by_name[POOL_MINIMUM]
        return f"pools with a min have {minimum.value:.0f} workers and are to have {minimum.threshold:.0f}"
    if reason == "headroom":
        beside = f"{count(pods.waiting, 'pod')} {'waits' if pods.waiting == 1 else 'wait'}, and " if pods.extra else ""
        return f"{beside}{short_of} does not stay free, as headroom asks"
    if reason == FORECAST and foreseen is not None:
        return forecast_asks(foreseen, look.policy)
    if reason == CUSTOM_SIGNAL:
        return why_it_asks(look.snapshot, look.policy, wants_most(grow.signals))
    signal = by_name["cpu_utilisation" if reason == "cpu_high" else "memory_utilisation"]
    kind = "CPU" if reason == "cpu_high" else "memory"
    return f"{kind} use is {signal.value or 0:.0%}, above {signal.threshold or 0:.0%} for the whole window"


def _asks_for(grow: GrowPlan) -> str:
    """The demand before any limit."""
    return f", which asks for {count(grow.missing, 'worker')} more"


def _limit(look: Look, fleet: FleetView, grow: GrowPlan) -> str:
    """What of the demand is not launched, and the field of the policy, or the failure, behind it."""
    match grow.limit:
        case "at_max":
            return f"{look.limits.max_by} is {look.policy.workers.max} and {fleet.existing} exist"
        case "pools_at_max":
            return "every pool of workers.pools that would serve it is at its own max"
        case "at_cost_cap":
            return f"cost.max_usd_per_hour is {look.policy.cost.max_usd_per_hour:g} and {grow.because}"
        case "max_step":
            return f"scale_up.max_step is {look.policy.scale_up.max_step}"
        case "state_full":
            return "as many operations are open as the state holds"
        case _:
            because = f" ({grow.because})" if grow.because else ""
            return f"launches in a row failed, so one at a time is tried, ever more rarely{because}"


def _why_shrink(snapshot: Snapshot) -> str:
    parts = [
        f"{u.resource} use stayed at or below {u.shrink_max:.0%}"
        for u in snapshot.utilisation
        if u.shrink_max is not None
    ]
    return " and ".join(parts)


def not_launched(plan: LaunchPlan) -> tuple[str, str]:
    """Stable reason code and one sentence: why workers that are wanted are not launched now."""
    wanted = count(plan.unplaced, "worker")
    if not plan.codes:
        if plan.state_full:
            return "state_full", f"{wanted} must wait: as many operations are open as the state holds."
        if plan.left_out:
            where = "; ".join(f"{zone.subject}: {zone.text}" for zone in plan.left_out)
            return "zone_backoff", f"{wanted} must wait for zones in which launches join. {where}."
        return "no_subnet", f"{wanted} must wait: no subnet of ours lies in the zone that the pods select."
    because = "; ".join(meaning(code) for code in plan.codes)
    if plan.unpaid:
        no_room = f"cost.max_usd_per_hour has no room for {' and for '.join(plan.unpaid)}"
        return AT_COST_CAP, f"{wanted} must wait: {no_room}. {because}. Each is tried again later."
    causes = {cause_of(code) for code in plan.codes}
    if causes <= {Cause.CAPACITY}:
        reason = "capacity_backoff"
    else:
        reason = "launch_busy" if causes <= {Cause.CAPACITY, Cause.BUSY} else "launch_refused"
    return reason, f"{wanted} must wait and no pool can be asked now. {because}. Each is tried again later."


def count(number: int, what: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """The text as one sentence: a capital where it begins with a word, and a full stop."""
    first = text.split(" ", 1)[0]
    start = text[:1].upper() if first.isalpha() else text[:1]  # a node's name keeps its letters
    return start + text[1:] + ("" if text.endswith(".") else ".")

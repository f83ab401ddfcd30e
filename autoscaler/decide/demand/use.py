"""Workers wanted by measured CPU and memory use."""

import math

from autoscaler.model import Signal, Snapshot
from autoscaler.policy import Policy


def utilisation_signals(snapshot: Snapshot, ready: int, policy: Policy) -> tuple[Signal, ...]:
    """One signal a resource: `ceil(used / target)` workers where the use was high all through the window, else none."""
    above = {"cpu": policy.scale_up.cpu_above, "memory": policy.scale_up.memory_above}
    signals = []
    for use in snapshot.utilisation:
        threshold = above[use.resource]
        wants = None
        if use.grow_min is not None and use.now_low is not None and use.grow_min > threshold and ready > 0:
            wants = max(ready + 1, math.ceil(ready * use.now_low / threshold))
        signals.append(Signal(name=f"{use.resource}_utilisation", value=use.now_low, threshold=threshold, wants=wants))
    return tuple(signals)


def low_enough(snapshot: Snapshot, policy: Policy) -> str | None:
    """None when both resources were low all through the shrink window, else which was not, or is not known."""
    below = {"cpu": policy.scale_down.cpu_below, "memory": policy.scale_down.memory_below}
    seen = {use.resource: use.shrink_max for use in snapshot.utilisation}
    for resource, threshold in below.items():
        value = seen.get(resource)
        if value is None:
            return f"{resource} use is not known for all of the last {policy.scale_down.window_s} s"
        if value >= threshold:
            return (
                f"{resource} use reached {value:.0%} in the last {policy.scale_down.window_s} s; "
                f"below {threshold:.0%} is asked"
            )
    return None


def needed_without_growth(snapshot: Snapshot, ready: int, policy: Policy) -> int | None:
    """Workers that the measured use needs at targets `target_margin` below the grow targets; None when not known."""
    above = {"cpu": policy.scale_up.cpu_above, "memory": policy.scale_up.memory_above}
    needs = []
    for use in snapshot.utilisation:
        if use.shrink_max is None:
            return None
        needs.append(math.ceil(ready * use.shrink_max / (above[use.resource] - policy.scale_down.target_margin)))
    return max(needs) if needs else None

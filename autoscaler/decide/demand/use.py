"""Workers wanted by measured CPU and memory use, each worker weighed by its own size."""

import math
from collections.abc import Collection, Sequence
from typing import Final

from autoscaler.decide.capacity.pools import fillers, is_open
from autoscaler.decide.fleet import FleetView, Standing, total
from autoscaler.decide.scheduling.offered import offered
from autoscaler.model import Resources, Signal, Snapshot, State
from autoscaler.policy import Policy

_ROUNDING: Final = 1e-9
"""Ratios come from sums of floats: what is over a target by less is at it."""


def utilisation_signals(snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> tuple[Signal, ...]:
    """One signal a resource: what the use wants beyond what there is, in workers of the type that serves all.

    Only where the use was high all through the window; the use is over the workers that take pods.
    """
    above = {"cpu": policy.scale_up.cpu_above, "memory": policy.scale_up.memory_above}
    new = offered(fillers(fleet, policy)[0].instance_types[0], fleet, state, policy)
    signals = []
    for use in snapshot.utilisation:
        threshold = above[use.resource]
        wants = None
        there = _of(fleet.offered, use.resource)
        if use.grow_min is not None and use.now_low is not None and use.grow_min > threshold and there > 0:
            missing = there * use.now_low / threshold - there
            wants = fleet.ready + max(1, math.ceil(missing / _of(new, use.resource) - _ROUNDING))
        signals.append(Signal(name=f"{use.resource}_utilisation", value=use.now_low, threshold=threshold, wants=wants))
    return tuple(signals)


def low_enough(snapshot: Snapshot, fleet: FleetView, policy: Policy) -> str | None:
    """None when both resources were low all through the shrink window, else which was not, or is not known.

    Of a fleet in which nobody's use is measured there is none to be low.
    """
    if none_is_measured(fleet, policy):
        return None
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


def too_full_without(
    snapshot: Snapshot, fleet: FleetView, gone: Collection[str], policy: Policy, *, new: Sequence[Resources] = ()
) -> str | None:
    """Why the workers that stay could not carry the use at targets `target_margin` below the grow targets.

    `gone`: keys of the workers that leave; `new`: what those offer that come for them. None where they could; the use
    that counts is the window's highest: as a share of the workers of its time, and of CPU what it came to as well. What
    was half of ten workers is more than half of the eight that are left, and memory is in part the machines' own.
    Where nobody's use is measured, requests alone judge.
    """
    if none_is_measured(fleet, policy):
        return None
    targets = {
        "cpu": policy.scale_up.cpu_above - policy.scale_down.target_margin,
        "memory": policy.scale_up.memory_above - policy.scale_down.target_margin,
    }
    leaving = total(fleet.offers[key] for key in gone if key in fleet.offers)
    highest = {use.resource: use.shrink_max for use in snapshot.utilisation}
    for resource, target in targets.items():
        most = highest.get(resource)
        if most is None:
            return f"{resource} use is not known for all of the last {policy.scale_down.window_s} s"
        everything = _of(fleet.offered, resource)
        used, room = everything * most, everything - _of(leaving, resource)
        if resource == "cpu":
            # Workers that take no pods may have used of it what they have.
            beside = fleet.whole.cpu_millicores - everything
            used = max(used, snapshot.cpu_used_at_once_millicores - beside)
        room += sum(_of(size, resource) for size in new)
        if used > room * target + _ROUNDING * used:
            share = f"{used / room:.0%}" if room else "more than all"
            return f"{resource} use would be {share} of the workers that stay; at most {target:.0%} is allowed"
    return None


def none_is_measured(fleet: FleetView, policy: Policy) -> bool:
    """Whether all that are Ready are for some pods only: use is recorded of workers that take any (docs/metrics.md).

    One of ours that is cordoned, or has a taint that is not its pool's, may take any again: then use is unknown.
    """
    ready = fleet.having(Standing.READY)
    return bool(ready) and all(
        worker.node is not None and worker.node.tainted and (is_open(worker, policy) or not worker.ours)
        for worker in ready
    )


def _of(size: Resources, resource: str) -> int:
    return size.cpu_millicores if resource == "cpu" else size.memory_bytes

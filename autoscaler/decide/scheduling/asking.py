"""What has to be seen before a placement can be judged: asked for step by step, and only where it can matter."""

from collections.abc import Collection, Sequence

from autoscaler.decide.fleet import FleetView
from autoscaler.decide.scheduling.book import Book, label_keys
from autoscaler.decide.scheduling.machines import Machines
from autoscaler.model import Asks, Pod, Snapshot, State
from autoscaler.model.rules import PodRules
from autoscaler.policy import Policy

Known = tuple[Machines, Book]
"""Workers as the scheduler sees them, and what pods ask: both by one look's knowledge."""


def what_is_known(snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> Known:
    """To be made once nothing comes first."""
    machines = Machines(snapshot, fleet, state, policy)
    return machines, Book(snapshot.scheduling_rules, machines.names, at_s=snapshot.taken_at_s)


def what_comes_first(snapshot: Snapshot) -> Asks:
    """What to ask first, whoever the pods are: what is free, and the rules that are kept."""
    unruled = snapshot.scheduling_rules is None and not snapshot.rules_problem
    if snapshot.rooms_known and not unruled:
        return Asks()
    return Asks(rooms=not snapshot.rooms_known, rules=unruled)


def what_these_need(snapshot: Snapshot, policy: Policy, known: Known, pods: Sequence[Pod], *, with_zones: bool) -> Asks:
    """What to ask before it is judged where these pods could go; nothing once all is known or cannot be had.

    `with_zones`: whether new workers are thought of, so that it matters where they could be launched.
    """
    machines, book = known
    rules, may_ask = snapshot.scheduling_rules, not snapshot.rules_problem
    unknown = [(pod, book.unknown_since_s(pod, refresh_s=policy.rules.refresh_s)) for pod in pods]
    asked = [(pod.owner, since_s) for pod, since_s in unknown if since_s is not None]
    if asked and may_ask:
        return Asks(
            rules_of=tuple(sorted({owner for owner, _ in asked})),
            rules_since_s=max(since_s for _, since_s in asked),
        )
    asking = {book.of(pod) for pod in pods}
    after_s = machines.to_be_told_after_s({name for one in asking for name, _ in one.requests})
    if after_s and may_ask and rules is not None and rules.answered_at_s < after_s:
        return Asks(rules_of=tuple(sorted({pod.owner for pod in pods})), rules_after_s=after_s)
    places = tuple(owner for owner in book.companions(asking) if owner not in snapshot.places_of)
    zonal = with_zones and (machines.costs.passes_over or any(label_keys(one) & machines.zone_keys for one in asking))
    return Asks(places_of=places, zones=zonal and snapshot.zones is None and not snapshot.zones_problem)


def zones_that_matter(
    snapshot: Snapshot, fleet: FleetView, machines: Machines, asking: Collection[PodRules]
) -> tuple[str, ...]:
    """The zones of which new workers are told apart; none where no pod cares.

    Where nobody said in which zones workers can be launched, those of the workers of ours that there are.
    """
    if not any(label_keys(rules) & machines.zone_keys for rules in asking):
        return ()
    if snapshot.zones:
        return tuple(sorted(set(snapshot.zones)))
    return tuple(sorted({worker.instance.zone for worker in fleet.workers if worker.ours and worker.instance}))

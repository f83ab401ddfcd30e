"""One look's questions: decide, answer what the decision asks, and decide again until it asks no more."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from autoscaler.asking.following import Following
from autoscaler.asking.server import ACTING_S, NO_TIME
from autoscaler.model import Asks, Decision, SchedulingRules, Snapshot, State
from autoscaler.observe.closer import look_closer, without_closer_look
from autoscaler.observe.history import see_history, without_history
from autoscaler.observe.instances import look_up
from autoscaler.observe.signals import see_signals, unseen_signals
from autoscaler.policy import Policy
from autoscaler.ports import FleetUnavailable, Ports, RulesMalformed, StoreUnavailable

CLOSER_LOOKS: Final = 7
"""Questions after the first: what is free and what is asked, then the pods of workers that may go, some at a time."""


class Servers(Protocol):
    """Who tells what the scheduler asks: asking/server.py asks, ask/onlooker.py asks nobody."""

    def take_answer(self, snapshot: Snapshot, held: Following) -> SchedulingRules | None:
        """The answer to a question that is open, if it is there."""
        ...

    def foresee(self, snapshot: Snapshot, held: Following) -> None:
        """Think of owners that are newer than the last answer."""
        ...

    def answer(self, snapshot: Snapshot, held: Following, *, since_s: int) -> SchedulingRules | str:
        """What a server tells now, or why that cannot be had."""
        ...


class Asking:
    """Whom a look asks, and the state that it rests on meanwhile."""

    def __init__(self, ports: Ports, server: Servers, policy: Policy, cluster_id: str) -> None:
        self._ports = ports
        self._server = server
        self._policy = policy
        self._cluster_id = cluster_id

    def decided(
        self, snapshot: Snapshot, held: Following, judge: Callable[[Snapshot, State], Decision]
    ) -> tuple[Decision, Snapshot]:
        """Judge what was seen; look closer, and judge again, while the decision asks for more."""
        rules = self._server.take_answer(snapshot, held)
        snapshot = snapshot if rules is None else msgspec.structs.replace(snapshot, scheduling_rules=rules)
        self._server.foresee(snapshot, held)
        decision = judge(snapshot, held.state)
        for _ in range(CLOSER_LOOKS):
            if not decision.asks:
                break
            closer = self._look_closer(snapshot, held, decision.asks)
            decision = judge(closer, held.state)
            learned = _learned(closer) != _learned(snapshot)
            snapshot = closer
            if not learned:
                break
        return decision, snapshot

    def _look_closer(self, snapshot: Snapshot, held: Following, asks: Asks) -> Snapshot:
        """The snapshot with what was asked, or with why that could not be had."""
        if self._ports.clock.remaining_s() <= self._policy.metrics.timeout_s + ACTING_S:
            return self._without(snapshot, asks)
        snapshot = look_up(self._ports.fleet, snapshot, asks.instances, self._cluster_id)
        snapshot = look_closer(self._ports.metrics, snapshot, asks, self._policy)
        snapshot = self._with_numbers(snapshot, held, asks)
        return self._with_rules(self._with_templates(self._with_zones(snapshot, asks), asks), held, asks)

    def _with_numbers(self, snapshot: Snapshot, held: Following, asks: Asks) -> Snapshot:
        """What the operator's own queries say, and earlier days. Neither takes the time that a launch needs."""
        metrics, remaining_s = self._ports.metrics, self._ports.clock.remaining_s
        if asks.signals and snapshot.signals is None:
            snapshot = see_signals(metrics, snapshot, held.state, self._policy, remaining_s=remaining_s)
        if asks.history and snapshot.history is None:
            snapshot = see_history(metrics, snapshot, self._policy, remaining_s=remaining_s)
        return snapshot

    def _without(self, snapshot: Snapshot, asks: Asks) -> Snapshot:
        """Where no time is left to look closer."""
        if asks.rooms or asks.pods_of or asks.places_of:
            snapshot = without_closer_look(snapshot, NO_TIME)
        if (asks.rules or asks.rules_of) and not snapshot.rules_problem:
            snapshot = _without_rules(snapshot, NO_TIME)
        if asks.zones and snapshot.zones is None and not snapshot.zones_problem:
            snapshot = _without_zones(snapshot, NO_TIME)
        if asks.templates and snapshot.templates is None and not snapshot.templates_problem:
            snapshot = _without_templates(snapshot, NO_TIME)
        if asks.signals and snapshot.signals is None:
            snapshot = unseen_signals(snapshot, self._policy, NO_TIME)
        if asks.history and snapshot.history is None:
            snapshot = without_history(snapshot, NO_TIME)
        return snapshot

    def _with_zones(self, snapshot: Snapshot, asks: Asks) -> Snapshot:
        if not asks.zones or snapshot.zones is not None or snapshot.zones_problem:
            return snapshot
        try:
            context = self._ports.fleet.launch_context()
        except FleetUnavailable as error:
            return _without_zones(snapshot, str(error))
        by_pool = {template.pool: _zones(template.subnet_zones) for template in context.templates}
        by_pool[self._policy.default_pool.name] = _zones(context.subnet_zones)
        everywhere = tuple(sorted({zone for zones in by_pool.values() for zone in zones}))
        return msgspec.structs.replace(
            snapshot,
            zones=everywhere,
            pool_zones=tuple((pool, zones) for pool, zones in sorted(by_pool.items()) if zones != everywhere),
        )

    def _with_templates(self, snapshot: Snapshot, asks: Asks) -> Snapshot:
        if not asks.templates or snapshot.templates is not None or snapshot.templates_problem:
            return snapshot
        try:
            context = self._ports.fleet.launch_context()
        except FleetUnavailable as error:
            return _without_templates(snapshot, str(error))
        of_pools = ((template.template_id, template.template_version) for template in context.templates)
        return msgspec.structs.replace(snapshot, templates=((context.template_id, context.template_version), *of_pools))

    def _with_rules(self, snapshot: Snapshot, held: Following, asks: Asks) -> Snapshot:
        if snapshot.rules_problem or not (asks.rules or asks.rules_of):
            return snapshot
        rules, unreadable = snapshot.scheduling_rules, ""
        if rules is None:
            try:
                rules = self._ports.store.rules() or SchedulingRules(answered_at_s=0)
            except RulesMalformed as error:
                unreadable = f"{error}, and "
            except StoreUnavailable as error:
                return _without_rules(snapshot, str(error))
        if rules is not None:
            snapshot = msgspec.structs.replace(snapshot, scheduling_rules=rules)
            told = {owner.owner for owner in rules.owners if owner.seen_at_s >= asks.rules_since_s}
            if told.issuperset(asks.rules_of) and rules.answered_at_s >= asks.rules_after_s:
                return snapshot
        # What was told last is lost with a record that does not decode, however young it is.
        since_s = max(asks.rules_since_s, asks.rules_after_s)
        found = self._server.answer(snapshot, held, since_s=snapshot.taken_at_s if unreadable else since_s)
        if isinstance(found, str):
            return _without_rules(snapshot, unreadable + found)
        return msgspec.structs.replace(snapshot, scheduling_rules=found)


def _zones(subnet_zones: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({zone for _, zone in subnet_zones}))


def _learned(snapshot: Snapshot) -> tuple[object, ...]:
    """What closer looks add to."""
    rules = snapshot.scheduling_rules
    return (
        snapshot.rooms_known,
        snapshot.pods_of,
        snapshot.looked_up,
        rules.answered_at_s if rules is not None else None,
        snapshot.rules_problem,
        snapshot.places_of,
        snapshot.zones,
        snapshot.zones_problem,
        snapshot.signals,
        snapshot.history,
        snapshot.templates,
        snapshot.templates_problem,
    )


def _without_rules(snapshot: Snapshot, why: str) -> Snapshot:
    return msgspec.structs.replace(snapshot, rules_problem=f"what the scheduler asks is not known: {why}")


def _without_zones(snapshot: Snapshot, why: str) -> Snapshot:
    return msgspec.structs.replace(snapshot, zones_problem=f"where workers can be launched is not known: {why}")


def _without_templates(snapshot: Snapshot, why: str) -> Snapshot:
    return msgspec.structs.replace(snapshot, templates_problem=f"what a launch would give now is not known: {why}")

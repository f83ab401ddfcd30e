"""Carries a teardown out: look, plan, save under the lease, act; again until nothing of ours is left.

The same steps as `autoscaler.reconcile`, with `plan_teardown` in place of `decide`. The cluster is paused, so that no
invocation decides meanwhile; one that was at work when the pause came keeps its lease until it lets go.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from autoscaler.act.effects import Effect, due_effects
from autoscaler.act.holder import Holder, LostLease
from autoscaler.act.perform import Actor
from autoscaler.cli.mode.change import change_mode, tell_history
from autoscaler.cli.teardown.memory import Memory, Wishes
from autoscaler.cli.teardown.plan import Plan, plan_teardown
from autoscaler.decide.looking import TEARDOWN
from autoscaler.decide.progress.launch import SETTLE_S
from autoscaler.document import Outcome, decision_document
from autoscaler.model import (
    THROTTLES,
    Action,
    Decision,
    Instance,
    Mode,
    ModeSetting,
    NodeCounts,
    Sample,
    Snapshot,
    State,
    Trigger,
)
from autoscaler.observe.snapshot import observe
from autoscaler.policy import Policy
from autoscaler.ports import Conflict, MetricsUnavailable, PortError, Ports, StoreUnavailable
from autoscaler.reconcile import LEASE_MARGIN_S
from autoscaler.state.memory import forget_old
from autoscaler.state.transitions import lease_held_by_other, release_lease, take_lease

POLL_S: Final = 5.0
FAILURES_IN_A_ROW: Final = 5
"""So many looks may fail, each after another: longer, and somebody should know."""
SAME_FAILURE_TIMES: Final = 12
"""An effect that fails in the same words for a minute will not succeed by itself."""


class End(StrEnum):
    """How a teardown ended."""

    DONE = "done"
    REFUSED = "refused"
    """A worker must not be drained: a budget or a rule."""
    MODE_CHANGED = "mode_changed"
    STALLED = "stalled"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    end: End
    removed: tuple[str, ...]
    """Instance ids that were there at the first look and are terminated."""
    left: tuple[str, ...]
    refused: tuple[str, ...]
    """Why, a sentence each."""
    seconds: int


class NoMetrics:
    """Prometheus is not asked: an operator's desk does not reach it, and nothing here depends on use."""

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Say so."""
        del promql, timeout_s
        raise MetricsUnavailable("a teardown does not ask Prometheus")


class Teardown:
    """One run. `ports` makes the ports of one step, with a clock that begins then; `tell` hears what happens."""

    def __init__(
        self,
        ports: Callable[[], Ports],
        *,
        cluster_id: str,
        policy: Policy,
        wishes: Wishes,
        tell: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._ports = ports
        self._cluster_id = cluster_id
        self._policy = policy
        self._wishes = wishes
        self._say = tell
        self._sleep = sleep
        self._owner = ports().ids.new()
        self._memory = Memory()
        self._left: tuple[Instance, ...] = ()
        self._seen: dict[str, None] = {}
        self._last_told = ""
        self._same_failure = 0

    def preview(self) -> Plan:
        """What the first step would do; changes nothing. Raises PortError."""
        ports = self._ports()
        state, _ = ports.store.load()
        return self._plan(ports, state, self._observe(ports, state))

    def run(self, *, by: str) -> Report:
        """Pause the cluster and remove its workers. Raises PortError, Contended."""
        ports = self._ports()
        began_s = ports.clock.now_s()
        setting = ModeSetting(mode=Mode.PAUSED, set_at_s=began_s, by=by)
        change = change_mode(ports.store, setting, sleep=self._sleep)
        self._tell("the autoscaler is paused")
        try:
            tell_history(
                ports.store,
                change,
                cluster_id=self._cluster_id,
                record_id=ports.ids.new(),
                message="Paused for the teardown.",
            )
        except StoreUnavailable as error:
            self._tell(f"not recorded in the history: {error}")
        failures = 0
        moved_at_s, mark = began_s, ""
        while True:
            try:
                end, now_mark = self._step()
                failures = 0
            except PortError as error:
                failures += 1
                hopeless = error.refused and error.code not in THROTTLES
                if hopeless or failures >= FAILURES_IN_A_ROW:
                    raise
                self._tell(str(error))
                end, now_mark = None, mark
            now_s = self._ports().clock.now_s()
            if now_mark != mark:
                moved_at_s, mark = now_s, now_mark
            if end is None and (now_s - moved_at_s > self._patience_s or self._same_failure >= SAME_FAILURE_TIMES):
                end = End.STALLED
            if end is not None:
                return self._report(end, now_s - began_s)
            self._sleep(POLL_S)

    @property
    def _patience_s(self) -> int:
        """Longer than any single phase may take: a drain, what follows it, and EC2's settling."""
        return 2 * (self._policy.drain.timeout_s + SETTLE_S)

    def _step(self) -> tuple[End | None, str]:
        """One look and what follows; how it ended, and a text that changes with every progress. Raises PortError."""
        ports = self._ports()
        state, version = ports.store.load()
        now_s = ports.clock.now_s()
        setting = state.mode
        if setting is None or setting.mode is not Mode.PAUSED or (setting.until_s or now_s + 1) <= now_s:
            return End.MODE_CHANGED, ""
        if lease_held_by_other(state, self._owner, now_s):
            self._tell("waiting for an invocation that still holds the lease")
            return None, f"lease {state.lease.owner if state.lease else ''}"
        snapshot = self._observe(ports, state)
        plan = self._plan(ports, state, snapshot)
        self._memory = plan.memory
        self._left = plan.left
        self._seen |= dict.fromkeys(instance.instance_id for instance in plan.left)
        effects = due_effects(plan.state, snapshot, self._policy, waits=False)
        if plan.state != state or effects:
            self._act(ports, plan, version, effects, snapshot)
        elif plan.done:
            return End.DONE, ""
        elif plan.stopped:
            return End.REFUSED, ""
        under_way = [(r.instance_id, r.phase.value) for r in plan.state.removals]
        return None, f"{under_way} {[(i.instance_id, i.state.value) for i in plan.left]} {len(plan.state.launches)}"

    def _observe(self, ports: Ports, state: State) -> Snapshot:
        return observe(
            NoMetrics(),
            ports.fleet,
            ports.commands,
            ports.background,
            state=state,
            cluster_id=self._cluster_id,
            policy=self._policy,
            now_s=ports.clock.now_s(),
        )

    def _plan(self, ports: Ports, state: State, snapshot: Snapshot) -> Plan:
        return plan_teardown(
            snapshot,
            state,
            self._policy,
            self._wishes,
            self._memory,
            now_s=ports.clock.now_s(),
            decision_id=ports.ids.new(),
        )

    def _act(self, ports: Ports, plan: Plan, version: int, effects: tuple[Effect, ...], snapshot: Snapshot) -> None:
        """Save every intent with the lease, then act: as `reconcile` does."""
        now_s = ports.clock.now_s()
        expires_at_s = now_s + int(ports.clock.remaining_s()) + LEASE_MARGIN_S
        intended = take_lease(forget_old(plan.state, now_s), self._owner, expires_at_s)
        try:
            saved = ports.store.save(intended, version)
        except Conflict:
            return  # a notice, or the mode: the next look sees it
        for event in plan.events:
            self._tell(event)
        holder = Holder(ports.store, self._owner, intended, saved)
        actor = Actor(holder, ports.fleet, ports.commands, ports.clock, self._policy)
        try:
            actor.perform(effects, under=Mode.PAUSED)
            holder.apply(lambda state: release_lease(state, self._owner))
        except LostLease as lost:
            actor.failures.append(f"stopped: {lost}")
        self._tell_effects(actor)
        self._record(ports, plan, holder.state, actor, snapshot)

    def _tell_effects(self, actor: Actor) -> None:
        for event in actor.events:
            self._tell(event)
        told = self._last_told
        for failure in actor.failures:
            self._tell(failure)
        repeated = bool(actor.failures) and told == self._last_told
        self._same_failure = self._same_failure + 1 if repeated and not self._wishes.force else 0

    def _record(self, ports: Ports, plan: Plan, state: State, actor: Actor, snapshot: Snapshot) -> None:
        """Into the history, where the functions' own decisions stand: who looks there must find this as well."""
        events, failures = (*plan.events, *actor.events), tuple(actor.failures)
        if not events and not failures:
            return
        decision_id = ports.ids.new()
        counts = NodeCounts(ready=None, joining=0, draining=len(state.removals), desired=0, min=0, max=0)
        decision = Decision(
            action=Action.SCALE_DOWN,
            reason=TEARDOWN,
            message=f"Teardown: {len(plan.left)} workers are left.",
            nodes=counts,
            signals=(),
            blocked=(),
            events=plan.events,
            growth=None,
            state=state,
        )
        document = decision_document(
            decision,
            decision_id=decision_id,
            cluster_id=self._cluster_id,
            trigger=Trigger(kind=TEARDOWN),
            mode=Mode.PAUSED,
            policy=self._policy,
            snapshot=snapshot,
            state=state,
            outcome=Outcome(events=tuple(actor.events), failures=failures),
        )
        try:
            ports.store.record(ports.clock.now_s(), decision_id, document)
        except StoreUnavailable as error:
            self._tell(f"not recorded in the history: {error}")

    def _report(self, end: End, seconds: int) -> Report:
        left = tuple(instance.instance_id for instance in self._left)
        return Report(
            end=end,
            removed=tuple(key for key in self._seen if key not in left),
            left=left,
            refused=tuple(self._memory.refused.values()),
            seconds=seconds,
        )

    def _tell(self, text: str) -> None:
        if text != self._last_told:
            self._last_told = text
            self._say(text)

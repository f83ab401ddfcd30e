"""The loop: observe, decide, act. Nothing else ever changes the fleet.

Told as one list (docs/architecture.md tells the same):

1. save the facts that the trigger brought (an interruption notice);
2. load the state (a new cluster's begins in the start mode); a paused cluster is left alone;
3. observe: Prometheus and EC2 at once, and the results of commands under way;
4. decide: pure; what a decision could not see it asks for, then it decides again;
5. nothing to do, or only to be told: return the document, having written nothing;
6. save the lease, the next fence and every intent, whole, before any effect; lost the race: once more from 2;
7. act: each effect's answer is saved at once; then people are told;
8. let go of the lease, with what was told; if notices arrived meanwhile, look again.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from autoscaler.act.effects import due_effects
from autoscaler.act.holder import Holder, LostLease
from autoscaler.act.perform import Actor
from autoscaler.asking.asking import Asking
from autoscaler.asking.following import Following
from autoscaler.asking.server import Server
from autoscaler.decide.decision import decide
from autoscaler.decide.demand.growth import BLIND_ALERT
from autoscaler.decide.fleet import view_fleet
from autoscaler.decide.scheduling.remembering import types_seen
from autoscaler.document import Outcome, decision_document, paused_decision, with_more
from autoscaler.launching import open_launches
from autoscaler.live_policy import InForce, in_force, policy_told, taken_up
from autoscaler.model import (
    Action,
    Decision,
    MetricsStatus,
    Mode,
    Notice,
    OfferedPolicy,
    Snapshot,
    State,
    Trigger,
)
from autoscaler.news import BEGINNINGS, News
from autoscaler.observe.snapshot import observe
from autoscaler.policy import Policy
from autoscaler.ports import Conflict, Ports, StoreUnavailable
from autoscaler.state.backoffs import codes_told, untold
from autoscaler.state.memory import forget_old, forget_removed
from autoscaler.state.modes import begun, effective_mode
from autoscaler.state.notices import add_notices, take_back_notices
from autoscaler.state.questions import may_look_ahead
from autoscaler.state.signals import untold_failures
from autoscaler.state.size import fitted
from autoscaler.state.transitions import failure_told, lease_held_by_other, release_lease, take_lease

LEASE_MARGIN_S: Final = 10
"""A killed Lambda's last call may still be on its way: the lease outlives the invocation by this."""
ATTEMPTS: Final = 2
"""A lost race means starting over once; the winner has most likely done what was needed."""
FACT_ATTEMPTS: Final = 8
SWEEP: Final = "sweep"


class Busy(Exception):
    """Something is to do, and another invocation holds the lease or won the race."""


def reconcile(
    ports: Ports,
    *,
    cluster_id: str,
    policy: Policy,
    trigger: Trigger,
    facts: tuple[Notice, ...] = (),
    offered: Callable[[], OfferedPolicy] | None = None,
    start_mode: Mode | None = None,
) -> dict[str, Any]:
    """Look once and do what follows; returns the decision document.

    `policy` is the deployed one; what operators have changed about it live stands in the state. Facts, and what
    Parameter Store offers as such changes (`offered` reads it; None: nothing changed there), are saved into the state
    before the look. `start_mode` is the mode of a cluster that has no state yet; None leaves that to the policy. Raises
    Busy, the PortErrors that leave nothing to decide on (StoreUnavailable, StateMalformed, FleetUnavailable), and what
    `offered` raises.
    """
    run = _Run(ports, cluster_id, policy, trigger, facts, offered=offered, start_mode=start_mode)
    run.save_facts()
    for _ in range(ATTEMPTS):
        document = run.look()
        if document is not None:
            return document
    raise Busy("another invocation changed the state twice while this one looked; it acts, this one ends")


class _Run:
    """One invocation."""

    def __init__(
        self,
        ports: Ports,
        cluster_id: str,
        policy: Policy,
        trigger: Trigger,
        facts: tuple[Notice, ...],
        *,
        offered: Callable[[], OfferedPolicy] | None,
        start_mode: Mode | None,
    ) -> None:
        self.ports = ports
        self.cluster_id = cluster_id
        self.deployed = policy
        self.offered = offered
        self.of_policy = Outcome()
        self.news = News(ports)
        self.trigger = trigger
        self.start_mode = start_mode
        # An alert is a fact only while Prometheus cannot be asked; every other fact is saved before anything else.
        self.alerts = tuple(fact for fact in facts if fact.kind == BLIND_ALERT)
        self.facts = tuple(fact for fact in facts if fact.kind != BLIND_ALERT)
        self.started_ms = ports.clock.elapsed_ms()
        self.owner = ports.ids.new()
        self.in_force = in_force(policy, None)
        self.asking = self._asking()

    @property
    def policy(self) -> Policy:
        """The one that holds."""
        return self.in_force.policy

    def _under(self, holds: InForce) -> None:
        """Go on under this policy."""
        changed = holds.policy is not self.policy
        self.in_force = holds
        if changed:
            self.asking = self._asking()

    def _asking(self) -> Asking:
        return Asking(self.ports, Server(self.ports, self.policy, self.owner), self.policy, self.cluster_id)

    def save_facts(self) -> None:
        """Put notices, and live changes of the policy, into the state, whoever holds the lease.

        Raises StoreUnavailable.
        """
        if not self.facts and self.offered is None:
            return
        for _ in range(FACT_ATTEMPTS):
            state, version = self.ports.store.load()
            changed = fitted(add_notices(self._begun(state, version), self.facts))
            if self.offered is not None:
                # Read after the state, in each try: whoever wrote the state meanwhile may have read a later one.
                offer = self.offered()
                changed = taken_up(changed, offer, self.deployed)
                # Also of one that was noted before: who was killed then has not told it.
                self.of_policy = policy_told(changed, offer)
            if changed == state:
                return
            try:
                self.ports.store.save(changed, version)
            except Conflict:
                continue
            return
        raise StoreUnavailable(f"a notice could not be saved: the state changed {FACT_ATTEMPTS} times in a row")

    def look(self) -> dict[str, Any] | None:
        """One look; None when the race for the state was lost. Raises Busy."""
        ports = self.ports
        stored, version = ports.store.load()
        state = self._begun(stored, version)
        self._under(in_force(self.deployed, state.policy_override))
        policy = self.policy
        if state != stored:
            saved_mode = self._save(state, version)
            if saved_mode is None:
                return None
            version = saved_mode
        now_s = ports.clock.now_s()
        decision_id = ports.ids.new()
        mode = effective_mode(state, policy, now_s)
        if mode is Mode.PAUSED:
            return self._tell(paused_decision(policy, state), decision_id, mode=mode, snapshot=None, state=state)
        snapshot = observe(
            ports.metrics,
            ports.fleet,
            ports.commands,
            ports.background,
            state=state,
            cluster_id=self.cluster_id,
            policy=policy,
            now_s=now_s,
            with_owners=self.trigger.kind == SWEEP and may_look_ahead(state, now_s, policy),
        )
        held = Following(ports.store, state, version)
        decision, snapshot = self._decide(snapshot, held, now_s, decision_id)
        state, version = held.state, held.version
        effects = due_effects(decision.state, snapshot, policy)
        refusal = decision.reason if decision.action is Action.HELD_BACK else ""
        fresh_refusal = (bool(refusal) and _is_fresh(decision, state)) or bool(
            untold_failures(state, decision.signals_aside)
        )
        if mode is Mode.OBSERVE or (decision.state == state and not effects):
            document = self._tell(
                decision, decision_id, mode=mode, snapshot=snapshot, state=state, fresh_refusal=fresh_refusal
            )
            # Told first: who is killed in between tells it once more. Where another one was faster, its look notes it.
            noted = codes_told(_noted(_refused(state, decision.state), snapshot, refusal), decision.ec2_codes)
            noted = self.news.remembered(_learned(noted, decision))
            if noted != state:
                self._save(noted, version)
                self._measure(document)
            return document
        if lease_held_by_other(state, self.owner, now_s):
            raise Busy("another invocation holds the lease and something is to do")
        expires_at_s = ports.clock.now_s() + int(ports.clock.remaining_s()) + LEASE_MARGIN_S
        intended = take_lease(_tidied(decision.state, snapshot, now_s), self.owner, expires_at_s)
        untold = state.told_refusal if refusal else ""
        intended = fitted(msgspec.structs.replace(_noted(intended, snapshot, untold), node_count=decision.nodes.ready))
        saved = self._save(intended, version)
        if saved is None:
            return None
        holder = Holder(ports.store, self.owner, intended, saved)
        return self._act(decision, decision_id, mode, snapshot, holder, refusal=refusal, fresh_refusal=fresh_refusal)

    def _begun(self, state: State, version: int) -> State:
        return begun(state, version, self.start_mode, self.ports.clock.now_s())

    def _decide(self, snapshot: Snapshot, held: Following, now_s: int, decision_id: str) -> tuple[Decision, Snapshot]:
        """Decide on what was seen, and on what the decision asked for."""
        blind = snapshot.metrics_status is MetricsStatus.UNAVAILABLE

        def judge(seen: Snapshot, state: State) -> Decision:
            told = add_notices(state, self.alerts) if blind else state
            return decide(seen, told, self.policy, now_s=now_s, decision_id=decision_id)

        decision, snapshot = self.asking.decided(snapshot, held, judge)
        return self._planned(decision, snapshot, held.state, now_s, decision_id), snapshot

    def _planned(self, decision: Decision, snapshot: Snapshot, state: State, now_s: int, decision_id: str) -> Decision:
        """The decision with its growth turned into operations."""
        # An alert that no launch followed from is no reason for a write, and may ask again.
        unanswered = take_back_notices(decision.state, BLIND_ALERT, state)
        return open_launches(
            decision,
            unanswered,
            self.ports.fleet,
            snapshot,
            self.policy,
            cluster_id=self.cluster_id,
            now_s=now_s,
            decision_id=decision_id,
        )

    def _save(self, intended: State, version: int) -> int | None:
        """The new version, or None when somebody else was first. Raises StoreUnavailable: nothing was written."""
        store = self.ports.store
        try:
            return store.save(intended, version)
        except Conflict:
            return None
        except StoreUnavailable as error:
            if not error.effect_unknown:
                raise
            state, found = store.load()
            if state == intended:
                return found  # the write had happened, only its response was lost
            if found == version:
                raise  # nobody wrote, nor did we: this is no race that somebody else won
            return None

    def _act(
        self,
        decision: Decision,
        decision_id: str,
        mode: Mode,
        snapshot: Snapshot,
        holder: Holder,
        *,
        refusal: str,
        fresh_refusal: bool,
    ) -> dict[str, Any]:
        ports = self.ports
        actor = Actor(holder, ports.fleet, ports.commands, ports.clock, self.policy, fallbacks=decision.fallbacks)
        known_notices = holder.state.notices
        try:
            actor.perform(due_effects(holder.state, snapshot, self.policy))
            lost = False
        except LostLease as error:
            actor.failures.append(f"stopped: {error}")
            lost = True
        outcome = Outcome(
            done=tuple(actor.done),
            failures=tuple(actor.failures),
            fresh_failure=actor.fresh_failure or lost,
            in_vain=actor.in_vain and not lost,
        )
        document = self._tell(
            decision,
            decision_id,
            mode=mode,
            snapshot=snapshot,
            state=holder.state,
            outcome=outcome,
            fresh_refusal=fresh_refusal,
        )
        if not lost:
            self._let_go(holder, actor, decision, refusal)
            self._measure(document)
        arrived = [n for n in holder.state.notices if not n.handled and n not in known_notices]
        if arrived:
            # The invocation that brought the notice met our lease and went: its look is ours to do.
            again = self.look()
            if again is not None:
                return {**again, "earlier": [document, *again.get("earlier", [])]}
        return document

    def _let_go(self, holder: Holder, actor: Actor, decision: Decision, refusal: str) -> None:
        """Release the lease, and keep in mind what people have heard. Raises StoreUnavailable."""

        def told_and_released(state: State) -> State:
            for operation_id, cause in actor.told:
                state = failure_told(state, operation_id, cause)
            state = codes_told(state, (*actor.codes, *decision.ec2_codes))
            told = _learned(msgspec.structs.replace(state, told_refusal=refusal), decision)
            return release_lease(self.news.remembered(told), self.owner)

        try:
            holder.apply(told_and_released)
        except LostLease:
            return  # all is done; who holds it now may tell the same once more

    def _tell(
        self,
        decision: Decision,
        decision_id: str,
        *,
        mode: Mode,
        snapshot: Snapshot | None,
        state: State,
        outcome: Outcome | None = None,
        fresh_refusal: bool = False,
    ) -> dict[str, Any]:
        """The document of this look: recorded if it is history, told if it is news."""
        of_policy, self.of_policy = self.of_policy, Outcome()
        document = decision_document(
            decision,
            decision_id=decision_id,
            cluster_id=self.cluster_id,
            trigger=self.trigger,
            mode=mode,
            policy=self.policy,
            snapshot=snapshot,
            state=state,
            outcome=with_more(outcome or Outcome(), of_policy),
            policy_version=self.in_force.version,
            policy_problem=self.in_force.problem,
        )
        self._measure(document)
        begun = decision.action in BEGINNINGS and not (outcome is not None and outcome.in_vain)
        began = outcome is not None and (begun or decision.news)
        news = began or fresh_refusal or of_policy.fresh_failure or (outcome is not None and outcome.fresh_failure)
        first_seen = self.news.first_observed(decision, state, mode)
        if news or first_seen or of_policy.done or (outcome is not None and document["done"]):
            self.news.record(decision_id, document)
        if news:
            self.news.tell(document, self.policy.notify, state)
        self._measure(document)
        return document

    def _measure(self, document: dict[str, Any]) -> None:
        document["duration_ms"] = self.ports.clock.elapsed_ms() - self.started_ms
        document["calls"] = dict(self.ports.calls())


def _is_fresh(decision: Decision, state: State) -> bool:
    """Whether people have not heard of this refusal: of the codes behind it, where EC2 gave some."""
    if decision.ec2_codes:
        return bool(untold(decision.state, decision.ec2_codes))
    return decision.reason != state.told_refusal


def _noted(state: State, snapshot: Snapshot, refusal: str) -> State:
    """With what a look keeps in mind although nothing is done: each changes rarely, so a calm look writes nothing."""
    state = msgspec.structs.replace(state, told_refusal=refusal)
    if not snapshot.cluster_known:
        return state
    fleet = view_fleet(snapshot, state)
    seen = types_seen(snapshot, fleet, state)
    return msgspec.structs.replace(state, unlisted_workers=fleet.unlisted, seen_types=seen)


def _learned(state: State, decision: Decision) -> State:
    """With which signals failed, and the forecast: to be kept once people have been told."""
    return msgspec.structs.replace(state, signals_aside=decision.signals_aside, forecast=decision.forecast)


def _refused(state: State, decided: State) -> State:
    """With what the decision leaves alone: also who only tells asks EC2 for a launch's template, and may be refused."""
    return msgspec.structs.replace(state, backoffs=decided.backoffs, told_codes=decided.told_codes)


def _tidied(state: State, snapshot: Snapshot, now_s: int) -> State:
    """Without what has lost its meaning: something is written anyway."""
    shown = {node.instance_id for node in snapshot.nodes if node.instance_id is not None}
    metrics_at_s = snapshot.metrics_at_s if snapshot.cluster_known else None
    return forget_removed(forget_old(state, now_s), shown, metrics_at_s=metrics_at_s, now_s=now_s)

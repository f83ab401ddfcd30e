"""One look that changes nothing: observe and judge as reconcile does, then tell what a look would have done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from autoscaler.act.effects import Effect, due_effects
from autoscaler.ask.onlooker import Onlooker
from autoscaler.ask.readonly import read_only
from autoscaler.asking.asking import Asking
from autoscaler.asking.following import Following
from autoscaler.decide.decision import decision_of, judge
from autoscaler.decide.demand.growth import BLIND_ALERT
from autoscaler.decide.steps import Course
from autoscaler.document import Outcome, decision_document
from autoscaler.launching import open_launches
from autoscaler.live_policy import InForce, in_force
from autoscaler.model import Asks, Decision, Mode, Snapshot, State, Trigger
from autoscaler.observe.snapshot import observe
from autoscaler.policy import Policy
from autoscaler.ports import Ports
from autoscaler.state.modes import begun, effective_mode
from autoscaler.state.notices import take_back_notices

TRIGGER: Final = Trigger(kind="ask")
Missing = Callable[[Snapshot, Course], Asks]
"""What a question has to see beside what the decision asks for."""


class Supposed(Protocol):
    """What is imagined beside what was seen."""

    def policy(self, policy: Policy) -> Policy:
        """The policy to judge by."""
        ...

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot to judge."""
        ...


class NoAnswer(Exception):
    """The question cannot be answered: one sentence that says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """Whom a question is put to: the outside, and what was deployed."""

    ports: Ports
    cluster_id: str
    policy: Policy
    """As deployed; what operators changed live stands in the state."""
    start_mode: Mode | None = None
    """Of a cluster without a state; None leaves it to the policy."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one look saw, and what it would decide."""

    cluster_id: str
    snapshot: Snapshot
    """What was judged: what was seen, with what is supposed."""
    seen: Snapshot
    """Without what is supposed."""
    state: State
    """As it is stored."""
    holds: InForce
    """The policy with its live changes."""
    mode: Mode
    now_s: int
    decision_id: str
    course: Course
    """Every step of the judgement."""
    decision: Decision
    """With its growth turned into operations."""
    would_ask: tuple[str, ...]
    """What a look would have asked a server, a sentence each."""

    @property
    def policy(self) -> Policy:
        """The one that holds; its minimum and maximum without what schedules make of them now."""
        return self.holds.policy

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What an active look would begin."""
        return due_effects(self.decision.state, self.snapshot, self.policy)

    def document(self) -> dict[str, Any]:
        """The decision document, as a look would log it; without its calls and its duration."""
        document = decision_document(
            self.decision,
            decision_id=self.decision_id,
            cluster_id=self.cluster_id,
            trigger=TRIGGER,
            mode=self.mode,
            policy=self.policy,
            snapshot=self.snapshot,
            state=self.state,
            outcome=Outcome(),
            policy_version=self.holds.version,
            policy_problem=self.holds.problem,
        )
        return {name: value for name, value in document.items() if name not in {"duration_ms", "calls"}}


def nothing_more(_snapshot: Snapshot, _course: Course) -> Asks:
    """The decision's own questions are enough."""
    return Asks()


def look(service: Service, missing: Missing = nothing_more, suppose: Supposed | None = None) -> Seen:
    """Look and judge, whatever the mode; with `suppose`, a world that is not.

    Raises the PortErrors that leave nothing to judge, as reconcile does.
    """
    ports = read_only(service.ports)
    stored, version = ports.store.load()
    now_s = ports.clock.now_s()
    state = begun(stored, version, service.start_mode, now_s)
    holds = in_force(service.policy, state.policy_override)
    policy, decision_id = holds.policy, ports.ids.new()
    snapshot = observe(
        ports.metrics,
        ports.fleet,
        ports.commands,
        ports.background,
        state=state,
        cluster_id=service.cluster_id,
        policy=policy,
        now_s=now_s,
    )
    courses: list[Course] = []
    judged_by = suppose.policy(policy) if suppose is not None else policy

    def judged(seen: Snapshot, known: State) -> Decision:
        world = suppose.snapshot(seen) if suppose is not None else seen
        course = judge(world, known, judged_by, now_s=now_s, decision_id=decision_id)
        courses.append(course)
        decision = decision_of(course, judged_by)
        return msgspec.structs.replace(decision, asks=decision.asks | missing(world, course))

    onlooker = Onlooker(ports, policy)
    asking = Asking(ports, onlooker, policy, service.cluster_id)
    decision, snapshot = asking.decided(snapshot, Following(ports.store, state, version), judged)
    course = courses[-1]
    planned = open_launches(
        decision,
        take_back_notices(decision.state, BLIND_ALERT, state),
        ports.fleet,
        course.look.snapshot,
        judged_by,
        cluster_id=service.cluster_id,
        now_s=now_s,
        decision_id=decision_id,
    )
    return Seen(
        cluster_id=service.cluster_id,
        snapshot=course.look.snapshot,
        seen=snapshot,
        state=state,
        holds=holds,
        mode=effective_mode(state, policy, now_s),
        now_s=now_s,
        decision_id=decision_id,
        course=course,
        decision=planned,
        would_ask=tuple(onlooker.would_ask),
    )

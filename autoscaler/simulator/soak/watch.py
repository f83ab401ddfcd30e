"""Sees every call and every state that is saved, and holds the invariants against them."""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import msgspec

from autoscaler.model import (
    LaunchOperation,
    LaunchRequest,
    LaunchResult,
    Lease,
    NodeCommand,
    RemovalOperation,
    RemovalPhase,
    State,
    Verb,
)
from autoscaler.observe.series import MOVING_FAMILIES, NODE_EXPORTER, PLACE_FAMILIES, ROOM_FAMILIES, SIGHT_FAMILIES
from autoscaler.policy import Policy
from autoscaler.ports import PortError
from autoscaler.reconcile import Busy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.faults import MetricFaults, spoil
from autoscaler.simulator.metrics.promql import History, Moving, Places, Rooms, Sight, Signals
from autoscaler.simulator.soak.answers import Answers
from autoscaler.simulator.soak.fates import KILLS, Fate
from autoscaler.simulator.soak.live import Parameter
from autoscaler.simulator.soak.stepped import Call, Seen, SteppedInvocation
from autoscaler.simulator.soak.truth import Truth
from autoscaler.simulator.soak.violation import Violation
from autoscaler.simulator.wires import PROMETHEUS
from autoscaler.state.modes import effective_mode
from autoscaler.state.replacing import REPLACING

EFFECTS: Final = frozenset({"launch", "terminate", "send"})
"""Calls that change the world outside."""
HARMLESS: Final = frozenset({"scraped_every_s", "lag_s", "no_allow_lists", "missing", "slow_rules"})
"""Metric faults on which a shrink may go on: a picture that is older, within its limits, and one in which a server's
own look at volumes and annotations has to do. What windows are worth is judged by a rule of its own."""
ANSWERS: Final = {
    Sight: SIGHT_FAMILIES,
    Rooms: ROOM_FAMILIES,
    Moving: MOVING_FAMILIES,
    Places: PLACE_FAMILIES,
}
WINDOW_COUNTS: Final = frozenset({"use_grow_count", "use_shrink_count", "ready_count"})
"""Of the look's query. Without one a window is unknown, and what is there now is shown all the same."""
OF_REPAIR: Final = frozenset({"ready_count"})
"""Without it nobody knows how long a Node has been NotReady: it is waited for, as one that has just become so."""
HIDDEN_BY_ALLOW_LISTS: Final = frozenset({"node_local_volumes", "node_managed"})
ENDINGS: Final = frozenset({RemovalPhase.TERMINATING, RemovalPhase.DELETING})
SIMULTANEOUS: Final = 200
"""States that are remembered to judge an invocation that ends: more than one invocation can meet."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One successful write of the state."""

    old: State
    new: State
    by: SteppedInvocation
    seen: Seen


@dataclass(frozen=True, slots=True)
class Held:
    """A policy, and since when it holds."""

    since_s: float
    version: int | None
    """Of the parameter; None: the deployed policy alone."""
    policy: Policy


@dataclass(frozen=True, slots=True)
class Effect:
    """A call that changes the world outside."""

    name: str
    subject: object
    by: SteppedInvocation
    seen: Seen


SaveRule = Callable[["Watch", Saved], str | None]
EffectRule = Callable[["Watch", Effect], str | None]
StepRule = Callable[["Watch"], str | None]
EndRule = Callable[["Watch", Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Rules:
    """The invariants, by the moment at which each is checked. Each returns what is wrong, or None."""

    on_save: tuple[SaveRule, ...]
    on_send: tuple[EffectRule, ...]
    """When the request leaves its caller."""
    on_effect: tuple[EffectRule, ...]
    """When it has taken effect."""
    on_step: tuple[StepRule, ...]
    on_end: tuple[EndRule, ...]
    """When an invocation hands its decision document over."""


class Watch:
    """The witness of one run: what was intended, sent and done, and the first invariant that failed."""

    def __init__(self, cluster: SimCluster, rules: Rules) -> None:
        self.cluster = cluster
        self.truth = Truth(cluster)
        self.violation: Violation | None = None
        self.checks: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.crash_points: Counter[tuple[str, str, str]] = Counter()
        self.steps = 0
        self.state = cluster.state
        self.requests: dict[str, LaunchRequest] = {}
        """Every launch that was ever intended, by operation id."""
        self.phases: set[tuple[str, RemovalPhase, int]] = set()
        """(operation id, phase, fence) of every removal that was ever intended."""
        self.terminating: set[object] = set()
        """Instances whose end was ever intended."""
        self.removed: set[str] = set()
        """Instances whose end by us was under way before the last write."""
        self.answers = Answers(cluster.world)
        self.last_scaling_s: float | None = None
        """When a launch, or the end of a removal that was undone, was last decided."""
        self.metrics_since_s: float | None = None
        """Since when Prometheus has its history, if it lost it; None: always."""
        self.listed_within_s = 0.0
        """How long an instance may live before DescribeInstances lists it for certain, in this run."""
        self.frozen_since_s: float | None = None
        self.fault_keys: list[str] = []
        """What was injected, in order, by the names under which it can be left out."""
        self.lines: list[tuple[float, str]] = []
        """The history, a line each."""
        self.parameter = Parameter(cluster.policy)
        """Of the policy's live changes."""
        self.held = [Held(-math.inf, None, cluster.policy)]
        """The policies that held, by what the state said."""
        self.ending = Seen()
        """What the invocation saw whose document is judged."""
        self._rules = rules
        self._stepped: tuple[int, ...] = ()
        self._recent: deque[tuple[float, str, Lease | None]] = deque(maxlen=SIMULTANEOUS)
        self._remember_intents(self.state)

    @property
    def policy(self) -> Policy:
        """The policy that the run was deployed with."""
        return self.cluster.policy

    @property
    def in_force(self) -> Policy:
        """The policy that holds, with what was changed live."""
        return self.held[-1].policy

    def policies_since(self, at_s: float) -> list[Policy]:
        """Those that held at any time from then on."""
        return [held.policy for held in self.held_since(at_s)]

    def held_since(self, at_s: float) -> list["Held"]:
        """The same with their versions."""
        first = next((n for n in range(len(self.held) - 1, 0, -1) if self.held[n].since_s <= at_s), 0)
        return self.held[first:]

    def tell(self, line: str) -> None:
        """Write one line of the history."""
        self.lines.append((self.cluster.now_s, line))

    # ------------------------------------------------------------------------------------------------------------ calls

    def call_begins(self, invocation: SteppedInvocation, call: Call) -> None:
        """The request leaves the caller."""
        if call.service == PROMETHEUS and not self._asks_for_numbers(call):
            if self._asks_anew(call):
                invocation.seen.looks_anew(self.cluster.now_s)
            invocation.seen.answers.append(False)  # until its answer is there
        if call.name in EFFECTS:
            effect = Effect(call.name, call.subject, invocation, invocation.seen)
            self._check_all(self._rules.on_send, lambda rule: rule(self, effect))

    def effect_ended(self, invocation: SteppedInvocation, call: Call, result: object, seen: Seen) -> None:
        """The effect has happened."""
        who, subject = invocation.process.name, call.subject
        if call.service == PROMETHEUS:
            self._answered(call, result, seen)
        elif call.name == "load" and isinstance(result, tuple):
            # A pause that ends while the answer travels (below a second) is over for whoever reads it.
            seen.mode = effective_mode(result[0], self.policy, invocation.clock.now_s() + 1)
        elif call.name == "rules":
            seen.rules_read = True
        elif isinstance(subject, State):
            self.saved(Saved(self.state, subject, invocation, seen))
        elif isinstance(subject, NodeCommand) and subject.verb is Verb.RULES:
            self.tell(f"  {who}: {subject.verb} reached SSM")
        elif isinstance(subject, NodeCommand):
            self.answers.asked(subject, str(result))
            self.tell(f"  {who}: {subject.verb} of {subject.node_name} (fence {subject.fence}) reached SSM")
        elif isinstance(subject, LaunchRequest) and isinstance(result, LaunchResult):
            self.tell(f"  {who}: launch {subject.client_token} gave {', '.join(result.instance_ids) or 'nothing'}")
        elif call.name == "terminate":
            self.tell(f"  {who}: terminate {subject}")
        if call.name in EFFECTS:
            effect = Effect(call.name, subject, invocation, seen)
            self._check_all(self._rules.on_effect, lambda rule: rule(self, effect))

    def _answered(self, call: Call, result: object, seen: Seen) -> None:
        """Prometheus gave an answer: how much of the truth it is."""
        if self._asks_for_numbers(call):
            return  # what the cluster is, they do not tell (on_numbers.py)
        promql, faults = str(call.subject), self.cluster.metric_faults
        seen.answers[-1] = self._is_complete(promql, result)
        another_cluster = faults.foreign or faults.two_clusters
        if self._asks_anew(call):
            seen.another_cluster = another_cluster
            seen.thin_windows = faults.slow_rules
            lost = faults.dropped & WINDOW_COUNTS
            seen.present_in_sight = seen.answers[-1] is not False or self._is_mild(promql, result, lost)
            young = seen.answers[-1] is None
            seen.drains_in_sight = _beside_drains(faults, young=young) == MetricFaults()
        elif another_cluster and not seen.another_cluster:
            # Within one look Prometheus became another cluster's: what it adds of our Nodes is nothing, and the
            # drain's own preflight is what looks at their pods.
            seen.answers[-1] = None
        elif seen.answers[-1] is False and isinstance(self.cluster.recorder.reader.read(promql), Moving):
            # Who runs pods goes by them; who runs none was shown to run none by the answer before.
            seen.pods_hidden, seen.answers[-1] = True, None

    def fated(self, invocation: SteppedInvocation, call: Call, fate: Fate) -> None:
        """A call's fate is not the normal one."""
        self.injected[fate.kind.value] += 1
        self.fault_keys.append(f"{invocation.process.name}/{invocation.number - 1}")
        if fate.kind in KILLS:
            self.crash_points[call.service, call.name, fate.kind.value] += 1
        self.tell(f"  {invocation.process.name}: {call}: {fate.kind.value} {fate.code}".rstrip())

    # ------------------------------------------------------------------------------------------------------ judgements

    def saved(self, saved: Saved) -> None:
        """A new state holds."""
        self.removed |= {r.instance_id for r in saved.old.removals if r.phase in ENDINGS}
        self._remember_intents(saved.new)
        self._remember_policy(saved.new)
        self.state = saved.new
        self._recent.append((self.cluster.now_s, saved.by.process.name, saved.new.lease))
        self._tell_difference(saved)
        self._check_all(self._rules.on_save, lambda rule: rule(self, saved))
        known = {launch.operation_id for launch in saved.old.launches}
        # A launch that only comes before the end of another worker has no cool-down.
        opened = [o for o in saved.new.launches if o.operation_id not in known and o.reason not in REPLACING]
        if opened or saved.new.last_undone_s != saved.old.last_undone_s:
            # When it looked, by its own clock: frozen, it may write a minute and a half later.
            said_s = max((*(o.created_at_s for o in opened), saved.new.last_undone_s or 0))
            self.last_scaling_s = max(float(said_s), saved.by.began_s)

    def written_by_hand(self, state: State) -> None:
        """An operator changes the state."""
        item = self.cluster.item
        item.data = msgspec.json.encode(state)
        item.version += 1
        self.state = state
        self._recent.append((self.cluster.now_s, "operator", state.lease))
        self.tell(f"operator: mode {state.mode}")

    def stepped(self) -> None:
        """One step of anything is over."""
        self.steps += 1
        self.truth.look()
        key = (self.cluster.world.state.version, self.cluster.item.version, self.cluster.ec2.bill.launched)
        if key == self._stepped:
            return
        self._stepped = key
        self._check_all(self._rules.on_step, lambda rule: rule(self))

    def blind(self) -> bool:
        """Whether nobody can tell now what Nodes there are, or nobody may act on it."""
        return _any_fault(self.cluster.metric_faults) or self.state.mode is not None

    def ended(self, invocation: SteppedInvocation) -> None:
        """An invocation came to its end by itself."""
        error = invocation.process.error
        self.checks["only_known_errors"] += 1
        self.checks["busy_only_while_somebody_acts"] += 1
        if error is None:
            document = invocation.process.result
            if isinstance(document, dict):
                self.ending = invocation.seen
                self._check_all(self._rules.on_end, lambda rule: rule(self, document))
            return
        if isinstance(error, Busy):
            # Its own late write may be the one that it lost the race against.
            if not invocation.seen.late_effects and not self._somebody_acted(invocation):
                message = f"{invocation.process.name} met nobody, and says: {error}"
                self.fail(Violation("busy_only_while_somebody_acts", message))
        elif not isinstance(error, PortError):
            self.fail(Violation("only_known_errors", f"{invocation.process.name} raised {error!r}"))

    def fail(self, violation: Violation) -> None:
        """Keep the first violation."""
        if self.violation is None:
            self.violation = violation
            self.tell(f"VIOLATION {violation}")

    def check(self, name: str, wrong: str | None) -> None:
        """Count one check, and note what is wrong."""
        self.checks[name] += 1
        if wrong is not None:
            self.fail(Violation(name, wrong))

    def _check_all(self, rules: Iterable[Callable[..., str | None]], ask: Callable[..., str | None]) -> None:
        for rule in rules:
            self.check(rule.__name__, ask(rule))

    def _remember_intents(self, state: State) -> None:
        for launch in state.launches:
            self.requests.setdefault(launch.operation_id, launch.request)
        self.terminating |= {r.instance_id for r in state.removals if r.phase is RemovalPhase.TERMINATING}
        self.phases.update((r.operation_id, r.phase, r.fence) for r in state.removals)

    def _remember_policy(self, state: State) -> None:
        override = state.policy_override
        if override == self.state.policy_override:
            return
        version = (override.version or None) if override is not None else None
        policy = self.parameter.policy_of(override)
        if policy is not None:  # on_policy.py says what is wrong where it is none
            self.held.append(Held(self.cluster.now_s, version, policy))
        told = f", {override.invalid_version} is refused" if override is not None and override.invalid_version else ""
        self.tell(f"policy: version {version} holds{told}")

    def _somebody_acted(self, invocation: SteppedInvocation) -> bool:
        """Whether, while it ran, another one wrote or held a lease that had not expired."""
        began_s = invocation.began_s
        tolerance_s = 2.0 - min(0.0, invocation.skew_s)
        before = True
        for at_s, name, lease in reversed(self._recent):
            if name != invocation.process.name and at_s >= began_s:
                return True
            held = lease is not None and lease.owner not in invocation.seen.ids
            if before and held and lease is not None and lease.expires_at_s + tolerance_s >= began_s:
                return True
            if at_s < began_s:
                before = False
        return False

    def _asks_for_numbers(self, call: Call) -> bool:
        """Whether the call asks for custom signals, or for what earlier days asked for."""
        return isinstance(self.cluster.recorder.reader.read(str(call.subject)), Signals | History)

    def _asks_anew(self, call: Call) -> bool:
        """Whether the call is the first of a look."""
        return isinstance(self.cluster.recorder.reader.read(str(call.subject)), Sight)

    def _is_complete(self, promql: str, result: object) -> bool | None:
        """Whether Prometheus told the whole truth: its answer is the one that it would give without faults."""
        faults = self.cluster.metric_faults
        if not result:
            return False  # a Prometheus that has just started has nothing to tell
        if faults.frozen is not None:
            age_s = self.cluster.now_s - (self.frozen_since_s or 0.0)
            return False if age_s > self.policy.metrics.max_age_s + 20 else None
        if not _any_fault(faults):
            return True
        whole = self.cluster.recorder.query(promql, self.cluster.now_s)
        if result == whole:
            return True
        return None if self._is_mild(promql, result, faults.dropped & OF_REPAIR) else False

    def _is_mild(self, promql: str, result: object, dropped: Iterable[str] = ()) -> bool:
        """Whether the answer is what harmless faults, and these families alone, would leave of the whole one."""
        faults = self.cluster.metric_faults
        asked = ANSWERS[type(self.cluster.recorder.reader.read(promql))]
        harmless = faults.missing.intersection(asked) <= HIDDEN_BY_ALLOW_LISTS
        # Another fault may have struck what is not there: a family of which there was nothing to drop.
        mild = replace(MetricFaults(**{name: getattr(faults, name) for name in HARMLESS}), dropped=set(dropped))
        return harmless and result == spoil(mild, self.cluster.recorder, promql, self.cluster.now_s)

    def _tell_difference(self, saved: Saved) -> None:
        who = saved.by.process.name
        old, new = _operations(saved.old), _operations(saved.new)
        parts = [f"opens {_words(new[i])}" for i in new if i not in old]
        parts += [f"closes {_words(old[i])}" for i in old if i not in new]
        parts += [f"{_words(old[i])} -> {_words(new[i])}" for i in new if i in old and _words(new[i]) != _words(old[i])]
        lease = saved.new.lease
        held = f"lease until {lease.expires_at_s}" if lease is not None else "no lease"
        self.tell(f"  {who}: saved fence {saved.new.fence}, {held}; {'; '.join(parts) or 'no operation changed'}")


def _operations(state: State) -> dict[str, LaunchOperation | RemovalOperation]:
    return {**{o.operation_id: o for o in state.launches}, **{o.operation_id: o for o in state.removals}}


def _words(operation: LaunchOperation | RemovalOperation) -> str:
    if isinstance(operation, RemovalOperation):
        return f"removal of {operation.instance_id} ({operation.reason}, {operation.phase})"
    return f"launch {operation.operation_id} of {operation.request.count} [{', '.join(operation.instance_ids)}]"


def _beside_drains(faults: MetricFaults, *, young: bool) -> MetricFaults:
    """The faults, but for a picture that is young yet, and those that keep back use, windows, labels, annotations."""
    left, frozen = faults.sources_down - {NODE_EXPORTER}, None if young else faults.frozen
    return replace(faults, slow_rules=False, no_allow_lists=False, sources_down=left, frozen=frozen)


def _any_fault(faults: MetricFaults) -> bool:
    return any(bool(getattr(faults, field.name)) for field in fields(faults))

"""Which worker could go, and why the others may not. Metrics only nominate: the drain's preflight decides."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from autoscaler.decide.capacity.market import beyond_base, market_of, needed_on_demand
from autoscaler.decide.capacity.pools import counted, is_open, pool_of, price_rank
from autoscaler.decide.demand.keeping import NOBODY_KEPT, Keeping
from autoscaler.decide.demand.schedules import OWN_MIN, Limits
from autoscaler.decide.demand.use import low_enough, too_full_without
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.removal.elsewhere import Elsewhere, movable_pods
from autoscaler.decide.removal.pace import at_once, blackout_at
from autoscaler.decide.removal.window import at_highest, lacks_room, not_known
from autoscaler.model import Asks, Blocked, MetricsStatus, Pod, RemovalOperation, RemovalPhase, Snapshot, State
from autoscaler.policy import Policy
from autoscaler.state.memory import refused_lately, times_refused, was_removed
from autoscaler.state.moved import moved_too_often
from autoscaler.state.notices import REBALANCE

SEEN_AT_ONCE = 20
"""Workers whose single pods are asked for in one question, oldest first."""
ASKED_IN_VAIN = 3
"""After so many questions in a row without an answer it is decided by requests and selectors."""
_REASONS: Final = {"low_use": "low_utilisation", "fits": "consolidation"}
STUCK_AFTER_S = 300
"""A phase that lasts this much longer than a drain may is stuck: it is alarmed, and no longer waited for."""


class ShrinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to remove, or why nobody."""

    candidates: tuple[Worker, ...]
    reason: str
    """Stable code: `low_utilisation`, `consolidation`, `above_max`, or why not."""
    message: str
    blocked: tuple[Blocked, ...]
    asks: Asks = Asks()
    """What has to be seen before anybody can be nominated."""
    moves: tuple[str, ...] = ()
    """Owners of the pods that would be moved."""


def plan_shrink(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    waiting_pods: int,
    now_s: int,
    limits: Limits,
    distrusted: bool = False,
    kept: Keeping = NOBODY_KEPT,
) -> ShrinkPlan:
    """Nominate workers to remove: all that are empty, else as many as the budget allows; nobody unless all is calm.

    Calm is judged over the shrink window, of use and of requests: a worker is empty once nothing ran there all through
    it, and pods fit elsewhere only where they do with each Node at its fullest. `scale_down.when: low_use` asks that
    the use of the fleet was low as well; with `fits` it has to stay below the grow targets without the worker.

    `kept`: what else stays, although neither pods nor use ask for it; who is above max goes in spite of it.
    `distrusted`: the scheduler leaves pods waiting for which the filters find room. Then only a worker that runs pods
    by now counts as a place for others: an empty one may be what no pod can use.
    """
    above_max = fleet.existing > policy.workers.max
    refusal = _not_now(
        snapshot, fleet, state, policy, waiting_pods=waiting_pods, now_s=now_s, above_max=above_max, limits=limits
    )
    if refusal is not None:
        return ShrinkPlan(candidates=(), reason=refusal[0], message=refusal[1], blocked=())
    if not snapshot.rooms_known:
        message = "what is free on the Nodes is not known"
        return ShrinkPlan(candidates=(), reason="unseen", message=message, blocked=(), asks=Asks(rooms=True))
    blocked: list[Blocked] = []
    eligible: list[Worker] = []
    for worker in fleet.having(Standing.READY):
        why = keeps(worker, state, policy, now_s)
        if why is None:
            eligible.append(worker)
        elif worker.ours:
            blocked.append(Blocked(subject=worker.title, reason=why))
    places = [w for w in fleet.having(Standing.READY) if is_open(w, policy) and not (w.empty and distrusted)]
    # Use need not be low above max; where it is, ordinary rules let more go than are too many.
    forced = above_max and low_enough(snapshot, policy) is not None
    unknown = not_known((*eligible, *places), policy.scale_down.window_s) if eligible and not forced else None
    if unknown is not None:
        return ShrinkPlan(candidates=(), reason="window_unknown", message=unknown, blocked=tuple(blocked))
    choice = _Choice(
        snapshot, fleet, state, policy, places=places, forced=forced, now_s=now_s, limits=limits, kept=kept
    )
    if (why := choice.not_measured_yet()) is not None:
        return ShrinkPlan(candidates=(), reason="cooling_down", message=why, blocked=tuple(blocked))
    for worker in _in_turn(eligible, fleet, state, policy, leaves_at_once=choice.leaves_at_once):
        if not choice.goes_on_after(worker):
            break
    blocked += choice.blocked
    if choice.chosen:
        names = ", ".join(worker.title for worker in choice.chosen)
        return ShrinkPlan(
            candidates=tuple(choice.chosen),
            reason="above_max" if above_max else _REASONS[policy.scale_down.when],
            message=f"removing {names}",
            blocked=tuple(blocked),
            moves=tuple(choice.moves),
        )
    if choice.unseen or choice.asks:
        of = choice.unseen[0] if choice.unseen else choice.asked_for
        return ShrinkPlan(
            candidates=(),
            reason="unseen",
            message=f"the pods of {of} are not known",
            blocked=tuple(blocked),
            asks=choice.asks or Asks(pods_of=tuple(choice.unseen[:SEEN_AT_ONCE])),
        )
    return ShrinkPlan(
        candidates=(),
        reason="no_candidate",
        message="every worker is needed, protected or not ours: see blocked",
        blocked=tuple(blocked),
    )


def _in_turn(
    eligible: Iterable[Worker],
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    leaves_at_once: Callable[[Worker], bool],
) -> Iterator[Worker]:
    """Empty ones first; each gets its turn; what EC2 may take soon; then what a Spot pool has too much of on demand.

    Of several pools' the dearest first; of equals from the fullest zone, then the oldest.

    Of equals from the fullest zone, then the oldest. Evenness is a preference among equals: no zone keeps a worker that
    nobody needs.
    """
    at_risk = {notice.subject for notice in state.notices if notice.kind == REBALANCE}
    in_zone = Counter(worker.zone for worker in fleet.having(Standing.READY))
    spare = beyond_base(fleet, policy)
    ranks: dict[tuple[bool, int, bool, bool, float], dict[str | None, list[tuple[int, Worker]]]] = {}
    for age, worker in enumerate(eligible):
        at_risk_or_spare = (worker.key not in at_risk, worker.key not in spare)
        refused, dear = times_refused(state, worker.title), price_rank(worker, policy)
        rank = (not leaves_at_once(worker), refused, *at_risk_or_spare, dear)
        ranks.setdefault(rank, {}).setdefault(worker.zone, []).append((age, worker))
    for _, by_zone in sorted(ranks.items()):
        while by_zone:
            zone = min(by_zone, key=lambda zone: (-in_zone[zone], by_zone[zone][0][0]))
            yield by_zone[zone].pop(0)[1]
            in_zone[zone] -= 1
            if not by_zone[zone]:
                del by_zone[zone]


def cool_down_left_s(state: State, policy: Policy, now_s: int) -> int:
    """Seconds until a worker may leave by choice again; 0 when it is over.

    A removal that ended well, without a launch and with nothing that waits now, has proved harmless: it begins none.
    """
    last_s = max(state.last_scale_up_s or 0, state.last_undone_s or 0)
    return max(0, policy.scale_down.cool_down_s - (now_s - last_s))


def _not_now(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    waiting_pods: int,
    now_s: int,
    above_max: bool,
    limits: Limits,
) -> tuple[str, str] | None:
    if snapshot.metrics_status is not MetricsStatus.OK:
        return (
            f"metrics_{snapshot.metrics_status.value}",
            f"no shrink without complete metrics: {_first_problem(snapshot)}",
        )
    if waiting_pods:
        return "pods_waiting", f"{waiting_pods} pods wait for a node"
    if state.launches or fleet.joining:
        return "waiting_for_nodes", "workers are joining"
    if any(holds_up_others(removal, policy, now_s) for removal in state.removals):
        return "removal_under_way", "a removal is under way; the next worker waits for its end"
    if fleet.ready == policy.workers.min == 0:  # nobody's use can be low then
        return "at_min", "no worker is Ready"
    low_asked = policy.scale_down.when == "low_use" and not above_max
    if low_asked and (why := low_enough(snapshot, policy)) is not None:
        return "steady", why
    if fleet.ready <= policy.workers.min:
        return "at_min", f"{fleet.ready} workers are Ready and {limits.min_by} is {policy.workers.min}"
    if (blackout := blackout_at(policy, now_s)) is not None:
        return "blackout", f"{blackout}, and nobody leaves by choice before (scale_down.blackouts)"
    if left_s := cool_down_left_s(state, policy, now_s):
        last_s = max(state.last_scale_up_s or 0, state.last_undone_s or 0)
        what = "launch" if last_s == state.last_scale_up_s else "removal that was undone"
        return "cooling_down", f"the last {what} is {now_s - last_s} s ago; the cool-down ends in {left_s} s"
    if not fleet.servers:
        return "no_server", "no running server instance with the tag k3s-autoscaler/role=server: nobody could drain"
    return None


def holds_up_others(removal: RemovalOperation, policy: Policy, now_s: int) -> bool:
    """Those chosen together end before the next are chosen; one that is stuck blocks its own Node only."""
    leaving = removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED, RemovalPhase.TERMINATING}
    return leaving and not removal.reclaim and now_s - removal.phase_since_s <= policy.drain.timeout_s + STUCK_AFTER_S


def _first_problem(snapshot: Snapshot) -> str:
    return snapshot.metrics_problems[0] if snapshot.metrics_problems else "unknown"


def keeps(worker: Worker, state: State, policy: Policy, now_s: int) -> str | None:
    """Why this worker stays, whatever the demand; None when it may be nominated."""
    node, instance = worker.node, worker.instance
    if was_removed(state, worker.key):
        return "removed: EC2 has ended it, and an older answer still shows it"
    if not worker.ours or instance is None:
        return "not_ours: it lacks the tag ManagedBy=autoscaler of this cluster"
    if node is None or not is_open(worker, policy):
        return "not_schedulable: cordoned or tainted by somebody else"
    age_s = now_s - instance.launched_at_s
    if age_s < policy.scale_down.min_age_s:
        return f"young: {age_s} s old; scale_down.min_age_s is {policy.scale_down.min_age_s}"
    if node.local_volumes:
        return f"local_volume: {node.local_volumes} node-local volumes live on it"
    if (refused := refused_lately(state, node.name, now_s)) is not None:
        return refused
    for pod in movable_pods(worker):
        why = _pod_keeps(pod, policy)
        if why is not None:
            return f"{why}: {pod.title}"
    return None


def _pod_keeps(pod: Pod, policy: Policy) -> str | None:
    down = policy.scale_down
    if not pod.owner_kind:
        return "bare_pod"
    if pod.do_not_evict:
        return "do_not_evict"
    if f"{pod.namespace}/{pod.owner_name}" in down.movable:
        return None
    if pod.priority_class in down.protected_priority_classes:
        return "critical_pod"
    if pod.namespace in down.protected_namespaces:
        return "protected_namespace"
    return None


class _Choice:
    """Empty ones together, else the first within the budget; each judged on the cluster without those before it."""

    def __init__(
        self,
        snapshot: Snapshot,
        fleet: FleetView,
        state: State,
        policy: Policy,
        *,
        places: Sequence[Worker],
        forced: bool,
        now_s: int,
        limits: Limits,
        kept: Keeping,
    ) -> None:
        self.chosen: list[Worker] = []
        self.moves: list[str] = []
        """Owners of the pods that the chosen ones run, as moves are remembered."""
        self.blocked: list[Blocked] = []
        self.unseen: list[str] = []
        """The first Nodes whose pods have to be seen before they can be judged."""
        self.asks, self.asked_for = Asks(), ""
        self._on_demand: dict[tuple[str, str, int], str | None] = {}
        self._snapshot, self._fleet, self._state, self._policy = snapshot, fleet, state, policy
        self._places, self._now_s, self._limits = places, now_s, limits
        self._forced = forced
        self._budget = at_once(policy, fleet.ready)
        as_it_counts = snapshot if forced else at_highest(snapshot)
        self._elsewhere = Elsewhere(as_it_counts, fleet, state, policy, now_s=now_s)
        self._least, self._wanted_by = policy.workers.min, limits.min_by
        coming = min(limits.coming_min, policy.workers.max)  # who is too many goes, whatever comes soon
        if coming > self._least:
            self._least, self._wanted_by = coming, f"{limits.coming_by}, soon"
        if min(kept.workers, policy.workers.max) > self._least:
            self._least, self._wanted_by = min(kept.workers, policy.workers.max), kept.by
        self._spare = fleet.ready - self._least
        if forced:
            self._spare = min(self._spare, fleet.existing - policy.workers.max)
        # What workers use that run nothing for anybody is their own and leaves with them: `min: 0` may be reached.
        self._use_counts = not forced and any(not worker.empty for worker in fleet.having(Standing.READY))

    def not_measured_yet(self) -> str | None:
        """How long the window's highest use may still be that of the fleet before the last one left; None: no more."""
        metrics = self._policy.metrics
        measured_s = metrics.cpu_rate_window_s + 2 * metrics.utilisation_interval_s
        since_s = self._now_s - (self._state.last_scale_down_s or 0)
        if not self._use_counts or since_s >= measured_s:
            return None
        return f"the use without the worker that left last is measured in {measured_s - since_s} s"

    def leaves_at_once(self, worker: Worker) -> bool:
        """Whether nobody needs it for sure: such workers leave together."""
        return worker.empty if self._forced else worker.empty_long

    def goes_on_after(self, worker: Worker) -> bool:
        """Judge it; whether the next one is to be judged too."""
        if len(self.chosen) >= self._spare:
            self._block(worker, self._why_no_more())
            return True
        if (kept := self._kept_by_pool(worker)) is not None:
            self._block(worker, kept)
            return True
        if self.chosen and self._has_enough_with(worker):
            return False
        if not self._budget and not self.leaves_at_once(worker):
            self._block(worker, "budget: scale_down.budget lets only empty workers leave")
            return True
        why = self._too_full(worker)
        if why is None and not worker.empty and worker.pods is None:
            self.unseen.append(worker.title)
            return True
        asks = self._elsewhere.asks(worker) if why is None else Asks()
        if asks:
            self.asks, self.asked_for = self.asks or asks, self.asked_for or worker.title
            return False
        why = why or self._rules_may_come(worker) or self._moved_in_vain(worker)
        why = why or self._elsewhere.cannot_lose(worker, self.chosen, self._places) or self._needed_in_window(worker)
        why = why or self._needed_free(worker) or self._needed_on_demand(worker)
        if why is not None:
            self._block(worker, why)
            return True
        self.chosen.append(worker)
        self.moves += self._elsewhere.families(worker)
        return self.leaves_at_once(worker) or len(self.chosen) < self._budget

    def _has_enough_with(self, worker: Worker) -> bool:
        """Whether this one is of another kind than those that were chosen, or one too many: empty, or not."""
        empty = self.leaves_at_once(worker)
        most = self._policy.scale_down.max_empty_step if empty else self._budget
        return empty is not self.leaves_at_once(self.chosen[0]) or len(self.chosen) >= most

    def _needed_on_demand(self, worker: Worker) -> str | None:
        """What a Spot pool's base and share ask for; max comes first."""
        if self._forced:
            return None
        pool = pool_of(worker, self._policy)
        # The same is said of each of these.
        alike = (pool.name if pool is not None else "", market_of(worker), len(self.chosen))
        if alike not in self._on_demand:
            gone = {other.key for other in self.chosen}
            self._on_demand[alike] = needed_on_demand(worker, self._fleet, self._policy, gone=gone)
        return self._on_demand[alike]

    def _block(self, worker: Worker, why: str) -> None:
        self.blocked.append(Blocked(subject=worker.title, reason=why))

    def _kept_by_pool(self, worker: Worker) -> str | None:
        """Its pool's own min, whatever the fleet's."""
        pool = pool_of(worker, self._policy)
        if pool is None or not pool.min:
            return None
        gone = sum(1 for other in self.chosen if pool_of(other, self._policy) == pool)
        ready = counted(self._fleet, self._policy, Standing.READY)[pool.name]
        return f"needed: pool {pool.name} has a min of {pool.min}" if ready - gone <= pool.min else None

    def _why_no_more(self) -> str:
        by = "" if self._wanted_by == OWN_MIN else f" ({self._wanted_by})"
        return f"needed: {self._least} workers are wanted{by}"

    def _needed_free(self, worker: Worker) -> str | None:
        """What would not stay free without it. max comes first: what is too many goes whatever is to stay free."""
        if self._fleet.existing - len(self.chosen) > self._policy.workers.max:
            return None
        lost = self._elsewhere.headroom_lost(worker, self.chosen, self._places, self._limits.headroom)
        return None if lost is None else f"needed: headroom: {lost} would not stay free"

    def _too_full(self, worker: Worker) -> str | None:
        gone = {worker.key, *(other.key for other in self.chosen)}
        why = too_full_without(self._snapshot, self._fleet, gone, self._policy) if self._use_counts else None
        return None if why is None else f"needed: {why}"

    def _rules_may_come(self, worker: Worker) -> str | None:
        """A removal can wait for what could not be read just now; for a server that goes on failing it does not."""
        question = self._state.rules_question
        gave_up = question is not None and question.failures >= ASKED_IN_VAIN
        if self._snapshot.scheduling_rules is not None or gave_up or not movable_pods(worker):
            return None
        return f"rules_unknown: {self._snapshot.rules_problem}"

    def _needed_in_window(self, worker: Worker) -> str | None:
        if self._forced or self.leaves_at_once(worker):
            return None
        return lacks_room((*self.chosen, worker), self._places, self._policy.scale_down.window_s)

    def _moved_in_vain(self, worker: Worker) -> str | None:
        reasons = (moved_too_often(self._state, owner, self._now_s) for owner in self._elsewhere.families(worker))
        return next((why for why in reasons if why is not None), None)

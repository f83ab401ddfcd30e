"""Which worker could go, and why the others may not. Metrics only nominate: the drain's preflight decides."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

import msgspec

from autoscaler.decide.capacity.market import beyond_base, market_of, needed_on_demand
from autoscaler.decide.capacity.pools import counted, is_open, pool_of, price_rank
from autoscaler.decide.demand.keeping import NOBODY_KEPT, Keeping
from autoscaler.decide.demand.schedules import OWN_MIN, Limits
from autoscaler.decide.demand.use import low_enough, too_full_without
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.removal.elsewhere import Elsewhere, movable_pods
from autoscaler.decide.removal.holds import all_holds, keeps
from autoscaler.decide.removal.pace import at_once
from autoscaler.decide.removal.window import at_highest, lacks_room, left_with_others, not_known
from autoscaler.model import Asks, Blocked, Resources, Snapshot, State, Why, blocked_by
from autoscaler.policy import Policy
from autoscaler.state.memory import times_refused
from autoscaler.state.moved import moved_too_often
from autoscaler.state.notices import REBALANCE

SEEN_AT_ONCE = 20
"""Workers whose single pods are asked for in one question, oldest first."""
ASKED_IN_VAIN = 3
"""After so many questions in a row without an answer it is decided by requests and selectors."""
ONLY_EMPTY: Final = Why("budget", "scale_down.budget lets only empty workers leave")
_REASONS: Final = {"low_use": "low_utilisation", "fits": "consolidation"}


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
    unmeasured: bool = False
    """Whether somebody may be found to leave as soon as the use without the last one is measured."""


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
    hold = next(all_holds(snapshot, fleet, state, policy, waiting_pods=waiting_pods, now_s=now_s, limits=limits), None)
    if hold is not None:
        return ShrinkPlan(candidates=(), reason=hold.code, message=hold.text, blocked=())
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
            blocked.append(blocked_by(worker.title, why))
    unknown, choice = _choosing(
        snapshot, fleet, state, policy, eligible, now_s=now_s, limits=limits, distrusted=distrusted, kept=kept
    )
    if unknown is not None:
        return ShrinkPlan(candidates=(), reason="window_unknown", message=unknown, blocked=tuple(blocked))
    if (unmeasured := choice.not_measured_yet()) is not None:
        return ShrinkPlan(
            candidates=(), reason="cooling_down", message=unmeasured, blocked=tuple(blocked), unmeasured=True
        )
    for worker in _in_turn(eligible, fleet, state, policy, leaves_at_once=choice.leaves_at_once):
        if not choice.goes_on_after(worker):
            break
    blocked += choice.blocked
    if choice.chosen:
        names = ", ".join(worker.title for worker in choice.chosen)
        return ShrinkPlan(
            candidates=tuple(choice.chosen),
            reason="above_max" if fleet.existing > policy.workers.max else _REASONS[policy.scale_down.when],
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


def bonds_of(
    worker: Worker,
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    now_s: int,
    limits: Limits,
    distrusted: bool = False,
    kept: Keeping = NOBODY_KEPT,
) -> tuple[Asks, list[Why]]:
    """All that demand has against the removal of this one worker alone, and what has to be seen to know more.

    What keeps it whatever the demand is `all_that_keeps`; what holds every removal back is `all_holds`.
    """
    if not snapshot.rooms_known:
        return Asks(rooms=True), []
    unknown, choice = _choosing(
        snapshot, fleet, state, policy, [worker], now_s=now_s, limits=limits, distrusted=distrusted, kept=kept
    )
    asks, bonds = choice.all_bonds(worker)
    first = [Why("window_unknown", unknown)] if unknown is not None else []
    first += [Why("cooling_down", why)] if (why := choice.not_measured_yet()) is not None else []
    return asks, [*first, *bonds]


def turns(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    *,
    now_s: int,
    limits: Limits,
    kept: Keeping = NOBODY_KEPT,
) -> list[Worker]:
    """The workers that nothing of their own keeps, in the order in which a shrink judges them."""
    free = [worker for worker in fleet.having(Standing.READY) if keeps(worker, state, policy, now_s) is None]
    _, choice = _choosing(snapshot, fleet, state, policy, free, now_s=now_s, limits=limits, distrusted=False, kept=kept)
    return list(_in_turn(free, fleet, state, policy, leaves_at_once=choice.leaves_at_once))


def _choosing(
    snapshot: Snapshot,
    fleet: FleetView,
    state: State,
    policy: Policy,
    eligible: Sequence[Worker],
    *,
    now_s: int,
    limits: Limits,
    distrusted: bool,
    kept: Keeping,
) -> "tuple[str | None, _Choice]":
    """Why the window does not tell enough to choose, or None; and the choice among the eligible."""
    places = [w for w in fleet.having(Standing.READY) if is_open(w, policy) and not (w.empty and distrusted)]
    # Use need not be low above max; where it is, ordinary rules let more go than are too many.
    forced = fleet.existing > policy.workers.max and low_enough(snapshot, fleet, policy) is not None
    unknown = not_known((*eligible, *places), policy.scale_down.window_s) if eligible and not forced else None
    return unknown, _Choice(
        snapshot, fleet, state, policy, places=places, forced=forced, now_s=now_s, limits=limits, kept=kept
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
        self._on_demand: dict[tuple[str, str, int], Why | None] = {}
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

    @cached_property
    def _left_with_others(self) -> Resources:
        return left_with_others(self._snapshot)

    @cached_property
    def _ready_by_pool(self) -> Counter[str]:
        return counted(self._fleet, self._policy, Standing.READY)

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
            self._block(worker, ONLY_EMPTY)
            return True
        why = self._too_full(worker)
        if why is None and not worker.empty and worker.pods is None:
            self.unseen.append(worker.title)
            return True
        asks = self._elsewhere.asks(worker) if why is None else Asks()
        if asks:
            self.asks, self.asked_for = self.asks or asks, self.asked_for or worker.title
            return False
        why = why or next(self._bonds(worker), None)
        if why is not None:
            self._block(worker, why)
            return True
        self.chosen.append(worker)
        self.moves += self._elsewhere.families(worker)
        return self.leaves_at_once(worker) or len(self.chosen) < self._budget

    def _bonds(self, worker: Worker) -> Iterator[Why]:
        """Why it stays, of all that is judged once its pods are known."""
        judges = (
            self._rules_may_come,
            self._moved_in_vain,
            lambda leaving: self._elsewhere.cannot_lose(leaving, self.chosen, self._places),
            self._needed_in_window,
            self._needed_free,
            self._needed_on_demand,
        )
        yield from (why for judged in judges if (why := judged(worker)) is not None)

    def all_bonds(self, worker: Worker) -> tuple[Asks, list[Why]]:
        """Everything that keeps this worker were it the first to go, and what has to be seen before more is known."""
        found = [
            self._why_no_more() if self._spare < 1 else None,
            self._kept_by_pool(worker),
            None if self._budget or self.leaves_at_once(worker) else ONLY_EMPTY,
            self._too_full(worker),
        ]
        unseen = not worker.empty and worker.pods is None
        asks = Asks(pods_of=(worker.title,)) if unseen else self._elsewhere.asks(worker)
        bonds = [] if asks else list(self._bonds(worker))
        return asks, [*(why for why in found if why is not None), *bonds]

    def _has_enough_with(self, worker: Worker) -> bool:
        """Whether this one is of another kind than those that were chosen, or one too many: empty, or not."""
        empty = self.leaves_at_once(worker)
        most = self._policy.scale_down.max_empty_step if empty else self._budget
        return empty is not self.leaves_at_once(self.chosen[0]) or len(self.chosen) >= most

    def _needed_on_demand(self, worker: Worker) -> Why | None:
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

    def _block(self, worker: Worker, why: Why) -> None:
        self.blocked.append(blocked_by(worker.title, why))

    def _kept_by_pool(self, worker: Worker) -> Why | None:
        """Its pool's own min, whatever the fleet's."""
        pool = pool_of(worker, self._policy)
        if pool is None or not pool.min:
            return None
        gone = sum(1 for other in self.chosen if pool_of(other, self._policy) == pool)
        ready = self._ready_by_pool[pool.name]
        return Why("needed", f"pool {pool.name} has a min of {pool.min}") if ready - gone <= pool.min else None

    def _why_no_more(self) -> Why:
        by = "" if self._wanted_by == OWN_MIN else f" ({self._wanted_by})"
        return Why("needed", f"{self._least} workers are wanted{by}")

    def _needed_free(self, worker: Worker) -> Why | None:
        """What would not stay free without it. max comes first: what is too many goes whatever is to stay free."""
        if self._fleet.existing - len(self.chosen) > self._policy.workers.max:
            return None
        limits = self._limits
        for headrooms, when in ((limits.headroom, ""), (limits.coming_headroom, ", soon")):
            lost = self._elsewhere.headroom_lost(worker, self.chosen, self._places, headrooms)
            if lost is not None:
                return Why("needed", f"headroom{when}: {lost} would not stay free")
        return None

    def _too_full(self, worker: Worker) -> Why | None:
        gone = {worker.key, *(other.key for other in self.chosen)}
        why = too_full_without(self._snapshot, self._fleet, gone, self._policy) if self._use_counts else None
        return None if why is None else Why("needed", why)

    def _rules_may_come(self, worker: Worker) -> Why | None:
        """A removal can wait for what could not be read just now; for a server that goes on failing it does not."""
        question = self._state.rules_question
        gave_up = question is not None and question.failures >= ASKED_IN_VAIN
        if self._snapshot.scheduling_rules is not None or gave_up or not movable_pods(worker):
            return None
        return Why("rules_unknown", self._snapshot.rules_problem)

    def _needed_in_window(self, worker: Worker) -> Why | None:
        if self._forced or self.leaves_at_once(worker):
            return None
        window_s = self._policy.scale_down.window_s
        return lacks_room((*self.chosen, worker), self._places, window_s, elsewhere=self._left_with_others)

    def _moved_in_vain(self, worker: Worker) -> Why | None:
        reasons = (moved_too_often(self._state, owner, self._now_s) for owner in self._elsewhere.families(worker))
        return next((why for why in reasons if why is not None), None)

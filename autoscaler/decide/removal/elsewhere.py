"""Whether the pods of a worker find a place without it: by the scheduler's own filters, on the workers that stay."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from autoscaler.decide.capacity.pools import in_turn, pool_named
from autoscaler.decide.demand.headroom import lost_on, sizes_of
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.decide.scheduling.asking import what_comes_first, what_these_need
from autoscaler.decide.scheduling.book import family
from autoscaler.decide.scheduling.matching import selects
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Waiting
from autoscaler.decide.scheduling.refusing import Refusing
from autoscaler.decide.scheduling.sizing import may_be_left, size
from autoscaler.model import Asks, NewWorkers, Pod, Snapshot, State, Why
from autoscaler.model.rules import Budget, PodRules
from autoscaler.policy import Policy
from autoscaler.windows import Headroom

_STAYS_BEHIND: Final = frozenset({"DaemonSet", "Node"})
"""Owner kinds whose pods need no new home: daemons, and static pods (owned by their Node)."""
BUDGETS_HOLD_S: Final = 120
"""What a budget allows changes with every pod: an older answer says nothing, and the drain's preflight has the word."""


def movable_pods(worker: Worker) -> list[Pod]:
    """Pods that a drain evicts, as far as its pods are known."""
    return [pod for pod in worker.pods or () if pod.owner_kind not in _STAYS_BEHIND]


class Elsewhere:
    """One look's cluster without this worker or that."""

    def __init__(self, snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy, *, now_s: int) -> None:
        self._snapshot, self._fleet, self._state, self._policy, self._now_s = snapshot, fleet, state, policy, now_s
        self._titles: tuple[Sequence[Worker], frozenset[str]] = ((), frozenset())

    def asks(self, worker: Worker) -> Asks:
        """What has to be seen before it can be judged."""
        pods = movable_pods(worker)
        first = what_comes_first(self._snapshot) if pods else Asks()
        if first or not pods:
            return first
        known = self._picture.machines, self._picture.book
        return what_these_need(self._snapshot, self._policy, known, pods, with_zones=False)

    def families(self, worker: Worker) -> list[str]:
        """Owners of its pods, as moves of them are remembered."""
        return [family(pod, self._picture.book.of(pod)) for pod in movable_pods(worker)]

    def cannot_lose(self, worker: Worker, gone: Sequence[Worker], places: Sequence[Worker]) -> Why | None:
        """Why its pods have no place on `places` beside those of `gone`, which leave with it; None where all have."""
        pods = [pod for leaving in (worker, *gone) for pod in movable_pods(leaving)]
        if not pods:
            return None
        picture = self._picture
        held = self._held_by_budget(movable_pods(worker)) or self._shares_budget(worker, gone)
        if held is not None:
            return held
        leaving = {worker.title, *(other.title for other in gone)}
        on = self._staying(places, leaving)
        with picture.without(leaving):
            left = may_be_left([Waiting(picture.book.of(pod), 1) for pod in pods], picture.cluster, on)
            if not left:
                return None
            pod = next(pod for pod in pods if picture.book.of(pod) == left[0].rules)
            return Why("no_room", f"{pod.title} {self._found_no_place(left[0].rules, on)}")

    def held(self, worker: Worker) -> Why | None:
        """The disruption budget that lets none of its pods go now, as far as a fresh answer tells."""
        return self._held_by_budget(movable_pods(worker))

    def new_needed(
        self,
        worker: Worker,
        places: Sequence[Worker],
        new: NewWorkers,
        *,
        at_most: int,
        markets: Iterable[str] = ("",),
    ) -> int | None:
        """How many such new workers its pods need beside `places` once it is gone; None: `at_most` do not do.

        `markets`: where they are bought; as most of their pool are, unless it is given.
        """
        picture = self._picture
        on = self._staying(places, {worker.title})
        with picture.without({worker.title}):
            waiting = [Waiting(picture.book.of(pod), 1, on) for pod in movable_pods(worker)]
            pool = pool_named(new.pool, self._policy) or self._policy.default_pool
            templates = [picture.machines.new(pool, new.instance_type, new.zone, market) for market in markets]
            sizing = size(waiting, templates, picture.cluster, at_most=at_most)
        return None if sizing.left else sizing.total

    def headroom_lost(
        self, worker: Worker, gone: Sequence[Worker], places: Sequence[Worker], headrooms: Sequence[Headroom]
    ) -> str | None:
        """What of the headroom would not stay free on `places` once its pods are there too; None where all would."""
        if not headrooms:
            return None
        picture = self._picture
        leaving = {worker.title, *(other.title for other in gone)}
        on = self._staying(places, leaving)
        moved = [Waiting(picture.book.of(pod), 1, on) for one in (worker, *gone) for pod in movable_pods(one)]
        sizes = sizes_of(self._snapshot)
        with picture.without(leaving):
            pools = in_turn(self._fleet, self._policy)
            lost = (lost_on(one, picture, pools, sizes, moved=moved, on=on) for one in headrooms)
            return next((what for what in lost if what is not None), None)

    def _found_no_place(self, rules: PodRules, on: frozenset[str]) -> str:
        """Who refuses it where, the plugin that does so most often first; or that others may be there before it."""
        refusals = self._refusing.count(rules, on)
        if refusals.total() < len(on & self._picture.cluster.nodes.keys()):
            return "may find no place: others that move with it fit where it does, and may be there first"
        often = sorted(refusals.items(), key=lambda one: (-one[1], one[0]))
        told = f" ({', '.join(f'{plugin} on {count}' for plugin, count in often)})" if often else ""
        return f"fits on no other worker{told}"

    def _held_by_budget(self, pods: Sequence[Pod]) -> Why | None:
        rules = self._snapshot.scheduling_rules
        if rules is None or self._now_s - rules.answered_at_s > BUDGETS_HOLD_S:
            return None
        for budget in rules.budgets:
            if budget.allowed < 1 and (covered := self._covered(budget, pods)):
                told = f"{budget.namespace}/{budget.name} allows no eviction of {covered[0].title} now"
                return Why("budget", told)
        return None

    def _shares_budget(self, worker: Worker, gone: Sequence[Worker]) -> Why | None:
        """Why it does not leave together with those in `gone`: the one's evictions would have the other's refused."""
        others = [pod for other in gone for pod in movable_pods(other)]
        if not others:
            return None
        rules = self._snapshot.scheduling_rules
        if rules is None or not rules.answered_at_s or "budgets" in rules.incomplete:
            return Why("budget", "which disruption budgets there are is not known, so it does not leave with others")
        for budget in rules.budgets:
            mine, theirs = self._covered(budget, movable_pods(worker)), self._covered(budget, others)
            if mine and theirs:
                return Why("budget", f"{budget.namespace}/{budget.name} covers pods of another that leaves, too")
        return None

    def _covered(self, budget: Budget, pods: Sequence[Pod]) -> list[Pod]:
        labels_of = self._picture.book.labels_of
        return [p for p in pods if p.namespace == budget.namespace and selects(budget.selector, labels_of(p))]

    def _staying(self, places: Sequence[Worker], leaving: set[str]) -> frozenset[str]:
        """The titles of `places`, which are the same ones from worker to worker, but for those that leave."""
        if self._titles[0] is not places:
            self._titles = places, frozenset(place.title for place in places)
        return self._titles[1] - leaving

    @cached_property
    def _picture(self) -> Picture:
        at_s = self._snapshot.metrics_at_s or self._snapshot.taken_at_s
        return Picture(self._snapshot, self._fleet, self._state, self._policy, now_s=at_s)

    @cached_property
    def _refusing(self) -> Refusing:
        return Refusing(self._picture.cluster)

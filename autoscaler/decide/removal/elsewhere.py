"""Whether the pods of a worker find a place without it: by the scheduler's own filters, on the workers that stay."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from autoscaler.decide.capacity.pools import in_turn
from autoscaler.decide.demand.headroom import lost_on, sizes_of
from autoscaler.decide.fleet import FleetView, Worker
from autoscaler.decide.scheduling.asking import what_is_missing
from autoscaler.decide.scheduling.filters import first_refusal
from autoscaler.decide.scheduling.matching import selects
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model import Asks, Pod, Snapshot, State
from autoscaler.model.rules import PodRules
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
        self._drawn: Picture | None = None

    def asks(self, worker: Worker) -> Asks:
        """What has to be seen before it can be judged."""
        pods = movable_pods(worker)
        if not pods:
            return Asks()
        return what_is_missing(self._snapshot, self._fleet, self._state, self._policy, pods, with_zones=False)

    def rules_of(self, pod: Pod) -> PodRules:
        """What it asks."""
        return self._picture.book.of(pod)

    def cannot_lose(self, worker: Worker, gone: Sequence[Worker], places: Sequence[Worker]) -> str | None:
        """Why its pods have no place on `places`, with those in `gone` away too; None where they have."""
        pods = movable_pods(worker)
        if not pods:
            return None
        picture = self._picture
        if (held := self._held_by_budget(pods)) is not None:
            return held
        leaving = {worker.title, *(other.title for other in gone)}
        on = frozenset(other.title for other in places) - leaving
        with picture.without(leaving):
            waiting = [Waiting(picture.book.of(pod), 1, on) for pod in pods]
            left = size(waiting, (), picture.cluster, at_most=0).left
            if not left:
                return None
            pod = next(pod for pod in pods if picture.book.of(pod) == left[0].rules)
            return f"no_room: {pod.title} fits on no other worker{self._reasons(left[0].rules, on)}"

    def headroom_lost(
        self, worker: Worker, gone: Sequence[Worker], places: Sequence[Worker], headrooms: Sequence[Headroom]
    ) -> str | None:
        """What of the headroom would not stay free on `places` once its pods are there too; None where all would."""
        if not headrooms:
            return None
        picture = self._picture
        leaving = {worker.title, *(other.title for other in gone)}
        on = frozenset(other.title for other in places) - leaving
        moved = [Waiting(picture.book.of(pod), 1, on) for pod in movable_pods(worker)]
        sizes = sizes_of(self._snapshot)
        with picture.without(leaving):
            pools = in_turn(self._fleet, self._policy)
            lost = (lost_on(one, picture, pools, sizes, moved=moved, on=on) for one in headrooms)
            return next((what for what in lost if what is not None), None)

    def _reasons(self, rules: PodRules, on: frozenset[str]) -> str:
        """Who refuses it where, the plugin that does so most often first."""
        cluster = self._picture.cluster
        nodes = (cluster.nodes[name] for name in sorted(on) if name in cluster.nodes)
        refusals = Counter(r.plugin for node in nodes if (r := first_refusal(rules, node, cluster)) is not None)
        return f" ({', '.join(f'{plugin} on {count}' for plugin, count in refusals.most_common())})" if refusals else ""

    def _held_by_budget(self, pods: Sequence[Pod]) -> str | None:
        rules = self._snapshot.scheduling_rules
        if rules is None or self._now_s - rules.answered_at_s > BUDGETS_HOLD_S:
            return None
        for budget in rules.budgets:
            for pod in pods if budget.allowed < 1 else ():
                labels = self._picture.book.labels_of(pod)
                if pod.namespace == budget.namespace and selects(budget.selector, labels):
                    return f"budget: {budget.namespace}/{budget.name} allows no eviction of {pod.title} now"
        return None

    @property
    def _picture(self) -> Picture:
        if self._drawn is None:
            at_s = self._snapshot.metrics_at_s or self._snapshot.taken_at_s
            self._drawn = Picture(self._snapshot, self._fleet, self._state, self._policy, now_s=at_s)
        return self._drawn

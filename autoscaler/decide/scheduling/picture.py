"""The cluster as the filters see it: every Node and every coming worker, with what is left of each.

Pods are in it as what they take away, but those of owners whose places bear on a verdict: they are put down one by one.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from autoscaler.decide.capacity.market import market_of
from autoscaler.decide.capacity.pools import pool_named, pool_of
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.asking import Known, what_is_known
from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.placing import Template
from autoscaler.model import OwnerRules, RemovalPhase, Snapshot, State
from autoscaler.model.rules import HOSTNAME_LABEL, Amounts, NodeSpec
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool

SETTLED_AFTER_S: Final = 60
"""From then on the scheduler has had its chance on a new node."""


class Picture:
    """One look's cluster, to try placements on."""

    def __init__(
        self,
        snapshot: Snapshot,
        fleet: FleetView,
        state: State,
        policy: Policy,
        *,
        just_joined: Container[str] = (),
        now_s: int,
        known: Known | None = None,
    ) -> None:
        rules = snapshot.scheduling_rules
        self.machines, self.book = known or what_is_known(snapshot, fleet, state, policy)
        namespaces = {name: dict(labels) for name, labels in rules.namespaces} if rules is not None else {}
        self.cluster = Cluster(namespaces)
        self.settled: list[str] = []
        """Nodes where the scheduler has had its chance."""
        self.ending = False
        """Whether a Node is there yet whose machine has ended, or is about to: none of `cluster`."""
        self.leaving: list[str] = []
        """Nodes of workers on their way out: cordoned here, and counted by rules until they are deleted."""
        self.back: dict[str, str] = {}
        """Operation id of each removal that may be undone -> its Node, newest first: cordoned here."""
        self._held: defaultdict[str, list[tuple[OwnerRules, int]]] = defaultdict(list)
        self._shown: dict[str, tuple[int, int]] = {}
        for place in snapshot.places:
            owner = self.book.placed(place.owner)
            if owner is not None:
                self._held[place.node].append((owner, place.count))
        self._add_nodes(snapshot, fleet, just_joined, now_s)
        self._add_coming(fleet, state, policy)

    def templates(
        self, pool: WorkerPool, instance_type: str, zones: Sequence[str], only_market: str = ""
    ) -> tuple[Template, ...]:
        """A fresh worker of this pool and type: one for all zones, or one for each of its own that matter."""
        own = self.machines.pool_zones.get(pool.name, zones)
        chosen = [zone for zone in zones if zone in own] if zones else [""]
        return tuple(self.machines.new(pool, instance_type, zone, only_market) for zone in chosen)

    @contextmanager
    def uncordoned(self, names: Iterable[str]) -> Iterator[None]:
        """With these Nodes open for pods."""
        specs = [self.cluster.nodes[name].spec for name in names]
        for spec in specs:
            self._exchange(spec, msgspec.structs.replace(spec, unschedulable=False))
        try:
            yield
        finally:
            for spec in specs:
                self._exchange(spec, spec)

    @contextmanager
    def without(self, names: Iterable[str]) -> Iterator[None]:
        """With these Nodes gone, and their pods nowhere."""
        gone = [self.cluster.nodes[name].spec for name in names if name in self.cluster.nodes]
        for spec in gone:
            self._take_up(spec)
        try:
            yield
        finally:
            for spec in gone:
                self._set_up(spec)

    def _exchange(self, old: NodeSpec, new: NodeSpec) -> None:
        self._take_up(old)
        self._set_up(new)

    def _take_up(self, spec: NodeSpec) -> None:
        node = self.cluster.nodes[spec.name]
        for owner, count in self._held.get(spec.name, ()):
            self.cluster.place(owner.rules, node, -count)
        self.cluster.remove_node(node)

    def _set_up(self, spec: NodeSpec) -> None:
        node = self.cluster.add_node(spec)
        for owner, count in self._held.get(spec.name, ()):
            self.cluster.place(owner.rules, node, count)

    # ------------------------------------------------------------------------------------------------------ building

    def _add_nodes(self, snapshot: Snapshot, fleet: FleetView, just_joined: Container[str], now_s: int) -> None:
        workers = {w.node.name: w for w in fleet.workers if w.node is not None}
        for leaving in take_backable(fleet):
            if leaving.removal is not None and leaving.node is not None:
                self.back[leaving.removal.operation_id] = leaving.node.name
        for node in snapshot.nodes:
            worker = workers.get(node.name)
            if worker is None:
                # A server is a domain like any other, and no place that a worker is judged by.
                self._set_up(self.machines.existing(node, None, cordoned=True, beside=self._beside(node.name)))
            elif worker.standing is Standing.DEAD:
                self.ending = True
            elif not _is_coming(worker):
                closed = node.cordoned is not False and worker.standing is not Standing.JOINING
                cordoned = closed or worker.standing is Standing.LEAVING
                if worker.standing is Standing.LEAVING:
                    self.leaving.append(node.name)
                beside = self._beside(node.name)
                self._set_up(self.machines.existing(node, worker, cordoned=cordoned, beside=beside))
                new = _is_new(worker, just_joined, now_s) or bool(self.machines.awaited(node, worker))
                if worker.standing is Standing.READY and not cordoned and not new:
                    self.settled.append(node.name)

    def _beside(self, name: str) -> Amounts:
        """What the metrics counted there of the pods that are put down one by one: those take theirs themselves."""
        cpu_millicores = memory_bytes = pods = 0
        for owner, count in self._held.get(name, ()):
            cpu, memory = self._shown.get(owner.owner) or self._shown_of(owner)
            cpu_millicores += cpu * count
            memory_bytes += memory * count
            pods += count
        return (("cpu", cpu_millicores), ("memory", memory_bytes), ("pods", pods))

    def _shown_of(self, owner: OwnerRules) -> tuple[int, int]:
        """CPU and memory that the metrics show of one of its pods."""
        shown = dict(owner.shown or owner.rules.requests)
        self._shown[owner.owner] = known = shown.get("cpu", 0), shown.get("memory", 0)
        return known

    def _add_coming(self, fleet: FleetView, state: State, policy: Policy) -> None:
        """A node for every worker on its way, identified or not."""
        for worker in fleet.having(Standing.JOINING):
            if _is_coming(worker):
                pool = pool_of(worker, policy) or policy.default_pool
                self._add_new(worker.title, pool, worker.instance_type, worker.zone or "", market_of(worker))
        asked = [
            (launch.request, pool_named(launch.request.pool, policy) or policy.default_pool)
            for launch in state.launches
            for _ in range(launch.unidentified)
            if launch.request.overrides
        ]
        for index, (request, pool) in enumerate(asked[: fleet.unidentified]):
            first = request.overrides[0]
            self._add_new(f"unidentified {index}", pool, first.instance_type, first.zone, request.market)

    def _add_new(self, name: str, pool: WorkerPool, instance_type: str, zone: str, market: str) -> None:
        known = instance_type if instance_type in pool.instance_types else pool.instance_types[0]
        template = self.machines.new(pool, known, zone, market)
        labels = tuple((key, name if key == HOSTNAME_LABEL else value) for key, value in template.node.labels)
        node = self.cluster.add_node(msgspec.structs.replace(template.node, name=name, labels=labels))
        for daemon in template.daemons:
            self.cluster.place(daemon, node)


def take_backable(fleet: FleetView) -> list[Worker]:
    """Workers whose drain may still be undone, newest operation first."""
    candidates = [
        worker
        for worker in fleet.having(Standing.LEAVING)
        if worker.removal is not None
        and worker.removal.phase in {RemovalPhase.DRAINING, RemovalPhase.DRAINED}
        and not worker.removal.reclaim
        and worker.node is not None
        and worker.node.ready is True
    ]
    return sorted(candidates, key=lambda w: -(w.removal.created_at_s if w.removal is not None else 0))


def _is_coming(worker: Worker) -> bool:
    return worker.standing is Standing.JOINING and worker.removal is None


def _is_new(worker: Worker, just_joined: Container[str], now_s: int) -> bool:
    """A Node may need longer than a minute from its creation to Ready: what was not Ready before is new as well."""
    if worker.node is None or worker.node.created_at_s is None:
        return True
    young = now_s - worker.node.created_at_s < SETTLED_AFTER_S
    return young or worker.launch is not None or worker.key in just_joined

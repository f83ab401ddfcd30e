"""What the scheduler reads of each worker that exists, and what it would read of a new one.

Labels and taints come from the server that was asked last, for Nodes that it showed; else from the metrics, which show
the labels of an allow-list, and from what every worker of ours has by itself. What is observed beats what is implied.
Cordons and free room are always the metrics': they are fresh.
"""

from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from typing import Final

from autoscaler.decide.capacity.catalogue import extended_of
from autoscaler.decide.capacity.pools import hard_taints, pool_of
from autoscaler.decide.fleet import FleetView, Standing, Worker
from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.costing import Costs
from autoscaler.decide.scheduling.filters import LASTING
from autoscaler.decide.scheduling.labels import (
    CAPACITY_LABEL,
    OF_ONE_TYPE,
    OLD_ZONE_LABELS,
    POOL_LABEL,
    REGION_LABEL,
    ZONE_LABEL,
    RealNames,
    as_labels,
    implied,
    labels_by_nature,
    region_of,
    shared,
    zone_valued,
)
from autoscaler.decide.scheduling.matching import HARD
from autoscaler.decide.scheduling.offered import offered, sizes_seen, type_of
from autoscaler.decide.scheduling.placing import Template
from autoscaler.model import ON_DEMAND, SPOT, Instance, Node, Resources, SchedulingRules, SeenType, Snapshot, State
from autoscaler.model.rules import HOSTNAME_LABEL, Amounts, Effect, NodeSpec, PodRules, Taint
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool

UNLIMITED: Final = 2**60
DISK: Final = "ephemeral-storage"
"""Requested now and then and shown by no metric: where nothing is known of it, it is no reason against a node."""
_STATES: Final = "node.kubernetes.io/"
"""Taints under this prefix are made of a node's condition, and come and go with it."""
UNKNOWN_TAINT: Final = Taint(key="k3s-autoscaler/unknown", effect=Effect.NO_SCHEDULE)
NOT_READY_TAINTS: Final = tuple(
    Taint(key="node.kubernetes.io/not-ready", effect=effect) for effect in (Effect.NO_SCHEDULE, Effect.NO_EXECUTE)
)
"""A NotReady node has both: every pod tolerates the second for 300 s, which admission gives it (Kubernetes reference,
"Taints and Tolerations", `DefaultTolerationSeconds`); the first keeps new ones away."""
METRICS_SHOW: Final = frozenset({"cpu", "memory", "pods"})


class Machines:
    """Workers as NodeSpecs, existing and new, by one look's knowledge."""

    def __init__(self, snapshot: Snapshot, fleet: FleetView, state: State, policy: Policy) -> None:
        rules = snapshot.scheduling_rules
        self._fleet, self._state, self._policy = fleet, state, policy
        self._told: dict[str, NodeSpec] = {node.name: node for node in rules.nodes} if rules is not None else {}
        self.names = RealNames({key for node in self._told.values() for key, _ in node.labels})
        self._daemons = _daemons(snapshot, rules)
        self._shown: dict[str, dict[str, str]] = {}
        self._likes: dict[tuple[str | None, str, str, str], Mapping[str, str]] = {}
        self._ours = [(worker, self._labels_of(worker.node)) for worker in fleet.workers if _is_model(worker)]
        self._zone_valued = zone_valued(labels for _, labels in self._ours)
        self.zone_keys = frozenset({ZONE_LABEL, REGION_LABEL, *OLD_ZONE_LABELS, *self._zone_valued})
        """Labels that a new worker has by its zone."""
        self._now_s = snapshot.taken_at_s
        self._told_at_s = rules.answered_at_s if rules is not None else 0
        self.pool_zones = dict(snapshot.pool_zones)
        """Of pools that are launched in some zones only."""
        self.costs = Costs(snapshot, fleet, state, policy)
        self._common: dict[str, dict[str, str]] = {}
        self._alikes: dict[tuple[str, str], dict[str, str]] = {}
        self._new_labels: dict[tuple[str, str, str], dict[str, str]] = {}
        self._new_taints: dict[str, tuple[Taint, ...]] = {}
        self._templates: dict[tuple[str, str, str, str], Template] = {}

    def existing(
        self, node: Node, worker: Worker | None, *, cordoned: bool, beside: Iterable[tuple[str, int]] = ()
    ) -> NodeSpec:
        """A Node of the cluster: a worker, or a server (then `worker` is None).

        `allocatable` is what is left of it, and what stands `beside` that: of pods that are put down one by one.
        """
        told, instance = node.name in self._told, worker.instance if worker is not None else None
        like = self._like(worker, instance) if worker is not None and instance is not None and not told else {}
        return NodeSpec(
            name=node.name,
            labels=as_labels({HOSTNAME_LABEL: node.name, **like, **self._labels_of(node)}),
            taints=self._taints_of(node, worker),
            unschedulable=cordoned,
            allocatable=self._left_of(node, worker, beside),
        )

    def _like(self, worker: Worker, instance: Instance) -> Mapping[str, str]:
        """The labels that such an instance has by itself, or by its pool."""
        pool = pool_of(worker, self._policy)
        market = SPOT if instance.market == SPOT else ON_DEMAND
        key = (pool.name if pool is not None else None, instance.instance_type, instance.zone, market)
        if pool is None and key not in self._likes:
            self._likes[key] = labels_by_nature(instance.instance_type, instance.zone)
        elif pool is not None and key not in self._likes:
            of_pool = self._labels_of_new(pool, instance.instance_type, instance.zone)
            self._likes[key] = {**of_pool, CAPACITY_LABEL: market}
        return self._likes[key]

    def new(self, pool: WorkerPool, instance_type: str, zone: str = "", only_market: str = "") -> Template:
        """A fresh worker, with the DaemonSets that would run there. Without a zone it lies in any.

        `only_market`: where it is bought; empty: where its pool buys, and on demand if that gives nothing.
        """
        key = (pool.name, instance_type, zone, only_market)
        known = self._templates.get(key)
        if known is not None:
            return known
        market = only_market or pool.market
        policy = self._policy
        of_pool = f"{pool.name} " if len(policy.pools) > 1 else ""
        of_market = f" {market}" if market != pool.market else ""
        name = f"new {of_pool}{instance_type}{of_market} {zone}".strip()
        labels = {**self._labels_of_new(pool, instance_type, zone), HOSTNAME_LABEL: name, CAPACITY_LABEL: market}
        spec = NodeSpec(
            name=name,
            labels=as_labels(labels),
            taints=self._taints_of_new(pool),
            allocatable=self._allocatable_of_new(instance_type),
        )
        order = pool.instance_types
        template = Template(
            name=name,
            node=spec,
            daemons=self._daemons_on(spec, instance_type),
            # Who is bought on the pool's other market comes after all that are not.
            rank=[*order, instance_type].index(instance_type) + (market != pool.market) * (len(order) + 1),
            instance_type=instance_type,
            zone=zone,
            pool=pool.name,
            market=market,
            choice=pool.choice_of(instance_type),
            usd_per_hour=self.costs.usd_per_hour(pool, instance_type, zone, only_market),
            exhausted=self.costs.is_exhausted(pool, instance_type, zone, only_market),
            weight=pool.weight,
        )
        self._templates[key] = template
        return template

    def _daemons_on(self, spec: NodeSpec, instance_type: str) -> tuple[PodRules, ...]:
        """Those whose own rules let them on such a node; where none is shown, as much as was seen there."""
        node, nobody = NodeInfo(spec), Cluster({})
        there = tuple(d for d in self._daemons if not any(check(d, node, nobody) for _, check in LASTING))
        seen = self._seen(instance_type)
        if self._daemons or seen is None or not seen.daemons.pods:
            return there
        whole = PodRules(namespace="", requests=_amounts(seen.daemons, with_pods=False))
        return (whole, *(PodRules(namespace=""),) * (seen.daemons.pods - 1))

    def _seen(self, instance_type: str) -> SeenType | None:
        return next((seen for seen in self._state.seen_types if seen.instance_type == instance_type), None)

    # ------------------------------------------------------------------------------------------------------- labels

    def _labels_of(self, node: Node | None) -> dict[str, str]:
        """What was shown of this Node."""
        if node is None:
            return {}
        known = self._shown.get(node.name)
        if known is None:
            told = self._told.get(node.name)
            known = self._shown[node.name] = dict(told.labels) if told is not None else self.names.of(node.labels)
        return known

    def _labels_of_new(self, pool: WorkerPool, instance_type: str, zone: str) -> dict[str, str]:
        """What it sets by itself, and what all of ours have; of the same type, also what is of the type."""
        key = (pool.name, instance_type, zone)
        if key not in self._new_labels:
            self._new_labels[key] = self._learned_labels(pool, instance_type, zone)
        return self._new_labels[key]

    def _learned_labels(self, pool: WorkerPool, instance_type: str, zone: str) -> dict[str, str]:
        common = {**self._everywhere, **self._common_of(pool)}
        common = {key: value for key, value in common.items() if key not in OF_ONE_TYPE}
        seen = self._seen(instance_type)
        remembered = dict(seen.labels) if seen is not None and not self._ours else {}
        of_pools = {key for one in self._policy.pools for key in one.labels}  # nobody noted whose they were
        remembered = {key: value for key, value in remembered.items() if key not in of_pools}
        labels = {**remembered, **common, **implied(instance_type, zone), **self._alike(pool, instance_type)}
        # Of a Spot pool the ones that its base and share ask for are on demand all the same: most are not.
        labels |= {**pool.labels, POOL_LABEL: pool.name, CAPACITY_LABEL: pool.market}
        if not zone:
            return {key: value for key, value in labels.items() if key not in self._zone_valued}
        return labels | dict.fromkeys(self._zone_valued, zone) | {ZONE_LABEL: zone, REGION_LABEL: region_of(zone)}

    def _alike(self, pool: WorkerPool, instance_type: str) -> dict[str, str]:
        """What all of its workers of this type have in common, in whichever zone."""
        key = (pool.name, instance_type)
        if key not in self._alikes:
            of_pool = self._of_pools.get(pool.name, ())
            self._alikes[key] = shared(labels for one, labels in of_pool if type_of(one, labels) == instance_type)
        return self._alikes[key]

    @cached_property
    def _of_pools(self) -> dict[str, list[tuple[Worker, dict[str, str]]]]:
        """Workers of ours with their labels, by the name of their pool."""
        found: dict[str, list[tuple[Worker, dict[str, str]]]] = {}
        for worker, labels in self._ours:
            pool = pool_of(worker, self._policy)
            found.setdefault(pool.name if pool is not None else "", []).append((worker, labels))
        return found

    @cached_property
    def _everywhere(self) -> dict[str, str]:
        """What all workers of ours have in common beside what their pools give them."""
        there = (pool for pool in self._policy.pools if pool.name in self._of_pools)
        declared = {POOL_LABEL, *(key for pool in there for key in pool.labels)}
        common = shared(labels for _, labels in self._ours)
        return {key: value for key, value in common.items() if key not in declared}

    def _common_of(self, pool: WorkerPool) -> dict[str, str]:
        if pool.name not in self._common:
            self._common[pool.name] = shared(labels for _, labels in self._of_pools.get(pool.name, ()))
        return self._common[pool.name]

    # ------------------------------------------------------------------------------------------------------- taints

    def _taints_of(self, node: Node, worker: Worker | None) -> tuple[Taint, ...]:
        """Those that the metrics show, key by key: as a server told them, else as the worker's pool gives them.

        One that was told and is not shown any more was taken off; of one that is shown and nobody told, only that it
        keeps pods away.
        """
        told = self._told.get(node.name)
        lasting = tuple(t for t in told.taints if not t.key.startswith(_STATES)) if told is not None else ()
        hard = tuple(taint for taint in lasting if taint.effect in HARD)
        if node.ready is not True:
            return (*hard, *NOT_READY_TAINTS)
        if not node.tainted:
            return ()
        if not node.taint_keys:
            return hard or (UNKNOWN_TAINT,)
        told_keys = {taint.key for taint in hard}
        known = [*hard, *(taint for taint in self._declared(worker) if taint.key not in told_keys)]
        there = [taint for taint in known if taint.key in node.taint_keys]
        nobody_told = set(node.taint_keys) - {taint.key for taint in there}
        return (*there, UNKNOWN_TAINT) if nobody_told else tuple(there)

    def _taints_of_new(self, pool: WorkerPool) -> tuple[Taint, ...]:
        """The pool's own, but for those that somebody took off all of its workers; and what all of these have.

        Where none of the pool is there to look at, what all others of ours have beside their pools' own.
        """
        if pool.name not in self._new_taints:
            self._new_taints[pool.name] = self._learned_taints(pool)
        return self._new_taints[pool.name]

    def _learned_taints(self, pool: WorkerPool) -> tuple[Taint, ...]:
        seen: list[set[Taint]] = []
        others: list[set[Taint]] = []
        for name, of_pool in self._of_pools.items():
            for worker, _ in of_pool:
                taints = set(self._taints_of(worker.node, worker)) if worker.node is not None else set()
                if name == pool.name:
                    seen.append(taints)
                else:
                    others.append(taints - {*self._declared(worker)})
        models = seen or others
        common = set.intersection(*models) if models else set()
        own = {t for t in hard_taints(pool) if not seen or any(t in taints for taints in seen)}
        new = (common | own) - {UNKNOWN_TAINT, *NOT_READY_TAINTS}
        return tuple(sorted(new, key=lambda t: (t.key, t.value, t.effect)))

    def _declared(self, worker: Worker | None) -> tuple[Taint, ...]:
        pool = pool_of(worker, self._policy) if worker is not None else None
        return hard_taints(pool) if pool is not None else ()

    # ------------------------------------------------------------------------------------------------------- amounts

    def awaited(self, node: Node, worker: Worker | None) -> dict[str, int]:
        """Extended resources of its type that a worker of ours still lacks: its device plugin may be starting.

        What it did not have when a server told of it later than the time that a worker has to join does not come.
        """
        if worker is None or worker.instance is None or not worker.ours or node.created_at_s is None:
            return {}
        expected = extended_of(worker.instance.instance_type, self._policy)
        told = self._told.get(node.name) if expected else None
        if told is not None and self._told_at_s >= node.created_at_s + self._policy.workers.join_timeout_s:
            return {}
        there = dict(told.allocatable) if told is not None else {}
        return {name: pieces for name, pieces in expected.items() if not there.get(name)}

    def to_be_told_after_s(self, resources: Container[str]) -> int:
        """When the youngest worker should have had one of these that it was not seen to have; 0 for none by now."""
        times = (at_s for names, at_s in self._awaiting if any(name in resources for name in names))
        return max((at_s for at_s in times if at_s <= self._now_s), default=0)

    @cached_property
    def _awaiting(self) -> list[tuple[dict[str, int], int]]:
        """What workers still lack, and when each should have had it."""
        join_s = self._policy.workers.join_timeout_s
        there = [
            (self.awaited(worker.node, worker), worker.node) for worker, _ in self._ours if worker.node is not None
        ]
        return [(lacks, (node.created_at_s or 0) + join_s) for lacks, node in there if lacks]

    @cached_property
    def _sizes_seen(self) -> dict[str, Resources]:
        return sizes_seen(self._fleet)

    def _left_of(self, node: Node, worker: Worker | None, beside: Iterable[tuple[str, int]]) -> Amounts:
        """Allocatable less what is requested, by the metrics; what they do not show as the server told it, whole."""
        told = self._told.get(node.name)
        other = {name: value for name, value in told.allocatable if name not in METRICS_SHOW} if told else {}
        if told is None:
            other = {DISK: UNLIMITED}
        other |= self.awaited(node, worker)
        left = Resources()
        if node.allocatable is not None and node.requested is not None:
            left = node.allocatable - node.requested
        amounts = {**other, "cpu": left.cpu_millicores, "memory": left.memory_bytes, "pods": left.pods}
        for name, amount in beside:
            amounts[name] += amount
        return as_amounts(amounts)

    def _allocatable_of_new(self, instance_type: str) -> Amounts:
        told = [
            {name: value for name, value in self._told[worker.node.name].allocatable if name not in METRICS_SHOW}
            | self.awaited(worker.node, worker)
            for worker, labels in self._ours
            if worker.node is not None and worker.node.name in self._told and type_of(worker, labels) == instance_type
        ]
        other = {DISK: UNLIMITED, **extended_of(instance_type, self._policy)}
        if told:
            other = {name: min(one.get(name, 0) for one in told) for name in told[0]}
        size = offered(instance_type, self._fleet, self._state, self._policy, seen=self._sizes_seen)
        return as_amounts({**other, **dict(_amounts(size))})


def as_amounts(amounts: Mapping[str, int]) -> Amounts:
    """Sorted pairs."""
    return tuple(sorted(amounts.items()))


def _amounts(resources: Resources, *, with_pods: bool = True) -> Amounts:
    amounts = {"cpu": resources.cpu_millicores, "memory": resources.memory_bytes}
    return as_amounts({**amounts, "pods": resources.pods} if with_pods else amounts)


def _is_model(worker: Worker) -> bool:
    """Whether new workers are taken to be like it."""
    return worker.ours and worker.node is not None and worker.standing in {Standing.READY, Standing.LEAVING}


def _daemons(snapshot: Snapshot, rules: SchedulingRules | None) -> tuple[PodRules, ...]:
    if rules is not None and rules.daemons:
        return tuple(daemon.rules for daemon in rules.daemons)
    return tuple(
        PodRules(
            namespace=daemon.namespace,
            requests=_amounts(daemon.requests, with_pods=False),
        )
        for daemon in snapshot.daemons
    )

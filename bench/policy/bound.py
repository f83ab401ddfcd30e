"""The all-knowing bound: how few workers any policy could pay for that keeps to the default's target use.

It knows every pod that will ever be asked for and the scheduler's rules, asks for workers one join time before they are
needed, and lets them go at once. It is computed and not played: pods are packed anew at every change as if they moved
for nothing, its workers always join in time, and no trouble of the cloud reaches it. So nobody reaches it either.
"""

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from autoscaler.backtest.plan import Plan, Steps
from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.placing import Template, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model.rules import BoundClaim, NodeTerm, Operator, PodRules, Requirement
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.world.labels import ZONE_LABEL
from autoscaler.simulator.world.objects import SYSTEM_BURN_CORES, SYSTEM_MEMORY_BYTES, sizes_of
from autoscaler.simulator.world.rules import node_spec, rules_of
from autoscaler.simulator.world.workload import Kind, Workload
from autoscaler.simulator.world.world import WorldSettings

_WORLD: Final = WorldSettings(cluster_id="bound")
JOIN_S: Final = Ec2Settings().pending_s + _WORLD.boot_s[1] + _WORLD.ready_s
"""From the launch to Ready, of the slowest worker of the simulator."""


class _Demand(msgspec.Struct, frozen=True):
    """What runs at one moment."""

    classes: tuple[tuple[PodRules, int], ...]
    cores: float
    memory_bytes: int


class TooSmall(Exception):
    """What a plan asks for is more than the policy can have; the message says what and how much."""


class Bound:
    """Workers that a plan needs. `policy` gives targets, limits and the instance type."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._type = policy.default_pool.instance_types[0]
        self._templates, self._own_cores, self._own_bytes = _new_workers(policy)
        self._packed: dict[tuple[tuple[PodRules, int], ...], int] = {}

    def needed(self, plan: Plan) -> Steps:
        """Workers needed from each moment on. Raises TooSmall."""
        steps: Steps = []
        for at_s, demand in _demands(plan):
            workers = max(self._policy.workers.min, self._by_rules(demand), self._by_use(demand))
            if workers > self._policy.workers.max:
                raise TooSmall(
                    f"{plan.name} needs {workers} workers after {at_s:.0f} s, and the default's workers.max is "
                    f"{self._policy.workers.max}: the bench is made for the shipped one; give others with --policy."
                )
            if not steps or steps[-1][1] != workers:
                steps.append((at_s, workers))
        return steps

    def paid(self, plan: Plan) -> Steps:
        """Workers that are paid for: each is asked for one join time before it is needed."""
        needed = self.needed(plan)
        ends_s = [at_s for at_s, _ in needed[1:]] + [plan.length_s]
        steps: Steps = []
        for at_s in sorted({max(0.0, moment - ahead) for moment, _ in needed for ahead in (0.0, JOIN_S)}):
            workers = max(
                count for (from_s, count), to_s in zip(needed, ends_s, strict=True)
                if to_s > at_s and from_s <= at_s + JOIN_S
            )  # fmt: skip
            if not steps or steps[-1][1] != workers:
                steps.append((at_s, workers))
        return steps

    def _by_rules(self, demand: _Demand) -> int:
        if demand.classes not in self._packed:
            waiting = [Waiting(rules, count) for rules, count in demand.classes]
            sizing = size(waiting, self._templates, Cluster({}), at_most=1000)
            if sizing.left:
                raise TooSmall(
                    f"No number of {self._type} holds the pods that ask for {sizing.left[0].rules.requests}."
                )
            self._packed[demand.classes] = sizing.total
        return self._packed[demand.classes]

    def _by_use(self, demand: _Demand) -> int:
        """The fewest whose use is at the grow targets, what workers use for themselves included."""
        capacity, _ = sizes_of(self._type)
        up = self._policy.scale_up
        cores = up.cpu_above * capacity.cpu_millicores / 1000 - self._own_cores
        memory_bytes = up.memory_above * capacity.memory_bytes - self._own_bytes
        if cores <= 0 or memory_bytes <= 0:
            raise TooSmall(f"A {self._type} that runs no pods is above the default's grow targets already.")
        return max(math.ceil(demand.cores / cores), math.ceil(demand.memory_bytes / memory_bytes))


def node_seconds(steps: Steps, length_s: float) -> float:
    """The area under the steps."""
    ends_s = [at_s for at_s, _ in steps[1:]] + [length_s]
    return sum(workers * (to_s - at_s) for (at_s, workers), to_s in zip(steps, ends_s, strict=True))


def launches(steps: Steps) -> int:
    """Workers that come after the first moment."""
    return sum(max(0, after - before) for (_, before), (_, after) in itertools.pairwise(steps))


def _new_workers(policy: Policy) -> tuple[list[Template], float, int]:
    """A fresh worker of each zone with its DaemonSets' pods, and the cores and bytes that it uses for itself."""
    cluster = SimCluster(policy, workers=2, world=_WORLD)
    state = cluster.world.state
    daemon_sets = [workload for workload in state.workloads.values() if workload.kind is Kind.DAEMON_SET]
    daemons = tuple(rules_of(workload) for workload in daemon_sets)
    templates = [
        Template(
            name=node.machine.zone,
            node=msgspec.structs.replace(node_spec(node), name=node.machine.zone),
            daemons=daemons,
            instance_type=node.machine.instance_type,
            zone=node.machine.zone,
        )
        for node in state.nodes.values()
        if not node.machine.server
    ]
    own_cores = SYSTEM_BURN_CORES + sum(workload.template.burn_cores for workload in daemon_sets)
    own_bytes = SYSTEM_MEMORY_BYTES + sum(_bytes(workload) for workload in daemon_sets)
    return templates, own_cores, own_bytes


class _Running(msgspec.Struct):
    """Pods of one owner."""

    workload: Workload
    replicas: int
    burn_cores: float
    until_s: float


def _demands(plan: Plan) -> Iterator[tuple[float, _Demand]]:
    """What is asked for, from each moment on at which that changes. A pod that is asked for runs at once."""
    running = {workload.key: _whole(workload, plan.length_s) for workload in plan.base}
    changes, jobs = deque(plan.changes), deque(plan.jobs)
    ends = {job.at_s + job_seconds(job.workload) for job in jobs}
    moments = {0.0, *ends, *(change.at_s for change in changes), *(job.at_s for job in jobs)}
    for at_s in sorted(moment for moment in moments if moment < plan.length_s):
        while changes and changes[0].at_s <= at_s:
            change = changes.popleft()
            owner = running[change.owner]
            owner.replicas, owner.burn_cores = change.replicas, change.burn_cores
        while jobs and jobs[0].at_s <= at_s:
            job = jobs.popleft()
            running[job.workload.key] = _whole(job.workload, job.at_s + job_seconds(job.workload))
        yield at_s, _demand([pods for pods in running.values() if pods.until_s > at_s])


def job_seconds(workload: Workload) -> float:
    """From the creation of a job that finds room at once to its end."""
    return workload.template.start_s + (workload.template.run_for_s or 0.0)


def _whole(workload: Workload, until_s: float) -> _Running:
    return _Running(workload, workload.replicas, workload.template.burn_cores, until_s)


def _demand(running: Sequence[_Running]) -> _Demand:
    counts: Counter[PodRules] = Counter()
    for pods in running:
        counts[_rules(pods.workload)] += pods.replicas
    return _Demand(
        classes=tuple((rules, count) for rules, count in counts.items() if count),
        cores=sum(pods.replicas * pods.burn_cores for pods in running),
        memory_bytes=sum(pods.replicas * _bytes(pods.workload) for pods in running),
    )


def _rules(workload: Workload) -> PodRules:
    """With its volumes, which are where the plan says."""
    claims = tuple(
        BoundClaim(
            name=claim.name, node_affinity=(NodeTerm(labels=(Requirement(ZONE_LABEL, Operator.IN, (claim.zone,)),)),)
        )
        for claim in workload.template.constraints.claims
    )
    return msgspec.structs.replace(rules_of(workload), claims=claims)


def _bytes(workload: Workload) -> int:
    """Memory that one of its pods uses."""
    template = workload.template
    return template.request.memory_bytes if template.used_memory_bytes is None else template.used_memory_bytes

"""Invariants of plans that knew what the scheduler asks: they are enough, they are not for nothing, they do not turn.

Each is judged only where nothing came in between: no fault, no change of the load, from the plan to its judgement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from autoscaler.model import OPERATION_TAG
from autoscaler.observe.rules import unpack_kept
from autoscaler.simulator.soak.helpable import helpable
from autoscaler.simulator.soak.on_decision import VOLUNTARY
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.watch import Saved, Watch
from autoscaler.simulator.world.objects import Faults, SimNode
from autoscaler.simulator.world.preflight import movable_pods
from autoscaler.simulator.world.told import owner_key

FOR_PODS: Final = "pods_unschedulable"
WITHIN_S: Final = 3600.0
SETTLED_S: Final = 150.0
"""So long nothing came in between before a launch or a removal is judged: pictures are younger than that."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A launch for pods, of whoever knew what they ask."""

    at_s: float
    mark: int
    operation_ids: frozenset[str]
    count: int
    pods: frozenset[str]
    """Uids of those that a new worker would help."""
    beside: frozenset[str]
    """Instance ids of the workers, ours or not, that it counted on, on their way or there."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A removal that began, and whose pods it was to move."""

    at_s: float
    mark: int
    instance_id: str
    owners: frozenset[str]


class PlanRules:
    """Rules that remember plans and moves. One object a run."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []
        self._moves: list[_Move] = []
        self._read = 0
        self._mark = 0
        """How often something came in between. A call that goes wrong is no such thing: the world and its load stay."""
        self._quiet_since_s = 0.0

    # ------------------------------------------------------------------------------------------------------------ plans

    def nothing_is_launched_for_pods_that_no_worker_helps(
        self, watch: Watch, document: Mapping[str, Any]
    ) -> str | None:
        """Who knows what waiting pods ask launches nothing for those that would wait on a new worker, too."""
        own = [o for o in document["operations"] if o["operation_id"].startswith(document["decision_id"])]
        opened = [o for o in own if o["kind"] == "launch" and o["reason"] == FOR_PODS]
        if not opened or document["rules"] != "known" or not self._undisturbed(watch):
            return None
        self._note(watch)
        ids = frozenset(operation["operation_id"] for operation in opened)
        helped = helpable(watch.cluster, before=ids)
        waiting = [pod for pod in watch.cluster.world.state.unbound.values() if pod.waits]
        if not {owner_key(pod) for pod in waiting} <= _known_owners(watch) or _zones_unknown(document):
            return None  # left out of the answer, or nonsense in it
        count = sum(operation["count"] for operation in opened)
        # What changed after its look the launch cannot have counted on: frozen, it may end a minute and a half later.
        looked_at_s = watch.ending.looked_at_s
        seen = all((pod.unschedulable_since_s or looked_at_s) <= looked_at_s for pod in waiting)
        # Of a pool that is full now the others wait, however many they are.
        limited = any(pool.max is not None for pool in watch.policy.pools)
        pods = frozenset(pod.uid for pod in (helpable(watch.cluster) if limited else helped))
        # A launch whose answer was lost may have given nobody, and is counted on until that is known.
        seen = seen and _seen_waiting(document) >= len(pods) and not any(o.unidentified for o in watch.state.launches)
        if _is_whole(document, count) and seen and self._quiet_since_s <= looked_at_s:
            beside = _workers(watch)
            self._plans.append(_Plan(watch.cluster.now_s, self._mark, ids, count, pods, beside))
        if waiting and not helped and watch.cluster.now_s - self._quiet_since_s > SETTLED_S:
            return f"{count} workers are launched, and {waiting[0].title} would wait on them as well"
        return None

    def a_plan_is_enough(self, watch: Watch) -> str | None:
        """Once its workers have joined, none of its pods is unschedulable for a reason that the rules knew."""
        self._note(watch)
        wrong = None
        for plan in [*self._plans]:
            verdict = self._judged(watch, plan)
            if verdict is not None:
                self._plans.remove(plan)
                wrong = wrong or verdict
        return wrong or None

    def _note(self, watch: Watch) -> None:
        fresh = watch.fault_keys[self._read :]
        self._read += len(fresh)
        disturbed = sum(key.startswith(("episode ", "change ", "policy ")) for key in fresh)
        if disturbed:
            self._mark += disturbed
            self._quiet_since_s = watch.cluster.now_s

    def _judged(self, watch: Watch, plan: _Plan) -> str | None:
        """What is wrong with the plan, empty for nothing; None while it cannot be said."""
        state, now_s = watch.cluster.world.state, watch.cluster.now_s
        if plan.mark != self._mark or now_s - plan.at_s > WITHIN_S:
            return ""
        if not plan.beside <= _workers(watch):
            return ""  # one that it counted on did not join, or went: the next plan makes up for it
        if len(_joined(watch, plan)) < plan.count or not _all_take_pods(watch):
            return None
        left = [state.unbound[uid] for uid in sorted(plan.pods) if uid in state.unbound and state.unbound[uid].waits]
        if not left:
            return ""
        return f"{plan.count} workers have joined for it, and {left[0].title} waits: {left[0].unschedulable_message}"

    @staticmethod
    def _undisturbed(watch: Watch) -> bool:
        """Whether no fault is on that bears on what joins or is told."""
        faults, ssm = watch.cluster.world.state.faults, watch.cluster.ssm
        workers = [node for node in watch.cluster.world.state.nodes.values() if not node.machine.server]
        # From one that is NotReady, be it stopped by a person, pods come in minutes.
        useless = any(node.useless or not node.ready for node in workers)
        return faults == Faults() and not (useless or watch.blind() or ssm.rules_fault or watch.truth.hand_cordoned)

    # ------------------------------------------------------------------------------------------------------------ moves

    def no_launch_follows_a_removal(self, watch: Watch, saved: Saved) -> str | None:
        """Within the hour nothing is launched for pods that a removal moved, where their rules were known."""
        self._note(watch)
        now_s, mark = watch.cluster.now_s, self._mark
        self._moves = [move for move in self._moves if move.mark == mark and now_s - move.at_s <= WITHIN_S]
        told = None
        if any(launch.reason == FOR_PODS for launch in new_launches(saved)):
            waiting = {owner_key(pod) for pod in watch.cluster.world.state.unbound.values() if pod.waits}
            told = next((self._in_vain(move, waiting, now_s) for move in self._moves if move.owners & waiting), None)
        for removal in new_removals(saved):
            node = watch.truth.node_of(removal.instance_id)
            quiet = now_s - self._quiet_since_s > SETTLED_S and self._undisturbed(watch)
            if removal.reason in VOLUNTARY and node is not None and quiet:
                owners = frozenset(owner_key(pod) for pod in movable_pods(node))
                if owners and saved.seen.rules_read and owners <= _known_owners(watch):
                    self._moves.append(_Move(now_s, mark, removal.instance_id, owners))
        return told

    @staticmethod
    def _in_vain(move: _Move, waiting: set[str], now_s: float) -> str:
        owner = min(move.owners & waiting)
        return f"{move.instance_id} was chosen to go {now_s - move.at_s:.0f} s ago, and now {owner} gets a new worker"


def _is_whole(document: Mapping[str, Any], count: int) -> bool:
    """Whether all that is asked for was launched: neither max, a pool's max, a step, a back-off nor EC2 made it less.

    Of a pool that is full the scheduler chooses who gets the room, and it may be one that the plan did not count on.
    """
    if any(row["code"] == "pool_at_max" for row in document["blocked"]):
        return False
    nodes, desired = document["nodes"], document["nodes"]["desired"]
    wanted = max(signal["wants"] or 0 for signal in document["signals"])
    return bool(wanted <= desired <= nodes["ready"] + nodes["joining"] + count)


def _seen_waiting(document: Mapping[str, Any]) -> int:
    """How many pods waited in its picture: Prometheus' is older than the look."""
    return int(next(signal["value"] for signal in document["signals"] if signal["name"] == "unschedulable_pods"))


def _zones_unknown(document: Mapping[str, Any]) -> bool:
    """Whether the look could not say of a pod if a new worker would take it."""
    return any(row["code"] == "unknown" for row in document["blocked"])


def _joined(watch: Watch, plan: _Plan) -> list[SimNode]:
    """Nodes of the plan's workers."""
    instances = watch.cluster.ec2.instances.values()
    ids = [i.instance_id for i in instances if i.tags.get(OPERATION_TAG) in plan.operation_ids]
    return [node for node in map(watch.truth.node_of, ids) if node is not None]


def _all_take_pods(watch: Watch) -> bool:
    """Whether nobody is on the way any more: a plan counts on all who were.

    Every living worker is a Node that is Ready, open, and rid of the taints that go by themselves.
    """
    starts = watch.cluster.world.settings.worker_taints_for_s is not None
    nodes = [watch.truth.node_of(instance_id) for instance_id in _workers(watch)]
    return all(n is not None and n.ready and not (n.cordoned or (starts and n.extra_taints)) for n in nodes)


def _workers(watch: Watch) -> frozenset[str]:
    moment = watch.truth.moments[-1]
    return moment.ours | moment.others


def _known_owners(watch: Watch) -> set[str]:
    kept = watch.cluster.item.rules
    return {owner.owner for owner in unpack_kept(kept).owners} if kept else set()

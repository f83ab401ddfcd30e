"""Invariants of whose turn it is to go: who was refused waits, and nobody waits for ever behind others."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from autoscaler.model import RemovalOperation, RemovalPhase
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S, NOTICED_WITHIN_S
from autoscaler.simulator.soak.on_decision import VOLUNTARY
from autoscaler.simulator.soak.on_market import FALLBACK
from autoscaler.simulator.soak.on_state import new_launches, new_removals
from autoscaler.simulator.soak.watch import Saved, Watch
from autoscaler.simulator.world.controllers import evictable_pods

LONGEST: Final = 4
"""Refused again and again, a worker waits at most this many times `refused_for_s`."""
KEPT_S: Final = 3600.0
TURNS: Final = 4
"""Tries of one worker, within an hour, that another one may have to wait for."""


class TurnRules:
    """Rules that remember who was tried. One object a run."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, float]] = {}
        """Refusals in a row, and when the last one was told, by instance id."""
        self._busy: set[str] = set()
        """Operations of workers that had pods to lose when they were chosen."""
        self._replacements = 0
        self._waits: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        """Who could have been tried: times at which somebody else was, by whom."""

    def a_refused_worker_waits(self, watch: Watch, saved: Saved) -> str | None:
        """It is not tried again before its time, which doubles."""
        now_s, refused_for_s = watch.cluster.now_s, watch.policy.scale_down.refused_for_s
        told = None
        for removal in new_removals(saved):
            if removal.reason not in VOLUNTARY:
                continue
            times, at_s = self._refused.get(removal.instance_id, (0, now_s))
            waits_s = refused_for_s * min(2 ** (times - 1), LONGEST) if times else 0.0
            if now_s - at_s < waits_s - 2 * CLOCKS_DIFFER_S - 30:
                told = f"{removal.instance_id} is tried {now_s - at_s:.0f} s after its refusal no. {times}"
            if self._has_pods(watch, removal):
                self._busy.add(removal.operation_id)
        self._note_refusals(watch, saved)
        return told

    def a_retirement_is_replaced_once(self, watch: Watch, saved: Saved) -> str | None:
        """However often a worker that EC2 will retire is refused, one other is launched in its place."""
        # What is launched on demand for Spot that gave nothing is no second one (one_stands_for_one).
        launched = [o for o in new_launches(saved) if not o.operation_id.endswith(FALLBACK)]
        self._replacements += sum(launch.reason == "retirement" for launch in launched)
        announced = watch.truth.announced.total()
        if self._replacements > announced:
            return f"{self._replacements} workers were launched for {announced} retirements"
        return None

    def _note_refusals(self, watch: Watch, saved: Saved) -> None:
        # It counts from when somebody looked, and writing may take as long as a frozen invocation.
        now_s, refused_for_s = saved.by.began_s, watch.policy.scale_down.refused_for_s
        current = {removal.operation_id: removal for removal in saved.new.removals}
        leaving = {removal.instance_id for removal in new_removals(saved)}
        for removal in saved.old.removals:
            now = current.get(removal.operation_id)
            over = now is None or now.phase is RemovalPhase.UNCORDONING
            if removal.phase not in {RemovalPhase.DRAINING, RemovalPhase.DRAINED} or not over:
                continue
            if removal.instance_id in leaving or not watch.truth.alive(removal.instance_id):
                continue
            times, at_s = self._refused.get(removal.instance_id, (0, now_s))
            if now_s - at_s > refused_for_s + KEPT_S / 2:
                times = 0  # it may be forgotten by now
            self._refused[removal.instance_id] = times + 1, now_s

    @staticmethod
    def _has_pods(watch: Watch, removal: RemovalOperation) -> bool:
        node = watch.truth.node_of(removal.instance_id)
        return node is not None and bool(evictable_pods(node))

    def every_removable_worker_is_tried(self, watch: Watch, document: Mapping[str, Any]) -> str | None:
        """While one is tried again and again, nobody waits who could go, was not looked at, and was never tried."""
        chosen = [o for o in document["operations"] if o["operation_id"].startswith(document["decision_id"])]
        tried = [o["instance_ids"][0] for o in chosen if o["kind"] == "removal" and o["reason"] in VOLUNTARY]
        if not tried:
            return None
        for instance_id in tried:
            self._waits.pop(instance_id, None)
        blocked = {name for row in document["blocked"] for name in (row["subject"], *row.get("others", ()))}
        if any(name.endswith(" more") for name in blocked):
            return None  # too many to be named
        could = self._could_be_tried(watch, blocked) - {*tried}
        for instance_id in [*self._waits]:
            if instance_id not in could:
                del self._waits[instance_id]
        if len(tried) > 1 or chosen[0]["operation_id"] not in self._busy:
            return None  # empty ones come first, and together
        now_s = watch.cluster.now_s
        for instance_id in sorted(could):
            times = self._waits[instance_id][tried[0]]
            times[:] = [at_s for at_s in (*times, now_s) if now_s - at_s < KEPT_S]
            if len(times) >= TURNS:
                return f"{tried[0]} is tried {len(times)} times within an hour, and {instance_id} could go as well"
        return None

    @staticmethod
    def _could_be_tried(watch: Watch, blocked: set[str]) -> set[str]:
        leaving = {removal.instance_id for removal in watch.state.removals}
        since_s = watch.cluster.now_s - watch.policy.scale_down.min_age_s - NOTICED_WITHIN_S
        ready = set.intersection(*(set(m.ready & m.ours) for m in watch.truth.lately(NOTICED_WITHIN_S)))
        found = set()
        for instance_id in ready - leaving:
            node = watch.truth.node_of(instance_id)
            old = watch.cluster.ec2.instances[instance_id].launched_at_s < since_s
            if node is not None and old and not node.cordoned and node.name not in blocked | watch.truth.hand_cordoned:
                found.add(instance_id)
        return found

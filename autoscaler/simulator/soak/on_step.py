"""Invariants of the world itself, checked after every step of anything."""

from typing import Final

from autoscaler.model import OPERATION_TAG
from autoscaler.simulator.soak.assumptions import NOTICED_WITHIN_S
from autoscaler.simulator.soak.watch import Watch
from autoscaler.simulator.world.preflight import OPERATION_ANNOTATION, fence_of

FORGOTTEN_AFTER_S: Final = 1500.0
"""An instance that nobody waits for may be an agent that registers again: repair waits for it before it ends it."""


class FleetRules:
    """Rules that remember what they saw before. One object a run."""

    def __init__(self) -> None:
        self._unknown_for_s: dict[str, float] = {}
        self._last_s = 0.0
        self._refused = 0
        """Terminations that EC2 refused for want of our tag, and that were looked at."""
        self._nodes: dict[str, str] = {}
        """Node names of the last step, with their instance ids."""
        self._fences: dict[str, int] = {}
        """Highest fence by Node uid."""

    def nothing_else_is_touched(self, watch: Watch) -> str | None:
        """No Node that is not ours carries our cordon; no call was refused for want of our tag."""
        for instance_id in watch.cluster.ec2.bill.refused_terminations[self._refused :]:
            self._refused += 1
            if not watch.truth.changed_hands(instance_id, NOTICED_WITHIN_S):
                return f"{instance_id} was to be terminated, and is not ours"
        for node in watch.cluster.world.state.nodes.values():
            if not node.machine.managed and OPERATION_ANNOTATION in node.annotations:
                return f"{node.name} carries our cordon, and is not ours"
        return None

    def every_instance_is_known(self, watch: Watch) -> str | None:
        """Each living instance of ours is a Node, or in an open operation, or not forgotten for long."""
        state, now_s = watch.state, watch.cluster.now_s
        known = {i for launch in state.launches for i in launch.instance_ids}
        known |= {removal.instance_id for removal in state.removals}
        launches = {launch.operation_id for launch in state.launches}
        moment = watch.truth.moments[-1]
        unknown = [
            i
            for i in moment.ours - moment.nodes - known - watch.cluster.ec2.bill.protected_terminations
            if watch.cluster.ec2.instances[i].tags.get(OPERATION_TAG) not in launches
        ]
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        # Without metrics nobody can know that a Node is missing; several at once are a matter for people.
        judged = len(unknown) == 1 and not watch.blind()
        self._unknown_for_s = {
            i: self._unknown_for_s[i] + (elapsed_s if judged else 0.0) if i in self._unknown_for_s else 0.0
            for i in unknown
        }
        for instance_id, seconds in self._unknown_for_s.items():
            if seconds > FORGOTTEN_AFTER_S:
                return f"{instance_id} is no Node and in no operation for {seconds:.0f} s"
        return None

    def every_cordon_has_an_operation(self, watch: Watch) -> str | None:
        """A Node that we cordoned belongs to an open removal."""
        open_ids = {removal.instance_id for removal in watch.state.removals}
        for node in watch.cluster.world.state.nodes.values():
            if not node.cordoned or OPERATION_ANNOTATION not in node.annotations or not node.machine.alive:
                continue
            if node.machine.instance_id not in open_ids:
                return f"{node.name} is cordoned by {node.annotations[OPERATION_ANNOTATION]}, which is not open"
        return None

    def nodes_are_deleted_only_when_dead(self, watch: Watch) -> str | None:
        """A Node object goes only after its machine."""
        nodes = {n.name: n.machine.instance_id for n in watch.cluster.world.state.nodes.values()}
        gone = self._nodes.keys() - nodes.keys()
        before, self._nodes = self._nodes, nodes
        for name in gone:
            if watch.truth.alive(before[name]):
                return f"the Node {name} was deleted while {before[name]} lives"
        return None

    def fences_of_nodes_only_rise(self, watch: Watch) -> str | None:
        """No Node obeys an earlier command after a later one."""
        for node in watch.cluster.world.state.nodes.values():
            fence = fence_of(node)
            if fence < self._fences.get(node.uid, 0):
                return f"{node.name} went back from fence {self._fences[node.uid]} to {fence}"
            if fence:
                self._fences[node.uid] = fence
        return None

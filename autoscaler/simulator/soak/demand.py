"""Whether the fleet is what is asked of it, by the world's own truth."""

from collections import Counter
from collections.abc import Container

from autoscaler.decide.capacity.market import on_demand_of
from autoscaler.model import SPOT
from autoscaler.simulator.soak.clockwork import AHEAD_S, limits_between
from autoscaler.simulator.soak.helpable import helpable
from autoscaler.simulator.soak.pools import pool_of_instance, workers_of
from autoscaler.simulator.soak.watch import Watch
from autoscaler.simulator.world.objects import SimNode


def not_yet(watch: Watch) -> list[str]:
    """What is still missing; empty when the fleet has reached its demand and nothing is left over."""
    cluster, truth = watch.cluster, watch.truth
    truth.look()
    world, moment = cluster.world.state, truth.moments[-1]
    limits = limits_between([watch.in_force], cluster.now_s, cluster.now_s)
    missing: list[str] = []
    if not watch.parameter.is_seen(watch.state.policy_override):
        missing.append("what was changed of the policy is not seen")
    capped = watch.in_force.cost.max_usd_per_hour is not None
    if len(moment.ready) < limits.least_min and not capped:
        missing.append(f"{len(moment.ready)} Ready workers, min is {limits.least_min}")
    kept = [node for node in world.nodes.values() if _keeps_a_volume(watch, node)]
    # With a cap nobody but the core counts what there is room for; never_above_the_cost_cap holds the other side.
    room = len(moment.ready) + len(kept) < limits.most_max and not capped
    for pool in cluster.policy.pools:
        there = len(workers_of(truth, pool, moment.ready))
        if there < pool.min and room:
            missing.append(f"{there} Ready workers of the pool {pool.name}, whose min is {pool.min}")
    waiting = [pod.title for pod in helpable(cluster)]
    if waiting and room:
        missing.append(f"{len(waiting)} pods wait, {waiting[0]} among them, with {len(moment.ready)} Ready workers")
    # What EC2 refused to end, for a person protects it, is left alone for a day, Ready or not.
    unready = moment.ours - moment.ready - cluster.ec2.bill.protected_terminations
    missing += [f"{instance_id} is no Ready worker" for instance_id in sorted(unready)]
    missing += [f"launch {launch.operation_id} is open" for launch in watch.state.launches]
    missing += [f"removal of {r.instance_id} is open ({r.phase})" for r in watch.state.removals]
    for node in world.nodes.values():
        if node.cordoned:
            missing.append(f"{node.name} is cordoned")
        if not (node.machine.alive or node.machine.server or node in kept):
            missing.append(f"the Node {node.name} has no machine")
    lease = watch.state.lease
    if lease is not None and lease.expires_at_s > cluster.now_s:
        missing.append("somebody holds the lease")
    return missing


def _keeps_a_volume(watch: Watch, node: SimNode) -> bool:
    """Whether the Node is all that is left of a machine with volumes: a person has to say that they are lost."""
    volumes = watch.cluster.world.state.volumes.values()
    return not node.machine.alive and any(volume.node_name == node.name for volume in volumes)


def may_rest(watch: Watch) -> bool:
    """Whether the fleet goes down when nothing runs any more.

    Not while a pod's volume lies on a machine that is gone (launches are tried for it, ever more rarely), and not where
    workers have a taint that stays and is not their pool's: somebody keeps them for something, and none is taken away
    for want of load.
    """
    world = watch.cluster.world
    waits_in_vain = any(pod.claim for pod in world.state.unbound.values())
    workers = [node for node in world.state.nodes.values() if not node.machine.server]
    return not waits_in_vain and not any(_is_kept(watch, node) for node in workers)


def _is_kept(watch: Watch, node: SimNode) -> bool:
    instance = watch.cluster.ec2.instances.get(node.machine.instance_id)
    own = pool_of_instance(watch.policy, instance).parsed_taints if instance is not None else ()
    return not set(node.extra_taints) <= set(own)


def not_at_rest(watch: Watch) -> list[str]:
    """What is more than the floor, once nothing is asked of the fleet any more."""
    world, truth = watch.cluster.world.state, watch.truth
    missing = not_yet(watch)
    moment = truth.moments[-1]
    # A volume stays on its machine for ever, and so does a pod that nobody would start again.
    bound = {volume.node_name for volume in world.volumes.values()}
    bound |= {pod.node.name for pod in world.pods.values() if pod.node is not None and not pod.owner_kind}
    # What EC2 once refused to end, for a person protects it, is left alone for a day.
    protected = watch.cluster.ec2.bill.protected_terminations
    held = Counter(
        node.machine.zone
        for node in world.nodes.values()
        if not node.machine.server
        and (not node.machine.managed or node.name in bound or node.machine.instance_id in protected)
    )
    # Zones differ by one worker at most: those that hold fewer keep some beside the zone that holds most.
    zones = {node.machine.zone for node in world.nodes.values() if not node.machine.server}
    nowhere = held.pop("", 0)  # bare metal is in no zone
    even = max(held.values(), default=0) - 1
    now_s = watch.cluster.now_s
    least = limits_between([watch.in_force], now_s, now_s + AHEAD_S).most_min
    floor = max(least, nowhere + sum(max(held[zone], even) for zone in zones - {""}))
    floor = max(floor, held.total() + nowhere + sum(pool.min for pool in watch.policy.pools))
    floor += _kept_on_demand(watch, bound | protected)
    if len(moment.ready) > floor:
        missing.append(f"{len(moment.ready)} workers are Ready, and {floor} are enough")
    return missing


def _kept_on_demand(watch: Watch, held: Container[str]) -> int:
    """On-demand workers that Spot pools' bases and shares keep beside the Spot workers of these names that stay."""
    most = range(1, watch.in_force.most_workers + 1)
    kept = 0
    for pool in watch.policy.pools:
        on_spot = [
            node
            for node in watch.cluster.world.state.nodes.values()
            if node.machine.market == SPOT
            and node.machine.pool in {pool.name, ""}
            and (node.name in held or node.machine.instance_id in held)
        ]
        kept += max((k for k in most if on_spot and k <= on_demand_of(pool, len(on_spot) + k - 1)), default=0)
    return kept

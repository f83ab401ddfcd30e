"""A simulated cluster to tear down, and a run over it in virtual time."""

from typing import Any

from autoscaler.cli.teardown.memory import Wishes
from autoscaler.cli.teardown.run import Report, Teardown
from autoscaler.model import Mode, RemovalPhase
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.objects import SimNode
from autoscaler.simulator.world.preflight import movable_pods

POLICY = Policy(version=1, workers=Workers(min=2, max=4))
ME = "teardown by ada@desk"
LONGEST_S = 2 * 3600
"""Of virtual time, for one run."""


def teardown_of(cluster: SimCluster, *, told: list[str] | None = None, **wishes: Any) -> Teardown:
    began_s = cluster.now_s

    def patiently(seconds: float) -> None:
        assert seconds > 0
        assert cluster.now_s - began_s < LONGEST_S, "it goes round in circles"
        cluster.run(seconds)

    return Teardown(
        cluster.ports,
        cluster_id=cluster.cluster_id,
        policy=cluster.policy,
        wishes=Wishes(**wishes),
        tell=(told if told is not None else []).append,
        sleep=patiently,
    )


def run(cluster: SimCluster, *, told: list[str] | None = None, **wishes: Any) -> Report:
    return teardown_of(cluster, told=told, **wishes).run(by=ME)


def named(suffix: str, *, workers: int = 2, patience_s: int = 300, **more: Any) -> SimCluster:
    """Workers whose Nodes are called `worker-<instance id><suffix>`: K3s' --with-node-id. A static one beside them."""
    made = SimCluster(POLICY, workers=0, static_workers=1, **more)
    for number in range(workers):
        made.add_worker(number)
    made.run_until(lambda: len(made.workers()) == len(made.world.state.machines) - 2, within_s=60, step_s=1)
    for key in made.workers():
        made.world.state.machines[key].node_name += suffix
    made.run(patience_s)
    return made


def node_of(cluster: SimCluster, key: str) -> SimNode:
    """The Node object of an instance, whatever its name."""
    return next(one for one in cluster.world.state.nodes.values() if one.machine.instance_id == key)


class Undrained:
    """Watches calls, and notes each worker that is terminated while pods run on it that a drain would move."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self.victims: list[str] = []
        cluster.wires.hook = self

    def __call__(self, service: str, name: str, when: str) -> None:
        if (service, name, when) != ("ec2", "terminate", "before"):
            return
        going = {r.instance_id for r in self._cluster.state.removals if r.phase is RemovalPhase.TERMINATING}
        for node in self._cluster.world.state.nodes.values():
            if node.machine.alive and node.machine.instance_id in going and movable_pods(node):
                self.victims.append(node.name)


def assert_nothing_of_ours_is_left(cluster: SimCluster) -> None:
    assert cluster.workers() == []
    assert {node.name for node in cluster.world.nodes} == {"static-1", "ip-10-0-1-10"}
    assert not any(node.cordoned for node in cluster.world.nodes)
    state = cluster.state
    assert (state.launches, state.removals, state.lease) == ((), (), None)
    assert state.mode is not None
    assert state.mode.mode is Mode.PAUSED

"""A simulated cluster to tear down, and a run over it in virtual time."""

from typing import Any

from autoscaler.cli.teardown.plan import Wishes
from autoscaler.cli.teardown.run import Report, Teardown
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.cluster import SimCluster

POLICY = Policy(version=1, workers=Workers(min=2, max=4))
ME = "teardown by ada@desk"


def teardown_of(cluster: SimCluster, *, told: list[str] | None = None, **wishes: Any) -> Teardown:
    def patiently(seconds: float) -> None:
        assert seconds > 0
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

"""Bugs of what is seen: unknown taken for none, another world for ours."""

from typing import Any, Final

import msgspec

import autoscaler.observe.closer
import autoscaler.observe.instances
import autoscaler.observe.nodes
import autoscaler.observe.pods
import autoscaler.observe.presence
import autoscaler.observe.samples
import autoscaler.observe.snapshot
from autoscaler.model import Resources
from tests.soak.mutants.put import Mutant, put

replace = msgspec.structs.replace


def unknown_windows_are_idle() -> None:
    """A window that Prometheus does not know counts as no use at all, and as no pod: either alone stops a shrink."""
    use, requests = autoscaler.observe.nodes.parse_utilisation, autoscaler.observe.nodes.parse_requested_most

    def idle(samples: Any, policy: Any) -> Any:
        return tuple(
            replace(u, shrink_max=u.shrink_max if u.shrink_max is not None else 0.0) for u in use(samples, policy)
        )

    def empty(rows: Any, nodes: Any, policy: Any) -> Any:
        return {**{node.name: Resources() for node in nodes}, **requests(rows, nodes, policy)}

    put(autoscaler.observe.snapshot, "parse_utilisation", idle)
    put(autoscaler.observe.closer, "parse_requested_most", empty)


def partial_metrics_pass_for_whole() -> None:
    """What is missing or stale is not noticed."""
    nothing = autoscaler.observe.presence.Proofs(cluster=(), other=(), unshown=(), absence=True)
    put(autoscaler.observe.snapshot, "prove", lambda *_args, **_more: nothing)


def another_cluster_believed() -> None:
    """Nobody asks whether the Nodes that are shown are ours."""
    put(autoscaler.observe.snapshot, "_another_world", lambda *_args: ())


def two_clusters_taken_for_one() -> None:
    """Nobody asks whether one target shows every Node."""
    put(autoscaler.observe.presence, "_one_world", lambda _rows, _nodes: [])


def hidden_volumes_are_none() -> None:
    """Where no annotation is shown, no volume is on any node."""
    put(autoscaler.observe.snapshot, "volumes_shown", lambda _rows: True)


def deleted_pods_wait() -> None:
    """A pod that a finalizer holds still asks for a worker."""
    parse = autoscaler.observe.pods.parse_unbound

    def greedy(rows: Any) -> Any:
        families = {family: found for family, found in rows.families.items() if family != "pod_deleting"}
        return parse(autoscaler.observe.samples.Rows(rows.at_s, families, rows.garbage))

    put(autoscaler.observe.snapshot, "parse_unbound", greedy)


def tags_ignored() -> None:
    """Every worker of the cluster is taken for ours."""
    parse = autoscaler.observe.instances.parse_instances

    def greedy(rows: Any, cluster_id: str) -> Any:
        return tuple(replace(i, managed=not i.server) for i in parse(rows, cluster_id))

    put(autoscaler.observe.snapshot, "parse_instances", greedy)


MUTANTS: Final[tuple[Mutant, ...]] = (
    unknown_windows_are_idle,
    partial_metrics_pass_for_whole,
    another_cluster_believed,
    two_clusters_taken_for_one,
    hidden_volumes_are_none,
    deleted_pods_wait,
    tags_ignored,
)

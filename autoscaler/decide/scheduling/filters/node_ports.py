"""NodePorts: ports of the node that are taken."""

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.model.rules import EVERY_ADDRESS, HostPort, PodRules


def node_ports(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """A port is taken by the same port and protocol on the same address, or on every address."""
    if not any(_clash(wanted, taken) for wanted in rules.host_ports for taken in node.ports):
        return YES
    return ("node(s) didn't have free ports for the requested pod ports",)


def _clash(left: HostPort, right: HostPort) -> bool:
    """`::` is an address like any other (HostPortInfo.CheckConflict)."""
    same = (left.port, left.protocol) == (right.port, right.protocol)
    return same and (left.address == right.address or EVERY_ADDRESS in (left.address, right.address))

"""VolumeRestrictions, NodeVolumeLimits, VolumeBinding and VolumeZone, as far as claims and volumes tell.

Not modelled: how many volumes a node can attach, storage capacity, ReadWriteOncePod (`model.rules.unmodelled` says so
of the pods that it matters to). A claim that two pods share and that waits for its first consumer is judged for each
alone.
"""

from typing import Final

from autoscaler.decide.scheduling.cluster import Cluster, NodeInfo
from autoscaler.decide.scheduling.filters.refusal import YES, Reasons
from autoscaler.decide.scheduling.matching import any_term_matches, selects
from autoscaler.model.rules import BoundClaim, ImmediateClaim, MissingClaim, PodRules, WaitingClaim

_NEW_TO_OLD: Final = {
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
}
_OLD_TO_NEW: Final = {old: new for new, old in _NEW_TO_OLD.items()}
ZONE_KEYS: Final = frozenset({*_NEW_TO_OLD, *_OLD_TO_NEW})


def claims_exist(rules: PodRules, _node: NodeInfo, _cluster: Cluster) -> Reasons:
    """No node helps a pod whose claim does not exist; VolumeRestrictions is the first of the plugins that say so."""
    missing = (claim for claim in rules.claims if isinstance(claim, MissingClaim))
    return tuple(f'persistentvolumeclaim "{claim.name}" not found' for claim in missing)[:1]


def immediate_claims_are_bound(rules: PodRules, _node: NodeInfo, _cluster: Cluster) -> Reasons:
    """Nor a pod whose claim should have been bound long before it."""
    if any(isinstance(claim, ImmediateClaim) for claim in rules.claims):
        return ("pod has unbound immediate PersistentVolumeClaims",)
    return YES


def zones_are_known(rules: PodRules, node: NodeInfo, cluster: Cluster) -> Reasons:
    """VolumeZone cannot tell the zone of a volume that should exist and does not."""
    return claims_exist(rules, node, cluster) or immediate_claims_are_bound(rules, node, cluster)


def volume_binding(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """Bound volumes must be reachable from the node; for a waiting claim there must be one, or one can be made."""
    bound = [claim for claim in rules.claims if isinstance(claim, BoundClaim) and claim.node_affinity is not None]
    if not all(any_term_matches(claim.node_affinity or (), node.labels, None) for claim in bound):
        return ("node(s) didn't match PersistentVolume's node affinity",)
    taken: set[str] = set()
    for claim in rules.claims:
        if isinstance(claim, WaitingClaim) and not _finds_a_volume(claim, node, taken):
            return ("node(s) didn't find available persistent volumes to bind",)
    return YES


def _finds_a_volume(claim: WaitingClaim, node: NodeInfo, taken: set[str]) -> bool:
    """The smallest free volume within reach that no earlier claim of the pod takes, else a new one."""
    for volume in claim.free:
        reachable = volume.node_affinity is None or any_term_matches(volume.node_affinity, node.labels, None)
        if reachable and volume.name not in taken:
            taken.add(volume.name)
            return True
    allowed = not claim.topologies or any(selects(topology, node.labels) for topology in claim.topologies)
    return claim.provisioned and allowed


def volume_zone(rules: PodRules, node: NodeInfo, _cluster: Cluster) -> Reasons:
    """A volume with zone labels of its own goes with nodes of that zone, and with nodes that have no zone at all."""
    zones = [line for claim in rules.claims if isinstance(claim, BoundClaim) for line in claim.zones]
    if not zones or not any(key in node.labels for key in ZONE_KEYS):
        return YES
    for key, value in zones:
        has = node.labels.get(key, node.labels.get(_NEW_TO_OLD.get(key) or _OLD_TO_NEW.get(key, "")))
        if has not in value.split("__"):
            return ("node(s) had no available volume zone",)
    return YES

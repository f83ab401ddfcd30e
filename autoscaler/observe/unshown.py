"""Families that only some features need: where one is not shown, those wait for it, and the rest goes on."""

from collections.abc import Sequence
from typing import Final

from autoscaler.model import Instance, Node, Unshown
from autoscaler.observe.samples import Rows
from autoscaler.observe.series import PROOF_VOLUME

NETWORK_DRIVERS: Final = frozenset(
    {
        PROOF_VOLUME,
        "ebs.csi.aws.com",
        "efs.csi.aws.com",
        "file.csi.azure.com",
        "fsx.csi.aws.com",
        "driver.longhorn.io",
        "nfs.csi.k8s.io",
        "rbd.csi.ceph.com",
        "cephfs.csi.ceph.com",
        "rook-ceph.rbd.csi.ceph.com",
        "rook-ceph.cephfs.csi.ceph.com",
        "s3.csi.aws.com",
        "smb.csi.k8s.io",
    }
)
"""CSI drivers whose volumes follow their pod to another node of the zone. One that is not named here may be local."""


def volumes_shown(rows: Rows) -> bool:
    """Whether the local volumes of every Node are known: what is on no list is none, and every volume is placed."""
    return not _volumes(rows)


def labels_shown(rows: Rows) -> bool:
    """Whether Nodes show the label of our workers."""
    return rows.one("shown", of="kube_node_labels") is not None


def unshown_families(rows: Rows, nodes: Sequence[Node], instances: Sequence[Instance]) -> list[Unshown]:
    """What is not shown, what waits for it, and the mend."""
    found = []
    why = _volumes(rows)
    if why:
        found.append(
            Unshown(
                family="node_local_volumes",
                sentence=f"which node-local volumes there are is not known: {why}; until then no NotReady worker is "
                "replaced",
            )
        )
    ours = {instance.instance_id for instance in instances if instance.managed}
    if not labels_shown(rows) and any(node.instance_id in ours for node in nodes):
        found.append(
            Unshown(
                family="node_managed",
                sentence="labels of Nodes are not shown: let kube-state-metrics run with --metric-labels-allowlist of "
                "nodes (docs/attach.md); until then Nodes whose instance EC2 has forgotten are not deleted, and node "
                "selectors are not judged",
            )
        )
    if rows.one("owner_youngest") is None:
        found.append(
            Unshown(
                family="owner_youngest",
                sentence="when pods were created is not shown: let kube-state-metrics expose kube_pod_created; until "
                "then a server is asked what the scheduler asks of new pods only once they wait",
            )
        )
    return found


def _volumes(rows: Rows) -> str:
    """Why it is not known which volumes are on which node; empty where it is."""
    if rows.one("shown", of="kube_persistentvolume_info") is None:
        return (
            "no PersistentVolume is shown, not even the one that proves that they are; let kube-state-metrics expose "
            "kube_persistentvolume_info and apply monitoring/manifests/autoscaler-proof-volume.yaml"
        )
    if rows.one("shown", of="kube_persistentvolume_annotations") is None:
        return (
            "no PersistentVolume tells its node; let kube-state-metrics run with --metric-annotations-allowlist="
            "persistentvolumes=[local.path.provisioner/selected-node] (docs/attach.md)"
        )
    unplaced = sum(value for _, value in rows.of("volumes_unplaced"))
    if unplaced:
        return f"{unplaced:.0f} PersistentVolumes lie on a node's disk and do not tell on which"
    drivers = sorted({labels.get("csi_driver", "") for labels, _ in rows.of("volumes_of")} - NETWORK_DRIVERS)
    if drivers:
        return f"volumes of {', '.join(drivers)} may lie on a node's disk, and no metric tells on which"
    return ""

"""The fields of claims, volumes and storage classes (v1, storage.k8s.io/v1), as in `api`."""

import msgspec

from autoscaler.observe.kubernetes.api import LabelSelector, Metadata, NodeSelector, Object, Resources


class VolumeNodeAffinity(Object, frozen=True, kw_only=True):
    """Where a volume can be mounted."""

    required: NodeSelector | None = None


class ObjectReference(Object, frozen=True, kw_only=True):
    """Another object."""

    namespace: str = ""
    name: str = ""


class PersistentVolumeSpec(Object, frozen=True, kw_only=True):
    """A volume."""

    capacity: dict[str, str] = msgspec.field(default_factory=dict)
    access_modes: tuple[str, ...] = ()
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    node_affinity: VolumeNodeAffinity = VolumeNodeAffinity()
    claim_ref: ObjectReference | None = None


class PersistentVolumeStatus(Object, frozen=True, kw_only=True):
    """`Available` is free."""

    phase: str = ""


class PersistentVolume(Object, frozen=True, kw_only=True):
    """A v1.PersistentVolume."""

    metadata: Metadata = Metadata()
    spec: PersistentVolumeSpec
    status: PersistentVolumeStatus = PersistentVolumeStatus()


class PersistentVolumeClaimSpec(Object, frozen=True, kw_only=True):
    """Bound once it names its volume."""

    resources: Resources = Resources()
    access_modes: tuple[str, ...] = ()
    volume_name: str = ""
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    selector: LabelSelector | None = None


class PersistentVolumeClaim(Object, frozen=True, kw_only=True):
    """A v1.PersistentVolumeClaim."""

    metadata: Metadata = Metadata()
    spec: PersistentVolumeClaimSpec


class TopologyExpression(Object, frozen=True, kw_only=True):
    """Any of the values."""

    key: str
    values: tuple[str, ...] = ()


class TopologyTerm(Object, frozen=True, kw_only=True):
    """All of its lines."""

    match_label_expressions: tuple[TopologyExpression, ...] = ()


class StorageClass(Object, frozen=True, kw_only=True):
    """A storage.k8s.io/v1 StorageClass."""

    metadata: Metadata = Metadata()
    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    allowed_topologies: tuple[TopologyTerm, ...] = ()

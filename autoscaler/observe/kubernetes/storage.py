"""A pod's claims: what is bound, what waits for a place, what is missing."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from autoscaler.model.rules import (
    BoundClaim,
    Claim,
    FreeVolume,
    ImmediateClaim,
    MissingClaim,
    NodeTerm,
    Operator,
    Requirement,
    WaitingClaim,
)
from autoscaler.observe.kubernetes.api import Pod
from autoscaler.observe.kubernetes.selectors import node_terms, sorted_labels
from autoscaler.observe.kubernetes.storage_api import (
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    StorageClass,
)
from autoscaler.observe.quantities import amount

WAIT_FOR_FIRST_CONSUMER: Final = "WaitForFirstConsumer"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
EXCLUSIVE: Final = "ReadWriteOncePod"
_ZONE_KEYS: Final = frozenset(
    f"{prefix}/{what}"
    for prefix in ("topology.kubernetes.io", "failure-domain.beta.kubernetes.io")
    for what in ("zone", "region")
)


class Storage(msgspec.Struct, frozen=True):
    """What a pod's claims are looked up in, each by name (claims by namespace and name)."""

    claims: dict[tuple[str, str], PersistentVolumeClaim] = {}
    volumes: dict[str, PersistentVolume] = {}
    classes: dict[str, StorageClass] = {}


NO_STORAGE: Final = Storage()


def claims_of(pod: Pod, namespace: str, storage: Storage) -> tuple[Claim, ...]:
    """Smallest first, as the scheduler binds them. Raises ValueError for a claim that is not understood."""
    found = [(name, storage.claims.get((namespace, name))) for name in _names(pod)]
    found.sort(key=lambda entry: 0 if entry[1] is None else _size(entry[1].spec.resources.requests))
    return tuple(
        MissingClaim(name=name) if claim is None else _claim(namespace, name, claim.spec, storage)
        for name, claim in found
    )


def has_exclusive_claim(pod: Pod, namespace: str, storage: Storage) -> bool:
    """Whether one of its claims is ReadWriteOncePod."""
    found = (storage.claims.get((namespace, name)) for name in _names(pod))
    return any(claim is not None and EXCLUSIVE in claim.spec.access_modes for claim in found)


def _names(pod: Pod) -> Iterable[str]:
    """The claim of an ephemeral volume is named after pod and volume (storage/ephemeral, VolumeClaimName)."""
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield volume.persistent_volume_claim.claim_name
        elif volume.ephemeral is not None:
            yield f"{pod.metadata.name}-{volume.name}"


def _claim(namespace: str, name: str, asked: PersistentVolumeClaimSpec, storage: Storage) -> Claim:
    if asked.volume_name:
        volume = storage.volumes.get(asked.volume_name)
        if volume is None:
            raise ValueError(f"the claim {name} is bound to the volume {asked.volume_name}, which is not there")
        zones = {key: value for key, value in volume.metadata.labels.items() if key in _ZONE_KEYS}
        return BoundClaim(name=name, node_affinity=_affinity(volume), zones=sorted_labels(zones))
    if not asked.storage_class_name:
        return ImmediateClaim(name=name)
    storage_class = storage.classes.get(asked.storage_class_name)
    if storage_class is None:
        raise ValueError(f"the claim {name} asks for the class {asked.storage_class_name}, which is not there")
    if storage_class.volume_binding_mode != WAIT_FOR_FIRST_CONSUMER:
        return ImmediateClaim(name=name)
    if asked.selector is not None:
        raise ValueError(f"the claim {name} selects its volume by labels, which is not modelled")
    return WaitingClaim(
        name=name,
        provisioned=storage_class.provisioner != NO_PROVISIONER,
        topologies=tuple(
            tuple(Requirement(line.key, Operator.IN, line.values) for line in term.match_label_expressions)
            for term in storage_class.allowed_topologies
        ),
        free=_free_volumes(ObjectReference(namespace=namespace, name=name), asked, storage.volumes),
    )


def _free_volumes(
    claim: ObjectReference, asked: PersistentVolumeClaimSpec, volumes: Mapping[str, PersistentVolume]
) -> tuple[FreeVolume, ...]:
    """Those that would do, smallest first; one may be meant for another claim."""
    would_do = [
        (_size(volume.spec.capacity), name, _affinity(volume))
        for name, volume in volumes.items()
        if volume.status.phase == "Available"
        and volume.spec.claim_ref in (None, claim)
        and volume.spec.storage_class_name == asked.storage_class_name
        and volume.spec.volume_mode == asked.volume_mode
        and set(asked.access_modes) <= set(volume.spec.access_modes)
        and _size(volume.spec.capacity) >= _size(asked.resources.requests)
    ]
    would_do.sort(key=lambda found: found[:2])
    return tuple(FreeVolume(name=name, node_affinity=affinity) for _, name, affinity in would_do)


def _affinity(volume: PersistentVolume) -> tuple[NodeTerm, ...] | None:
    required = volume.spec.node_affinity.required
    return None if required is None else node_terms(required)


def _size(quantities: dict[str, str]) -> int:
    return amount("storage", quantities["storage"])

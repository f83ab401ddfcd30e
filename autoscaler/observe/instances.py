"""Raw DescribeInstances rows -> Instances."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from autoscaler.model import (
    ASG_TAG,
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    OPERATION_TAG,
    POOL_TAG,
    ROLE_TAG,
    TEMPLATE_ID_TAG,
    TEMPLATE_VERSION_TAG,
    Instance,
    InstanceState,
    Snapshot,
)
from autoscaler.ports import Fleet, FleetUnavailable

STATE_REASON: Final = 200
"""Characters of it that are kept."""
ASKED_AT_ONCE: Final = 100
"""Ids in one question; a filter takes 200 values (EC2 API reference, DescribeInstances)."""


def look_up(fleet: Fleet, snapshot: Snapshot, instance_ids: Sequence[str], cluster_id: str) -> Snapshot:
    """Ask EC2 for instances that the cluster's tag does not list, by id. Raises FleetUnavailable.

    A tag that somebody took off, or a renamed cluster, hides a machine that lives: not listed is not gone.
    """
    listed = {instance.instance_id for instance in snapshot.instances} | snapshot.looked_up
    asked = tuple(dict.fromkeys(i for i in instance_ids if i not in listed))[:ASKED_AT_ONCE]
    if not asked:
        return snapshot
    found = parse_instances(fleet.look_up(asked), cluster_id)
    return msgspec.structs.replace(
        snapshot, looked_up=snapshot.looked_up | {*asked}, unlisted=(*snapshot.unlisted, *found)
    )


def parse_instances(rows: Sequence[Mapping[str, Any]], cluster_id: str) -> tuple[Instance, ...]:
    """Return the cluster's instances, oldest launch first. Raises FleetUnavailable for a row that is not one.

    Ours to end is only what carries both tags and belongs to no Auto Scaling group, whatever else EC2 returned.
    """
    instances = []
    for row in rows:
        try:
            tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())}
            launched_at: datetime = row["LaunchTime"]
            in_cluster = tags.get(CLUSTER_TAG) == cluster_id
            server = in_cluster and tags.get(ROLE_TAG) == "server"
            instances.append(
                Instance(
                    instance_id=row["InstanceId"],
                    state=InstanceState(row["State"]["Name"]),
                    instance_type=row["InstanceType"],
                    zone=row["Placement"]["AvailabilityZone"],
                    subnet_id=row.get("SubnetId", ""),
                    launched_at_s=int(launched_at.timestamp()),
                    managed=in_cluster
                    and not server
                    and tags.get(MANAGED_BY_TAG) == MANAGED_BY_VALUE
                    and ASG_TAG not in tags,
                    server=server,
                    operation_id=tags.get(OPERATION_TAG),
                    pool=tags.get(POOL_TAG, ""),
                    # EC2 names the lifecycle of what is not on demand only (EC2 API reference, Instance).
                    market=row.get("InstanceLifecycle") or "on-demand",
                    image_id=row.get("ImageId", ""),
                    template_id=tags.get(TEMPLATE_ID_TAG, ""),
                    template_version=tags.get(TEMPLATE_VERSION_TAG, ""),
                    private_dns_name=row.get("PrivateDnsName", ""),
                    state_reason=_state_reason(row.get("StateReason") or {}),
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FleetUnavailable(
                f"DescribeInstances returned a row that cannot be read ({error!r}): nothing is decided on half a fleet"
            ) from error
    return tuple(sorted(instances, key=lambda i: (i.launched_at_s, i.instance_id)))


def _state_reason(reason: Mapping[str, str]) -> str:
    """Code and words; the words often begin with the code. Source: EC2 API reference, StateReason."""
    code, words = reason.get("Code") or "", " ".join((reason.get("Message") or "").split())
    told = words if words.startswith(code) else f"{code}: {words}" if words else code
    return told[:STATE_REASON]

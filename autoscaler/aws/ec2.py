"""EC2: the `Fleet` port."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from autoscaler.aws.clients import LAUNCH_READ_TIMEOUT_S, Clients
from autoscaler.aws.failures import in_one_line, told_as
from autoscaler.model import (
    CLUSTER_TAG,
    NO_CODE,
    SPOT,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    PoolTemplate,
)
from autoscaler.ports import FleetUnavailable

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        CreateFleetRequestTypeDef,
        CreateFleetResultTypeDef,
        FilterTypeDef,
        FleetLaunchTemplateOverridesRequestTypeDef,
        TagTypeDef,
    )

PAGE_SIZE: Final = 1000
TEMPLATE_MAX_AGE_S: Final = 300.0
"""A new version of the launch template reaches a warm function within this time. Subnets never change zones."""


class Ec2Fleet:
    """The workers of one cluster, found by its tag."""

    def __init__(
        self,
        clients: Clients,
        *,
        cluster_id: str,
        template_id: str,
        subnet_ids: tuple[str, ...],
        pool_templates: Sequence[tuple[str, str, str]] = (),
        pool_subnets: Mapping[str, tuple[str, ...]] | None = None,
        default_pool: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = clients
        self._cluster_id = cluster_id
        self._template_id = template_id
        self._subnet_ids = subnet_ids
        self._pool_templates = tuple(pool_templates)
        self._pool_subnets = dict(pool_subnets or {})
        self._default_pool = default_pool
        self._monotonic = monotonic
        self._versions: tuple[float, dict[str, str]] | None = None
        self._subnet_zones: dict[str, str] | None = None

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """Return the raw rows of every instance with the cluster's tag, dead ones too. Raises FleetUnavailable."""
        return self._rows([{"Name": f"tag:{CLUSTER_TAG}", "Values": [self._cluster_id]}])

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return the raw rows of these instances, whatever tags they carry. Raises FleetUnavailable.

        By a filter: an id that EC2 does not know is then missing from the answer and not an error.
        """
        return self._rows([{"Name": "instance-id", "Values": list(instance_ids)}])

    def is_ours(self, instance_id: str) -> bool:
        """Whether this instance carries the cluster's tag. Raises FleetUnavailable."""
        return instance_id in self.ours_among((instance_id,))

    def ours_among(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """Which of these carry the cluster's tag: events carry no tags. Raises FleetUnavailable."""
        rows = self._rows(
            [
                {"Name": "instance-id", "Values": list(instance_ids)},
                {"Name": f"tag:{CLUSTER_TAG}", "Values": [self._cluster_id]},
            ]
        )
        return frozenset(str(row["InstanceId"]) for row in rows)

    def launch_context(self) -> LaunchContext:
        """Return each template's latest version as a number, and the zone of each subnet. Raises FleetUnavailable.

        Two calls, however many pools there are.
        """
        versions, zones = self._latest_versions(), self._zones()

        def where(pool: str) -> tuple[tuple[str, str], ...]:
            return tuple((subnet, zones[subnet]) for subnet in self._pool_subnets.get(pool) or self._subnet_ids)

        return LaunchContext(
            template_id=self._template_id,
            template_version=versions[self._template_id],
            subnet_zones=where(self._default_pool),
            templates=tuple(
                PoolTemplate(
                    pool=pool,
                    arch=arch,
                    template_id=template_id,
                    template_version=versions[template_id],
                    subnet_zones=where(pool),
                )
                for pool, arch, template_id in self._pool_templates
            ),
        )

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Send one CreateFleet of type `instant`. Raises FleetUnavailable with EC2's code.

        A pool that gave nothing is an error beside the instances that others gave, not a failure of the call.
        """
        with told_as(FleetUnavailable, f"launch {request.count} worker(s)"):
            answer = self._clients.ec2(read_timeout_s=LAUNCH_READ_TIMEOUT_S).create_fleet(**_fleet_request(request))
        return _launch_result(answer, {row.subnet_id: row.zone for row in request.overrides})

    def terminate(self, instance_id: str) -> None:
        """Terminate one instance; an unknown id is success. Raises FleetUnavailable."""
        try:
            with told_as(FleetUnavailable, f"terminate {instance_id}"):
                self._clients.ec2().terminate_instances(InstanceIds=[instance_id])
        except FleetUnavailable as error:
            if error.code != "InvalidInstanceID.NotFound":
                raise

    def _rows(self, filters: list["FilterTypeDef"]) -> list[Mapping[str, Any]]:
        with told_as(FleetUnavailable, "describe the instances"):
            pages = self._clients.ec2().get_paginator("describe_instances")
            return [
                row
                for page in pages.paginate(Filters=filters, PaginationConfig={"PageSize": PAGE_SIZE})
                for reservation in page.get("Reservations", [])
                for row in reservation.get("Instances", [])
            ]

    def _latest_versions(self) -> dict[str, str]:
        """CloudFormation adds a version at every change of a template and leaves the default one where it was."""
        now = self._monotonic()
        if self._versions is None or now - self._versions[0] > TEMPLATE_MAX_AGE_S:
            wanted = [self._template_id, *(template_id for _, _, template_id in self._pool_templates)]
            with told_as(FleetUnavailable, f"describe the launch template {', '.join(wanted)}"):
                answer = self._clients.ec2().describe_launch_templates(LaunchTemplateIds=wanted)
            rows = answer.get("LaunchTemplates", [])
            found = {row.get("LaunchTemplateId", ""): row.get("LatestVersionNumber") for row in rows}
            if missing := [template_id for template_id in wanted if not found.get(template_id)]:
                raise FleetUnavailable(
                    f"EC2 names no version of the launch template {', '.join(missing)}: "
                    "check LAUNCH_TEMPLATE_ID and POOL_LAUNCH_TEMPLATES and deploy again"
                )
            self._versions = (now, {template_id: str(found[template_id]) for template_id in wanted})
        return self._versions[1]

    def _zones(self) -> dict[str, str]:
        if self._subnet_zones is None:
            own = (subnet for subnets in self._pool_subnets.values() for subnet in subnets)
            wanted = list(dict.fromkeys((*self._subnet_ids, *own)))
            with told_as(FleetUnavailable, f"describe the subnets {', '.join(wanted)}"):
                answer = self._clients.ec2().describe_subnets(SubnetIds=wanted)
            found = {row.get("SubnetId", ""): row.get("AvailabilityZone", "") for row in answer.get("Subnets", [])}
            missing = [subnet for subnet in wanted if not found.get(subnet)]
            if missing:
                raise FleetUnavailable(
                    f"EC2 names no zone for the subnet(s) {', '.join(missing)}: check SUBNET_IDS and the subnets of "
                    "workers.pools, and deploy again"
                )
            self._subnet_zones = found
        return self._subnet_zones


def _fleet_request(request: LaunchRequest) -> "CreateFleetRequestTypeDef":
    """Every field follows from the frozen request alone, so that sending it again is the same request.

    On demand the order of the rows is the order of preference: with `prioritized`, the lower number goes first. On Spot
    EC2 chooses among them: the cheapest of those that it is least likely to interrupt soon, at the on-demand price at
    most, as no other is named. Sources: EC2 API reference, FleetLaunchTemplateOverridesRequest, SpotOptionsRequest.
    """
    spot = request.market == SPOT
    tags: list[TagTypeDef] = [{"Key": key, "Value": value} for key, value in request.tags]
    overrides: list[FleetLaunchTemplateOverridesRequestTypeDef] = [
        {
            "InstanceType": row.instance_type,  # type: ignore[typeddict-item]  # the stubs list today's types only
            "SubnetId": row.subnet_id,
            **({} if spot else {"Priority": float(place)}),
        }
        for place, row in enumerate(request.overrides)
    ]
    fleet: CreateFleetRequestTypeDef = {
        "Type": "instant",
        "ClientToken": request.client_token,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": request.count,
            "OnDemandTargetCapacity": 0 if spot else request.count,
            "SpotTargetCapacity": request.count if spot else 0,
            "DefaultTargetCapacityType": "spot" if spot else "on-demand",
        },
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": request.template_id,
                    "Version": request.template_version,
                },
                "Overrides": overrides,
            }
        ],
        "TagSpecifications": [
            {"ResourceType": "fleet", "Tags": tags},
            {"ResourceType": "instance", "Tags": tags},
        ],
    }
    if spot:
        fleet["SpotOptions"] = {
            "AllocationStrategy": "price-capacity-optimized",
            "InstanceInterruptionBehavior": "terminate",
        }
    else:
        fleet["OnDemandOptions"] = {"AllocationStrategy": "prioritized"}
    return fleet


def _launch_result(answer: "CreateFleetResultTypeDef", zones: Mapping[str, str]) -> LaunchResult:
    errors: list[tuple[str, str, str]] = []
    words: dict[str, str] = {}
    for error in answer.get("Errors", []):
        override = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        zone = override.get("AvailabilityZone") or zones.get(override.get("SubnetId", ""), "")
        code = error.get("ErrorCode") or NO_CODE
        row = (code, str(override.get("InstanceType", "")), zone)
        if row not in errors:
            errors.append(row)
        words.setdefault(code, in_one_line(error.get("ErrorMessage") or ""))
    return LaunchResult(
        instance_ids=tuple(
            instance_id for group in answer.get("Instances", []) for instance_id in group.get("InstanceIds", [])
        ),
        errors=tuple(errors),
        words=tuple(words.items()),
    )

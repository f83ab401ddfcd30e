"""What IAM is asked for a launch, by CreateFleet or by RunInstances: of each thing that request or template names.

Sources: Service Authorization Reference, "Amazon EC2" (CreateFleet, RunInstances, CreateTags); EC2 user guide, "Use
Amazon EC2 launch templates to control launching Amazon EC2 instances", "Grant permission to tag Amazon EC2 resources
during creation"; IAM user guide, "Grant a user permissions to pass a role to an AWS service"; EBS user guide, "How
Amazon EBS encryption works", "Requirements for Amazon EBS encryption"; KMS developer guide, "AWS KMS condition keys".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.service.iam.evaluator import Request
from tests.service.iam.rendered import ACCOUNT, REGION, arn
from tests.service.iam.world import Reading, Tags, World

SYSTEM_TAGS = ("aws:ec2:fleet-id", "aws:ec2launchtemplate:id", "aws:ec2launchtemplate:version")
"""What AWS writes on a fleet's instances; nobody else may write a tag that begins so."""

THROUGH_EC2 = {"kms:ViaService": f"ec2.{REGION}.amazonaws.com", "kms:CallerAccount": ACCOUNT}
"""What KMS knows of a call that EC2 makes in its caller's name."""
OF_ENCRYPTION: Mapping[str, Mapping[str, str]] = {
    "kms:CreateGrant": {"kms:GrantIsForAWSResource": "true"},
    "kms:Decrypt": {},
    "kms:DescribeKey": {},
    "kms:GenerateDataKeyWithoutPlaintext": {},
    "kms:ReEncryptFrom": {},
    "kms:ReEncryptTo": {},
}
"""What EC2 asks of a customer's key for a volume, with what it says besides. The image's snapshot decides which."""


@dataclass(frozen=True)
class Launch:
    """What a launch names, and which of it comes from the template."""

    template: str | None
    image: str
    subnet: str | None
    groups: Sequence[str]
    profile: str | None
    tags: Mapping[str, Tags]
    """By type of resource."""
    snapshots: Sequence[str] = ()
    keys: Sequence[str] = ()
    """Customers' keys that encrypt its disks; none under AWS' own, of which nobody is asked."""
    key_pair: str | None = None
    placement_group: str | None = None
    interface: str | None = None
    """One that exists already."""
    spot: bool = False
    """Whether a Spot request is made for it (Karpenter's policy names that type for the same reason)."""
    overridden: frozenset[str] = frozenset()
    """Which of these the request names itself."""


def _tags(specifications: Sequence[Mapping[str, Any]]) -> dict[str, Tags]:
    return {row["ResourceType"]: {tag["Key"]: tag["Value"] for tag in row["Tags"]} for row in specifications}


def _launch(named: Mapping[str, Any], world: World, template: str | None, tags: Mapping[str, Tags]) -> Launch:
    """Of the fields of RunInstances, or of an override of CreateFleet, and of the template where they are silent."""
    base = _of_template(world) if template == world.template_arn else _nothing(template)
    interface: Mapping[str, Any] = next(iter(named.get("NetworkInterfaces", ())), {})
    profile = named.get("IamInstanceProfile", {})
    found = {
        "image": named.get("ImageId"),
        "subnet": named.get("SubnetId") or interface.get("SubnetId"),
        "groups": named.get("SecurityGroupIds") or interface.get("Groups"),
        "profile": profile.get("Arn") or profile.get("Name"),
        "snapshots": _of_disks(named, "SnapshotId"),
        "keys": _of_disks(named, "KmsKeyId"),
        "key_pair": named.get("KeyName"),
        "placement_group": named.get("Placement", {}).get("GroupName"),
        "interface": interface.get("NetworkInterfaceId"),
    }
    given = {name: value for name, value in found.items() if value}
    merged = {kind: {**base.tags.get(kind, {}), **tags.get(kind, {})} for kind in {*base.tags, *tags}}
    return replace(base, **given, tags=merged, overridden=frozenset(given))


def _of_disks(named: Mapping[str, Any], field: str) -> list[str]:
    disks = [device.get("Ebs", {}) for device in named.get("BlockDeviceMappings", ())]
    return [disk[field] for disk in disks if field in disk]


def _of_template(world: World) -> Launch:
    data = world.template
    return Launch(
        template=world.template_arn,
        image=data["ImageId"],
        subnet=None,
        groups=data["SecurityGroupIds"],
        profile=data["IamInstanceProfile"]["Arn"],
        tags=_tags(data["TagSpecifications"]),
        keys=_of_disks(data, "KmsKeyId"),
    )


def _nothing(template: str | None) -> Launch:
    """A launch without a template, or of a stranger's, which names what is not ours."""
    if template is None:
        return Launch(template=None, image="", subnet=None, groups=(), profile=None, tags={})
    groups = ["sg-0f0f0f0f0f0f0f0f0"]
    return Launch(template=template, image="ami-0f0f0f0f0f0f0f0f0", subnet=None, groups=groups, profile=None, tags={})


def _instance_requests(launch: Launch, world: World, reading: Reading) -> Iterator[Request]:
    """RunInstances, the tags it writes, the role it passes and the keys it encrypts with."""
    for kind, resource, of_template in _named(launch, reading):
        context: dict[str, str | list[str]] = {}
        # The reference lists no key of the template for a Spot request.
        if launch.template is not None and reading.template_keys and kind != "spot-instances-request":
            context["ec2:LaunchTemplate"] = launch.template
            context["ec2:IsLaunchTemplateResource"] = str(of_template).lower()
        if resource.endswith("/*") and (kind != "volume" or reading.disks_tagged):
            context |= tag_context(launch.tags.get(kind, {}), by_fleet=kind == "instance" and reading.system_tags)
        yield Request("ec2:RunInstances", resource, context)
    for kind, tags in launch.tags.items():
        context = tag_context(tags, by_fleet=kind == "instance" and reading.system_tags)
        yield Request("ec2:CreateTags", arn("ec2", f"{kind}/*"), context | {"ec2:CreateAction": "RunInstances"})
    if launch.profile is not None:
        ours = launch.profile == world.template["IamInstanceProfile"]["Arn"]
        role = world.role_arn if ours else world.profiles[launch.profile]
        yield Request("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
    for key in launch.keys:
        for action, said in OF_ENCRYPTION.items():
            yield Request(action, key, {**THROUGH_EC2, **said})


def _named(launch: Launch, reading: Reading) -> Iterator[tuple[str, str, bool]]:
    """(type, ARN, whether it comes from the template) of all that a launch touches; what it makes has no id yet."""

    def named(kind: str, identifier: str | None, of_template: str = "") -> Iterator[tuple[str, str, bool]]:
        if identifier is not None:
            account = "" if kind in {"image", "snapshot"} else ACCOUNT
            from_template = launch.template is not None and of_template not in launch.overridden
            yield kind, arn("ec2", f"{kind}/{identifier}", account=account), from_template

    yield from named("instance", "*")
    yield from named("volume", "*")
    if launch.spot:
        yield from named("spot-instances-request", "*")
    yield from named("network-interface", launch.interface or "*", "interface")
    yield from named("image", launch.image, "image")
    yield from named("subnet", launch.subnet, "subnet")
    yield from named("key-pair", launch.key_pair, "key_pair")
    yield from named("placement-group", launch.placement_group, "placement_group")
    for group in launch.groups:
        yield from named("security-group", group, "groups")
    for snapshot in launch.snapshots:
        yield from named("snapshot", snapshot, "snapshots")
    if launch.template is not None:
        yield "launch-template", launch.template, True
        if reading.template_keys and reading.fleet_touches_all and "image" not in launch.overridden:
            yield from named("snapshot", "snap-0a0a0a0a0a0a0a0a0")


def tag_context(tags: Tags, *, by_fleet: bool = False) -> dict[str, str | list[str]]:
    """The keys of tags in a request; without tags there is no aws:TagKeys. `by_fleet`: with those that a fleet adds."""
    if not tags:
        return {}
    keys = [*tags, *(SYSTEM_TAGS if by_fleet else ())]
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()} | {"aws:TagKeys": keys}


def _template_arn(named: Mapping[str, Any]) -> str | None:
    template = named.get("LaunchTemplateId")
    return None if template is None else arn("ec2", f"launch-template/{template}")


def run_instances(_: str, fields: Mapping[str, Any], world: World, reading: Reading) -> Iterator[Request]:
    """A launch without a fleet."""
    template = _template_arn(fields.get("LaunchTemplate", {}))
    yield from _instance_requests(
        _launch(fields, world, template, _tags(fields.get("TagSpecifications", ()))), world, reading
    )


def create_fleet(operation: str, fields: Mapping[str, Any], world: World, reading: Reading) -> Iterator[Request]:
    """CreateFleet and all that its instances are launched with."""
    tags = _tags(fields.get("TagSpecifications", ()))
    spot = fields["TargetCapacitySpecification"].get("SpotTargetCapacity", 0) > 0
    of_fleet = tag_context(tags.pop("fleet", {}))
    yield Request(operation, arn("ec2", "fleet/*"), of_fleet)
    if of_fleet:
        yield Request("ec2:CreateTags", arn("ec2", "fleet/*"), of_fleet | {"ec2:CreateAction": "CreateFleet"})
    for config in fields["LaunchTemplateConfigs"]:
        template = _template_arn(config["LaunchTemplateSpecification"])
        for override in config.get("Overrides") or [{}]:
            launch = replace(_launch(override, world, template, tags), spot=spot)
            yield from _fleet_requests(launch, tags, reading)
            yield from _instance_requests(launch, world, reading)


def _fleet_requests(launch: Launch, own_tags: Mapping[str, Tags], reading: Reading) -> Iterator[Request]:
    """What CreateFleet itself is asked for one override: what the request names, or all that the template names too."""
    everything = reading.fleet_touches_all
    tags = launch.tags if everything else own_tags
    listed = {"instance", "volume", "subnet", "launch-template", "placement-group"}
    listed |= {"image"} if "image" in launch.overridden else set()
    for kind, resource, _ in _named(launch, reading):
        if everything or kind in listed:
            made = resource.endswith("/*")
            yield Request("ec2:CreateFleet", resource, tag_context(tags.get(kind, {})) if made else {})

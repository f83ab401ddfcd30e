"""What moto's CloudFormation lacks of a dual-stack network and of a server that outlives its machine.

moto skips resources that it does not know, says that the stack is complete, and leaves out properties here and there.
So that the cluster stack deploys to something worth asserting on, this adds the IPv6 block of a VPC, egress-only
gateways, `Fn::Cidr`, `Fn::GetAZs` of a pseudo parameter, resources that come back to a stack, route tables that end
with theirs, and what moto drops of routes, interfaces and instances. moto's EC2 itself knows all of it.
"""

import ipaddress
from collections.abc import Callable
from typing import Any, Final, cast

import moto.cloudformation.parsing as moto_parsing
from moto.core.common_models import CloudFormationModel
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance
from moto.ec2.models.route_tables import Route, RouteTable
from moto.ec2.models.subnets import SubnetRouteTableAssociation
from moto.ec2.models.vpcs import VPC

IPV6_BITS: Final = 128
CREATE: Final = "create_from_cloudformation_json"


class VpcCidrBlock(CloudFormationModel):
    """AWS::EC2::VPCCidrBlock, Amazon's IPv6 block only."""

    def __init__(self, association_id: str) -> None:
        self.physical_resource_id = association_id

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return the property that names it: none."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """Return the resource type."""
        return "AWS::EC2::VPCCidrBlock"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> "VpcCidrBlock":
        """Give the VPC its block."""
        backend = ec2_backends[account_id][region_name]
        vpc = backend.get_vpc(cloudformation_json["Properties"]["VpcId"])
        _ipv6_blocks(vpc)
        return cls(f"{vpc.id}-ipv6")


class EgressOnlyGateway(CloudFormationModel):
    """AWS::EC2::EgressOnlyInternetGateway."""

    def __init__(self, gateway_id: str) -> None:
        self.physical_resource_id = gateway_id

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return the property that names it: none."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """Return the resource type."""
        return "AWS::EC2::EgressOnlyInternetGateway"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> "EgressOnlyGateway":
        """Create it."""
        backend = ec2_backends[account_id][region_name]
        gateway = backend.create_egress_only_internet_gateway(vpc_id=cloudformation_json["Properties"]["VpcId"])
        return cls(gateway.id)


def mend_network() -> None:
    """Teach moto's CloudFormation the above. Before the first stack: it lists the resource types once."""
    _wrap_clean_json()
    _forget_removed()
    _wrap_attributes(VPC, {"Ipv6CidrBlocks": _ipv6_blocks})
    setattr(Route, CREATE, classmethod(_create_route))
    setattr(SubnetRouteTableAssociation, CREATE, classmethod(_associated(getattr(SubnetRouteTableAssociation, CREATE))))
    setattr(RouteTable, "delete", _delete_route_table)  # noqa: B010 - moto's has none
    _adjust(NetworkInterface, lambda properties: properties | {"SecurityGroups": properties.get("GroupSet", [])})
    setattr(Instance, CREATE, classmethod(_with_interface_and_volumes(getattr(Instance, CREATE).__func__)))


def cidr_blocks(block: str, count: int, host_bits: int) -> list[str]:
    """Return what `Fn::Cidr` gives: `count` networks with `host_bits` bits for hosts. Raises ValueError."""
    network = ipaddress.ip_network(block)
    subnets = network.subnets(new_prefix=network.max_prefixlen - host_bits)
    return [str(subnet) for subnet, _ in zip(subnets, range(count), strict=False)]


def _ipv6_blocks(vpc: Any) -> list[str]:
    """Return the VPC's IPv6 blocks: moto resolves attributes before it has seen to DependsOn, so asking makes one."""
    if not vpc.ipv6_cidr_block_association_set:
        vpc.ec2_backend.associate_vpc_cidr_block(vpc.id, "", amazon_provided_ipv6_cidr_block=True)
    # moto's random blocks have host bits set now and then.
    return [str(ipaddress.ip_network(row["cidr_block"], strict=False)) for row in vpc.ipv6_cidr_block_association_set]


def _wrap_clean_json() -> None:
    inner = moto_parsing.clean_json

    def clean_json(resource_json: Any, resources_map: Any) -> Any:
        if isinstance(resource_json, dict) and "Fn::Cidr" in resource_json:
            block, count, host_bits = clean_json(resource_json["Fn::Cidr"], resources_map)
            return cidr_blocks(block, int(count), int(host_bits))
        if isinstance(resource_json, dict) and "Fn::GetAZs" in resource_json:
            region = clean_json(resource_json["Fn::GetAZs"], resources_map)
            return inner({"Fn::GetAZs": region}, resources_map)
        return inner(resource_json, resources_map)

    # The original calls itself by this name.
    setattr(moto_parsing, "clean_json", clean_json)  # noqa: B010 - a function of the module


def _forget_removed() -> None:
    """Let a resource that left a stack be created when it comes back: moto takes it for the one that it has ended."""
    inner = moto_parsing.ResourceMap.update

    def update(self: Any, template: Any, parameters: Any = None) -> None:
        removed = set(self._resource_json_map) - set(template["Resources"])
        inner(self, template, parameters)
        for name in removed:
            self._parsed_resources.pop(name, None)

    setattr(moto_parsing.ResourceMap, "update", update)  # noqa: B010 - a method of moto's


def _wrap_attributes(model: type[Any], added: dict[str, Callable[[Any], Any]]) -> None:
    inner: Callable[[Any, str], Any] = model.get_cfn_attribute

    def get_cfn_attribute(self: Any, attribute_name: str) -> Any:
        return added[attribute_name](self) if attribute_name in added else inner(self, attribute_name)

    setattr(model, "get_cfn_attribute", get_cfn_attribute)  # noqa: B010 - a variable class


def _adjust(model: type[Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    inner = getattr(model, CREATE).__func__

    def create(cls: type[Any], resource_name: str, cloudformation_json: Any, *rest: Any, **more: Any) -> Any:
        changed = cloudformation_json | {"Properties": change(cloudformation_json["Properties"])}
        return inner(cls, resource_name, changed, *rest, **more)

    setattr(model, CREATE, classmethod(create))


def _create_route(
    _cls: type[Any], /, _name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
) -> Any:
    properties = cloudformation_json["Properties"]
    return ec2_backends[account_id][region_name].create_route(
        route_table_id=properties["RouteTableId"],
        destination_cidr_block=properties.get("DestinationCidrBlock"),
        destination_ipv6_cidr_block=properties.get("DestinationIpv6CidrBlock"),
        gateway_id=properties.get("GatewayId"),
        egress_only_igw_id=properties.get("EgressOnlyInternetGatewayId"),
    )


def _delete_route_table(table: Any, account_id: str, region_name: str) -> None:
    """End it with its stack, and its associations, which are resources too: moto leaves both where they are."""
    backend = ec2_backends[account_id][region_name]
    for row in table.associations:
        backend.disassociate_route_table(row["RouteTableAssociationId"])
    backend.delete_route_table(table.id)


def _associated(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the route table as well: moto notes the association where no description looks."""

    def create(_cls: type[Any], name: str, cloudformation_json: Any, account_id: str, region: str, **more: Any) -> Any:
        properties = cloudformation_json["Properties"]
        ec2_backends[account_id][region].associate_route_table(
            route_table_id=properties["RouteTableId"], subnet_id=properties["SubnetId"]
        )
        return inner(name, cloudformation_json, account_id, region, **more)

    return create


def _with_interface_and_volumes(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Put the instance where its interface stands, with that interface, and attach its volumes."""

    def create(
        cls: type[Any], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **more: Any
    ) -> Any:
        properties = cloudformation_json["Properties"]
        backend = ec2_backends[account_id][region_name]
        interfaces = [
            cast("Any", backend.get_network_interface(row["NetworkInterfaceId"]))
            for row in properties.get("NetworkInterfaces", ())
        ]
        if interfaces:
            properties = properties | {"SubnetId": interfaces[0].subnet.id}
        instance = inner(
            cls, resource_name, cloudformation_json | {"Properties": properties}, account_id, region_name, **more
        )
        for interface in interfaces:
            instance.nics.clear()
            instance.attach_eni(interface, 0)
        for row in properties.get("Volumes", ()):
            backend.attach_volume(row["VolumeId"], instance.id, row["Device"])
        return instance

    return create

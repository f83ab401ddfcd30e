"""What is deployed, as the checks of `verify-aws` want it: read from the account, where they read a template."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from autoscaler.cli.stacks import PREFIX
from autoscaler.cli.verify.checks import Account, FurtherTemplate, Subject
from autoscaler.policy import Policy

_FURTHER: Final = re.compile(r"([a-z0-9-]+)/(arm64|amd64)=(lt-\w+)")
"""As autoscaler/runtime.py reads POOL_LAUNCH_TEMPLATES."""


def deployed_subject(account: Account, *, stage: str, region: str, policy: Policy) -> Subject:
    """The functions' configuration and their launch templates. Raises ClientError, LookupError."""
    function = configuration_of(account, stage)
    variables: Mapping[str, str] = function["Environment"]["Variables"]
    first = _template(account, variables["LAUNCH_TEMPLATE_ID"])
    (device,) = first["BlockDeviceMappings"]
    return Subject(
        cluster_id=variables["CLUSTER_ID"],
        region=region,
        stack=f"{PREFIX}{stage}",
        subnet_ids=_listed(variables["SUBNET_IDS"]),
        security_group_ids=_groups(first),
        image=first["ImageId"],
        further=tuple(
            FurtherTemplate(pool=pool, arch=arch, logical_id="", image=_template(account, template)["ImageId"])
            for pool, arch, template in _FURTHER.findall(variables.get("POOL_LAUNCH_TEMPLATES", ""))
        ),
        volume_key=device["Ebs"].get("KmsKeyId", ""),
        function_subnet_ids=tuple(function.get("VpcConfig", {}).get("SubnetIds", ())),
        dual_stack=variables.get("AWS_USE_DUALSTACK_ENDPOINT") == "true",
        reserved_concurrency=0,
        rules=(),
        document=variables["NODE_COMMAND_DOCUMENT"],
        policy=policy,
    )


def configuration_of(account: Account, stage: str) -> Mapping[str, Any]:
    """Lambda's description of the sweep function. Raises ClientError."""
    found: Mapping[str, Any] = account.client("lambda").get_function_configuration(
        FunctionName=f"{PREFIX}{stage}-sweep"
    )
    return found


def _template(account: Account, template_id: str) -> Mapping[str, Any]:
    answer = account.client("ec2").describe_launch_template_versions(LaunchTemplateId=template_id, Versions=["$Latest"])
    found: Mapping[str, Any] = answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return found


def _groups(template: Mapping[str, Any]) -> tuple[str, ...]:
    """They stand in the network interface where the template describes one."""
    interfaces: Sequence[Mapping[str, Any]] = template.get("NetworkInterfaces", ())
    return tuple(template.get("SecurityGroupIds") or [group for one in interfaces for group in one.get("Groups", ())])


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())

"""The account that the requests meet, and what no reference says of how AWS asks IAM.

Where the reference leaves open what is asked, `Reading` has each answer that there may be; policies must hold in all.

Sources: Service Authorization Reference, "Amazon EC2", "AWS Systems Manager"; Karpenter's CloudFormation template,
whose controller is granted CreateFleet on groups, snapshots and interfaces too. That RunInstances inside an instant
fleet is asked of the caller's role is seen in the refusals of aws/karpenter-provider-aws#1488 and #7370.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tests.service.iam.calls import SERVER, WORKER
from tests.service.iam.rendered import Rendered, arn


@dataclass(frozen=True)
class Reading:
    """What no reference settles."""

    template_keys: bool
    """RunInstances inside a fleet carries ec2:LaunchTemplate and ec2:IsLaunchTemplateResource."""
    fleet_touches_all: bool
    """CreateFleet is asked for all that the template names, and with the template's tags, as Karpenter grants it.

    Where the template's keys are known as well, both actions are also asked for the snapshot of the template's image.
    Without them the snapshot cannot be told from one that a request names, and no reading asks for it.
    """
    system_tags: bool
    """The tags that a fleet adds itself stand in aws:TagKeys."""
    disks_tagged: bool
    """The tags that the template gives volumes count as the request's own.

    Those of interfaces do: Karpenter tags these by its templates alone, and its policy demands the tag of them.
    """
    ssm_key: str
    """By which key SendCommand knows a machine's tags."""

    def __str__(self) -> str:
        words = [
            name
            for name in ("template_keys", "fleet_touches_all", "system_tags", "disks_tagged")
            if getattr(self, name)
        ]
        return " ".join([*words, self.ssm_key])


_EITHER = (True, False)
READINGS = tuple(
    Reading(*answers) for answers in product(_EITHER, _EITHER, _EITHER, _EITHER, ("aws:ResourceTag", "ssm:resourceTag"))
)

Tags = Mapping[str, str]


@dataclass(frozen=True)
class World:
    """What stands in the account besides the request."""

    template_arn: str
    template: Mapping[str, Any]
    """The launch template's data."""
    role_arn: str
    """Of the workers' instance profile."""
    tags: Mapping[str, Tags]
    """By instance id."""
    profiles: Mapping[str, str] = field(default_factory=dict)
    """Role by instance profile, of profiles that are not the workers'."""


def world_of(rendered: Rendered, cluster_id: str, template: str = "WorkerLaunchTemplate") -> World:
    """One worker of ours, one server of ours, and what the template says."""
    entry = rendered.template.body["Resources"][template]
    cluster = {"k3s-autoscaler/cluster": cluster_id}
    return World(
        template_arn=arn("ec2", f"launch-template/{rendered.value({'Ref': template})}"),
        template=rendered.value(entry["Properties"]["LaunchTemplateData"] | {"UserData": ""}),
        role_arn=rendered.value({"Fn::GetAtt": ["WorkerRole", "Arn"]}),
        tags={
            WORKER: cluster | {"ManagedBy": "autoscaler"},
            SERVER: cluster | {"k3s-autoscaler/role": "server"},
        },
    )

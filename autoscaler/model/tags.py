"""The EC2 tags by which this service knows its machines."""

from typing import Final

MANAGED_BY_TAG: Final = "ManagedBy"
MANAGED_BY_VALUE: Final = "autoscaler"
CLUSTER_TAG: Final = "k3s-autoscaler/cluster"
OPERATION_TAG: Final = "k3s-autoscaler/operation"
POOL_TAG: Final = "k3s-autoscaler/pool"
ROLE_TAG: Final = "k3s-autoscaler/role"
ASG_TAG: Final = "aws:autoscaling:groupName"
TEMPLATE_ID_TAG: Final = "aws:ec2launchtemplate:id"
TEMPLATE_VERSION_TAG: Final = "aws:ec2launchtemplate:version"
"""EC2 gives both to what is launched from a template, and nobody can change them (EC2 user guide, "Launch an Amazon EC2
instance using a launch template")."""

"""The EC2 tags by which this service knows its machines."""

from typing import Final

MANAGED_BY_TAG: Final = "ManagedBy"
MANAGED_BY_VALUE: Final = "autoscaler"
CLUSTER_TAG: Final = "k3s-autoscaler/cluster"
OPERATION_TAG: Final = "k3s-autoscaler/operation"
POOL_TAG: Final = "k3s-autoscaler/pool"
ROLE_TAG: Final = "k3s-autoscaler/role"
ASG_TAG: Final = "aws:autoscaling:groupName"

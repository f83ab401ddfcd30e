"""What an error code of EC2 means: one table for a call, for the pools in CreateFleet's answer, and for its sentence.

Sources: EC2 API reference, "Error codes for the Amazon EC2 API" (client, server and common ones); EC2 developer guide,
"Request throttling"; botocore's own list of throttles (`botocore.retries.standard`).
"""

from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """Who is the matter, and so what is left alone."""

    CAPACITY = "capacity"
    """This pool has nothing left, or its quota is used: it is left alone, others are tried."""
    BUSY = "busy"
    """EC2 turns calls away, breaks or is not reached, whatever was asked: no call for a while."""
    PERMANENT = "permanent"
    """It stays like this until a person mends it."""
    UNKNOWN = "unknown"
    """A code that is not in the table: treated as permanent, the gentler way, and told as what it is."""


THROTTLES: Final = frozenset(
    {
        "EC2ThrottledException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Turned away at the door, although EC2 tells it with status 503: nothing happened."""

_BROKEN: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServerInternal",
        "ServiceUnavailable",
        "Unavailable",
    }
)
_CAPACITY: Final = frozenset(
    {
        "InstanceLimitExceeded",
        "InsufficientAddressCapacity",
        "InsufficientCapacity",
        "InsufficientCapacityOnHost",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientReservedInstancesCapacity",
        "InsufficientVolumeCapacity",
        "MaxFleetCountExceeded",
        "MaxSpotInstanceCountExceeded",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
        "VcpuLimitExceeded",
        "VolumeTypeNotAvailableInZone",
    }
)
_MENDS: Final = {
    "the functions' role or a policy of the organisation does not allow it: `make verify-aws` names what is missing": (
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "DeclarativePoliciesAccessDeniedException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "TagPolicyViolation",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    ),
    "the account has no service-linked role for Spot, and the functions may not create it: "
    "`aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`, once": (
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
    ),
    "AWS does not let this account launch: AWS Support knows why": (
        "AccountDisabled",
        "Blocked",
        "OptInRequired",
        "PendingVerification",
    ),
    "the key that encrypts the workers' volumes cannot be used: its state or its policy": (
        "CustomerKeyHasBeenRevoked",
        "InvalidKMSKey",
        "KMSKeyNotAccessibleFault",
    ),
    "a quota of the account is used up: have it raised, or free some": (
        "AddressLimitExceeded",
        "AttachmentLimitExceeded",
        "MaxIOPSLimitExceeded",
        "NetworkInterfaceLimitExceeded",
        "SecurityGroupsPerInterfaceLimitExceeded",
        "SnapshotLimitExceeded",
        "VolumeLimitExceeded",
    ),
    "the types of the policy, the image, the subnets or the launch template do not fit together, or one is gone: "
    "mend them and deploy again": (
        "BootForVolumeTypeUnsupported",
        "ClientInvalidParameterValue",
        "EncryptedVolumesNotSupported",
        "InvalidAMIID",
        "InvalidAvailabilityZone",
        "InvalidBlockDeviceMapping",
        "InvalidFleetConfig",
        "InvalidGroup",
        "InvalidIamInstanceProfileArn",
        "InvalidInstanceType",
        "InvalidKeyPair",
        "InvalidLaunchTemplateId",
        "InvalidLaunchTemplateName",
        "InvalidNetworkInterfaceID",
        "InvalidParameter",
        "InvalidParameterCombination",
        "InvalidParameterDependency",
        "InvalidParameterValue",
        "InvalidSecurityGroupID",
        "InvalidSnapshot",
        "InvalidSubnet",
        "InvalidSubnetID",
        "MissingParameter",
        "TagLimitExceeded",
        "UnknownParameter",
        "UnknownVolumeType",
        "UnsupportedOperation",
        "ValidationError",
        "VPCIdNotSpecified",
        "VPCResourceNotSpecified",
    ),
    "no launch template is deployed for this pool of the policy: `sls deploy` makes one": ("NoLaunchTemplate",),
    "EC2 does not permit it for this machine: termination protection, or what EC2's own words name": (
        "OperationNotPermitted",
    ),
}
_MEND_OF: Final = {code: mend for mend, codes in _MENDS.items() for code in codes}
_SDK_ENDING: Final = "Error"
"""botocore's exceptions end like this: the call was not made, or its answer was lost."""
TABLE: Final = {
    **dict.fromkeys(THROTTLES | _BROKEN, Cause.BUSY),
    **dict.fromkeys(_CAPACITY, Cause.CAPACITY),
    **dict.fromkeys(_MEND_OF, Cause.PERMANENT),
}
NO_CODE: Final = "no reason given"
"""In the place of the code that EC2 did not give."""


def cause_of(code: str) -> Cause:
    """What a code means; `InvalidAMIID.NotFound` is of the family `InvalidAMIID`. An empty one: nobody answered."""
    known = TABLE.get(_named(code))
    if known is not None:
        return known
    return Cause.BUSY if not code or code.endswith(_SDK_ENDING) else Cause.UNKNOWN


def lasts(code: str) -> bool:
    """Whether it does not go by itself, as far as anybody knows."""
    return cause_of(code) in {Cause.PERMANENT, Cause.UNKNOWN}


def in_words(code: str) -> str:
    """The code, and what it means for a person."""
    match cause_of(code):
        case Cause.CAPACITY:
            return f"{code}: EC2 has nothing left there"
        case Cause.BUSY:
            return f"{code or 'no answer'}: EC2 is busy, broken or not reached"
        case Cause.PERMANENT:
            return f"{code}: {_MEND_OF[_named(code)]}"
        case _:
            return f"{code}: EC2 gives no launch, and this program does not know the code; EC2's own words were told"


def _named(code: str) -> str:
    """The code itself where it is listed, else its family. Instances' reasons begin with `Client.` or `Server.`."""
    plain = code.removeprefix("Client.").removeprefix("Server.")
    return plain if plain in TABLE else plain.split(".", 1)[0]

"""Every error code of EC2 is one of four, and none is silently another."""

import pytest
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from autoscaler.model import THROTTLES, Cause, cause_of, in_words
from autoscaler.model.causes import TABLE

NOT_EC2 = {"LimitExceededException", "TransactionInProgressException"}


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("InsufficientInstanceCapacity", Cause.CAPACITY),
        ("InsufficientCapacityOnHost", Cause.CAPACITY),
        ("ReservationCapacityExceeded", Cause.CAPACITY),
        ("VcpuLimitExceeded", Cause.CAPACITY),
        ("Unsupported", Cause.CAPACITY),
        ("RequestLimitExceeded", Cause.BUSY),
        ("EC2ThrottledException", Cause.BUSY),
        ("InternalError", Cause.BUSY),
        ("Unavailable", Cause.BUSY),
        ("ConnectTimeoutError", Cause.BUSY),
        ("ReadTimeoutError", Cause.BUSY),
        ("", Cause.BUSY),
        ("InvalidParameterValue", Cause.PERMANENT),
        ("UnauthorizedOperation", Cause.PERMANENT),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Cause.PERMANENT),
        ("InvalidFleetConfig", Cause.PERMANENT),
        ("PendingVerification", Cause.PERMANENT),
        ("Blocked", Cause.PERMANENT),
        ("UnsupportedOperation", Cause.PERMANENT),
        ("ValidationError", Cause.PERMANENT),
        ("InvalidAMIID.NotFound", Cause.PERMANENT),
        ("InvalidLaunchTemplateId.NotFound", Cause.PERMANENT),
        ("CustomerKeyHasBeenRevoked", Cause.PERMANENT),
        ("Client.InvalidKMSKey.InvalidState", Cause.PERMANENT),
        ("Client.VolumeLimitExceeded", Cause.PERMANENT),
        ("Server.InsufficientInstanceCapacity", Cause.CAPACITY),
        ("Server.InternalError", Cause.BUSY),
        ("OperationNotPermitted", Cause.PERMANENT),
        ("SomethingNew", Cause.UNKNOWN),
        ("SomethingNew.NotFound", Cause.UNKNOWN),
        ("no reason given", Cause.UNKNOWN),
    ],
)
def test_what_a_code_means(code: str, cause: Cause) -> None:
    assert cause_of(code) is cause
    assert in_words(code).startswith(f"{code or 'no answer'}: ")


def test_every_throttle_that_the_sdk_knows_is_busy() -> None:
    known = {
        *vars(ThrottledRetryableChecker)["_THROTTLED_ERROR_CODES"],
        *vars(TransientRetryableChecker)["_TRANSIENT_ERROR_CODES"],
    }
    assert known - NOT_EC2
    assert {code for code in known - NOT_EC2 if cause_of(code) is not Cause.BUSY} == set()
    assert {code for code in THROTTLES if cause_of(code) is not Cause.BUSY} == set()


def test_each_permanent_code_says_what_to_do_and_no_other_pretends_to() -> None:
    unknown = in_words("SomethingNew")
    assert "does not know the code" in unknown
    for code, cause in TABLE.items():
        told = in_words(code).removeprefix(f"{code}: ")
        assert len(told) > 20
        assert (told in {"EC2 has nothing left there", "EC2 is busy, broken or not reached"}) is (
            cause is not Cause.PERMANENT
        )

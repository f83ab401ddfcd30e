"""How a failed AWS call is told to the core: one sentence, the error code, and whether it may have happened."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from autoscaler.model import THROTTLES, Cause, cause_of
from autoscaler.ports import PortError
from autoscaler.redaction import without_signature

NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError)
"""No connection stood, so that no request can have arrived."""


def error_code(error: ClientError) -> str:
    """AWS' own code of a refusal, empty where the answer had none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """AWS' own words of a refusal, in one line; empty where the answer had none."""
    return in_one_line(str(error.response.get("Error", {}).get("Message", "")))


def may_have_happened(error: Exception) -> bool:
    """Whether a call that failed like this can have had its effect: lost answers and answers of a broken service."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        # A throttle and a lack of capacity have a status of 5xx too (EC2 API reference, "Server error codes").
        definite = error_code(error) in THROTTLES or cause_of(error_code(error)) is Cause.CAPACITY
        return status >= 500 and not definite
    if isinstance(error, HTTPClientError):
        return not isinstance(error, NEVER_SENT)
    return isinstance(error, ResponseParserError)


@contextmanager
def told_as(kind: type[PortError], attempt: str) -> Iterator[None]:
    """Turn an SDK failure inside the block into `kind`; `attempt` says what was tried ("terminate i-1")."""
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        raise kind(
            f"AWS refused to {attempt}: {code or 'no error code'}: {error_message(error) or 'no message'}",
            code=code,
            effect_unknown=may_have_happened(error),
        ) from error
    except (BotoCoreError, ResponseParserError) as error:
        name = type(error).__name__
        raise kind(
            f"could not {attempt}: {name}: {in_one_line(str(error))}",
            code=name,
            effect_unknown=may_have_happened(error),
        ) from error


def in_one_line(text: str) -> str:
    """What AWS or its SDK wrote, without line breaks and without what a request was signed with."""
    return " ".join(without_signature(text).split())

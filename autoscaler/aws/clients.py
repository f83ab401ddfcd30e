"""The SDK's clients: made when first needed, once, with one attempt a call and every request counted.

Straight from botocore: boto3's resources and transfers are never used here (docs/decisions/0005).
"""

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config
from botocore.parsers import ResponseParserError

from autoscaler.aws.calls import Calls

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_ssm import SSMClient

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.0
LAUNCH_READ_TIMEOUT_S = 12.0
"""An instant fleet answers when its instances exist: seconds, not milliseconds."""
IDLE_S = 5.0
"""A connection that slept longer is not trusted: a frozen function does not hear the other end hang up,
and with one attempt a call the first one afterwards would fail."""
_PAGES = (b"<!doctype html", b"<html")


class Clients:
    """One botocore session and its clients. Clients are safe to share between threads; making them is not: a lock."""

    def __init__(
        self,
        calls: Calls,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls
        self._region = region
        self._profile = profile
        self._endpoint_url = endpoint_url
        self._wall_clock = wall_clock
        self._lock = threading.RLock()
        self._session: botocore.session.Session | None = None
        self._clients: dict[tuple[str, float], Any] = {}
        self._used_at_s = wall_clock()

    def begin(self) -> None:
        """Start an invocation: drop connections that slept through a freeze.

        By wall time: the monotonic clock of a frozen machine may stand still.
        """
        now_s = self._wall_clock()
        if abs(now_s - self._used_at_s) > IDLE_S:
            for client in self._clients.values():
                client.close()
        self._used_at_s = now_s

    def ec2(self, *, read_timeout_s: float = READ_TIMEOUT_S) -> "EC2Client":
        """EC2."""
        return cast("EC2Client", self.client("ec2", read_timeout_s))

    def ssm(self) -> "SSMClient":
        """Systems Manager: Run Command and Parameter Store."""
        return cast("SSMClient", self.client("ssm", READ_TIMEOUT_S))

    def dynamodb(self) -> "DynamoDBClient":
        """DynamoDB, by IPv4 whatever AWS_USE_DUALSTACK_ENDPOINT says.

        Few regions have an IPv6 address of it (cloudformation/regions.json), and the SDK makes up the others' names.
        Functions without another way out reach it through the VPC's gateway endpoint, which is free.
        """
        return cast("DynamoDBClient", self.client("dynamodb", READ_TIMEOUT_S))

    def sns(self) -> "SNSClient":
        """SNS."""
        return cast("SNSClient", self.client("sns", READ_TIMEOUT_S))

    def client(self, service: str, read_timeout_s: float = READ_TIMEOUT_S) -> Any:
        """Any other service, by botocore's name of it."""
        with self._lock:
            key = (service, read_timeout_s)
            if key not in self._clients:
                self._clients[key] = self._make(service, read_timeout_s)
            return self._clients[key]

    def _make(self, service: str, read_timeout_s: float) -> Any:
        if self._session is None:
            self._session = botocore.session.Session(profile=self._profile)
        client = self._session.create_client(
            service,
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                use_dualstack_endpoint=False if service == "dynamodb" else None,
                retries={"total_max_attempts": 1, "mode": "standard"},
            ),
        )
        client.meta.events.register(f"before-send.{service}.*", self._count)
        believe_aws_alone(client)
        return client

    def _count(self, event_name: str, **_: Any) -> None:
        # "before-send.<service>.<operation>"; nothing is returned, so the request goes out.
        self._calls.add(event_name.split(".")[1])


def believe_aws_alone(client: Any) -> None:
    """Make an HTML page in an answer's place an error.

    The SDK reads one that came with status 200, from a proxy or a portal, as an answer without any field: no state, no
    workers. What was not understood is no empty answer.
    """
    client.meta.events.register("before-parse", _refuse_pages)


def _refuse_pages(response_dict: dict[str, Any], **_: Any) -> None:
    body = response_dict.get("body") or b""
    if isinstance(body, bytes) and body[:100].lstrip().lower().startswith(_PAGES):
        status = response_dict.get("status_code")
        raise ResponseParserError(
            f"an HTML page came in the place of AWS' answer (status {status}): {_title(body)}".rstrip(": ")
        )


def _title(page: bytes) -> str:
    """The first words that a reader of the page sees."""
    text = page[:4096].decode("utf-8", "replace")
    return " ".join(re.sub(r"(?s)<(style|script)\b.*?</\1>|<[^>]*>", " ", text).split())[:120]

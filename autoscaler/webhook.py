"""Alertmanager's webhook: what may come in, and what it says.

The payload is version 4 of Alertmanager's webhook body. Newer releases add fields: unknown ones are ignored.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from autoscaler.model import Notice

BODY_LIMIT_BYTES: Final = 256 * 1024
VERSION: Final = "4"
WATCHDOG: Final = "Watchdog"
SCALE_LABEL: Final = "scale"
MAX_FACTS: Final = 10
"""Facts of one webhook. They go into the state item, and blind growth needs one."""
DETAIL_LENGTH: Final = 200

Short = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]*\Z")]
"""Printable ASCII, so that what goes into the state item takes a byte a character."""
Status = Literal["firing", "resolved"]


class Rejected(Exception):
    """The request is answered with this status and one sentence; nothing was evaluated."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One alert of a group."""

    status: Status
    labels: dict[str, str]
    starts_at: Short
    """Identity only: together with the fingerprint it names one firing. It is never read as a time."""
    fingerprint: Short


class Webhook(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One group of alerts, as Alertmanager posts it."""

    version: str
    group_key: Annotated[str, msgspec.Meta(min_length=1)]
    status: Status
    alerts: Annotated[tuple[Alert, ...], msgspec.Meta(min_length=1)]

    @property
    def key(self) -> str:
        """What makes two bodies the same message: the group, its status, and each alert's firing."""
        firings = sorted((alert.fingerprint, alert.starts_at) for alert in self.alerts)
        return msgspec.json.encode((self.group_key, self.status, firings)).decode()

    @property
    def is_watchdog(self) -> bool:
        """Only the alert that always fires: proof that the path lives, and no reason to look."""
        return all(alert.labels.get("alertname") == WATCHDOG for alert in self.alerts)

    @property
    def detail(self) -> str:
        """The alerts' names and the status, for the log."""
        names = sorted({alert.labels.get("alertname", "unnamed") for alert in self.alerts})
        return f"{', '.join(names)} {self.status}"[:DETAIL_LENGTH]

    def facts(self, received_at_s: int) -> tuple[Notice, ...]:
        """What no observation shows: each firing alert that asks for growth, should Prometheus not be reachable."""
        subjects = sorted(
            {
                f"{alert.fingerprint}@{alert.starts_at}"
                for alert in self.alerts
                if alert.status == "firing" and alert.labels.get(SCALE_LABEL) == "up"
            }
        )
        return tuple(
            Notice(kind="blind_alert", subject=subject, received_at_s=received_at_s) for subject in subjects[:MAX_FACTS]
        )


class _Versioned(msgspec.Struct):
    version: Any = None


def read_webhook(event: Mapping[str, Any], accept: Callable[[str], bool]) -> Webhook:
    """Check an API Gateway event (payload version 2) in this order: size, token, content.

    Raises Rejected with 413, 401 or 400, and whatever `accept` raises where the tokens cannot be read.
    """
    _require_size(event)
    _require_token(event, accept)
    return _parse(_body(event))


def _require_size(event: Mapping[str, Any]) -> None:
    text = event.get("body") or ""
    if not isinstance(text, str):
        return  # no body in any known form: the content check says so
    encoded = bool(event.get("isBase64Encoded"))
    size = len(text) * 3 // 4 - text[-2:].count("=") if encoded else len(text.encode("utf-8", "surrogatepass"))
    if size > BODY_LIMIT_BYTES:
        raise Rejected(
            413,
            f"The body has more than {BODY_LIMIT_BYTES} bytes: set max_alerts on Alertmanager's webhook "
            "(the committed configuration has it).",
        )


def _require_token(event: Mapping[str, Any], accept: Callable[[str], bool]) -> None:
    headers = event.get("headers")
    pairs = headers.items() if isinstance(headers, Mapping) else ()
    value = next((value for name, value in pairs if str(name).lower() == "authorization"), "")
    scheme, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Rejected(401, "The request carries no bearer token: set http_config.authorization in Alertmanager.")
    if not accept(token):
        raise Rejected(401, "The bearer token is not accepted: use one that is listed in the webhook-token parameter.")


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body")
    if not isinstance(text, str) or not text:
        raise Rejected(400, "The request has no body: post Alertmanager's webhook JSON.")
    try:
        return base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, ValueError):
        raise Rejected(400, "The body is not valid base64 or UTF-8: post Alertmanager's webhook JSON.") from None


def _parse(body: bytes) -> Webhook:
    try:
        version = msgspec.json.decode(body, type=_Versioned).version
        if version != VERSION:
            raise Rejected(
                400, f'The webhook\'s version is {_number(version)}: only version "{VERSION}" is understood.'
            )
        return msgspec.json.decode(body, type=Webhook)
    except msgspec.ValidationError as error:
        raise Rejected(400, f"The body is not Alertmanager's webhook: {_complaint(error)}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(400, f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Rejected(400, "The body is nested too deeply to be Alertmanager's webhook.") from None


def _number(version: Any) -> str:
    """The version as far as it looks like one: nothing else of a body goes into an answer or the log."""
    if version is None:
        return "missing"
    given = repr(version) if isinstance(version, (str, int)) else ""
    return given if re.fullmatch(r"'?[0-9.]{1,8}'?", given) else "of another form"


def _complaint(error: msgspec.ValidationError) -> str:
    """What was expected and where; msgspec quotes the value of an enumeration that it does not know."""
    what, _, where = str(error).rpartition(" - at ")
    return f"Invalid value - at {where}" if what.startswith("Invalid enum value") else str(error)

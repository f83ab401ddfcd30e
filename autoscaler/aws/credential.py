"""What goes with each question to Prometheus: who asks, and headers such as a store's tenant. One SSM parameter."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
import requests
from requests.auth import AuthBase, HTTPBasicAuth

from autoscaler.ports import MetricsUnavailable

FORMS: Final = (
    "write `bearer <token>`, `basic <user>:<password>`, or JSON into its parameter: "
    '{"bearer": "..."} or {"username": "...", "password": "..."}, with {"headers": {"X-Scope-OrgID": "..."}} or '
    "these alone"
)
OURS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
    }
)
"""Headers that the request has already, in lower case; a second opinion about them would break it."""
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 7230: token
_VALUE: Final = r"[!-~](?:[ \t!-~]*[!-~])?"  # what every server takes; no line break begins a new header


class _Json(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bearer: str = ""
    username: str = ""
    password: str = ""
    headers: dict[str, str] = {}


class Credential(AuthBase):
    """Puts the credential and the further headers on a request."""

    def __init__(self, *, bearer: str = "", basic: tuple[str, str] | None = None, headers: Mapping[str, str]) -> None:
        self._headers = {**headers, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        self._basic = HTTPBasicAuth(basic[0].encode(), basic[1].encode()) if basic is not None else None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign one request."""
        request.headers.update(self._headers)
        return request if self._basic is None else self._basic(request)


def parse_auth(text: str) -> Credential:
    """Read the parameter. Raises MetricsUnavailable; its message never shows any part of the value."""
    text = text.strip()
    headers: dict[str, str] = {}
    if text.startswith("{"):
        try:
            given = msgspec.json.decode(text, type=_Json)
        except (msgspec.MsgspecError, RecursionError):
            raise _unreadable() from None
        bearer, user, password, headers = given.bearer, given.username, given.password, given.headers
    else:
        scheme, _, rest = text.partition(" ")
        rest = rest.strip()
        bearer = rest if scheme.lower() == "bearer" else ""
        user, _, password = rest.partition(":") if scheme.lower() == "basic" else ("", "", "")
    if headers:
        _check(headers)
    if bearer and not user and not password and bearer.isascii() and bearer.isprintable():
        return Credential(bearer=bearer, headers=headers)
    if user and not bearer:
        return Credential(basic=(user, password), headers=headers)
    if headers and not (bearer or user or password):
        return Credential(headers=headers)
    raise _unreadable()


def _check(headers: Mapping[str, str]) -> None:
    """Raise for the first header that cannot be sent. Names are told only where they are among the known ones."""
    names = [name.lower() for name in headers]
    ours = sorted({name for name in names if name in OURS})
    if ours:
        raise MetricsUnavailable(
            f"the Prometheus credential sets the header {', '.join(ours)}, which the request sets itself: leave it out "
            "of `headers` (a credential goes into `bearer`, or `username` and `password`)"
        )
    if len(set(names)) != len(names):
        raise MetricsUnavailable("the Prometheus credential sets one header twice: names are the same in either case")
    for place, (name, value) in enumerate(headers.items(), start=1):
        if not re.fullmatch(_NAME, name):
            raise MetricsUnavailable(
                f"header {place} of the Prometheus credential has a name that is none: letters, digits and - are usual"
            )
        if not re.fullmatch(_VALUE, value):
            raise MetricsUnavailable(
                f"header {place} of the Prometheus credential has a value that cannot be sent: printable ASCII is "
                "allowed, not empty, no line break, no blank at either end"
            )


def _unreadable() -> MetricsUnavailable:
    return MetricsUnavailable(f"the Prometheus credential does not read: {FORMS}")

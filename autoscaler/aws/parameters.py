"""SSM Parameter Store: secrets that are read at run time, and the webhook tokens."""

import hmac
import threading
import time
from collections.abc import Callable
from typing import Final

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.model import OfferedPolicy
from autoscaler.ports import PortError
from autoscaler.redaction import Redaction

MAX_AGE_S: Final = 300.0
MIN_REFRESH_S: Final = 30.0


class ParameterUnavailable(PortError):
    """A parameter could not be read. The message names the parameter, never its value."""


class Parameters:
    """Reads decrypted parameters, and sees to it that no log shows what was in them."""

    def __init__(self, clients: Clients, redaction: Redaction) -> None:
        self._clients = clients
        self._redaction = redaction

    def read(self, name: str) -> str:
        """Return the value of one secret, decrypted. Raises ParameterUnavailable."""
        value = self.read_public(name)
        self._redaction.keep(value)
        return value

    def read_public(self, name: str) -> str:
        """Return the value of one parameter that is no secret. Raises ParameterUnavailable."""
        with told_as(ParameterUnavailable, f"read the parameter {name}"):
            answer = self._clients.ssm().get_parameter(Name=name, WithDecryption=True)
        return str(answer["Parameter"].get("Value", ""))


def policy_parameter(cluster_id: str) -> str:
    """The name of the parameter with the policy's live changes."""
    return f"/k3s/{cluster_id}/policy"


def read_offered(clients: Clients, name: str) -> OfferedPolicy:
    """What stands in the parameter of the policy's live changes, and since when. Raises ParameterUnavailable."""
    try:
        with told_as(ParameterUnavailable, f"read the parameter {name}"):
            found = clients.ssm().get_parameter(Name=name)["Parameter"]
    except ParameterUnavailable as error:
        if error.code == "ParameterNotFound":
            return OfferedPolicy(text=None)
        raise
    return OfferedPolicy(
        text=found.get("Value", ""),
        version=found.get("Version", 0),
        changed_at_s=int(found["LastModifiedDate"].timestamp()),
    )


class WebhookTokens:
    """The tokens that a webhook may bear: one a line, every one accepted, so that they can be changed without a gap.

    Kept for five minutes. A token that matches none makes us look again at most every 30 seconds: a new token works
    at once, and a stranger cannot make us call SSM for every guess - not while SSM fails either.
    """

    def __init__(
        self, read: Callable[[str], str], name: str | None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._name = name
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tokens: tuple[bytes, ...] = ()
        self._read_at: float | None = None
        self._failed: tuple[float, ParameterUnavailable] | None = None
        """The last look for a new token, if it failed: when, and how."""

    def accept(self, token: str) -> bool:
        """Whether this is one of the tokens; without a parameter's name nothing is. Raises ParameterUnavailable."""
        if self._name is None:
            return False
        with self._lock:
            if self._age_s() > MAX_AGE_S:
                self._refresh(self._name)
            if self._matches(token):
                return True
            if self._age_s() < MIN_REFRESH_S:
                return False
            self._look_again(self._name)
            return self._matches(token)

    def _age_s(self) -> float:
        return float("inf") if self._read_at is None else self._monotonic() - self._read_at

    def _look_again(self, name: str) -> None:
        if self._failed is not None and self._monotonic() - self._failed[0] < MIN_REFRESH_S:
            raise self._failed[1]  # it may be a new token: not known is no refusal
        try:
            self._refresh(name)
        except ParameterUnavailable as error:
            self._failed = (self._monotonic(), error)
            raise

    def _refresh(self, name: str) -> None:
        value = self._read(name)
        self._tokens = tuple(line.strip().encode() for line in value.splitlines() if line.strip())
        self._read_at = self._monotonic()
        self._failed = None

    def _matches(self, token: str) -> bool:
        # Every token is compared, each in constant time: the answer's delay tells nothing about any of them.
        given = token.encode("utf-8", "surrogatepass")
        return any([hmac.compare_digest(given, listed) for listed in self._tokens])  # noqa: C419 - no early end

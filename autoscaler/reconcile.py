"""The loop: observe, decide, act."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.model import Notice, Trigger
from autoscaler.policy import Policy
from autoscaler.ports import Clock, Fleet, Ids, Metrics, NodeCommands, Notifier, StateStore


class Busy(Exception):
    """Something is to do, and another invocation holds the lease."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside."""

    metrics: Metrics
    fleet: Fleet
    commands: NodeCommands
    store: StateStore
    notifier: Notifier
    clock: Clock
    ids: Ids
    calls: Callable[[], Mapping[str, int]]
    """Remote calls made so far in this invocation, by service."""


def reconcile(
    ports: Ports, *, cluster_id: str, policy: Policy, trigger: Trigger, facts: tuple[Notice, ...] = ()
) -> dict[str, Any]:
    """Look once and do what follows; returns the decision document.

    Facts are saved into the state before the look. Raises Busy, and the PortErrors that leave nothing to decide on
    (StoreUnavailable, StateMalformed, FleetUnavailable).
    """
    raise NotImplementedError

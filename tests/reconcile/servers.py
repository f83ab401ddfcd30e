"""Servers that answer the verb `rules` as a test tells them to, and a decision that asks for rules."""

from collections.abc import Iterable
from typing import Any

import msgspec

from autoscaler.decide.decision import decide
from autoscaler.model import (
    Asks,
    CommandOutcome,
    CommandResult,
    Decision,
    NodeCommand,
    OwnerRules,
    SchedulingRules,
    Snapshot,
    State,
    Trigger,
    Verb,
)
from autoscaler.model.rules import PodRules
from autoscaler.policy import Policy
from autoscaler.ports import CommandsUnavailable
from autoscaler.reconcile import reconcile
from autoscaler.simulator.cluster import SWEEP, SimCluster
from autoscaler.simulator.fakes import SimFleet
from autoscaler.simulator.rules_answer import answer
from autoscaler.simulator.ssm import SimCommands
from autoscaler.simulator.wires import SSM, Invocation
from autoscaler.simulator.world.world import SERVER, WorldSettings

SECOND = msgspec.structs.replace(SERVER, name="ip-10-0-1-11", instance_id="i-0aaaaaaaaaaaaaa11", ip="10.0.1.11")
FIRST_ID, SECOND_ID = SERVER.instance_id, SECOND.instance_id


def two_servers(policy: Policy, *, workers: int = 2) -> SimCluster:
    world = WorldSettings(cluster_id="sim", fixed_nodes=(SERVER, SECOND))
    return SimCluster(policy, workers=workers, world=world)


def rules_of(*owners: str) -> SchedulingRules:
    return SchedulingRules(
        answered_at_s=0,
        owners=tuple(
            OwnerRules(owner=owner, rules=PodRules(namespace=owner.partition("/")[0]), seen_at_s=0) for owner in owners
        ),
    )


class Servers:
    """What stands behind SSM: each question for rules is answered after `takes_s` with what `says` holds then.

    A server in `refused` takes no command, one in `silent` never ends one. What `says` holds by server id goes before
    the rest.
    """

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.takes_s = 2.0
        self.says: dict[str, CommandResult] = {}
        self.refused: set[str] = set()
        self.silent: set[str] = set()
        self.tells()
        self.asked: list[tuple[int, str]] = []
        """When, from the start on, and whom."""
        self.began_s = cluster.now_s
        self._sent: dict[str, tuple[float, str]] = {}

    def tells(self, *owners: str) -> None:
        packed = answer(rules_of(*owners))
        self.says[""] = CommandResult(outcome=CommandOutcome.SUCCEEDED, rules=packed)

    def over(self, commands: SimCommands, invocation: Invocation) -> "_Commands":
        return _Commands(self, commands, invocation)

    def send(self, server_id: str) -> str:
        self.asked.append((round(self.cluster.now_s - self.began_s), server_id))
        if server_id in self.refused:
            raise CommandsUnavailable(f"{server_id} takes no commands.", code="InvalidInstanceId")
        command_id = f"rules-{len(self.asked)}"
        self._sent[command_id] = (self.cluster.now_s, server_id)
        return command_id

    def result(self, command_id: str) -> CommandResult:
        sent_at_s, server_id = self._sent[command_id]
        if server_id in self.silent or self.cluster.now_s - sent_at_s < self.takes_s:
            return CommandResult(outcome=CommandOutcome.RUNNING)
        return self.says.get(server_id, self.says[""])

    @property
    def count(self) -> int:
        return len(self.asked)


class _Commands:
    """Port NodeCommands: questions for rules go to `Servers`, the rest to the simulated SSM."""

    def __init__(self, servers: Servers, commands: SimCommands, invocation: Invocation) -> None:
        self._servers = servers
        self._commands = commands
        self._invocation = invocation

    def send(self, command: NodeCommand, server_id: str) -> str:
        if command.verb is not Verb.RULES:
            return self._commands.send(command, server_id)
        assert (command.node_name, command.provider_id, command.fence) == ("", "", 0)
        effect = lambda: self._servers.send(server_id)  # noqa: E731
        return self._invocation.call(SSM, "send", CommandsUnavailable, effect, command)

    def result(self, command_id: str, server_id: str) -> CommandResult:
        if not command_id.startswith("rules-"):
            return self._commands.result(command_id, server_id)
        effect = lambda: self._servers.result(command_id)  # noqa: E731
        return self._invocation.call(SSM, "result", CommandsUnavailable, effect)


def look(
    servers: Servers, *, trigger: Trigger = SWEEP, timeout_s: float = 30.0, policy: Policy | None = None
) -> dict[str, Any]:
    cluster = servers.cluster
    invocation = Invocation(cluster.wires, timeout_s)
    ports = cluster.ports(invocation=invocation)
    assert isinstance(ports.commands, SimCommands)
    assert isinstance(ports.fleet, SimFleet)
    ports = msgspec.structs.replace(ports, commands=servers.over(ports.commands, invocation))
    return reconcile(ports, cluster_id=cluster.cluster_id, policy=policy or cluster.policy, trigger=trigger)


class Wanting:
    """A decision that wants the rules of some owners before it goes on, as one about waiting pods does."""

    def __init__(self, *owners: str, since_s: int = 0, more: Asks | None = None) -> None:
        self.owners: Iterable[str] = owners
        self.since_s = since_s
        self.more = more or Asks()
        self.seen: list[Snapshot] = []

    def __call__(self, snapshot: Snapshot, state: State, policy: Policy, *, now_s: int, decision_id: str) -> Decision:
        self.seen.append(snapshot)
        decision = decide(snapshot, state, policy, now_s=now_s, decision_id=decision_id)
        rules = snapshot.scheduling_rules
        asks = msgspec.structs.replace(
            decision.asks, zones=self.more.zones, places_of=self.more.places_of, rules=rules is None
        )
        if rules is not None and not snapshot.rules_problem:
            known = {owner.owner for owner in rules.owners}
            unknown = tuple(owner for owner in self.owners if owner not in known)
            asks = msgspec.structs.replace(asks, rules_of=unknown, rules_since_s=self.since_s if unknown else 0)
        return msgspec.structs.replace(decision, asks=asks)

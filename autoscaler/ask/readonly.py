"""Ports on which only reads go out: an answer cannot write, launch, drain or notify, whatever it tries."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from autoscaler.model import (
    CommandResult,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    NodeCommand,
    SchedulingRules,
    State,
)
from autoscaler.ports import Fleet, NodeCommands, Ports, StateStore


class ReadOnly(Exception):
    """An answer tried to change something: a fault of the program, never of who asked. Nothing was changed."""


def read_only(ports: Ports) -> Ports:
    """The same world, to look at."""
    return Ports(
        metrics=ports.metrics,
        fleet=_Fleet(ports.fleet),
        commands=_Commands(ports.commands),
        store=_Store(ports.store),
        notifier=_Notifier(),
        background=ports.background,
        clock=ports.clock,
        ids=ports.ids,
        calls=ports.calls,
    )


def _refuse(what: str) -> NoReturn:
    raise ReadOnly(f"An answer tried to {what}: a question changes nothing.")


class _Store:
    """The state, read."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def load(self) -> tuple[State, int]:
        return self._store.load()

    def rules(self) -> SchedulingRules | None:
        return self._store.rules()

    def save(self, state: State, expected_version: int) -> int:
        _refuse(f"write {len(msgspec.json.encode(state))} bytes of state over version {expected_version}")

    def keep_rules(self, rules: SchedulingRules) -> None:
        _refuse(f"keep the rules of {len(rules.owners)} owners")

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        _refuse(f"record {document.get('action')} as decision {decision_id} of {decided_at_s}")


class _Fleet:
    """EC2, described."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def describe(self) -> Sequence[Mapping[str, Any]]:
        return self._fleet.describe()

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        return self._fleet.look_up(instance_ids)

    def launch_context(self) -> LaunchContext:
        return self._fleet.launch_context()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        _refuse(f"launch {request.count} workers")

    def terminate(self, instance_id: str) -> None:
        _refuse(f"terminate {instance_id}")


class _Commands:
    """Results of node commands that others sent."""

    def __init__(self, commands: NodeCommands) -> None:
        self._commands = commands

    def result(self, command_id: str, server_id: str) -> CommandResult:
        return self._commands.result(command_id, server_id)

    def send(self, command: NodeCommand, server_id: str) -> str:
        _refuse(f"send {command.verb} to {server_id}")


class _Notifier:
    """Nobody is told."""

    def notify(self, document: Mapping[str, Any]) -> None:
        _refuse(f"notify people of {document.get('action')}")

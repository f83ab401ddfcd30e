"""What really happened in one round: a file that every process appends to under a lock, and the judge reads."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from autoscaler.model import LaunchRequest, Verb


class Launched(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """CreateFleet arrived at EC2."""

    pid: int
    request: LaunchRequest
    instance_ids: tuple[str, ...]
    replayed: bool
    """The token was known: nothing was launched."""


class Commanded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """SendCommand arrived at SSM."""

    pid: int
    verb: Verb
    operation_id: str
    instance_id: str
    command_id: str


class Terminated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """TerminateInstances arrived at EC2."""

    pid: int
    instance_id: str


class Saved(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The table took a write of the state."""

    pid: int
    version: int
    fence: int
    took_lease: bool


class WriteLost(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The table refused a write: somebody else was first."""

    pid: int


Entry = Launched | Commanded | Terminated | Saved | WriteLost
Made = TypeVar("Made", bound=Entry)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Evidence:
    """One round's file. The system takes the lock of a killed process back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, make: Callable[[tuple[Entry, ...]], Made]) -> Made:
        """Append what `make` makes of the entries so far: nobody else writes in between."""
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            entry = make(_entries(file))
            file.write(_encode(entry) + b"\n")
            file.flush()
        return entry

    def read(self) -> tuple[Entry, ...]:
        """Every entry, in the order in which they happened."""
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            file.seek(0)
            return _entries(file)


def _entries(file: BinaryIO) -> tuple[Entry, ...]:
    return tuple(_decode(line) for line in file)


def me() -> int:
    """Who writes."""
    return os.getpid()

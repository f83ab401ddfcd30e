"""What a cluster was asked for over time, as one file: pods by what they ask, and what workers used.

It names no pod, Node, address or image, so that it can be attached to an issue: namespaces, kinds of owners and
DaemonSets are what it tells.
"""

import gzip
import zlib
from pathlib import Path
from typing import Annotated, Final

import msgspec

FORMAT: Final = 1
MOST_BYTES: Final = 512 * 1024**2
"""Of a file, once it is unpacked: more is no recording of ours."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class BadRecording(Exception):
    """A file that cannot be played; the message is one sentence that says why and what to do."""


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pods that ask the same: how many there were at each step, running or waiting."""

    namespace: str
    kind: str
    """Of their owners, such as ReplicaSet; empty for bare pods."""
    cpu_millicores: Count
    memory_bytes: Count
    """Of one pod."""
    pods: tuple[Count | None, ...]
    """None: not known."""


class DaemonSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ran on every worker."""

    namespace: str
    name: str
    cpu_millicores: Count
    memory_bytes: Count


class Recording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every `step_s` from `begin_s` on; each series has as many values as there are steps."""

    format: int = FORMAT
    begin_s: Count
    """Epoch seconds, of the first value."""
    step_s: Annotated[int, msgspec.Meta(ge=1)]
    groups: tuple[Group, ...]
    daemon_sets: tuple[DaemonSet, ...] = ()
    used_cores: tuple[Amount | None, ...]
    """By all workers together, what the machines need for themselves included."""
    used_bytes: tuple[Amount | None, ...]
    workers: tuple[Count | None, ...]
    """That there were."""
    waiting: tuple[Count | None, ...]
    """Pods that the scheduler found no Node for."""
    notes: tuple[str, ...] = ()
    """What could not be recorded, in sentences."""

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.used_cores)

    def known(self, step: int) -> bool:
        """Whether both what pods asked and what they used is known there."""
        return (
            self.used_cores[step] is not None
            and self.used_bytes[step] is not None
            and self.workers[step] is not None
            and all(group.pods[step] is not None for group in self.groups)
        )

    def stretches(self) -> list[range]:
        """Steps without a gap between them."""
        found: list[range] = []
        for step in range(self.steps):
            if not self.known(step):
                continue
            if found and found[-1].stop == step:
                found[-1] = range(found[-1].start, step + 1)
            else:
                found.append(range(step, step + 1))
        return found


def write_recording(recording: Recording, file: Path) -> None:
    """Write it, packed where the name ends in `.gz`. Raises OSError."""
    data = msgspec.json.encode(recording)
    file.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data + b"\n")


def read_recording(file: Path) -> Recording:
    """Read it and check it. Raises BadRecording."""
    try:
        data = file.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            unpack = zlib.decompressobj(wbits=31)
            data = unpack.decompress(data, MOST_BYTES)
            if not unpack.eof:
                raise BadRecording(f"{file} is cut off, or larger than any recording: record it again.")
        recording = msgspec.json.decode(data, type=Recording)
    except OSError as error:
        raise BadRecording(f"{file} could not be read: {error.strerror}.") from error
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecording(
            f"{file} is no recording: {error}. `backtest --prometheus URL --record FILE` writes one."
        ) from error
    if recording.format != FORMAT:
        raise BadRecording(
            f"{file} has the format {recording.format}, and this version reads {FORMAT}: use the version that wrote it."
        )
    series = (recording.used_bytes, recording.workers, recording.waiting, *(group.pods for group in recording.groups))
    if any(len(values) != recording.steps for values in series):
        raise BadRecording(f"{file} is no recording: its series differ in length. Record it again.")
    if not recording.stretches():
        raise BadRecording(f"{file} holds no moment at which everything is known, so there is nothing to play.")
    return recording

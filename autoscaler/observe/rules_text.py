"""The form of a server's answer to the verb `rules` (docs/node-commands.md, "Rules"): base64 of gzip of lines.

A line has four fields, parted by tabs: its kind, what it is about (escaped as in JSON), names, and JSON as the API
server writes it. The
first line says what follows and what did not fit.
"""

import base64
import binascii
import zlib
from enum import StrEnum
from importlib import import_module
from types import ModuleType
from typing import Final

import msgspec

VERSION: Final = "1"
ROOM_CHARS: Final = 23_600
"""Of the packed text. SSM keeps 24,000 characters, the rest of the result line needs some."""
MOST_TEXT_BYTES: Final = 32_000_000
"""An answer that unpacks to more is none."""
OWN_NAME: Final = "$"
"""Stands for the Node's own name in its labels, so that Nodes which differ by nothing else share a line."""


class BadRules(ValueError):
    """Text that is no answer of the verb `rules`; one sentence."""


def reading() -> ModuleType:
    """The module that reads rules and packs them, loaded at the first use: a calm look needs none of it."""
    return import_module("autoscaler.observe.rules")


class Kind(StrEnum):
    """What a line is about."""

    HEADER = "rules"
    OWNER = "owner"
    """`namespace/kind/name`; names of the pods that it is true of, if not of all; a v1.Pod."""
    UNREADABLE = "unreadable"
    """An owner whose pod the server itself could not read; why, as plain text in the place of JSON."""
    DAEMON = "daemon"
    """`namespace/DaemonSet/name`; its template."""
    WAITING = "waiting"
    """`namespace/pod` without a node; `Word`."""
    NODE = "node"
    """Names of Nodes that are alike; a v1.Node."""
    NAMESPACE = "namespace"
    """Its name; its labels."""
    BUDGET = "budget"
    """`namespace/name`; a policy/v1 PodDisruptionBudget."""
    CLAIM = "claim"
    """`namespace/name`; a v1.PersistentVolumeClaim."""
    VOLUME = "volume"
    """Its name; a v1.PersistentVolume."""
    CLASS = "class"
    """Its name; a storage.k8s.io/v1 StorageClass."""


class Word(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a pod without a node has in its status."""

    nominated_node_name: str = ""
    message: str = ""
    """Of its condition PodScheduled, shortened."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Lines by kind."""

    shown: dict[str, int] = {}
    left_out: dict[str, int] = {}


class Line(msgspec.Struct, frozen=True):
    """One line; the JSON is not read yet."""

    kind: Kind
    key: str
    names: tuple[str, ...]
    json: str

    def __str__(self) -> str:
        key = msgspec.json.encode(self.key).decode()[1:-1]
        return "\t".join((self.kind, key, ",".join(self.names), self.json))


def pack(lines: list[Line]) -> str:
    """As much of it as fits, by whole lines from the first on, with the header that says so."""
    fits, too_long = 0, len(lines) + 1
    packed = _packed(lines, len(lines))
    if len(packed) <= ROOM_CHARS:
        return packed
    while too_long - fits > 1:
        count = (fits + too_long) // 2
        if len(_packed(lines, count)) <= ROOM_CHARS:
            fits = count
        else:
            too_long = count
    return _packed(lines, fits)


def unpack(packed: str) -> tuple[Header, list[Line]]:
    """The lines behind the header; raises BadRules."""
    first, *rest = _text(packed).rstrip("\n").split("\n")
    kind, version, _, json = _fields(first)
    if (kind, version) != (Kind.HEADER, VERSION):
        raise BadRules(f"The rules are of format {version[:20]!r}, not {VERSION}.")
    try:
        header = msgspec.json.decode(json, type=Header)
    except msgspec.MsgspecError as error:
        raise BadRules(f"The header of the rules does not read: {error}.") from error
    lines = [_line(line) for line in rest]
    if len(lines) != sum(header.shown.values()):
        raise BadRules(f"The rules have {len(lines)} lines, and should have {sum(header.shown.values())}.")
    return header, lines


def _packed(lines: list[Line], count: int) -> str:
    header = Header(shown=_counts(lines[:count]), left_out=_counts(lines[count:]))
    first = Line(Kind.HEADER, VERSION, (), msgspec.json.encode(header).decode())
    text = "".join(f"{line}\n" for line in (first, *lines[:count]))
    packer = zlib.compressobj(9, wbits=_GZIP)
    return base64.b64encode(packer.compress(text.encode()) + packer.flush()).decode()


_GZIP: Final = 31
"""zlib's largest window, with the header of gzip."""


def _counts(lines: list[Line]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.kind] = counts.get(line.kind, 0) + 1
    return counts


def _text(packed: str) -> str:
    try:
        unpacker = zlib.decompressobj(wbits=_GZIP)
        text = unpacker.decompress(base64.b64decode(packed, validate=True), MOST_TEXT_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise BadRules(f"The rules are no gzip in base64: {error}.") from error
    if not unpacker.eof:
        raise BadRules("The rules are cut off.")
    return text.decode(errors="replace")


def _line(text: str) -> Line:
    kind, key, names, json = _fields(text)
    try:
        return Line(Kind(kind), _plain(key), tuple(names.split(",")) if names else (), json)
    except ValueError as error:
        raise BadRules(f"The rules have a line of the unknown kind {kind[:40]!r}.") from error


def _plain(key: str) -> str:
    """Owners may have any name: it stands there as between the quotes of a JSON string."""
    try:
        return msgspec.json.decode(f'"{key}"', type=str)
    except msgspec.MsgspecError:
        return key


def _fields(text: str) -> tuple[str, str, str, str]:
    fields = text.split("\t", 3)
    if len(fields) != 4:
        raise BadRules(f"The rules have a line that is none: {text[:40]!r}.")
    return fields[0], fields[1], fields[2], fields[3]

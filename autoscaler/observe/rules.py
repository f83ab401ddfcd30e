"""A server's answer to the verb `rules` -> `SchedulingRules`, and what is kept of it.

Only what is no answer at all is refused. An owner whose lines do not read is named in `malformed`, and unknown.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from autoscaler.model.rules import (
    Budget,
    Labels,
    MissingClaim,
    NodeSpec,
    OwnerRules,
    PodRules,
    SchedulingRules,
    WaitingWord,
)
from autoscaler.observe.kubernetes import api, storage_api
from autoscaler.observe.kubernetes.nodes import budget, node_spec
from autoscaler.observe.kubernetes.pods import daemon_rules, pod_rules, requests, template_pod
from autoscaler.observe.kubernetes.selectors import sorted_labels
from autoscaler.observe.kubernetes.storage import Storage
from autoscaler.observe.rules_text import OWN_NAME, BadRules, Kind, Line, Word, unpack

__all__ = ["BadRules", "merged", "pack_kept", "parse_rules", "unpack_kept"]

KEPT_S: Final = 86_400
"""Rules of an owner that no answer shows any more (a CronJob's between two runs) are kept for so long."""
KEPT_BYTES: Final = 350_000
"""Of the kept record: a DynamoDB item has 400 KB at most."""

T = TypeVar("T")

_NAMED: Final = {
    Kind.WAITING: "waiting",
    Kind.DAEMON: "daemons",
    Kind.BUDGET: "budgets",
    Kind.NAMESPACE: "namespaces",
    Kind.NODE: "nodes",
}


def parse_rules(packed: str, *, answered_at_s: int) -> SchedulingRules:
    """What a server told. Raises BadRules with one sentence for what is no such answer."""
    header, lines = unpack(packed)
    reader = _Reader(answered_at_s)
    by_kind: dict[Kind, list[Line]] = {kind: [] for kind in Kind}
    for line in lines:
        by_kind[line.kind].append(line)
    for line in by_kind[Kind.UNREADABLE]:
        reader.malformed.append((line.key, line.json[:_WHY_CHARS]))
    reader.read_storage(by_kind)
    # Read in this order, which is how `malformed` names them.
    owners = reader.each(by_kind[Kind.OWNER], reader.owner)
    daemons = reader.each(by_kind[Kind.DAEMON], reader.daemon)
    nodes = [node for group in reader.each(by_kind[Kind.NODE], _nodes) for node in group]
    unknown = {key for key, _ in reader.malformed}
    return SchedulingRules(
        answered_at_s=answered_at_s,
        owners=tuple(owner for owner in owners if owner.owner not in unknown),
        daemons=tuple(daemons),
        nodes=tuple(sorted(nodes, key=lambda node: node.name)),
        namespaces=tuple(reader.each(by_kind[Kind.NAMESPACE], _namespace)),
        budgets=tuple(reader.each(by_kind[Kind.BUDGET], _budget)),
        waiting=tuple(reader.each(by_kind[Kind.WAITING], _word)),
        malformed=tuple(reader.malformed),
        left_out=header.left_out.get(Kind.OWNER, 0) + header.left_out.get(Kind.UNREADABLE, 0),
        incomplete=tuple(name for kind, name in _NAMED.items() if header.left_out.get(kind)),
    )


_WHY_CHARS: Final = 200


class _Reader:
    """Reads lines, and remembers those that do not read."""

    def __init__(self, answered_at_s: int) -> None:
        self._answered_at_s = answered_at_s
        self._storage = Storage()
        self._bad_claims: set[tuple[str, str]] = set()
        self.malformed: list[tuple[str, str]] = []

    def each(self, lines: Iterable[Line], read: Callable[[Line], T]) -> list[T]:
        """What could be read; the rest goes to `malformed`."""
        found = []
        for line in lines:
            try:
                found.append(read(line))
            except (ValueError, KeyError, msgspec.MsgspecError) as error:
                self.malformed.append((_title(line), _why(error)))
        return found

    def read_storage(self, by_kind: dict[Kind, list[Line]]) -> None:
        read = {kind: dict(self.each(by_kind[kind], _stored)) for kind in _STORAGE}
        claims = {_pair(key): found for key, found in read[Kind.CLAIM].items()}
        self._storage = Storage(claims, read[Kind.VOLUME], read[Kind.CLASS])
        self._bad_claims = {_pair(line.key) for line in by_kind[Kind.CLAIM]} - set(claims)

    def owner(self, line: Line) -> OwnerRules:
        pod = _decode(line, api.Pod)
        rules = pod_rules(pod, self._storage, namespace=_namespace_of(line.key), bound=True)
        return self._of_owner(line, pod, rules)

    def daemon(self, line: Line) -> OwnerRules:
        template = _decode(line, api.Pod)
        rules = daemon_rules(template, self._storage, namespace=_namespace_of(line.key))
        return self._of_owner(line, template_pod(template), rules)

    def _of_owner(self, line: Line, pod: api.Pod, rules: PodRules) -> OwnerRules:
        for claim in rules.claims:
            if isinstance(claim, MissingClaim) and (rules.namespace, claim.name) in self._bad_claims:
                raise ValueError(f"its claim {claim.name} does not read")
        # With what is not shown at all as 0: nothing shown would look like nothing to say.
        shown = tuple(sorted(({name: 0 for name, _ in rules.requests} | dict(requests(pod, pod_level=False))).items()))
        return OwnerRules(
            owner=line.key,
            rules=rules,
            pods=line.names,
            shown=() if shown == rules.requests else shown,
            seen_at_s=self._answered_at_s,
        )


_STORAGE: Final[dict[Kind, Any]] = {
    Kind.CLAIM: storage_api.PersistentVolumeClaim,
    Kind.VOLUME: storage_api.PersistentVolume,
    Kind.CLASS: storage_api.StorageClass,
}


def _stored(line: Line) -> tuple[str, Any]:
    return line.key, _decode(line, _STORAGE[line.kind])


def _decode(line: Line, object_type: type[T]) -> T:
    return msgspec.json.decode(line.json, type=object_type)


def _pair(key: str) -> tuple[str, str]:
    namespace, _, name = key.partition("/")
    return namespace, name


def _namespace_of(key: str) -> str:
    return key.partition("/")[0]


def _title(line: Line) -> str:
    """An owner by its key, as everywhere; anything else with its kind."""
    if line.kind in (Kind.OWNER, Kind.DAEMON):
        return line.key
    return f"{line.kind} {line.key or ' '.join(line.names[:3])}"


def _why(error: Exception) -> str:
    return str(error)[:_WHY_CHARS] or type(error).__name__


def _nodes(line: Line) -> list[NodeSpec]:
    """One for each name."""
    alike = node_spec(_decode(line, api.Node))

    def labels(name: str) -> Labels:
        return tuple((key, name if value == OWN_NAME else value) for key, value in alike.labels)

    return [msgspec.structs.replace(alike, name=name, labels=labels(name)) for name in line.names]


def _namespace(line: Line) -> tuple[str, Labels]:
    return line.key, sorted_labels(_decode(line, dict[str, str]))


def _budget(line: Line) -> Budget:
    namespace, name = _pair(line.key)
    return msgspec.structs.replace(budget(_decode(line, api.PodDisruptionBudget)), namespace=namespace, name=name)


def _word(line: Line) -> WaitingWord:
    word = _decode(line, Word)
    return WaitingWord(pod=line.key, nominated_node=word.nominated_node_name, message=word.message)


# ----------------------------------------------------------------------------------------------------------------- kept


def merged(kept: SchedulingRules | None, fresh: SchedulingRules) -> SchedulingRules:
    """The fresh answer, and of the kept one the owners of which it tells nothing, for a day after they were seen.

    An owner of which it tells anything is as it tells: what was kept of it may be of an older revision, and what could
    not be read is unknown, whatever was known before.
    """
    if kept is None:
        return fresh
    told = {known.owner for known in fresh.owners} | {owner for owner, _ in fresh.malformed}
    oldest_s = fresh.answered_at_s - KEPT_S
    older = (known for known in kept.owners if known.owner not in told and known.seen_at_s >= oldest_s)
    return msgspec.structs.replace(fresh, owners=(*fresh.owners, *older))


def pack_kept(rules: SchedulingRules) -> bytes:
    """At most `KEPT_BYTES`: the owners that were seen longest ago fall out first, and are unknown again."""
    packed = _packed(rules)
    owners = sorted(rules.owners, key=lambda known: -known.seen_at_s)
    while len(packed) > KEPT_BYTES and owners:
        # A little more than the excess goes at once: how well the rest packs is known only afterwards.
        owners = owners[: min(len(owners) - 1, len(owners) * KEPT_BYTES * 9 // (len(packed) * 10))]
        packed = _packed(msgspec.structs.replace(rules, owners=tuple(owners)))
    if len(packed) > KEPT_BYTES:
        nothing = SchedulingRules(answered_at_s=rules.answered_at_s, incomplete=tuple(_NAMED.values()))
        packed = _packed(nothing)
    return packed


@lru_cache(maxsize=2)
def unpack_kept(packed: bytes) -> SchedulingRules:
    """Raises BadRules for a record that does not read, of another version for example: it is asked for again.

    Rules stay as they are for hours: whoever looks again has them at hand.
    """
    try:
        return msgspec.json.decode(gzip.decompress(packed), type=SchedulingRules)
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as error:
        raise BadRules(f"The kept rules do not read: {error}.") from error


def _packed(rules: SchedulingRules) -> bytes:
    return gzip.compress(msgspec.json.encode(rules), compresslevel=6, mtime=0)

"""Reads the core's queries: which question a text is, and which Nodes, owners or signals it names.

The text is compared with what the builders of `observe/query.py` give, byte by byte: a query that changed cannot pass a
test by being answered as if it had not.
"""

import re
from typing import Final

import msgspec

from autoscaler.observe.history import Point, history_query
from autoscaler.observe.query import (
    BARE,
    NAMED_AT_MOST,
    about_query,
    moving_query,
    places_query,
    rooms_query,
    sight_query,
)
from autoscaler.observe.signals import signals_query
from autoscaler.policy import Policy

_NODES: Final = re.compile(r'node=~"([^"]*)",node!=""')
_SIGNAL: Final = re.compile(r'"name", "([a-z0-9_]+)", "", ""\)')
_POINT: Final = re.compile(
    r'\[\d+s\](?: offset (\d+)s)?\)\), "family", "demand", "", ""\), "days", "(\d+)", "", ""\), "slot", "(-?\d+)"'
)
_KEPT: Final = 256
"""Texts that are remembered: the soak asks the same ones again and again."""


class Sight(msgspec.Struct, frozen=True):
    """What each look asks; `with_owners`: and when the last owner of pods came; `with_versions`: and of kubelets."""

    with_owners: bool = False
    with_versions: bool = False


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """What is free on each Node."""

    daemon_nodes: tuple[str, ...]
    with_init: bool
    with_overhead: bool


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """The single pods of these Nodes."""

    nodes: tuple[str, ...]


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pods of these owners are. None: whatever they are called; empty: none is asked for."""

    namespaces: tuple[str, ...] | None
    owners: tuple[str, ...] | None
    """Names of owners, whatever their kind."""
    pods: tuple[str, ...] | None
    """Names of pods without an owner."""


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """These custom signals of the policy."""

    names: tuple[str, ...]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers were asked for at these times."""

    points: tuple[Point, ...]


class About(msgspec.Struct, frozen=True):
    """Which rules record and which versions run."""


Question = Sight | Rooms | Moving | Places | Signals | History | About


class Reader:
    """Knows the queries of one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known = self._sights()

    def _sights(self) -> dict[str, Question]:
        versions = "k3s_version" in self._policy.rotation.drift
        return {
            sight_query(self._policy, with_owners=owners): Sight(with_owners=owners, with_versions=versions)
            for owners in (False, True)
        }

    def read(self, promql: str) -> Question:
        """The question that the text is. Raises ValueError for any other text."""
        question = self._known.get(promql)
        if question is None:
            question = self._recognise(promql)
            if len(self._known) >= _KEPT:
                self._known = self._sights()
            self._known[promql] = question
        return question

    def _recognise(self, promql: str) -> Question:
        asked = tuple(Point(int(days), int(slot), int(offset or 0)) for offset, days, slot in _POINT.findall(promql))
        if asked and promql == history_query(self._policy, asked):
            return History(points=asked)
        signals = tuple(dict.fromkeys(_SIGNAL.findall(promql)))
        if signals and promql == signals_query(self._policy, signals):
            return Signals(names=signals)
        if promql == about_query(self._policy):
            return About()
        match = _NODES.search(promql)
        if match is not None:
            # As `_on_nodes` writes them: a regular expression inside a PromQL string.
            names = tuple(name.replace("\\\\.", ".") for name in match[1].split("|")) if match[1] else ()
            if promql == moving_query(self._policy, names):
                return Moving(nodes=names)
            for with_init in (False, True):
                for with_overhead in (False, True):
                    if promql == rooms_query(self._policy, names, with_init=with_init, with_overhead=with_overhead):
                        return Rooms(daemon_nodes=names, with_init=with_init, with_overhead=with_overhead)
        places = Places(
            namespaces=_matched(promql, "namespace", any_kind=True),
            owners=_matched(promql, "created_by_name"),
            pods=_matched(promql, "pod"),
        )
        if promql == places_query(self._policy, _owners(places)):
            return places
        raise ValueError(f"the simulated Prometheus knows the queries of its policy and not this one: {promql}")


def _matched(promql: str, label: str, *, any_kind: bool = False) -> tuple[str, ...] | None:
    """The names that the selectors of `places_query` match by this label, which stands last but for the namespace's."""
    kind = '!?=""' if any_kind else '=""' if label == "pod" else '!=""'
    selector = re.search(rf'kube_pod_info{{[^{{}}]*?created_by_kind{kind}((?:[^{{}}"]|"(?:\\.|[^"\\])*")*)}}', promql)
    if selector is None:
        return ()
    match = re.search(rf'\b{label}=~"((?:\\.|[^"\\])*)"', selector[1])
    if match is None:
        return None
    pattern = re.sub(r"\\(.)", r"\1", match[1])
    return tuple(re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"(?:\\.|[^|\\])+", pattern))


def _owners(places: Places) -> tuple[str, ...]:
    """Owners for which the same text is written: of too many, none is named in it."""
    many = tuple(f"n{number}" for number in range(NAMED_AT_MOST + 1))
    namespaces = many if places.namespaces is None else places.namespaces or ("n",)
    owners = many if places.owners is None else places.owners
    pods = many if places.pods is None else places.pods
    found = [(kind, name) for kind, names in (("Any", owners), (BARE, pods)) for name in names]
    return (
        *(f"{namespace}/{kind}/{name}" for namespace in namespaces[:1] for kind, name in found),
        *(f"{namespace}/{kind}/{name}" for namespace in namespaces for kind, name in found[:1]),
    )

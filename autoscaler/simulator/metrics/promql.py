"""Reads the core's three queries: which question a text is, and which Nodes it names.

The text is compared with what the builders of `observe/query.py` give, byte by byte: a query that changed cannot pass a
test by being answered as if it had not.
"""

import re
from typing import Final

import msgspec

from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.policy import Policy

_NODES: Final = re.compile(r'node=~"([^"]*)",node!=""')
_KEPT: Final = 256
"""Texts that are remembered: the soak asks the same ones again and again."""


class Sight(msgspec.Struct, frozen=True):
    """What each look asks."""


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """What is free on each Node."""

    daemon_nodes: tuple[str, ...]
    with_init: bool
    with_overhead: bool


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """The single pods of these Nodes."""

    nodes: tuple[str, ...]


Question = Sight | Rooms | Moving


class Reader:
    """Knows the queries of one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[str, Question] = {sight_query(policy): Sight()}

    def read(self, promql: str) -> Question:
        """The question that the text is. Raises ValueError for any other text."""
        question = self._known.get(promql)
        if question is None:
            question = self._recognise(promql)
            if len(self._known) >= _KEPT:
                self._known = {sight_query(self._policy): Sight()}
            self._known[promql] = question
        return question

    def _recognise(self, promql: str) -> Question:
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
        raise ValueError(f"the simulated Prometheus knows the three queries of its policy and not this one: {promql}")

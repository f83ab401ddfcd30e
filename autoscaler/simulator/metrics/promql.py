"""Reads the core's one query: a selection of families, and windows over some of them.

It understands the form that `observe/query.py` writes and nothing else: what it does not understand it refuses, so that
a changed query cannot pass a test by being ignored.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

_SELECTOR: Final = re.compile(r'\{__name__=~"([^"]+)"\}')
_WINDOW: Final = re.compile(
    r"label_replace\(\s*(min_over_time|max_over_time|count_over_time)\(\s*"
    r"k3s_autoscaler:(\w+)\s*(?:\{([^}]*)\})?\s*\[(\w+)\]\s*\)\s*,"
    r'\s*"window"\s*,\s*"(\w+)"\s*,\s*""\s*,\s*""\s*\)'
)
_MATCHER: Final = re.compile(r'(\w+)="([^"]*)"')
_DURATION: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One operand over time; its samples carry the label `window`."""

    function: str
    family: str
    matchers: dict[str, str]
    seconds: int
    name: str


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A whole query."""

    names: tuple[str, ...]
    windows: tuple[Window, ...]

    def selects(self, family: str) -> bool:
        """Whether a selector matches the series; matchers are anchored, as Prometheus' are."""
        return _selected(self.names, family)


@lru_cache(maxsize=1024)
def _selected(patterns: tuple[str, ...], family: str) -> bool:
    return any(re.fullmatch(pattern, f"k3s_autoscaler:{family}") for pattern in patterns)


@lru_cache(maxsize=64)
def parse_query(promql: str) -> Query:
    """Parse the query. Raises ValueError for anything but selectors and windows joined by `or`."""
    windows = tuple(
        Window(
            function=match[1],
            family=match[2],
            matchers=dict(_MATCHER.findall(match[3] or "")),
            seconds=_duration(match[4]),
            name=match[5],
        )
        for match in _WINDOW.finditer(promql)
    )
    rest = _WINDOW.sub("#", promql)
    names = tuple(_SELECTOR.findall(rest))
    operands = re.split(r"\s+or\s+", _SELECTOR.sub("#", rest).strip())
    if not all(operand == "#" for operand in operands):
        raise ValueError(f"the simulated Prometheus does not know this part of the query: {' or '.join(operands)}")
    return Query(names=names, windows=windows)


def _duration(text: str) -> int:
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text} is not a duration")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)

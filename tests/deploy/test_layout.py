"""PromQL on lines: nothing but blanks changes, and nothing stands out."""

import re

import pytest

from autoscaler.deploy.layout import laid_out
from autoscaler.observe.promql import Raw

RAW = Raw({"cluster": "a  b, (c"})


def words(promql: str) -> list[str]:
    """Strings and single characters, without the blanks between them."""
    return re.findall(r'"(?:\\.|[^"\\])*"|\S', promql)


@pytest.mark.parametrize(
    ("promql", "lines"),
    [
        ("up", ["up"]),
        ("a or b", ["a or b"]),
        ("aaaaaaaaaa or bbbbbbbbbb", ["aaaaaaaaaa", "or bbbbbbbbbb"]),
        # What binds loosest is parted first.
        ("aaaaaaa and bbbbbbb or cccc", ["aaaaaaa and bbbbbbb", "or cccc"]),
        ("sum by (node) (aaaaaaaaaa)", ["sum by (node) (", "  aaaaaaaaaa", ")"]),
        ("clamp(aaaaaaaaaaaaaaa, 0, 1)", ["clamp(", "  aaaaaaaaaaaaaaa,", "  0, 1", ")"]),
        # A list of labels is no place to break at, nor is a string.
        ("on (namespace, pod, uid) a", ["on (namespace, pod, uid) a"]),
        ('{x="a or b, (c"} or {y="\\" or "}', ['{x="a or b, (c"}', 'or {y="\\" or "}']),
        # Alone and too long: it stays.
        ("aaaaaaaaaaaaaaaaaaaaaaaaa", ["aaaaaaaaaaaaaaaaaaaaaaaaa"]),
    ],
)
def test_where_a_line_is_broken(promql: str, lines: list[str]) -> None:
    assert laid_out(promql, width=20).split("\n") == lines


@pytest.mark.parametrize(
    "promql",
    [RAW.waiting, RAW.ready, RAW.local_volumes, RAW.node_utilisation(60, 15), RAW.workers_utilisation(unmeasured=1)],
)
@pytest.mark.parametrize("width", [1, 40, 104])
def test_nothing_but_blanks_changes(promql: str, width: int) -> None:
    assert words(laid_out(promql, width=width)) == words(promql)

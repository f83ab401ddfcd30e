"""Kubernetes' quantities."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.observe.quantities import BadQuantity, amount, amounts


@pytest.mark.parametrize(
    ("resource", "text", "value"),
    [
        ("cpu", "900m", 900),
        ("cpu", "1.5", 1500),
        ("cpu", "2", 2000),
        ("cpu", "0.1m", 1),
        ("cpu", "1k", 1_000_000),
        ("cpu", "500u", 1),
        ("memory", "3.5Gi", 3_758_096_384),
        ("memory", "524288Ki", 512 << 20),
        ("memory", "1e3", 1000),
        ("memory", "1E", 10**18),
        ("memory", "1.5", 2),
        ("memory", "100m", 1),
        ("memory", ".5Ki", 512),
        ("memory", "5.", 5),
        ("example.com/gpu", "3", 3),
        ("memory", "-1Ki", -1024),
    ],
)
def test_in_whole_units_rounded_up(resource: str, text: str, value: int) -> None:
    assert amount(resource, text) == value


@pytest.mark.parametrize(
    "text", ["", "much", "1 Gi", "1gi", "1KiB", "1e", "0x10", "1_000", "٤", "NaN", "Infinity", "--1"]
)
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(BadQuantity, match="no quantity of memory"):
        amount("memory", text)


def test_all_of_them_sorted() -> None:
    assert amounts({"memory": "1Ki", "cpu": "1"}) == (("cpu", 1000), ("memory", 1024))


@given(text=st.text(max_size=40))
def test_any_text_is_a_number_or_is_named(text: str) -> None:
    with contextlib.suppress(BadQuantity):
        assert isinstance(amount("memory", text), int)

"""A strategy that is made once is the right one."""

from hypothesis import find

from tests.decide.drawing import among


def test_equal_values_of_other_types_are_other_strategies() -> None:
    assert among(0, 1) is among(0, 1)
    kinds = (among(0, 0), among(False, False), among(0.0, 0.0))
    assert [type(find(strategy, lambda _: True)) for strategy in kinds] == [int, bool, float]

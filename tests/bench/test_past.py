"""The past that a forecast is played with is the day that is played."""

import pytest

from autoscaler.backtest.past import days_alike
from autoscaler.backtest.workloads import WORKLOADS

REQUESTED = ("requests", "cpu")
DAY_S = 86_400


@pytest.mark.parametrize("days", [0, 1, 7])
def test_each_earlier_day_asks_for_the_same(days: int) -> None:
    plan = WORKLOADS["ecommerce-day"]()
    past = days_alike(plan)
    replicas = plan.base[0].replicas
    for change in plan.changes:
        replicas = change.replicas
        if change.at_s % 3600 == 0:
            told = past(plan.begin_s + change.at_s - days * DAY_S)[REQUESTED]
            assert told == pytest.approx(0.25 * replicas)


def test_jobs_count_while_they_run() -> None:
    plan = WORKLOADS["batch-burst"]()
    past, first = days_alike(plan), plan.jobs[0]
    before, during, after = (past(plan.begin_s + first.at_s + seconds - DAY_S)[REQUESTED] for seconds in (-1, 1, 601))
    assert (during - before, during - after) == pytest.approx((11, 11), abs=1.5)


def test_of_hours_that_are_not_played_nothing_is_known() -> None:
    plan = WORKLOADS["sawtooth"]()
    assert days_alike(plan)(plan.begin_s + plan.length_s + 60) == {}

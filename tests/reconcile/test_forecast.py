"""A forecast through the whole loop: there before the sale, told in shadow, in nobody's way where it knows nothing."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from autoscaler.forecast import REFRESH_S, Forecast
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.ports import MetricsUnavailable
from autoscaler.simulator.cluster import START_S, SimCluster
from autoscaler.simulator.metrics.past import Past, requests
from tests.reconcile.conftest import deployment

NOON_S: Final = START_S + 4 * 3600
"""The simulator's clock begins on a Friday at 08:00 UTC."""
CALM: Final = ScaleDown(window_s=300, cool_down_s=120, min_age_s=120)
ON: Final = Forecast(mode="on", days=4, weeks=1)
EACH_CORES: Final = 1.9
DAY_S: Final = 86_400


def sale_each_noon(at_s: float) -> float | None:
    """Two workers' worth, and five from twelve to one; also on the day that is played."""
    hour = datetime.fromtimestamp(at_s, UTC).hour
    return 4.8 * EACH_CORES if hour == 12 else 1.5 * EACH_CORES


def shop(forecast: Forecast = ON, past: Past | None = None, *, begins_s: float = NOON_S - 3600) -> SimCluster:
    policy = Policy(version=1, workers=Workers(min=2, max=10), scale_down=CALM, forecast=forecast)
    cluster = SimCluster(policy, now_s=begins_s)
    cluster.recorder.past = past if past is not None else requests(sale_each_noon)
    return cluster


def sweep_until(cluster: SimCluster, at_s: float) -> list[dict[str, Any]]:
    return cluster.sweep_for(at_s - cluster.now_s)


def queries(documents: list[dict[str, Any]]) -> int:
    return sum(document["calls"]["prometheus"] for document in documents)


@pytest.mark.parametrize("late_s", [0, 50, 119])
def test_what_every_noon_asks_for_is_ready_at_noon_and_not_much_earlier(late_s: int) -> None:
    cluster = shop()
    cluster.run(late_s)
    cluster.sweep()
    sweep_until(cluster, NOON_S - 15 * 60)
    assert len(cluster.workers()) == 2
    documents = sweep_until(cluster, NOON_S)
    assert len(cluster.ready_workers()) == 5
    (launch,) = [document for document in documents if document["action"] == "scale_up"]
    assert launch["reason"] == "forecast"
    assert launch["message"] == (
        "Launching 3 workers: 5 earlier days ask for 5 workers at 12:00 (UTC); 2 are needed now."
    )


def test_once_joins_were_seen_it_comes_no_earlier_than_they_take() -> None:
    cluster = shop()
    cluster.apply(deployment("web", 6))
    cluster.run(15)
    cluster.sweep()
    cluster.sweep_for(120, every_s=15)
    assert len(cluster.ready_workers()) == 3
    longest_s = max(cluster.state.join_times_s)
    sweep_until(cluster, NOON_S - longest_s - 121)
    assert len(cluster.workers()) == 3
    sweep_until(cluster, NOON_S)
    assert len(cluster.ready_workers()) == 5


def test_nobody_leaves_while_it_is_wanted_and_then_they_do() -> None:
    cluster = shop()
    documents = sweep_until(cluster, NOON_S + 3500)
    assert [document["action"] for document in documents].count("scale_down") == 0
    assert len(cluster.ready_workers()) == 5, "the workers are idle, and the forecast holds them"
    sweep_until(cluster, NOON_S + 2 * 3600)
    assert len(cluster.ready_workers()) == 2


def test_who_is_wanted_back_in_half_an_hour_stays() -> None:
    cluster = shop(begins_s=NOON_S - 1500)
    for number in range(3):
        cluster.add_worker(number)
    cluster.run(400)
    documents = sweep_until(cluster, NOON_S + 600)
    assert {document["action"] for document in documents} == {"none"}
    assert len(cluster.ready_workers()) == 5


def test_shadow_tells_and_does_nothing() -> None:
    shadow = shop(Forecast(mode="shadow", days=4, weeks=1))
    documents = sweep_until(shadow, NOON_S + 1800)
    assert {document["action"] for document in documents} == {"none"}
    assert len(shadow.workers()) == 2
    before_noon = [d["forecast"] for d in documents if d["forecast"]["wants"] == 5]
    assert before_noon
    assert before_noon[0]["mode"] == "shadow"


def test_it_tells_how_right_it_was() -> None:
    """The played day has no sale: from noon on the forecast is three workers off."""

    def quiet_today(at_s: float) -> float | None:
        return 1.5 * EACH_CORES if at_s >= NOON_S - DAY_S / 2 else sale_each_noon(at_s)

    cluster = shop(Forecast(mode="shadow", days=4, weeks=1), requests(quiet_today))
    documents = sweep_until(cluster, NOON_S)
    assert documents[-1]["forecast"]["error_workers"] == 0.0
    told = sweep_until(cluster, NOON_S + 1800)[-1]["forecast"]
    assert told["compared"] >= 8
    assert 0.5 < told["error_workers"] < 3
    assert told["error_percent"] == pytest.approx(50 * told["error_workers"], abs=1)


def test_with_it_off_a_calm_look_makes_three_calls_and_no_write() -> None:
    cluster = shop(Forecast())
    cluster.sweep()
    version = cluster.item.version
    document = cluster.sweep()
    assert document["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert (document["forecast"], cluster.item.version) == (None, version)


def test_with_it_on_one_look_in_ten_minutes_asks_once_more_and_writes_once() -> None:
    cluster = shop()
    cluster.sweep()
    version = cluster.item.version
    calm = cluster.sweep_for(REFRESH_S - 120)
    assert queries(calm) == len(calm)
    assert cluster.item.version == version
    document = cluster.sweep_for(120)[-1]
    assert document["action"] == "none"
    assert document["calls"] == {"dynamodb": 2, "ec2": 1, "prometheus": 2}
    assert cluster.item.version == version + 1


@pytest.mark.parametrize(
    ("past", "problem"),
    [
        pytest.param(requests(lambda _: None), "is not recorded: load the present rules", id="never recorded"),
        pytest.param(
            requests(lambda at_s: 5.0 if at_s > NOON_S - DAY_S / 2 else None),
            "there is a history of 0 of the days",
            id="since today",
        ),
        pytest.param(requests(lambda _: float("nan")), "is not recorded", id="NaN"),
        pytest.param(requests(lambda _: -7.0), "is not recorded", id="below zero"),
        pytest.param(lambda _: {("nonsense", "cpu"): 1e9}, "is not recorded", id="something else"),
    ],
)
def test_without_a_history_everything_goes_on(past: Past, problem: str) -> None:
    cluster = shop(past=past)
    documents = sweep_until(cluster, NOON_S + 600)
    assert {document["action"] for document in documents} == {"none"}
    assert all(problem in document["forecast"]["problem"] for document in documents)
    assert queries(documents) <= len(documents) * (1 + 120 / REFRESH_S) + 1
    cluster.apply(deployment("web", 8))
    cluster.run(15)
    assert cluster.sweep()["reason"] == "pods_unschedulable"


def test_absurd_history_stays_within_the_cap_and_max() -> None:
    absurd = requests(lambda at_s: 1e17 if at_s < NOON_S - DAY_S / 2 else 3.0)
    cluster = shop(Forecast(mode="on", days=4, weeks=1, max_extra=2), absurd)
    documents = sweep_until(cluster, NOON_S)
    assert len(cluster.workers()) == 4
    assert "refused" not in {document["action"] for document in documents}


def test_a_question_that_fails_is_told_and_asked_again_after_ten_minutes() -> None:
    cluster = shop()
    good = cluster.recorder.past

    def broken(_: float) -> dict[tuple[str, str], float]:
        raise MetricsUnavailable("refused the query: execution: too many samples")

    cluster.recorder.past = broken
    document = cluster.sweep()
    assert document["forecast"]["problem"] == "refused the query: execution: too many samples"
    assert document["metrics_status"] == "ok"
    cluster.recorder.past = good
    for again in cluster.sweep_for(REFRESH_S - 120):
        assert again["calls"]["prometheus"] == 1
        assert "too many samples" in again["forecast"]["problem"]
    assert cluster.sweep_for(120)[-1]["forecast"]["problem"] == ""


def test_while_prometheus_is_down_it_is_not_asked_for() -> None:
    cluster = shop()
    cluster.metric_faults.down = True
    document = cluster.sweep()
    assert document["reason"] == "metrics_unavailable"
    assert document["calls"]["prometheus"] == 1
    assert cluster.state.forecast is None


def test_it_is_not_lost_with_a_launch() -> None:
    """The look that makes it also acts: it is kept with the end of the lease."""
    cluster = shop()
    cluster.apply(deployment("web", 8))
    cluster.run(15)
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert cluster.state.forecast is not None
    assert cluster.state.forecast.earlier_days == 5

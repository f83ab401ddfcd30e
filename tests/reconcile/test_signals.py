"""Custom signals through the whole loop: one that is bad costs nobody else anything, and unknown is not low."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from autoscaler.model import Mode, ModeSetting, SignalFailure
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.ports import StoreUnavailable
from autoscaler.signals import CustomSignal
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.signals import Source, constant, failing, refused, slow
from autoscaler.state.modes import set_mode
from autoscaler.state.signals import ASIDE_S
from tests.passed_over import why

CALM: Final = ScaleDown(window_s=300, cool_down_s=120, min_age_s=120)
QUEUE: Final = CustomSignal(name="orders_queue", query="sum(orders_queued)", per_worker_target=200)
OTHER: Final = CustomSignal(name="age", query="max(age_seconds)", above=30, below=10)
MANY: Final = tuple(CustomSignal(name=f"s{n}", query=f"sum(s{n})", per_worker_target=1) for n in range(10))


def shop(*signals: CustomSignal, **sources: Source) -> SimCluster:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=10), scale_down=CALM, signals=signals))
    cluster.recorder.signals.update(sources)
    return cluster


def reasons(document: dict[str, Any]) -> list[str]:
    return [why(row) for row in document["blocked"] if row["subject"].startswith("signals.")]


def queries(cluster: SimCluster) -> int:
    cluster.wires.log.clear()
    cluster.sweep()
    return cluster.wires.log.count(("prometheus", "query"))


@pytest.mark.parametrize("signals", [(QUEUE,), (QUEUE, OTHER), MANY], ids=["one", "two", "ten"])
def test_a_calm_look_asks_once_more_and_writes_nothing(signals: tuple[CustomSignal, ...]) -> None:
    cluster = shop(*signals, **{signal.name: constant(0.0) for signal in signals})
    cluster.sweep()
    version = cluster.item.version
    document = cluster.sweep()
    assert document["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 2}
    assert cluster.item.version == version
    assert document["action"] == "none"


def test_a_queue_grows_the_fleet_and_gives_it_back() -> None:
    queued = {"orders": 1000.0}
    cluster = shop(QUEUE, orders_queue=lambda _: [queued["orders"]])
    document = cluster.sweep()
    assert document["message"] == "Launching 3 workers: orders_queue asks for 5 workers: 1,000 / 200 each."
    cluster.sweep_for(600)
    assert len(cluster.ready_workers()) == 5
    queued["orders"] = 0.0
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 2


def test_what_it_wants_stays_though_the_workers_are_idle() -> None:
    cluster = shop(QUEUE, orders_queue=constant(750.0))
    documents = cluster.sweep_for(3600)
    assert len(cluster.ready_workers()) == 4
    assert [document["action"] for document in documents].count("scale_up") == 1
    assert [document["action"] for document in documents].count("scale_down") == 0


@pytest.mark.parametrize("every_s", [120, 30])
def test_a_threshold_that_stays_exceeded_launches_one_step_a_window(every_s: int) -> None:
    slow = CustomSignal(name="age", query="max(age_seconds)", above=30, window_s=900)
    cluster = shop(slow, age=constant(100.0))
    documents = cluster.sweep_for(3600, every_s=every_s)
    launched = [document["message"] for document in documents if document["action"] == "scale_up"]
    assert 2 <= len(launched) <= 3600 // slow.window_s
    assert set(launched) == {"Launching 1 worker: age is 100 or more, above 30 for all of the last 900 s."}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        pytest.param(lambda _: [], "signal_unknown: the query has no answer now", id="absent"),
        pytest.param(
            constant(float("nan")), "signal_unknown: the query gives NaN, which is no finite number", id="NaN"
        ),
        pytest.param(constant(1e4, 2e4), "signal_unknown: the query gives 2 rows and may give one", id="several rows"),
    ],
)
def test_unknown_neither_grows_nor_lets_anybody_go(source: Source, told: str) -> None:
    cluster = shop(QUEUE, orders_queue=constant(1000.0))
    cluster.sweep_for(600)
    cluster.recorder.signals["orders_queue"] = source
    documents = cluster.sweep_for(3600)
    assert len(cluster.ready_workers()) == 5
    assert {document["action"] for document in documents} == {"none"}
    assert reasons(documents[-1]) == [told]
    assert len(cluster.state.signals_aside) == 0
    cluster.recorder.signals["orders_queue"] = constant(0.0)
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 2


def test_a_gap_in_the_window_is_unknown_for_as_long() -> None:
    cluster = shop(QUEUE, orders_queue=constant(1000.0))
    cluster.sweep_for(600)
    gone_s = cluster.now_s
    cluster.recorder.signals["orders_queue"] = lambda at_s: [] if gone_s <= at_s < gone_s + 60 else [0.0]
    cluster.run(90)
    document = cluster.sweep()
    assert reasons(document) == ["signal_unknown: the query had no answer for all of the last 60 s"]
    documents = cluster.sweep_for(120)
    assert reasons(documents[-1]) == ["signal_unknown: the query had no answer for all of the last 300 s"]
    assert len(cluster.ready_workers()) == 5
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 2


@pytest.mark.parametrize("bad", [refused, failing, slow])
@pytest.mark.parametrize("order", [(OTHER, QUEUE), (QUEUE, OTHER)], ids=["first", "last"])
def test_a_bad_one_beside_a_good_one_is_told_once_and_the_good_one_works(
    bad: Source, order: Sequence[CustomSignal]
) -> None:
    cluster = shop(*order, orders_queue=constant(1000.0), age=bad)
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert document["reason"] == "custom_signal"
    (event,) = [event for event in document["done"] if event.startswith("the signal age is set aside: ")]
    documents = cluster.sweep_for(2 * ASIDE_S)
    assert len(cluster.ready_workers()) == 5
    assert all(event not in later["done"] for later in documents)
    assert sum("age" in str(told["done"]) for told in cluster.told) == 1
    code = "signal_refused" if bad is refused else "signal_unknown"
    assert all(reasons(later)[0].startswith(code) for later in documents)


@pytest.mark.parametrize("bad", [refused, failing, slow])
def test_in_a_calm_look_it_is_news_by_itself(bad: Source) -> None:
    cluster = shop(QUEUE, OTHER, orders_queue=constant(0.0), age=bad)
    document = cluster.sweep()
    assert document["action"] == "none"
    assert document["message"].startswith("The signal age is set aside: ")
    assert [told["decision_id"] for told in cluster.told] == [document["decision_id"]]
    assert [told["decision_id"] for told in cluster.decisions] == [document["decision_id"]]
    version = cluster.item.version
    assert cluster.sweep()["message"].startswith("Nothing to do")
    assert (len(cluster.told), cluster.item.version) == (1, version)


def test_who_dies_before_it_is_noted_tells_it_once_more() -> None:
    cluster = shop(QUEUE, orders_queue=refused)
    cluster.fail("dynamodb", "save")
    with pytest.raises(StoreUnavailable):
        cluster.sweep()
    assert not cluster.state.signals_aside
    cluster.sweep()
    cluster.sweep()
    assert len(cluster.told) == 2


def test_who_observes_hears_of_it_once_too() -> None:
    cluster = shop(QUEUE, orders_queue=refused)
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=Mode.OBSERVE, set_at_s=int(cluster.now_s))), version)
    for _ in range(3):
        cluster.sweep()
    assert len(cluster.told) == 1


def test_while_it_is_set_aside_a_look_costs_no_more_than_with_the_good_ones() -> None:
    cluster = shop(QUEUE, OTHER, orders_queue=constant(0.0), age=refused)
    assert queries(cluster) == 4, "the look, both together, and each alone"
    assert queries(cluster) == 2
    cluster.run(ASIDE_S)
    assert queries(cluster) == 3, "the one that was set aside is asked alone: it cannot spoil the others"
    assert queries(cluster) == 2


def test_one_that_is_mended_works_again_and_is_news_when_it_breaks_anew() -> None:
    cluster = shop(QUEUE, orders_queue=failing)
    cluster.sweep()
    cluster.recorder.signals["orders_queue"] = constant(1000.0)
    cluster.sweep_for(2 * ASIDE_S)
    assert not cluster.state.signals_aside
    assert len(cluster.ready_workers()) == 5
    cluster.recorder.signals["orders_queue"] = failing
    cluster.sweep()
    (aside,) = cluster.state.signals_aside
    assert (aside.name, aside.failure) == ("orders_queue", SignalFailure.FAILED)
    assert "set aside" in str(cluster.told[-1]["done"])


def test_another_query_of_the_same_name_is_asked_at_once() -> None:
    cluster = shop(QUEUE, orders_queue=refused)
    cluster.sweep()
    mended = CustomSignal(name="orders_queue", query="sum(orders_waiting)", per_worker_target=200)
    later = SimCluster(Policy(version=1, workers=Workers(min=2, max=10), scale_down=CALM, signals=(mended,)))
    later.item.data, later.item.version = cluster.item.data, cluster.item.version
    later.recorder.signals["orders_queue"] = constant(0.0)
    later.sweep()
    assert not later.state.signals_aside


def test_one_that_is_no_query_keeps_nobody() -> None:
    """It disables itself: nothing rests on it, neither growth nor who stays."""
    cluster = shop(QUEUE, orders_queue=constant(1000.0))
    cluster.sweep_for(600)
    cluster.recorder.signals["orders_queue"] = refused
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 2


@pytest.mark.parametrize("bad", [failing, slow])
def test_one_that_fails_while_it_is_evaluated_keeps_what_there_is(bad: Source) -> None:
    cluster = shop(QUEUE, orders_queue=constant(1000.0))
    cluster.sweep_for(600)
    cluster.recorder.signals["orders_queue"] = bad
    cluster.sweep_for(1800)
    assert len(cluster.ready_workers()) == 5


def test_ten_slow_ones_leave_time_for_a_launch() -> None:
    cluster = shop(*MANY, **{signal.name: slow for signal in MANY})
    began_s = cluster.now_s
    cluster.sweep()
    assert cluster.now_s - began_s <= 30 - 15
    assert 0 < len(cluster.state.signals_aside) < 10
    unasked = [reason for reason in reasons(cluster.sweep()) if "nearly up" in reason]
    assert len(unasked) < 10


def test_without_prometheus_nothing_is_known_and_nothing_is_set_aside() -> None:
    cluster = shop(QUEUE, orders_queue=constant(1000.0))
    cluster.metric_faults.down = True
    assert cluster.sweep()["reason"] == "metrics_unavailable"
    assert not cluster.state.signals_aside

"""What custom signals ask for and keep, as tables: held values grow, the highest value keeps, unknown does neither."""

from typing import Any, Final

import msgspec
import pytest

from autoscaler.forecast import Forecast
from autoscaler.model import Action, Blocked, Decision, MetricsStatus, SeenSignal, SignalFailure, Snapshot, State
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.pools import WorkerPool
from autoscaler.signals import BUILT_IN, CustomSignal
from autoscaler.windows import Headroom
from tests.decide.builders import NOW_S, decided, full, launch, snapshot, waiting, worker

QUEUE: Final = CustomSignal(name="orders_queue", query="sum(orders_queued)", per_worker_target=200)
AGE: Final = CustomSignal(name="age", query="max(age_seconds)", above=30, below=10, step=2)
ABOVE: Final = CustomSignal(name="age", query="max(age_seconds)", above=30)
GUARD: Final = CustomSignal(name="busy", query="max(busy)", below=1)


def policy(*signals: CustomSignal, low: int = 1, high: int = 10, max_step: int | None = None) -> Policy:
    made = Policy(version=1, workers=Workers(min=low, max=high), signals=signals, scale_down=ScaleDown(when="fits"))
    return msgspec.structs.replace(made, scale_up=msgspec.structs.replace(made.scale_up, max_step=max_step))


def held(name: str, value: float | None, *, most: float | None = None, **more: Any) -> SeenSignal:
    """The same value all the time; `most` was higher once."""
    return SeenSignal(name=name, now=value, least=value, most=value if most is None else most, **more)


UNKNOWN: Final = SeenSignal(name="orders_queue", problem="the query has no answer now")


def look(*seen: SeenSignal, of: Policy, workers: int = 2, **more: Any) -> Decision:
    machines = [worker(number) for number in range(workers)]
    return judged(msgspec.structs.replace(snapshot(machines, **more), signals=seen), of)


def judged(seen: Snapshot, of: Policy, state: State | None = None) -> Decision:
    return decided(seen, state or State(), of)


@pytest.mark.parametrize(
    ("rule", "value", "wants"),
    [
        pytest.param(QUEUE, 0.0, 0, id="nothing queued"),
        pytest.param(QUEUE, 200.0, 1, id="a full worker"),
        pytest.param(QUEUE, 200.1, 2, id="a little more"),
        pytest.param(QUEUE, 1400.0, 7, id="many"),
        pytest.param(QUEUE, -5.0, 0, id="below zero"),
        pytest.param(QUEUE, 1e15, 1_000_000, id="out of all proportion"),
        pytest.param(
            CustomSignal(name="orders_queue", query="q", per_worker_target=1e-300), 1e15, 1_000_000, id="overflow"
        ),
        pytest.param(CustomSignal(name="orders_queue", query="q", per_worker_target=0.1), 0.3, 3, id="rounding"),
        pytest.param(AGE, 30.0, None, id="at the threshold"),
        pytest.param(AGE, 31.0, 4, id="above it: a step more than there is"),
        pytest.param(ABOVE, 31.0, 3, id="a step is one by default"),
        pytest.param(GUARD, 99.0, None, id="a guard never asks"),
    ],
)
def test_what_a_held_value_wants(rule: CustomSignal, value: float, wants: int | None) -> None:
    decision = look(held(rule.name, value), of=policy(rule))
    (signal,) = [signal for signal in decision.signals if signal.name == rule.name]
    assert (signal.value, signal.wants) == (value, wants)
    assert signal.threshold == (rule.per_worker_target if rule.per_worker_target is not None else rule.above)


def test_it_grows_and_says_so() -> None:
    decision = look(held("orders_queue", 1400.0), of=policy(QUEUE))
    assert (decision.action, decision.reason) == (Action.SCALE_UP, "custom_signal")
    assert decision.message == "Launching 5 workers: orders_queue asks for 7 workers: 1,400 / 200 each."
    assert decision.growth is not None
    assert decision.growth.count == 5


def test_a_threshold_says_so_too() -> None:
    decision = look(held("age", 42.0), of=policy(AGE))
    assert decision.message == "Launching 2 workers: age is 42 or more, above 30 for all of the last 60 s."


@pytest.mark.parametrize(
    ("rule", "state", "age_s", "wants"),
    [
        pytest.param(ABOVE, State(last_scale_up_s=NOW_S - 100, join_times_s=(600, 60)), 60, None, id="Ready for 40 s"),
        pytest.param(ABOVE, State(last_scale_up_s=NOW_S - 119, join_times_s=(60,)), 60, None, id="for 59 s"),
        pytest.param(ABOVE, State(last_scale_up_s=NOW_S - 120, join_times_s=(60,)), 60, 3, id="all through the window"),
        pytest.param(ABOVE, State(last_scale_up_s=NOW_S - 100, join_times_s=(60,)), 101, 3, id="no worker came of it"),
        pytest.param(ABOVE, State(join_times_s=(60,)), 60, 3, id="never grown"),
        pytest.param(AGE, State(launches=(launch(ids=[7]),)), 7_200, None, id="one of two is on its way"),
        pytest.param(
            QUEUE, State(last_scale_up_s=NOW_S - 100, join_times_s=(60,)), 60, 1, id="a target counts all workers"
        ),
    ],
)
def test_a_threshold_waits_a_window_for_what_was_launched_last(
    rule: CustomSignal, state: State, age_s: int, wants: int | None
) -> None:
    """Else one step follows the other, a join apart, whatever the window."""
    machines = [worker(1), worker(2, created_at_s=NOW_S - age_s)]
    seen = msgspec.structs.replace(snapshot(machines), signals=(held(rule.name, 31.0),))
    (signal,) = [one for one in judged(seen, policy(rule), state).signals if one.name == rule.name]
    assert (signal.value, signal.wants) == (31.0, wants)


@pytest.mark.parametrize(
    ("limits", "launched", "message"),
    [
        ({"high": 4}, 2, "workers.max is 4 and 2 exist"),
        ({"max_step": 1}, 1, "scale_up.max_step is 1"),
        (
            {"high": 2},
            0,
            "orders_queue asks for 7 workers: 1,400 / 200 each, which asks for 5 workers more; workers.max is 2",
        ),
    ],
)
def test_it_stays_within_the_limits(limits: dict[str, Any], launched: int, message: str) -> None:
    decision = look(held("orders_queue", 1400.0), of=policy(QUEUE, **limits))
    assert (decision.growth.count if decision.growth is not None else 0) == launched
    assert message in decision.message


@pytest.mark.parametrize(
    ("unready", "value", "launched"),
    [
        pytest.param(1, 1000.0, 0, id="it is waited for"),
        pytest.param(5, 1000.0, 0, id="all at once: the cause is elsewhere"),
        pytest.param(1, 1400.0, 2, id="what is wanted beside it"),
        pytest.param(0, 1400.0, 2, id="none is"),
    ],
)
def test_a_worker_that_is_not_ready_for_a_moment_is_not_replaced_for_it(
    unready: int, value: float, launched: int
) -> None:
    machines = [worker(number, ready=number >= unready) for number in range(5)]
    decision = judged(
        msgspec.structs.replace(snapshot(machines), signals=(held("orders_queue", value),)), policy(QUEUE)
    )
    assert (decision.growth.count if decision.growth is not None else 0) == launched
    assert not launched or decision.message.endswith("orders_queue asks for 7 workers: 1,400 / 200 each.")


def test_the_largest_of_all_demands_wins() -> None:
    seen = msgspec.structs.replace(
        snapshot([full(1), full(2)], [waiting(f"w{n}") for n in range(12)]),
        signals=(held("orders_queue", 700.0), held("age", 31.0)),
    )
    assert judged(seen, policy(QUEUE, AGE)).reason == "pods_unschedulable"
    calm = msgspec.structs.replace(seen, pods=())
    decision = judged(calm, policy(QUEUE, msgspec.structs.replace(AGE, step=3)))
    assert decision.message.startswith("Launching 3 workers: age is")


def test_no_signal_may_be_called_like_one_that_decisions_bring_themselves() -> None:
    """Its growth would be told as that one's, and judged as that one's too."""
    pools = (WorkerPool(name="general", instance_types=("t3.small",), min=1),)
    of = msgspec.structs.replace(
        policy(),
        workers=Workers(min=1, max=10, pools=pools),
        headroom=Headroom(workers=1),
        forecast=Forecast(mode="on"),
    )
    assert {signal.name for signal in look(of=of).signals} == BUILT_IN


def test_a_burst_shorter_than_the_window_asks_for_nothing() -> None:
    seen = SeenSignal(name="orders_queue", now=1400.0, least=100.0, most=1400.0)
    decision = look(seen, of=policy(QUEUE))
    assert decision.growth is None
    assert [s.value for s in decision.signals if s.name == "orders_queue"] == [1400.0]


@pytest.mark.parametrize("status", [MetricsStatus.OK, MetricsStatus.PARTIAL])
def test_unknown_asks_for_nothing_and_is_told(status: MetricsStatus) -> None:
    decision = look(UNKNOWN, of=policy(QUEUE), status=status, known=True)
    assert decision.growth is None
    told = Blocked(subject="signals.orders_queue", code="signal_unknown", text="the query has no answer now")
    assert told in decision.blocked
    assert [(s.value, s.wants) for s in decision.signals if s.name == "orders_queue"] == [(None, None)]


def test_before_they_were_looked_at_they_are_asked_for() -> None:
    seen = snapshot(2)
    assert judged(seen, policy(QUEUE)).asks.signals
    assert not judged(seen, policy()).asks.signals
    assert not judged(msgspec.structs.replace(seen, signals=(UNKNOWN,)), policy(QUEUE)).asks.signals
    assert not judged(snapshot(2, known=False, status=MetricsStatus.PARTIAL), policy(QUEUE)).asks.signals


# -------------------------------------------------------------------------------------------------------------- shrink


@pytest.mark.parametrize(
    ("rule", "seen", "stay", "because"),
    [
        pytest.param(QUEUE, held("orders_queue", 0.0), 1, "1 workers are wanted", id="nothing asks"),
        pytest.param(
            QUEUE,
            held("orders_queue", 0.0, most=500.0),
            3,
            "needed: 3 workers are wanted (orders_queue: up to 500 / 200 each in the last 600 s)",
            id="the highest of the window keeps",
        ),
        pytest.param(
            QUEUE,
            UNKNOWN,
            4,
            "4 workers are wanted (the signal orders_queue is unknown: the query has no answer now)",
            id="unknown keeps what there is",
        ),
        pytest.param(
            QUEUE,
            SeenSignal(name="orders_queue", problem="timed out", failure=SignalFailure.FAILED, asked=False),
            4,
            "is unknown: timed out",
            id="a failed one is unknown",
        ),
        pytest.param(
            QUEUE,
            SeenSignal(name="orders_queue", problem="parse error", failure=SignalFailure.REFUSED, asked=False),
            1,
            "1 workers are wanted",
            id="one that is no query counts neither way",
        ),
        pytest.param(AGE, held("age", 5.0), 1, "1 workers are wanted", id="below: consent"),
        pytest.param(
            AGE,
            held("age", 5.0, most=10.0),
            4,
            "age reached 10 in the last 600 s; below 10 is asked",
            id="between: stay",
        ),
        pytest.param(ABOVE, held("age", 30.0), 1, "1 workers are wanted", id="above alone: at most that"),
        pytest.param(
            ABOVE, held("age", 5.0, most=30.5), 4, "age reached 30.5 in the last 600 s; at most 30 is asked", id="above"
        ),
        pytest.param(GUARD, held("busy", 1.0), 4, "below 1 is asked", id="a guard keeps"),
    ],
)
def test_what_stays(rule: CustomSignal, seen: SeenSignal, stay: int, because: str) -> None:
    """Four empty workers, of which all but one could go."""
    decision = _shrunk(policy(rule), seen)
    left = 4 - len(decision.state.removals)
    assert left == stay
    assert any(because in row.reason for row in decision.blocked)


def test_the_most_careful_of_several_decides() -> None:
    both = policy(QUEUE, AGE)
    assert len(_shrunk(both, held("orders_queue", 500.0), held("age", 0.0)).state.removals) == 1
    assert len(_shrunk(both, UNKNOWN, held("age", 0.0)).state.removals) == 0


def test_what_is_above_max_goes_in_spite_of_it() -> None:
    assert len(_shrunk(policy(QUEUE, high=3), UNKNOWN).state.removals) == 1
    assert len(_shrunk(policy(QUEUE, high=3), held("orders_queue", 0.0, most=5000.0)).state.removals) == 1


def test_nobody_leaves_before_they_were_looked_at() -> None:
    assert not _shrunk(policy(QUEUE)).state.removals


def _shrunk(of: Policy, *seen: SeenSignal) -> Decision:
    idle = snapshot([worker(number) for number in range(4)])
    return judged(msgspec.structs.replace(idle, signals=seen or None), of, State(last_scale_up_s=NOW_S - 7_000))

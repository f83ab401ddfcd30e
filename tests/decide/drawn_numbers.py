"""Custom signals and forecasts, drawn: known, unknown, absurd, refused, with a past or without."""

from typing import Final

from hypothesis import strategies as st

from autoscaler.forecast import SLOT_S, Forecast
from autoscaler.model import (
    AsideSignal,
    Demand,
    DemandHistory,
    KeptForecast,
    KeptSlot,
    PastSlot,
    SeenSignal,
    SignalFailure,
)
from autoscaler.signals import CustomSignal
from tests.decide.builders import NOW_S
from tests.decide.drawing import Draw, among

SIGNALS: Final = (
    (),
    (),
    (CustomSignal(name="queue", query="queue", per_worker_target=100),),
    (
        CustomSignal(name="queue", query="queue", per_worker_target=1e-300),
        CustomSignal(name="age", query="age", above=30, below=10, step=3),
    ),
)
FORECASTS: Final = (
    Forecast(),
    Forecast(),
    Forecast(mode="on", max_extra=2),
    Forecast(mode="on", trend=False, horizon_s=1800, max_extra=1000),
    Forecast(mode="shadow"),
)
values = among(None, -5.0, 0.0, 11.0, 250.0, 600.0, 1e15)
amounts = among(None, 0, 100, 5_000, 10**15)
demands = st.builds(
    Demand,
    cpu_requested_millicores=amounts,
    memory_requested_mib=amounts,
    cpu_used_millicores=amounts,
    memory_used_mib=amounts,
)


@st.composite
def seen_signals(draw: Draw) -> tuple[SeenSignal, ...] | None:
    if draw(st.integers(0, 3)) == 0:
        return None
    return tuple(
        SeenSignal(
            name=name,
            now=draw(values),
            least=draw(values),
            most=draw(values),
            problem=draw(among("", "no answer")),
            failure=draw(among(None, None, *SignalFailure)),
            asked=draw(st.booleans()),
        )
        for name in draw(st.sets(among("queue", "age", "another")))
    )


@st.composite
def histories(draw: Draw) -> DemandHistory | None:
    if draw(st.booleans()):
        return None
    days = range(1, draw(st.integers(0, 5)) + 1)
    first_s = NOW_S - NOW_S % SLOT_S
    return DemandHistory(
        now=draw(demands),
        before=tuple((day, draw(demands)) for day in days if draw(st.integers(0, 4))),
        slots=tuple(
            PastSlot(days_back=day, at_s=first_s + slot * SLOT_S, demand=draw(demands))
            for day in days
            for slot in draw(st.sets(st.integers(0, 8), max_size=2))
        ),
        problem=draw(among("", "", "", "not recorded")),
    )


kept_forecasts = st.none() | st.builds(
    KeptForecast,
    made_at_s=among(NOW_S, NOW_S - 599, NOW_S - 600, NOW_S - 9000, NOW_S + 5),
    now=demands,
    slots=st.lists(
        st.builds(KeptSlot, at_s=among(NOW_S - 300, NOW_S, NOW_S + 600, NOW_S + 1700), demand=demands),
        max_size=3,
    ).map(tuple),
    earlier_days=st.integers(0, 10),
    compared=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=3).map(tuple),
)
asides = st.lists(
    st.builds(
        AsideSignal,
        name=among("queue", "gone"),
        fingerprint=among(SIGNALS[2][0].fingerprint, "00000000"),
        failure=among(*SignalFailure),
        problem=st.just("refused"),
        until_s=among(NOW_S - 1, NOW_S + 60),
    ),
    max_size=2,
).map(tuple)

"""Custom signals of every kind on a real Prometheus, through the adapter that asks it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.prometheus import Prometheus
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import SeenSignal, SignalFailure, State
from autoscaler.observe.signals import see_signals, signals_query
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp
from autoscaler.signals import CustomSignal
from autoscaler.state.signals import set_aside
from tests.decide.builders import snapshot
from tests.monitoring.programs import daemon, free_port, wait_until

pytestmark = pytest.mark.real_programs

CONFIG: Final = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: self
    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{name: x, family: y}}}}]
"""
TWO: Final = '{__name__=~"up|prometheus_build_info"}'


def rule(name: str, query: str) -> CustomSignal:
    return CustomSignal(name=name, query=query, per_worker_target=1, window_s=3)


GOOD: Final = (
    rule("one", "sum(up)"),
    rule("labelled", "up"),
    rule("commented", "vector(7) # (\n"),
    rule("moving", "vector(time() % 2)"),
    rule("strings", 'count(up{job!="(", instance!=\'`[\', job!=`"`})'),
)
UNKNOWN: Final = {
    "absent": ("sum(nothing_like_that)", "no answer now"),
    "rows": (TWO, "gives 2 rows"),
    "nan": ("vector(0) / 0", "gives NaN"),
    "infinite": ("vector(1) / 0", "gives +Inf"),
}
BAD: Final = {
    "no_query": ("rate(up)", SignalFailure.REFUSED),
    "a_scalar": ("1 + 1", SignalFailure.REFUSED),
    "evaluation": (f"{TWO} + on () {TWO}", SignalFailure.FAILED),
}


def policy(*signals: CustomSignal) -> Policy:
    return Policy(
        version=1,
        signals=signals,
        scale_up=ScaleUp(window_s=4),
        scale_down=ScaleDown(window_s=5),
        repair=Repair(not_ready_s=60),
        metrics=MetricsPolicy(cluster_interval_s=1, utilisation_interval_s=1, cpu_rate_window_s=3, max_age_s=5),
    )


class Asked:
    """That Prometheus, and how often it was asked."""

    def __init__(self, url: str) -> None:
        self.calls = Calls()
        self.metrics = Prometheus(url, timeout_s=5, calls=self.calls)

    def see(self, of: Policy, state: State | None = None) -> dict[str, SeenSignal]:
        seen = see_signals(self.metrics, snapshot(2), state or State(), of, remaining_s=lambda: 25.0)
        return {one.name: one for one in seen.signals or ()}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    (folder / "prometheus.yml").write_text(CONFIG.format(port=port), encoding="utf-8")
    with daemon(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        log=folder / "prometheus.log",
    ):
        found = Asked(f"http://127.0.0.1:{port}")
        wait_until(
            lambda: all(one.most is not None for one in found.see(policy(*GOOD)).values()),
            within_s=40,
            what="every window is full",
        )
        yield found


def test_good_ones_are_seen_in_one_query_whatever_labels_they_carry(asked: Asked) -> None:
    before = asked.calls.so_far().get("prometheus", 0)
    seen = asked.see(policy(*GOOD))
    assert asked.calls.so_far()["prometheus"] == before + 1
    assert [(one.now, one.least, one.most, one.problem) for name, one in seen.items() if name != "moving"] == [
        (1, 1, 1, ""),
        (1, 1, 1, ""),
        (7, 7, 7, ""),
        (1, 1, 1, ""),
    ]
    assert (seen["moving"].least, seen["moving"].most) == (0, 1)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_single_number_is_unknown_and_no_failure(asked: Asked, name: str) -> None:
    query, words = UNKNOWN[name]
    seen = asked.see(policy(GOOD[0], rule(name, query)))
    assert (seen[name].least, seen[name].most, seen[name].failure) == (None, None, None)
    assert words in seen[name].problem
    assert seen["one"].least == 1


@pytest.mark.parametrize("name", BAD)
def test_a_bad_one_costs_nobody_else_its_answer(asked: Asked, name: str) -> None:
    query, failure = BAD[name]
    of = policy(rule(name, query), *GOOD)
    seen = asked.see(of)
    assert seen[name].failure is failure
    assert "refused the query" in seen[name].problem
    assert [seen[good.name].now is not None for good in GOOD] == [True] * len(GOOD)
    looked = msgspec.structs.replace(snapshot(2), signals=tuple(seen.values()))
    state = State(signals_aside=set_aside(State(), looked, of))
    before = asked.calls.so_far()["prometheus"]
    assert not asked.see(of, state)[name].asked
    assert asked.calls.so_far()["prometheus"] == before + 1, "set aside, it costs nothing"


def test_ten_long_ones_are_one_request(asked: Asked) -> None:
    filler = "x" * 900
    many = policy(*(rule(f"s{n}", f'sum(up{{job!="{filler}{n}"}})') for n in range(10)))
    assert len(signals_query(many, [one.name for one in many.signals])) > 90_000
    assert {one.now for one in asked.see(many).values()} == {1}

"""A real Prometheus that holds a week answers what earlier days asked for, and a forecast follows."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.prometheus import Prometheus
from autoscaler.forecast import SLOT_S, Forecast
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Snapshot, State
from autoscaler.observe.history import first_slot, see_history
from autoscaler.policy import Policy
from tests.decide.builders import ROOM, decided, snapshot, worker
from tests.monitoring.programs import daemon, free_port, get_json, program, wait_until

pytestmark = pytest.mark.real_programs

DAY_S: Final = 86_400
POLICY: Final = Policy(
    version=1,
    forecast=Forecast(mode="on", days=5, weeks=0, horizon_s=1200),
    metrics=MetricsPolicy(matchers={"cluster": "shop"}),
)
CORES: Final = ROOM.cpu_millicores / 1000
SALE_S: Final = 2 * SLOT_S
"""The sale began so long after the present five minutes on each of the days before."""


def recorded(now_s: int) -> str:
    """Four days and today, in OpenMetrics: two workers' worth, and five from the sale on. Another cluster is larger."""
    lines = ["# TYPE k3s_autoscaler:workers_demand gauge"]
    for cluster, factor in (("shop", 1), ("other", 9)):
        for days in (4, 3, 2, 1, 0):
            begin_s = now_s - days * DAY_S - 1200
            for at_s in range(begin_s, min(begin_s + 5400, now_s + 1), 60):
                sale = days > 0 and at_s >= first_slot(now_s) - days * DAY_S + SALE_S
                labels = f'of="requests",resource="cpu",cluster="{cluster}"'
                value = factor * CORES * (5 if sale else 2)
                lines.append(f"k3s_autoscaler:workers_demand{{{labels}}} {value} {at_s}")
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, int]]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    now_s = int(time.time())
    (folder / "past.txt").write_text(recorded(now_s), encoding="utf-8")
    made = subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", folder / "past.txt", folder / "data"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    port = free_port()
    with daemon(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        log=folder / "prometheus.log",
    ):
        ready = f"http://127.0.0.1:{port}/api/v1/status/buildinfo"
        wait_until(lambda: get_json(ready)["status"] == "success", within_s=30, what="Prometheus answers")
        yield Prometheus(f"http://127.0.0.1:{port}", timeout_s=5, calls=Calls()), now_s


def seen(metrics: Prometheus, at_s: int, policy: Policy = POLICY) -> Snapshot:
    idle = snapshot([worker(number) for number in range(2)], at_s=at_s)
    return see_history(metrics, idle, policy, remaining_s=lambda: 25.0)


def test_the_sale_of_each_day_is_foreseen(metrics: tuple[Prometheus, int]) -> None:
    prometheus, now_s = metrics
    looked = seen(prometheus, now_s)
    assert looked.history is not None
    assert looked.history.problem == ""
    assert {days for days, _ in looked.history.before} == {1, 2, 3, 4}
    decision = decided(looked, State(), POLICY)
    assert decision.foreseen is not None
    told = decision.foreseen
    assert (told.needed_now, told.wants, told.earlier_days) == (2, 5, 4)
    assert told.at_s == first_slot(now_s) + SALE_S
    assert decision.growth is not None
    assert decision.growth.count == 3


def test_another_cluster_in_the_same_store_is_not_ours(metrics: tuple[Prometheus, int]) -> None:
    prometheus, now_s = metrics
    nobody = msgspec.structs.replace(POLICY, metrics=MetricsPolicy(matchers={"cluster": "nobody"}))
    looked = seen(prometheus, now_s, nobody)
    assert looked.history is not None
    assert "is not recorded" in looked.history.problem


def test_the_longest_question_is_answered(metrics: tuple[Prometheus, int]) -> None:
    prometheus, now_s = metrics
    longest = msgspec.structs.replace(POLICY, forecast=Forecast(mode="on", days=14, weeks=8))
    began = time.monotonic()
    looked = seen(prometheus, now_s, longest)
    assert time.monotonic() - began < 2
    assert looked.history is not None
    assert len({slot.days_back for slot in looked.history.slots}) == 4

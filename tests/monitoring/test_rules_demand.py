"""What all workers together are asked for: recorded for a forecast, without the servers, and 0 where no worker is."""

import pytest

from autoscaler.observe.promql import Raw
from autoscaler.observe.requested import requested_in_window
from tests.monitoring.cluster import GIB, KSM, exporter, node, pod, target
from tests.monitoring.promtool import Case, Cases, Vector, recorded

pytestmark = pytest.mark.real_programs

STEP_S, AT_S = 10, 110
ALWAYS = "{}+0x12"
UP = target(KSM, "1+0x12")
SERVER = node("s", ALWAYS, ip="10.0.1.10", server=True)


def requested(cpu: float, memory: float = 0) -> Vector:
    values = {'{of="requests",resource="cpu"}': cpu, '{of="requests",resource="memory"}': memory}
    return recorded(AT_S, "workers_demand", values, where='{of="requests"}')


def used(cpu: float, memory: float) -> Vector:
    """To four digits: rates are not exact."""
    values = {'{of="use",resource="cpu"}': cpu, '{of="use",resource="memory"}': memory}
    return Vector(AT_S, 'round(k3s_autoscaler:workers_demand{of="use"}, 0.0001)', values)


def half_busy(ip: str) -> dict[str, str]:
    """Two CPUs, each idle for half of the time; 3 of 4 GiB free."""
    return exporter(f"{ip}:9100", idle=("0+5x12", "0+5x12"), available_gib="3+0x12", up="1+0x12")


USED_AT_ONCE = requested_in_window(Raw({}), 65)["used_at_once"]

CASES = Cases(
    Case(
        "pods on workers count whoever takes pods, those on servers do not",
        {
            **UP,
            **SERVER,
            **node("a", ALWAYS),
            **node("b", ALWAYS, cordoned=1),
            **pod("one", ALWAYS, on="a", cpu=0.5),
            **pod("two", ALWAYS, on="b", cpu=0.25),
            **pod("agent", ALWAYS, on="a", cpu=0.125, kind="DaemonSet"),
            **pod("on-the-server", ALWAYS, on="s", cpu=1),
            **pod("waits", ALWAYS, phase="Pending", cpu=4),
        },
        [requested(0.875)],
        interval_s=STEP_S,
    ),
    Case("without a worker it is 0, and not absent", {**UP, **SERVER}, [requested(0)], interval_s=STEP_S),
    Case("without a Node nothing is known", UP, [recorded(AT_S, "workers_demand", {})], interval_s=STEP_S),
    Case(
        "use in cores and bytes",
        {
            **UP,
            **SERVER,
            **half_busy("10.0.1.10"),
            **node("a", ALWAYS, ip="10.0.1.21"),
            **half_busy("10.0.1.21"),
            **node("b", ALWAYS, ip="10.0.1.22", cpu=4),
            **half_busy("10.0.1.22"),
        },
        [used(3, 2 * GIB), Vector(AT_S, f"round({USED_AT_ONCE}, 0.0001)", {'{resource="cpu"}': 3})],
        interval_s=STEP_S,
    ),
    Case(
        "use without a worker is 0 too",
        {**UP, **SERVER, **half_busy("10.0.1.10")},
        [used(0, 0)],
        interval_s=STEP_S,
    ),
)


@CASES.each
def test_demand(case: str) -> None:
    CASES.check(case)

"""How busy the machines are: formulas, whose machine it is, and the bounds where some are not measured."""

from pathlib import Path

import pytest

from tests.monitoring.cluster import KSM, exporter, node, target
from tests.monitoring.promtool import assert_rules, every, recorded, rounded
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

ALWAYS = "{}+0x60"
AT_S = 110
UP = target(KSM, "1+0x60")
# A sample each 2 s: a CPU that is idle all the time gains 2 s between two of them.
IDLE, HALF, BUSY = "0+2x60", "0+1x60", "0+0x60"


def machine(instance: str, cpu0: str, cpu1: str, *, available_gib: float = 3, nodename: str = "") -> dict[str, str]:
    return exporter(
        instance, idle=(cpu0, cpu1), available_gib=every(61, available_gib), nodename=nodename, up=every(61, 1)
    )


def use(name: str, cpu: float, memory: float) -> dict[str, float]:
    return {f'{{node="{name}",resource="cpu"}}': cpu, f'{{node="{name}",resource="memory"}}': memory}


def bounds(*, cpu: tuple[float, float], memory: tuple[float, float]) -> dict[str, float]:
    return {
        f'{{bound="{bound}",resource="{resource}"}}': value
        for resource, pair in (("cpu", cpu), ("memory", memory))
        for bound, value in zip(("low", "high"), pair, strict=True)
    }


@pytest.mark.parametrize(
    ("cpu0", "cpu1", "used"),
    [(IDLE, IDLE, 0), (BUSY, BUSY, 1), (HALF, HALF, 0.5), (IDLE, BUSY, 0.5), (HALF, BUSY, 0.75)],
)
def test_cpu_is_what_is_not_idle(tmp_path: Path, cpu0: str, cpu1: str, used: float) -> None:
    """The other modes are shown and do not count: an average over them would show a full machine as a seventh."""
    here = {"job": "node-exporter", "instance": "10.0.1.5:9100"}
    other = {
        series_text("node_cpu_seconds_total", {"cpu": cpu, "mode": mode, **here}): values
        for cpu in ("0", "1")
        for mode, values in (("user", "0+1x60"), ("system", "0+1x60"), ("iowait", "0+0x60"), ("steal", "0+0x60"))
    }
    series = {**UP, **node("a", ALWAYS, ip="10.0.1.5"), **machine("10.0.1.5:9100", cpu0, cpu1), **other}
    assert_rules(tmp_path, series, rounded(AT_S, "node_utilisation", use("a", used, 0.25)))


@pytest.mark.parametrize(
    ("instance", "ip", "nodename"),
    [
        pytest.param("10.0.1.5:9100", "10.0.1.5", "nobody", id="IPv4"),
        pytest.param("10.0.1.5", "10.0.1.5", "nobody", id="without port"),
        pytest.param("[fd00:1::5]:9100", "fd00:1::5", "nobody", id="IPv6"),
        pytest.param("127.0.0.1:40123", "10.0.1.5", "a", id="by the machine's name"),
        pytest.param("10.0.1.5:9100", "", "a", id="Node without an address"),
        pytest.param("10.0.1.5:9100", "10.0.1.5", "b", id="the address is preferred"),
    ],
)
def test_whose_machine_it_is(tmp_path: Path, instance: str, ip: str, nodename: str) -> None:
    series = {
        **UP,
        **node("a", ALWAYS, ip=ip),
        **node("b", ALWAYS, ip="10.0.1.99"),
        **machine(instance, HALF, HALF, nodename=nodename),
    }
    assert_rules(tmp_path, series, rounded(AT_S, "node_utilisation", use("a", 0.5, 0.25)))


def test_a_machine_that_is_no_node_is_nobodys(tmp_path: Path) -> None:
    series = {**UP, **node("a", ALWAYS, ip="10.0.1.5"), **machine("10.0.1.77:9100", BUSY, BUSY, nodename="bastion")}
    assert_rules(tmp_path, series, recorded(AT_S, "node_utilisation", {}))


def test_a_dead_nodes_address_went_to_a_new_machine(tmp_path: Path) -> None:
    """The Node of the old machine lingers: the youngest Node has the address, and the rule does not fail on two."""
    series = {
        **UP,
        **node("ghost", ALWAYS, ip="10.0.1.5", ready="0+0x60", created="100+0x60"),
        **node("new", ALWAYS, ip="10.0.1.5", created="900+0x60"),
        **machine("10.0.1.5:9100", HALF, HALF),
    }
    assert_rules(tmp_path, series, rounded(AT_S, "node_utilisation", use("new", 0.5, 0.25)))


def test_a_machine_that_stopped_answering_is_not_measured(tmp_path: Path) -> None:
    """Its last counters are still in the rate's window; they do not count any more."""
    series = {
        **UP,
        **node("a", ALWAYS, ip="10.0.1.5"),
        **exporter(
            "10.0.1.5:9100", idle=("0+1x40 stale", "0+1x40 stale"), available_gib="3+0x40 stale", up="1+0x40 0+0x20"
        ),
    }
    assert_rules(
        tmp_path,
        series,
        rounded(80, "node_utilisation", use("a", 0.5, 0.25)),
        recorded(86, "node_utilisation", {}),
        recorded(86, "workers_utilisation", bounds(cpu=(0, 1), memory=(0, 1))),
    )


def test_a_new_machine_is_not_measured_before_its_counters_fill_the_window(tmp_path: Path) -> None:
    """It joins idle at 40 s. A rate over what there is would call it busy, and a fleet that grows would grow on."""
    later = "_x20 100+2x60"
    series = {
        **UP,
        **node("a", ALWAYS, ip="10.0.1.5"),
        **exporter("10.0.1.5:9100", idle=(later, later), available_gib="_x20 3+0x60", up="_x20 1+0x60"),
    }
    memory = {'{node="a",resource="memory"}': 0.25}
    assert_rules(
        tmp_path,
        series,
        rounded(44, "node_utilisation", memory),
        rounded(98, "node_utilisation", memory),
        rounded(98, "workers_utilisation", bounds(cpu=(0, 1), memory=(0.25, 0.25))),
        rounded(102, "node_utilisation", use("a", 0, 0.25)),
    )


def test_one_failed_scrape_does_not_unmeasure_a_machine_for_a_window(tmp_path: Path) -> None:
    gap = "0+1x20 stale 22+1x40"
    series = {
        **UP,
        **node("a", ALWAYS, ip="10.0.1.5"),
        **exporter("10.0.1.5:9100", idle=(gap, gap), available_gib="3+0x60", up="1+0x20 0 1+0x40"),
    }
    assert_rules(
        tmp_path,
        series,
        *(rounded(at_s, "node_utilisation", use("a", 0.5, 0.25)) for at_s in (80, 100, 102, 104, 110)),
    )


def test_weighted_by_what_each_worker_gives(tmp_path: Path) -> None:
    """Two CPUs half used and six idle: (1 + 0) / 8. Memory is equal: (1/4 + 3/4) / 2."""
    series = {
        **UP,
        **node("small", ALWAYS, ip="10.0.1.5", cpu=2),
        **node("large", ALWAYS, ip="10.0.1.6", cpu=6),
        **machine("10.0.1.5:9100", HALF, HALF, available_gib=3),
        **machine("10.0.1.6:9100", IDLE, IDLE, available_gib=1),
    }
    assert_rules(tmp_path, series, rounded(AT_S, "workers_utilisation", bounds(cpu=(0.125, 0.125), memory=(0.5, 0.5))))


def test_an_unmeasured_worker_counts_as_idle_below_and_as_full_above(tmp_path: Path) -> None:
    """Low: (0.5 x 2 + 0) / 4; high: (0.5 x 2 + 2) / 4."""
    series = {
        **UP,
        **node("seen", ALWAYS, ip="10.0.1.5"),
        **node("unseen", ALWAYS, ip="10.0.1.6"),
        **machine("10.0.1.5:9100", HALF, HALF),
    }
    assert_rules(
        tmp_path, series, rounded(AT_S, "workers_utilisation", bounds(cpu=(0.25, 0.75), memory=(0.125, 0.625)))
    )


def test_only_ready_workers_count(tmp_path: Path) -> None:
    """Neither the busy server nor the silent worker changes the picture."""
    series = {
        **UP,
        **node("server", ALWAYS, ip="10.0.1.4", server=True),
        **node("worker", ALWAYS, ip="10.0.1.5"),
        **node("silent", ALWAYS, ip="10.0.1.6", ready="0+0x60"),
        **machine("10.0.1.4:9100", BUSY, BUSY),
        **machine("10.0.1.5:9100", HALF, HALF),
        **machine("10.0.1.6:9100", BUSY, BUSY),
    }
    assert_rules(tmp_path, series, rounded(AT_S, "workers_utilisation", bounds(cpu=(0.5, 0.5), memory=(0.25, 0.25))))


def test_absent_where_no_worker_is_ready(tmp_path: Path) -> None:
    series = {
        **UP,
        **node("server", ALWAYS, ip="10.0.1.4", server=True),
        **node("silent", ALWAYS, ip="10.0.1.6", ready="0+0x60"),
        **machine("10.0.1.4:9100", BUSY, BUSY),
    }
    assert_rules(tmp_path, series, recorded(AT_S, "workers_utilisation", {}))

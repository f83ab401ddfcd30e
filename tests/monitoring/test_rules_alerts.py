"""Each alert fires when the policy says so and not a moment before, and tells a person what to do."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp
from tests.monitoring.cluster import KSM, exporter, node, pod, target
from tests.monitoring.promtool import COMMITTED, Firing, assert_rules, every
from tests.monitoring.scrape import series_text

ALERTS = {
    rule["alert"]: rule
    for file in ("cluster.yml", "utilisation.yml")
    for group in yaml.safe_load((COMMITTED / "rules" / file).read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
# The committed policy's windows are minutes long; these are the same rules with shorter ones.
POLICY = Policy(
    version=1,
    scale_up=ScaleUp(window_s=60, cpu_above=0.7, memory_above=0.8),
    scale_down=ScaleDown(window_s=120, cpu_below=0.3, memory_below=0.6),
    repair=Repair(not_ready_s=100),
)
UP = target(KSM, "1+0x400")
ALWAYS = "{}+0x400"


def fires(at_s: int, alert: str, *rows: tuple[Mapping[str, str], str]) -> Firing:
    """Rows are the labels besides the fixed ones, and the summary."""
    fixed = {
        "K3sUnschedulablePods": {"severity": "warning", "scale": "up"},
        "K3sHighCpu": {"severity": "warning", "scale": "up"},
        "K3sHighMemory": {"severity": "warning", "scale": "up"},
        "K3sLowUtilisation": {"severity": "info", "scale": "down"},
        "K3sNodeNotReady": {"severity": "warning", "scale": "repair"},
        "Watchdog": {"severity": "none", "scale": "none"},
    }[alert]
    return Firing(at_s, alert, [({**fixed, **labels}, {"summary": summary}) for labels, summary in rows])


def assert_alerts(folder: Path, series: Mapping[str, str], *expected: Firing, policy: Policy = POLICY) -> None:
    assert_rules(folder, series, *expected, policy=policy, annotations={"summary"})


def machines(cpu_idle: str, available_gib: str) -> dict[str, str]:
    return {
        **UP,
        **node("a", ALWAYS, ip="10.0.1.5"),
        **exporter("10.0.1.5:9100", idle=(cpu_idle, cpu_idle), available_gib=available_gib, up=every(401, 1)),
    }


@pytest.mark.real_programs
def test_unschedulable_pods(tmp_path: Path) -> None:
    series = {
        **UP,
        **node("a", ALWAYS),
        **pod("first", ALWAYS, phase="Pending", waits="_x20 1+0x50 stale"),
        **pod("second", ALWAYS, phase="Pending", waits="_x40 1+0x10 stale"),
    }
    assert_alerts(
        tmp_path,
        series,
        fires(48, "K3sUnschedulablePods"),
        fires(50, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
        fires(90, "K3sUnschedulablePods", ({}, "2 pods wait for a node")),
        fires(120, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
        fires(150, "K3sUnschedulablePods"),
    )


@pytest.mark.real_programs
def test_the_waiting_pods_are_named_three_at_most(tmp_path: Path) -> None:
    series = dict(UP)
    for number in range(5):
        series |= pod(f"p{number}", ALWAYS, phase="Pending", waits="1+0x400")
        identity = {"namespace": "shop", "pod": f"p{number}", "uid": f"uid-p{number}"}
        series[series_text("kube_pod_status_unscheduled_time", {**identity, **KSM})] = every(401, 600 + number)
    description = ALERTS["K3sUnschedulablePods"]["annotations"]["description"]
    start, _, rest = description.partition("{{ range")
    named = f"{start}shop/p0 shop/p1 shop/p2 {rest.partition('{{ end }}')[2]}"
    runbook = ALERTS["K3sUnschedulablePods"]["annotations"]["runbook"]
    labels = {"severity": "warning", "scale": "up"}
    annotations = {"summary": "5 pods wait for a node", "description": named, "runbook": runbook}
    assert_rules(tmp_path, series, Firing(60, "K3sUnschedulablePods", [(labels, annotations)]))


@pytest.mark.real_programs
def test_a_gated_pod_and_a_pod_without_its_image_do_not_alert(tmp_path: Path) -> None:
    gate = {"namespace": "shop", "pod": "gated", "uid": "uid-gated", "reason": "SchedulingGated"}
    series = {
        **UP,
        **pod("gated", ALWAYS, phase="Pending", waits="1+0x400"),
        series_text("kube_pod_status_reason", {**gate, **KSM}): "1+0x400",
        **pod("image-pull", ALWAYS, phase="Pending", on="a"),
    }
    assert_alerts(tmp_path, series, fires(300, "K3sUnschedulablePods"))


@pytest.mark.real_programs
def test_high_cpu(tmp_path: Path) -> None:
    """From 100 s on the CPUs gain 0.2 s of idle time in 2 s: 90 % used, above 70 % once the rate's window shows it."""
    summary = "The workers use 90% of their CPU (limit 70 %)"
    assert_alerts(
        tmp_path,
        machines("0+2x50 100+0.2x300", "3+0x400"),
        fires(98, "K3sHighCpu"),
        fires(200, "K3sHighCpu"),
        fires(240, "K3sHighCpu", ({}, summary)),
        fires(240, "K3sHighMemory"),
        fires(240, "K3sLowUtilisation"),
    )


@pytest.mark.real_programs
def test_high_memory(tmp_path: Path) -> None:
    summary = "The workers use 87.5% of their memory (limit 80 %)"
    assert_alerts(
        tmp_path,
        machines("0+1x400", "3+0x50 0.5+0x300"),
        fires(160, "K3sHighMemory"),
        fires(164, "K3sHighMemory", ({}, summary)),
        fires(164, "K3sHighCpu"),
    )


@pytest.mark.real_programs
def test_at_the_limit_is_not_above_it(tmp_path: Path) -> None:
    policy = Policy(version=1, scale_up=ScaleUp(window_s=60, cpu_above=0.75, memory_above=0.75))
    assert_alerts(
        tmp_path,
        machines("0+0.5x400", "1+0x400"),
        fires(300, "K3sHighMemory"),
        policy=policy,
    )


@pytest.mark.real_programs
def test_low_utilisation(tmp_path: Path) -> None:
    """20 % of the CPU, 25 % of the memory; a burst of memory in between starts the window anew."""
    summary = "The workers use only 20% of their CPU (limit 30 %)"
    assert_alerts(
        tmp_path,
        machines("0+1.6x400", "3+0x100 1+0x2 3+0x200"),
        fires(178, "K3sLowUtilisation"),
        fires(190, "K3sLowUtilisation", ({}, summary)),
        fires(204, "K3sLowUtilisation"),
        fires(320, "K3sLowUtilisation"),
        fires(340, "K3sLowUtilisation", ({}, summary)),
    )


@pytest.mark.real_programs
def test_an_unmeasured_worker_alerts_neither_way(tmp_path: Path) -> None:
    """One worker is idle; of the other nothing is known: it may be full, it may be empty."""
    series = {**machines("0+2x400", "3.9+0x400"), **node("unseen", ALWAYS, ip="10.0.1.6")}
    assert_alerts(tmp_path, series, fires(300, "K3sLowUtilisation"), fires(300, "K3sHighCpu"))


@pytest.mark.real_programs
@pytest.mark.parametrize("missing", ["node_cpu", "node_memory"])
def test_half_of_a_worker_measured_is_not_low(tmp_path: Path, missing: str) -> None:
    """Idle by what is known, full for all that is not."""
    series = {name: values for name, values in machines("0+2x400", "3.9+0x400").items() if not name.startswith(missing)}
    assert_alerts(tmp_path, series, fires(300, "K3sLowUtilisation"))


@pytest.mark.real_programs
def test_no_metrics_alert_neither_way(tmp_path: Path) -> None:
    series = {**UP, **node("a", ALWAYS, ip="10.0.1.5")}
    silent = [fires(400, name) for name in ("K3sLowUtilisation", "K3sHighCpu", "K3sHighMemory")]
    assert_alerts(tmp_path, series, *silent)


@pytest.mark.real_programs
def test_node_not_ready(tmp_path: Path) -> None:
    series = {
        **UP,
        **node("fine", ALWAYS),
        **node("late", ALWAYS, ready="0+0x30 1+0x300"),
        **node("broken", ALWAYS, ready="1+0x20 0+0x300"),
        **node("server", ALWAYS, ready="0+0x400", server=True),
    }
    assert_alerts(
        tmp_path,
        series,
        fires(140, "K3sNodeNotReady"),
        fires(142, "K3sNodeNotReady", ({"node": "broken"}, "Worker broken has not been Ready for 100s")),
    )


@pytest.mark.real_programs
def test_watchdog_fires_without_any_metrics(tmp_path: Path) -> None:
    series = {series_text("up", {"job": "prometheus", "instance": "x"}): "1+0x400"}
    assert_alerts(tmp_path, series, fires(0, "Watchdog", ({}, "Prometheus evaluates rules and Alertmanager delivers")))


@pytest.mark.real_programs
def test_the_committed_thresholds_are_the_default_policys(tmp_path: Path) -> None:
    """The same alerts with the committed rules: 10 s until pods alert, 600 s until the fleet is called idle."""
    annotations = ALERTS["K3sUnschedulablePods"]["annotations"]
    assert ALERTS["K3sUnschedulablePods"]["for"] == "10s"
    assert ALERTS["K3sLowUtilisation"]["for"] == "600s"
    assert annotations.keys() == {"summary", "description", "runbook"}
    series = {**UP, **pod("first", ALWAYS, phase="Pending", waits="1+0x400")}
    assert_rules(tmp_path, series, Firing(8, "K3sUnschedulablePods", []), Firing(600, "K3sNodeNotReady", []))


def test_every_alert_says_what_it_means_for_scaling() -> None:
    assert ALERTS.keys() == {
        "K3sUnschedulablePods",
        "K3sHighCpu",
        "K3sHighMemory",
        "K3sLowUtilisation",
        "K3sNodeNotReady",
        "Watchdog",
    }
    for name, rule in ALERTS.items():
        assert rule["labels"]["scale"] in {"up", "down", "repair", "none"}, name
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{name.lower()}"

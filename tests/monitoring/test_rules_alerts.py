"""Each alert fires when the policy says so and not a moment before, and tells a person what to do."""

from collections.abc import Mapping

import pytest
import yaml

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp
from tests.monitoring.cluster import KSM, OTHER_KSM, exporter, node, of_pod, pod, target
from tests.monitoring.promtool import COMMITTED, Case, Cases, Firing, every
from tests.monitoring.scrape import series_text

RULES = [
    rule
    for file in ("cluster.yml", "utilisation.yml")
    for group in yaml.safe_load((COMMITTED / "rules" / file).read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
# The committed policy's windows are minutes long; these are the same rules with shorter ones.
POLICY = Policy(
    version=1,
    scale_up=ScaleUp(window_s=60, cpu_above=0.7, memory_above=0.8),
    scale_down=ScaleDown(window_s=120, cpu_below=0.3, memory_below=0.6),
    repair=Repair(not_ready_s=100),
)
UP = target(KSM, "1+0x200")
ALWAYS = "{}+0x200"


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


def alerts(name: str, series: Mapping[str, str], *expected: Firing, policy: Policy = POLICY) -> Case:
    return Case(name, series, expected, policy=policy, annotations={"summary"})


def machines(cpu_idle: str, available_gib: str) -> dict[str, str]:
    return {
        **UP,
        **node("a", ALWAYS, ip="10.0.1.5"),
        **exporter("10.0.1.5:9100", idle=(cpu_idle, cpu_idle), available_gib=available_gib, up=every(201, 1)),
    }


# --------------------------------------------------------------------------------------------------------- waiting pods

WAITING = alerts(
    "pods wait, until they do not",
    {
        **UP,
        **node("a", ALWAYS),
        **pod("first", ALWAYS, phase="Pending", waits="_x20 1+0x50 stale"),
        **pod("second", ALWAYS, phase="Pending", waits="_x40 1+0x10 stale"),
    },
    fires(48, "K3sUnschedulablePods"),
    fires(50, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
    fires(90, "K3sUnschedulablePods", ({}, "2 pods wait for a node")),
    fires(120, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
    fires(150, "K3sUnschedulablePods"),
)
DOUBLED = alerts(
    "a pod that two targets tell of is one",
    {
        **UP,
        **pod("first", ALWAYS, phase="Pending", waits="1+0x40"),
        **pod("first", ALWAYS, phase="Pending", waits="1+0x40", told_by=OTHER_KSM),
    },
    fires(60, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
)
NOT_WAITING = alerts(
    "gated, deleted, or without its image: no alert",
    {
        **UP,
        **pod("gated", ALWAYS, phase="Pending", waits="1+0x100"),
        of_pod("kube_pod_status_reason", "gated", reason="SchedulingGated"): "1+0x100",
        **pod("deleted", ALWAYS, phase="Pending", waits="1+0x100"),
        of_pod("kube_pod_deletion_timestamp", "deleted"): "100+0x100",
        **pod("image-pull", ALWAYS, phase="Pending", on="a"),
        **pod("bound", ALWAYS, on="a", waits="0+0x100"),
    },
    fires(100, "K3sUnschedulablePods"),
    fires(200, "K3sUnschedulablePods"),
)
UNGATED = alerts(
    "a pod whose gate is lifted waits from then on",
    {
        **UP,
        **pod("ungated", ALWAYS, phase="Pending", waits="1+0x100"),
        of_pod("kube_pod_status_reason", "ungated", reason="SchedulingGated"): "1+0x20 stale",
    },
    fires(50, "K3sUnschedulablePods"),
    fires(52, "K3sUnschedulablePods", ({}, "1 pod waits for a node")),
)


def _named() -> Case:
    series = dict(UP)
    for number in range(5):
        series |= pod(f"p{number}", ALWAYS, phase="Pending", waits="1+0x60")
        series[of_pod("kube_pod_status_unscheduled_time", f"p{number}")] = every(61, 600 + number)
    # Older still, and waiting for nothing.
    series |= pod("deleted", ALWAYS, phase="Pending", waits="1+0x60")
    series[of_pod("kube_pod_status_unscheduled_time", "deleted")] = every(61, 100)
    series[of_pod("kube_pod_deletion_timestamp", "deleted")] = every(61, 100)
    description = ALERTS["K3sUnschedulablePods"]["annotations"]["description"]
    start, _, rest = description.partition("{{ range")
    named = f"{start}shop/p0 shop/p1 shop/p2 {rest.partition('{{ end }}')[2]}"
    runbook = ALERTS["K3sUnschedulablePods"]["annotations"]["runbook"]
    labels = {"severity": "warning", "scale": "up"}
    annotations = {"summary": "5 pods wait for a node", "description": named, "runbook": runbook}
    return Case(
        "the oldest are named, three at most", series, [Firing(60, "K3sUnschedulablePods", [(labels, annotations)])]
    )


# ------------------------------------------------------------------------------------------------------------------ use

# From 100 s on the CPUs gain 0.2 s of idle time in 2 s: 90 % used, above 70 % once the rate's window shows it.
HIGH_CPU = alerts(
    "high CPU",
    machines("0+2x50 100+0.2x150", "3+0x200"),
    fires(98, "K3sHighCpu"),
    fires(200, "K3sHighCpu"),
    fires(240, "K3sHighCpu", ({}, "The workers use 90% of their CPU (limit 70 %)")),
    fires(240, "K3sHighMemory"),
    fires(240, "K3sLowUtilisation"),
)
HIGH_MEMORY = alerts(
    "high memory",
    machines("0+1x200", "3+0x50 0.5+0x150"),
    fires(160, "K3sHighMemory"),
    fires(164, "K3sHighMemory", ({}, "The workers use 87.5% of their memory (limit 80 %)")),
    fires(164, "K3sHighCpu"),
)
AT_THE_LIMIT = alerts(
    "at the limit is not above it",
    machines("0+0.5x200", "1+0x200"),
    fires(300, "K3sHighMemory"),
    policy=Policy(version=1, scale_up=ScaleUp(window_s=60, cpu_above=0.75, memory_above=0.75)),
)
# 20 % of the CPU, 25 % of the memory; a burst of memory in between starts the window anew.
LOW_SUMMARY = "The workers use only 20% of their CPU (limit 30 %)"
LOW = alerts(
    "low use",
    machines("0+1.6x200", "3+0x100 1+0x2 3+0x100"),
    fires(178, "K3sLowUtilisation"),
    fires(190, "K3sLowUtilisation", ({}, LOW_SUMMARY)),
    fires(204, "K3sLowUtilisation"),
    fires(320, "K3sLowUtilisation"),
    fires(340, "K3sLowUtilisation", ({}, LOW_SUMMARY)),
)
# One worker is idle; of the other nothing is known: it may be full, it may be empty.
UNMEASURED = alerts(
    "an unmeasured worker alerts neither way",
    {**machines("0+2x200", "3.9+0x200"), **node("unseen", ALWAYS, ip="10.0.1.6")},
    fires(300, "K3sLowUtilisation"),
    fires(300, "K3sHighCpu"),
)
# Idle by what is known, full for all that is not.
HALF_MEASURED = tuple(
    alerts(
        f"{missing} not measured is not low",
        {name: values for name, values in machines("0+2x200", "3.9+0x200").items() if not name.startswith(missing)},
        fires(300, "K3sLowUtilisation"),
    )
    for missing in ("node_cpu", "node_memory")
)
NO_METRICS = alerts(
    "no metrics alert neither way",
    {**UP, **node("a", ALWAYS, ip="10.0.1.5")},
    *(fires(400, name) for name in ("K3sLowUtilisation", "K3sHighCpu", "K3sHighMemory")),
)

# --------------------------------------------------------------------------------------------------------------- others

NOT_READY = alerts(
    "a worker is not Ready",
    {
        **UP,
        **node("fine", ALWAYS),
        **node("late", ALWAYS, ready="0+0x30 1+0x100"),
        **node("broken", ALWAYS, ready="1+0x20 0+0x100"),
        **node("server", ALWAYS, ready="0+0x150", server=True),
    },
    fires(140, "K3sNodeNotReady"),
    fires(142, "K3sNodeNotReady", ({"node": "broken"}, "Worker broken has not been Ready for 100s")),
)
WATCHDOG = alerts(
    "the watchdog fires without any metrics",
    {series_text("up", {"job": "prometheus", "instance": "x"}): "1+0x10"},
    fires(0, "Watchdog", ({}, "Prometheus evaluates rules and Alertmanager delivers")),
)
# 10 s until pods alert, 300 s until a worker is called silent.
DEFAULTS = Case(
    "the committed thresholds",
    {**UP, **pod("first", ALWAYS, phase="Pending", waits="1+0x200"), **node("broken", ALWAYS, ready="0+0x200")},
    [Firing(8, "K3sUnschedulablePods", []), Firing(298, "K3sNodeNotReady", [])],
)
SHOP = {"cluster": "shop"}
MATCHERS = alerts(
    "one of two clusters alerts, and says which",
    {
        **pod("ours", ALWAYS, phase="Pending", waits="1+0x60", told_by={**KSM, **SHOP}),
        **pod("theirs", ALWAYS, phase="Pending", waits="1+0x60", told_by={**OTHER_KSM, "cluster": "bank"}),
        **node("ours", ALWAYS, ready="0+0x60", told_by={**KSM, **SHOP}),
        **node("theirs", ALWAYS, ready="0+0x60", told_by={**OTHER_KSM, "cluster": "bank"}),
    },
    fires(60, "K3sUnschedulablePods", (SHOP, "1 pod waits for a node")),
    fires(110, "K3sNodeNotReady", ({"node": "ours", **SHOP}, "Worker ours has not been Ready for 100s")),
    fires(60, "Watchdog", (SHOP, "Prometheus evaluates rules and Alertmanager delivers")),
    policy=Policy(version=1, repair=Repair(not_ready_s=100), metrics=MetricsPolicy(matchers=SHOP)),
)

CASES = Cases(
    WAITING, DOUBLED, NOT_WAITING, UNGATED, _named(), HIGH_CPU, HIGH_MEMORY, AT_THE_LIMIT, LOW, UNMEASURED,
    *HALF_MEASURED, NO_METRICS, NOT_READY, WATCHDOG, DEFAULTS, MATCHERS,
)  # fmt: skip


@pytest.mark.real_programs
@CASES.each
def test_alerts(case: str) -> None:
    CASES.check(case)


def test_the_committed_windows_are_the_default_policys() -> None:
    assert {name: rule.get("for") for name, rule in ALERTS.items()} == {
        "K3sUnschedulablePods": "10s",
        "Watchdog": None,
        "K3sNodeNotReady": "300s",
        "K3sHighCpu": "60s",
        "K3sHighMemory": "60s",
        "K3sLowUtilisation": "600s",
    }


def test_every_alert_says_what_it_means_for_scaling() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["scale"] in {"up", "down", "repair", "none"}, name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{name.lower()}"

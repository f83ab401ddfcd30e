"""The Grafana dashboard: every query names series that are shown or recorded, is PromQL, and shows something."""

import json
import re
from typing import Any

import pytest

from autoscaler.observe.promql import Raw
from tests.monitoring.cluster import KSM, exporter, node, of_pod, pod, target
from tests.monitoring.programs import ROOT
from tests.monitoring.promtool import Case, Cases, Vector
from tests.monitoring.reads import KUBE, RECORDED

DASHBOARD: dict[str, Any] = json.loads((ROOT / "monitoring" / "grafana" / "k3s-autoscaler.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RAW = Raw({})
SHOWN = KUBE | RECORDED | {"up"}
ALWAYS = "{}+0x60"
AT_S = 120


def query(title: str) -> str:
    [panel] = [panel for panel in PANELS if panel["title"] == title]
    [target] = panel["targets"]
    expression: str = target["expr"]
    return expression


def by_legend(title: str) -> dict[str, str]:
    [panel] = [panel for panel in PANELS if panel["title"] == title]
    return {target["legendFormat"]: target["expr"] for target in panel["targets"]}


# A server, two workers of which one is not Ready and cordoned; one pod that runs, one that waits, one that is gated.
SERIES = {
    **target(KSM, "1+0x60"),
    **node("server", ALWAYS, ip="10.0.1.4", server=True),
    **node("w1", ALWAYS, ip="10.0.1.5"),
    **node("w2", ALWAYS, ip="10.0.1.6", ready="0+0x60", cordoned=1),
    **exporter("10.0.1.5:9100", idle=("0+1x60", "0+1x60"), available_gib="3+0x60", up="1+0x60"),
    **pod("runs", ALWAYS, on="w1", cpu=0.75),
    of_pod("kube_pod_init_container_resource_requests", "runs", container="p", resource="cpu", node="w1"): "0.25+0x60",
    of_pod("kube_pod_init_container_info", "runs", container="p", restart_policy="Always"): "1+0x60",
    of_pod("kube_pod_init_container_resource_requests", "runs", container="i", resource="cpu", node="w1"): "9+0x60",
    **pod("done", ALWAYS, on="w1", phase="Succeeded", cpu=9),
    **pod("own", ALWAYS, on="server", cpu=1),
    **pod("waits", ALWAYS, phase="Pending", waits="1+0x60", cpu=1),
    of_pod("kube_pod_status_unscheduled_time", "waits"): "80+0x60",
    **pod("gated", ALWAYS, phase="Pending", waits="1+0x60"),
    of_pod("kube_pod_status_unscheduled_time", "gated"): "10+0x60",
    of_pod("kube_pod_status_reason", "gated", reason="SchedulingGated"): "1+0x60",
}
SOURCES = ("kube-state-metrics", "node-exporter")
REQUESTS = "Requests of what runs on workers, as a share of what they can give"
NODES, PODS = by_legend("Nodes"), by_legend("Pods")
CASES = Cases(
    Case(
        "every query shows something",
        SERIES,
        [Vector(AT_S, f"count({each}) > bool 0", {"{}": 1}) for each in QUERIES],
    ),
    Case(
        "servers, finished and gated pods and init containers are left out",
        SERIES,
        [
            Vector(AT_S, promql, values)
            for promql, values in (
                (query("Ready workers"), {"{}": 1}),
                (query("Workers not Ready"), {"{}": 1}),
                (query("Pods that wait for a node"), {"{}": 1}),
                (query("Longest wait"), {"{}": 40}),
                (query("Sources that answer"), {"{}": 2}),
                (query("Age of the last evaluation"), {"{}": 0}),
                (query("Sources that just restarted"), {"{}": 0}),
                (query(REQUESTS), {'{resource="cpu"}': 1 / 4}),
                (query("Pods that wait now"), {'{namespace="shop",pod="waits"}': 40}),
                (NODES["cordoned"], {"{}": 1}),
                (NODES["servers"], {"{}": 1}),
                (PODS["gated"], {"{}": 1}),
                (PODS["on a node"], {"{}": 2}),
            )
        ],
    ),
    Case(
        "one source of two is down",
        {**SERIES, **target({**KSM, "instance": "10.0.1.21:8080"}, "0+0x60")},
        [
            Vector(AT_S, query("Sources that answer"), {"{}": 1}),
            Vector(AT_S, query("Age of the newest answer"), {f'{{job="{job}"}}': 0 for job in SOURCES}),
        ],
    ),
)  # fmt: skip


@pytest.mark.real_programs
@CASES.each
def test_dashboard(case: str) -> None:
    CASES.check(case)


def test_the_queries_name_series_that_are_there() -> None:
    for expression in QUERIES:
        bare = re.sub(r'"[^"]*"', '""', expression)
        # A series stands before its selector, or carries a prefix of ours, or of the exporters'.
        names = set(re.findall(r"(?<![\w:])(?:\w+(?=\{)|\w+:\w+|kube_\w+)", bare))
        assert names, expression
        assert names <= SHOWN, expression


def test_who_waits_is_what_the_alert_says() -> None:
    assert RAW.waiting in query("Pods that wait for a node")
    assert RAW.waiting in query("Longest wait")
    assert RAW.waiting in query("Pods that wait now")
    assert all(RAW.control_plane in query(title) for title in ("Ready workers", "Workers not Ready"))


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_the_prometheus_is_chosen_when_it_is_imported() -> None:
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    sources = {json.dumps(entry["datasource"]) for panel in PANELS for entry in [panel, *panel["targets"]]}
    assert sources == {json.dumps({"type": "prometheus", "uid": f"${{{variable['name']}}}"})}

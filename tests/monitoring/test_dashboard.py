"""The Grafana dashboard: every query names recorded series only, is PromQL, and shows something."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.observe.series import CLUSTER_FAMILIES, META_FAMILIES, PREFIX, UTILISATION_FAMILIES
from tests.monitoring.programs import ROOT, run

DASHBOARD: dict[str, Any] = json.loads((ROOT / "monitoring" / "grafana" / "k3s-autoscaler.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RECORDED = {f"{PREFIX}{family}" for family in (*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, *META_FAMILIES)}
# All that PromQL itself brings and the dashboard uses.
WORDS = {"count", "sum", "min", "max", "by", "on", "unless", "or", "group_left", "time", "vector"}
LABELS = {"node", "resource", "namespace", "pod", "uid", "provider_id", "internal_ip"}

# A server, two workers of which one is not Ready, one pod that runs, one that waits, one that is gated.
POD = 'namespace="shop",pod="{0}",uid="{0}"'
SERIES = {
    **{f'node_info{{node="{node}",provider_id="{node}",internal_ip="10.0.0.1"}}': 1 for node in ("server", "w1", "w2")},
    **{f'node_created{{node="{node}"}}': 0 for node in ("server", "w1", "w2")},
    **{f'node_ready{{node="{node}"}}': ready for node, ready in (("server", 1), ("w1", 1), ("w2", 0))},
    **{f'node_cordoned{{node="{node}"}}': cordoned for node, cordoned in (("server", 0), ("w1", 0), ("w2", 1))},
    **{f'node_allocatable{{node="{node}",resource="cpu"}}': 2 for node in ("server", "w1", "w2")},
    **{f'node_utilisation{{node="w1",resource="{resource}"}}': 0.5 for resource in ("cpu", "memory")},
    'node_control_plane{node="server"}': 1,
    'workers_utilisation{resource="cpu",bound="low"}': 0.5,
    f'pod_info{{{POD.format("runs")},node="w1"}}': 1,
    f'pod_info{{{POD.format("own")},node="server"}}': 1,
    f"pod_info{{{POD.format('waits')}}}": 1,
    f'pod_requests{{{POD.format("runs")},resource="cpu",part="app"}}': 0.75,
    f'pod_requests{{{POD.format("runs")},resource="cpu",part="sidecar"}}': 0.25,
    f'pod_requests{{{POD.format("runs")},resource="cpu",part="init"}}': 9,
    f'pod_requests{{{POD.format("own")},resource="cpu",part="app"}}': 1,
    f'pod_requests{{{POD.format("waits")},resource="cpu",part="app"}}': 1,
    f"pod_unschedulable_since{{{POD.format('waits')}}}": 20,
    f"pod_gated{{{POD.format('gated')}}}": 1,
    'source_up{source="kube-state-metrics"}': 1,
    'source_up{source="node-exporter"}': 1,
    'source_restarted{source="kube-state-metrics"}': 0,
    'scraped_at{source="kube-state-metrics"}': 60,
    'evaluated_at{group="cluster"}': 58,
}


def promtool(folder: Path, *expected: tuple[str, Mapping[str, float]]) -> None:
    case = {
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [{"series": PREFIX + name, "values": f"{value}+0x6"} for name, value in SERIES.items()],
                "promql_expr_test": [
                    {
                        "expr": promql,
                        "eval_time": "60s",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in values.items()],
                    }
                    for promql, values in expected
                ],
            }
        ],
    }
    file = folder / "case.yml"
    file.write_text(yaml.safe_dump(case, width=1000), encoding="utf-8")
    done = run("promtool", "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def query(title: str) -> str:
    [panel] = [panel for panel in PANELS if panel["title"] == title]
    [target] = panel["targets"]
    expression: str = target["expr"]
    return expression


def test_the_queries_name_recorded_series_and_nothing_else() -> None:
    for expression in QUERIES:
        bare = re.sub(r'"[^"]*"', '""', expression)
        names = set(re.findall(r"[a-zA-Z_:][\w:]*", bare))
        assert names & RECORDED, expression
        assert names <= RECORDED | WORDS | LABELS | {"part"}, expression


@pytest.mark.real_programs
def test_every_query_shows_something(tmp_path: Path) -> None:
    promtool(tmp_path, *((f"count({expression}) > bool 0", {"{}": 1}) for expression in QUERIES))


@pytest.mark.real_programs
def test_servers_waiting_pods_and_init_containers_are_left_out(tmp_path: Path) -> None:
    promtool(
        tmp_path,
        (query("Ready workers"), {"{}": 1}),
        (query("Workers not Ready"), {"{}": 1}),
        (query("Longest wait"), {"{}": 40}),
        (query("Age of the oldest evaluation"), {"{}": 2}),
        (query("Requests of what runs on workers, as a share of what they can give"), {'{resource="cpu"}': 1 / 4}),
    )


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

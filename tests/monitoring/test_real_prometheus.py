"""A real Prometheus scrapes the samples over HTTP, evaluates the rendered rules and answers the one instant query."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from autoscaler.deploy.rules import Settings, render, write
from autoscaler.model import Sample
from autoscaler.observe.cluster import parse_nodes, parse_pods
from autoscaler.observe.query import snapshot_query
from autoscaler.observe.samples import sort_samples
from autoscaler.observe.series import CLUSTER_FAMILIES, META_FAMILIES, PREFIX, UTILISATION_FAMILIES
from autoscaler.policy import MetricsPolicy, Policy, ScaleUp
from tests.monitoring.programs import QuietHandler, daemon, free_port, get_json, serving, wait_until
from tests.monitoring.scrape import DATA

pytestmark = pytest.mark.real_programs

POLICY = Policy(
    version=1,
    scale_up=ScaleUp(pending_for_s=2),
    metrics=MetricsPolicy(cluster_interval_s=1, utilisation_interval_s=1, cpu_rate_window_s=3, max_age_s=5),
)
GATED = '"batch",pod="gated-85b9d64dc5-pnjkm",uid="666c2f54-0d6a-4063-8f5a-b0973689d6c4"'
API = '"shop",pod="api-84b9c757d9-56lkk",uid="9de9ec1c-2da2-4bff-aaf7-5cec3a3268f8"'
# What the sample lacks: 2.19's reason of the gate, an annotation that forbids the eviction.
MORE = f"""
kube_pod_status_reason{{namespace={GATED},reason="SchedulingGated"}} 1
kube_pod_annotations{{namespace={API},annotation_karpenter_sh_do_not_disrupt="true"}} 1
"""


def kube_state_metrics() -> str:
    return (DATA / "kube-state-metrics.prom").read_text(encoding="utf-8") + MORE


def node_exporter(started: float) -> str:
    """The sample on the machine `static-1`, each of its CPUs idle for half of the time since the start."""
    lines = []
    for line in (DATA / "node-exporter.prom").read_text(encoding="utf-8").splitlines():
        if 'mode="idle"' in line:
            name, value = line.split()
            lines.append(f"{name} {float(value) + (time.time() - started) / 2}")
        else:
            lines.append(line.replace('nodename="vm"', 'nodename="static-1"'))
    return "\n".join(lines) + "\n"


@contextmanager
def served() -> Iterator[tuple[str, dict[str, bool]]]:
    """Both sources on one loopback port, by path; set an entry to False and that source answers 500."""
    started = time.time()
    pages: dict[str, Callable[[], str]] = {"/ksm": kube_state_metrics, "/machine": lambda: node_exporter(started)}
    healthy = dict.fromkeys(pages, True)

    class Handler(QuietHandler):
        def reply(self) -> None:
            self.answer(200 if healthy[self.path] else 500, pages[self.path]().encode())

    with serving(Handler) as target:
        yield target, healthy


def at_path(path: str, target: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [target], "labels": {"__metrics_path__": path}}]}


def understood(rows: list[dict[str, Any]]) -> bool:
    samples = msgspec.convert(rows, list[Sample])
    found = sort_samples(samples, now_s=int(time.time()), max_age_s=POLICY.metrics.max_age_s)
    assert found is not None
    assert found.cluster_problems == ()
    nodes, problems = parse_nodes(found, POLICY)
    assert problems == []
    pods, problems = parse_pods(found)
    assert problems == []
    waiting = sorted(pod.title for pod in pods if pod.unschedulable_since_s is not None)
    assert len(waiting) == 6
    api = next(pod for pod in pods if pod.do_not_evict)
    assert api.requests.cpu_millicores == 500
    workers = [node for node in nodes if not node.control_plane]
    return len(workers) == 7 and [node.name for node in workers if not node.ready] == ["static-2"]


def test_one_instant_query_returns_every_family(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"

    def query(promql: str) -> list[dict[str, Any]]:
        answer = get_json(f"{base}/api/v1/query?query={quote(promql)}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def snapshot() -> dict[str, int]:
        rows = query(f'{{__name__=~"{PREFIX}.+"}}')
        return Counter(row["metric"]["__name__"].removeprefix(PREFIX) for row in rows)

    with served() as (target, healthy):
        write(
            render(
                POLICY,
                Settings(
                    kube_state_metrics=at_path("/ksm", target),
                    node_exporter=at_path("/machine", target),
                    prometheus={"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
                    # Nobody listens there: alerts are looked at in Prometheus itself.
                    alertmanager={"static_configs": [{"targets": [f"127.0.0.1:{free_port()}"]}]},
                ),
            ),
            tmp_path,
        )
        with daemon(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            log=tmp_path / "prometheus.log",
        ):
            families = {*CLUSTER_FAMILIES, *UTILISATION_FAMILIES, *META_FAMILIES}
            measured = '{__name__="k3s_autoscaler:node_utilisation",resource="cpu",node="static-1"}'
            wait_until(
                lambda: snapshot().keys() >= families and bool(query(measured)),
                within_s=40,
                what="every family is recorded",
            )

            counts = snapshot()
            assert counts.keys() == families
            expected = {row["metric"]["family"]: int(row["value"][1]) for row in query(f"{PREFIX}expected")}
            assert expected == {name: counts[name] for name in (*CLUSTER_FAMILIES, *UTILISATION_FAMILIES)}
            assert counts["pod_info"] == 46
            assert counts["pod_unschedulable_since"] == 6
            assert 0.3 < float(query(measured)[0]["value"][1]) < 0.7

            # The core's own query and its own reader. A look in the middle of an evaluation may find a count too many.
            wait_until(lambda: understood(query(snapshot_query(POLICY))), within_s=10, what="the core understands it")

            groups = get_json(f"{base}/api/v1/rules")["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) > 50
            assert [rule for rule in rules if rule["health"] != "ok"] == []

            firing = 'ALERTS{alertname="K3sUnschedulablePods",alertstate="firing"}'
            wait_until(lambda: bool(query(firing)), within_s=20, what="the alert of the waiting pods fires")

            healthy["/ksm"] = False
            down = f'{PREFIX}source_up{{source="kube-state-metrics"}} == 0'
            wait_until(lambda: bool(query(down)), within_s=20, what="the source is seen to be down")
            wait_until(
                lambda: not snapshot().keys() & set(CLUSTER_FAMILIES), within_s=20, what="what it told is forgotten"
            )
            left = {row["metric"]["family"] for row in query(f"{PREFIX}expected")}
            assert left == set(UTILISATION_FAMILIES)
            assert query(f'{PREFIX}scraped_at{{source="kube-state-metrics"}}') == []

            healthy["/ksm"] = True
            back = f'{PREFIX}source_restarted{{source="kube-state-metrics"}} == 1'
            wait_until(lambda: bool(query(back)), within_s=20, what="the source that came back counts as restarted")

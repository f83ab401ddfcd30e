"""A real Prometheus scrapes a real sample over HTTP, evaluates the rendered rules and answers the core's queries."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from autoscaler.deploy.rules import Settings, render, rules_mark, write
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import CLUSTER_TAG, ROLE_TAG, MetricsStatus, Sample, Snapshot, State
from autoscaler.observe.closer import with_pods_of, with_rooms
from autoscaler.observe.query import about_query, moving_query, rooms_query, sight_query
from autoscaler.observe.samples import sort_samples
from autoscaler.observe.series import FAMILY
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy, ScaleUp
from tests.monitoring.programs import QuietHandler, daemon, free_port, get_json, serving, wait_until
from tests.monitoring.scrape import DATA

pytestmark = pytest.mark.real_programs

POLICY = Policy(
    version=1,
    scale_up=ScaleUp(pending_for_s=2),
    metrics=MetricsPolicy(cluster_interval_s=1, utilisation_interval_s=1, cpu_rate_window_s=3, max_age_s=5),
)
WORKER = "worker-i-0bbbbbbbbbbbbbbb"
# Each target's `instance` and its machine's own name: by either, the Node is found.
MACHINES = {
    "10.0.1.10:9100": "x",
    "10.0.1.21:9100": "x",
    f"{WORKER}2": "x",
    "[2a05:d014:1:3::23]:9100": "x",
    "localhost:9100": f"{WORKER}4-1f2e3d4c",
    "192.168.7.5:9100": "x",
}
CLUSTER_ID = "k3s-main"
# DescribeInstances' row of the sample's server: without any instance of ours the metrics would be another cluster's.
SERVER = {
    "InstanceId": "i-0aaaaaaaaaaaaaaa0",
    "State": {"Name": "running"},
    "InstanceType": "t3.medium",
    "Placement": {"AvailabilityZone": "eu-central-1a"},
    "LaunchTime": datetime(2026, 1, 1, tzinfo=UTC),
    "Tags": [{"Key": CLUSTER_TAG, "Value": CLUSTER_ID}, {"Key": ROLE_TAG, "Value": "server"}],
}
NEWER = ("kube_node_status_addresses", "kube_persistentvolume_info")
"""What the flags of the first sample hid and the present ones show; the second sample of the same cluster has it."""
PROOF = 'persistentvolume="k3s-autoscaler-proof"'
WAITS = 'namespace="z",pod="waits",uid="w"'
MORE = f"""
kube_persistentvolume_info{{{PROOF},csi_driver="k3s-autoscaler-proof"}} 1
kube_persistentvolume_annotations{{{PROOF},annotation_local_path_provisioner_selected_node="none"}} 1
kube_pod_info{{{WAITS},node="",created_by_kind="ReplicaSet",created_by_name="web"}} 1
kube_pod_status_phase{{{WAITS},phase="Pending"}} 1
kube_pod_status_unschedulable{{{WAITS}}} 1
kube_pod_status_unscheduled_time{{{WAITS}}} 1.79564668e+09
kube_pod_container_resource_requests{{{WAITS},container="c",node="",resource="cpu",unit="core"}} 0.25
"""
BUILD = 'kube_state_metrics_build_info{version="v2.20.0",branch="",revision="x"} 1\nprocess_open_fds 9\n'


def kube_state_metrics() -> str:
    text = (DATA / "kube-state-metrics-2.20-shipped-flags.prom").read_text(encoding="utf-8")
    other = (DATA / "kube-state-metrics-2.20-no-allow-lists.prom").read_text(encoding="utf-8")
    return text + "\n".join(line for line in other.splitlines() if line.startswith(NEWER)) + MORE


def node_exporter(nodename: str, started: float) -> str:
    """The sample, each of its CPUs idle for half of the time since the start."""
    lines = []
    for line in (DATA / "node-exporter.prom").read_text(encoding="utf-8").splitlines():
        if 'mode="idle"' in line:
            name, value = line.split()
            lines.append(f"{name} {float(value) + (time.time() - started) / 2}")
        else:
            lines.append(line.replace('nodename="vm"', f'nodename="{nodename}"'))
    return "\n".join(lines) + "\n"


@contextmanager
def served() -> Iterator[tuple[str, dict[str, bool]]]:
    """All sources on one loopback port, by path; set an entry to False and that source answers 500."""
    started = time.time()
    pages: dict[str, Callable[[], str]] = {"/ksm": kube_state_metrics, "/build": lambda: BUILD}
    for name in MACHINES.values():
        pages[f"/machine/{name}"] = lambda name=name: node_exporter(name, started)  # type: ignore[misc] # mypy does not see the default's type
    healthy = dict.fromkeys(pages, True)

    class Handler(QuietHandler):
        def reply(self) -> None:
            self.answer(200 if healthy[self.path] else 500, pages[self.path]().encode())

    with serving(Handler) as target:
        yield target, healthy


def at_path(target: str, *paths: tuple[str, dict[str, str]]) -> dict[str, Any]:
    return {
        "static_configs": [
            {"targets": [target], "labels": {"__metrics_path__": path, **labels}} for path, labels in paths
        ]
    }


class Asked:
    """That Prometheus, and what the core makes of its answers."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def query(self, promql: str) -> list[Sample]:
        answer = get_json(f"{self.base}/api/v1/query?{urlencode({'query': promql})}")
        assert answer["status"] == "success", answer
        return msgspec.convert(answer["data"]["result"], list[Sample])

    def sight(self) -> Snapshot:
        return assemble(
            self.query(sight_query(POLICY, with_owners=True)),
            [SERVER],
            (),
            state=State(),
            cluster_id=CLUSTER_ID,
            policy=POLICY,
            now_s=int(time.time()),
        )

    def families(self) -> set[str]:
        return {sample.metric[FAMILY] for sample in self.query(sight_query(POLICY, with_owners=True))}


def test_a_look(tmp_path: Path) -> None:
    port = free_port()
    asked = Asked(port)
    with served() as (target, healthy):
        settings = Settings(
            kube_state_metrics=at_path(target, ("/ksm", {})),
            kube_state_metrics_telemetry=at_path(target, ("/build", {})),
            node_exporter=at_path(
                target, *((f"/machine/{name}", {"instance": instance}) for instance, name in MACHINES.items())
            ),
            prometheus={"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
            # Nobody listens there: alerts are looked at in Prometheus itself.
            alertmanager={"static_configs": [{"targets": [f"127.0.0.1:{free_port()}"]}]},
        )
        write(render(POLICY, settings), tmp_path)
        with daemon(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            log=tmp_path / "prometheus.log",
        ):
            # Everything is proven but one thing: the source is younger than a minute.
            wait_until(lambda: len(asked.sight().metrics_problems) == 1, within_s=40, what="all is shown and measured")
            snapshot = asked.sight()
            assert "restarted less than 60 s ago" in snapshot.metrics_problems[0]
            assert snapshot.cluster_known
            assert len(snapshot.nodes) == 6
            assert [pod.title for pod in snapshot.pods if pod.unschedulable_since_s is not None] == ["z/waits"]
            assert snapshot.gated_pods == 1
            # The server's machine too, which no proof waits for: it takes no pods.
            measured = "count(k3s_autoscaler:node_utilisation) == 2 * 6"
            wait_until(lambda: bool(asked.query(measured)), within_s=10, what="each machine is measured")
            used = asked.query('k3s_autoscaler:workers_utilisation{resource="cpu"}')
            assert all(0.3 < float(sample.value[1]) < 0.7 for sample in used)
            assert [sample.metric["version"] for sample in asked.query("kube_state_metrics_build_info")] == ["v2.20.0"]

            rooms = rooms_query(POLICY, [f"{WORKER}1"], with_init=True, with_overhead=True)
            snapshot = with_rooms(snapshot, asked.query(rooms), POLICY)
            assert snapshot.rooms_known
            snapshot = with_pods_of(snapshot, [f"{WORKER}1"], asked.query(moving_query(POLICY, [f"{WORKER}1"])))
            assert snapshot.metrics_problems[1:] == ()
            [worker] = [node for node in snapshot.nodes if node.name == f"{WORKER}1"]
            assert worker.requested is not None
            assert worker.requested.cpu_millicores == 170
            recorded = asked.query(f'k3s_autoscaler:node_requested{{node="{WORKER}1"}}')
            assert {(r.metric.get("resource"), float(r.value[1])) for r in recorded} >= {("cpu", 0.17), (None, 2)}
            assert {pod.name for pod in snapshot.pods if pod.node == worker.name} == {
                "besteffort",
                "sidecar",
                "dsx-5cnjq",
            }

            groups = get_json(f"{asked.base}/api/v1/rules")["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) == 14
            assert [rule for rule in rules if rule["health"] != "ok"] == []
            # What the doctor asks: which rules record, by the mark that rendering gave them.
            about = sort_samples(asked.query(about_query(POLICY)))
            assert about is not None
            assert [row["rendered"] for row, _ in about.of("rules")] == [rules_mark(POLICY, settings)]
            assert sum(about.by("kubelets", "kubelet_version").values()) == 6
            # What the scrapes drop.
            assert asked.query('kube_pod_status_phase{phase="Failed"} or node_cpu_seconds_total{mode="user"}') == []
            firing = 'ALERTS{alertname="K3sUnschedulablePods",alertstate="firing"}'
            wait_until(lambda: bool(asked.query(firing)), within_s=20, what="the alert of the waiting pod fires")

            healthy["/ksm"] = False
            wait_until(lambda: "node" not in asked.families(), within_s=20, what="what it told is forgotten")
            blind = asked.sight()
            assert not blind.cluster_known
            assert blind.metrics_status is MetricsStatus.PARTIAL
            assert any("kube-state-metrics is not scraped" in problem for problem in blind.metrics_problems)

            healthy["/ksm"] = True
            wait_until(lambda: asked.sight().cluster_known, within_s=20, what="it is back")
            assert any("restarted" in problem for problem in asked.sight().metrics_problems)

"""What looking costs: `python -m bench.observe --nodes 100 --pods 3000`.

A real Prometheus with the rendered configuration and rules scrapes a generated cluster at the shipped intervals.
Measured are its CPU and memory while nobody looks, its rules, the look's four queries, and what parsing and deciding
cost. The last line is one JSON object; the table above it is for people.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import requests

from autoscaler.aws.calls import Calls
from autoscaler.aws.prometheus import Prometheus
from autoscaler.decide.decision import decide
from autoscaler.deploy.rules import Discovery, Settings, render, write
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.model import Asks, Sample, Snapshot, State
from autoscaler.observe.closer import look_closer
from autoscaler.observe.query import NAMED_AT_MOST, sight_query
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy, Workers
from autoscaler.simulator.stack.monitors import find_programs
from autoscaler.simulator.stack.processes import (
    Interrupted,
    Running,
    StackError,
    Supervisor,
    answers,
    endings_raise,
    free_port,
)
from bench.figures import median
from bench.large_cluster import INSTANCE_TYPE, TELEMETRY, LargeCluster

CLUSTER_ID: Final = "bench"
START_TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 20.0
"""Beyond the CPU rate's window: the first scrapes and evaluations."""
ROUNDS: Final = 5
MOVING_NODES: Final = 20
QUERY_TIMEOUT_S: Final = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.observe", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--waiting", type=int, default=0, help="pods that no node takes; a calm cluster has none")
    parser.add_argument(
        "--steady-s", type=float, default=60.0, help="how long Prometheus is watched while nobody looks"
    )
    parser.add_argument("--cluster-interval-s", type=int, default=MetricsPolicy().cluster_interval_s)
    parser.add_argument("--json", action="store_true", help="print only JSON on standard output")
    options = parser.parse_args(arguments)
    if not 1 <= options.nodes <= 60_000 or options.pods < options.nodes:
        parser.error("--nodes must be from 1 to 60000, and --pods at least as many")
    if not 0 <= options.waiting < options.pods or options.steady_s <= 0 or options.cluster_interval_s < 1:
        parser.error("--waiting must be below --pods; --steady-s and --cluster-interval-s must be above 0")
    try:
        with endings_raise():
            result = _measure(options)
    except Interrupted as error:
        _tell(f"The bench was {error}.")
        return 128 + error.number
    except StackError as error:
        _tell(f"The bench could not go on: {error}")
        return 1
    if not options.json:
        _print_table(result)
    print(json.dumps(result))
    return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    policy = Policy(
        version=1,
        workers=Workers(min=1, max=1000, instance_types=(INSTANCE_TYPE,)),
        metrics=MetricsPolicy(cluster_interval_s=options.cluster_interval_s, timeout_s=QUERY_TIMEOUT_S),
    )
    cluster = LargeCluster(nodes=options.nodes, pods=options.pods, waiting=options.waiting)
    with tempfile.TemporaryDirectory() as name, Supervisor(Path(name)) as supervisor, _exposed(cluster) as address:
        program = find_programs(supervisor, os.environ).prometheus
        port = free_port()
        running = _start(
            supervisor, program.path, port=port, policy=policy, address=address, cluster=cluster, folder=Path(name)
        )
        _wait(policy.metrics.cpu_rate_window_s + SETTLE_S, "Prometheus fills its windows")
        process = psutil.Process(running.pid)
        used_s, began = _cpu_s(process), time.monotonic()
        _wait(options.steady_s, "Prometheus is watched while nobody looks")
        share = (_cpu_s(process) - used_s) / (time.monotonic() - began)
        supervisor.check_alive()
        url = f"http://127.0.0.1:{port}"
        figures = {
            "bench": "observe",
            "nodes": options.nodes,
            "pods": options.pods,
            "waiting": options.waiting,
            "prometheus": program.version,
            "prometheus_core_share": round(share, 4),
            "prometheus_rss_mb": round(process.memory_info().rss / 1e6, 1),
            "rule_eval_s": _rule_eval_s(url),
        }
        return {**figures, **_look(url, policy, cluster)}


def _look(url: str, policy: Policy, cluster: LargeCluster) -> dict[str, Any]:
    """The look's queries and our own work on them, by the code that the functions run."""
    metrics = _Timed(Prometheus(url, timeout_s=QUERY_TIMEOUT_S, calls=Calls()))
    instances, state, now_s = cluster.instances(CLUSTER_ID), State(), int(time.time())

    def parse(samples: Sequence[Sample]) -> Snapshot:
        return assemble(samples, instances, (), state=state, cluster_id=CLUSTER_ID, policy=policy, now_s=now_s)

    _tell("The look's queries")
    for _ in range(ROUNDS):
        samples = metrics.query(sight_query(policy))
        snapshot = parse(samples)
    if snapshot.metrics_problems:
        raise StackError(f"the bench's own look is not whole: {snapshot.metrics_problems[0]}.")
    sight = metrics.taken()
    for _ in range(ROUNDS):
        metrics.query(sight_query(policy, with_owners=True))
    looking_ahead = metrics.taken()
    raw = requests.post(f"{url}/api/v1/query", data={"query": sight_query(policy)}, timeout=QUERY_TIMEOUT_S).content

    def work() -> None:
        decide(parse(_decoded(raw)), state, policy, now_s=now_s, decision_id="bench")

    cpu_ms = [_cpu_ms(work) for _ in range(ROUNDS)]
    names = tuple(cluster.nodes[1 : MOVING_NODES + 1])
    for _ in range(ROUNDS):
        closer = look_closer(metrics, snapshot, Asks(rooms=True), policy)
    rooms = metrics.taken()
    if not closer.rooms_known:
        raise StackError(f"the bench's own closer look is not whole: {closer.metrics_problems[0]}.")
    for _ in range(ROUNDS):
        moving = look_closer(metrics, closer, Asks(pods_of=names), policy)
    if moving.pods_of != frozenset(names):
        raise StackError("the bench's own closer look did not show the pods of every Node.")
    decide_ms = [
        _cpu_ms(lambda: decide(moving, state, policy, now_s=now_s, decision_id="bench")) for _ in range(ROUNDS)
    ]
    pods = metrics.taken()
    owners = tuple(sorted({pod.owner for pod in moving.pods}))[:NAMED_AT_MOST]
    for _ in range(ROUNDS):
        placed = look_closer(metrics, closer, Asks(places_of=owners), policy)
    if placed.places_of != frozenset(owners):
        raise StackError("the bench's own closer look did not show where the pods of every owner are.")
    places = metrics.taken()
    return {
        "query_s": sight.seconds,
        "bytes": len(raw),
        "owners_query_s": looking_ahead.seconds,
        "owners_bytes": looking_ahead.bytes,
        "parse_decide_cpu_ms": round(median(cpu_ms), 1),
        "rooms_query_s": rooms.seconds,
        "rooms_bytes": rooms.bytes,
        "moving_query_s": pods.seconds,
        "moving_bytes": pods.bytes,
        "places_query_s": places.seconds,
        "places_bytes": places.bytes,
        "places_owners": len(owners),
        "decide_closer_cpu_ms": round(median(decide_ms), 1),
    }


class _Asked(msgspec.Struct, frozen=True):
    """One kind of question: the median time, and about how many bytes of JSON it brings."""

    seconds: float
    bytes: int


class _Timed:
    """Times the queries of a `Metrics`."""

    def __init__(self, metrics: Prometheus) -> None:
        self._metrics = metrics
        self._seconds: list[float] = []
        self._bytes = 0

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Ask, and remember how long it took."""
        began = time.perf_counter()
        samples = self._metrics.query(promql, timeout_s=timeout_s)
        self._seconds.append(time.perf_counter() - began)
        self._bytes = len(msgspec.json.encode(samples))
        return samples

    def taken(self) -> _Asked:
        """What was asked since the last time."""
        asked = _Asked(round(median(self._seconds), 3), self._bytes)
        self._seconds.clear()
        return asked


class _Data(msgspec.Struct):
    result: list[Sample]


class _Answer(msgspec.Struct):
    data: _Data


def _decoded(body: bytes) -> list[Sample]:
    return msgspec.json.decode(body, type=_Answer).data.result


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _rule_eval_s(url: str) -> float:
    """The longest of the last evaluations of our rule groups, as Prometheus tells it of itself."""
    groups = requests.get(f"{url}/api/v1/rules", timeout=QUERY_TIMEOUT_S).json()["data"]["groups"]
    broken = [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")]
    if broken or not groups:
        raise StackError(f"the bench's rules do not run: {broken[0] if broken else 'none is loaded'}.")
    return round(max(float(group["evaluationTime"]) for group in groups), 4)


def _start(
    supervisor: Supervisor, path: str, *, port: int, policy: Policy, address: str, cluster: LargeCluster, folder: Path
) -> Running:
    exporters = [
        {
            "targets": [address],
            "labels": {"__metrics_path__": f"/node/{number}", "instance": f"{cluster.address(number)}:9100"},
        }
        for number in range(len(cluster.nodes))
    ]
    settings = Settings(
        cluster_id=CLUSTER_ID,
        kube_state_metrics=_static(address, "/kube-state-metrics"),
        kube_state_metrics_telemetry=_static(address, "/telemetry"),
        node_exporter={"static_configs": exporters},
        prometheus={"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        alertmanager={"static_configs": [{"targets": [f"127.0.0.1:{free_port()}"]}]},
    )
    write(render(policy, settings), folder)
    running = supervisor.start(
        "prometheus",
        [
            path,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    )
    supervisor.wait_ready(running, lambda: answers(f"http://127.0.0.1:{port}/-/ready"), timeout_s=START_TIMEOUT_S)
    return running


def _static(target: str, path: str) -> Discovery:
    return {"static_configs": [{"targets": [target], "labels": {"__metrics_path__": path}}]}


@contextlib.contextmanager
def _exposed(cluster: LargeCluster) -> Iterator[str]:
    """Serve the cluster's pages on a loopback port; yields its address."""
    page = cluster.kube_state_metrics()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/node/"):
                body = cluster.node_exporter(int(self.path.rpartition("/")[2]), time.time())
            else:
                body = TELEMETRY if self.path == "/telemetry" else page
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a scrape that took too long
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _wait(seconds: float, why: str) -> None:
    _tell(f"{why}: {seconds:.0f} s")
    time.sleep(seconds)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _print_table(result: dict[str, Any]) -> None:
    print(f"Looking at {result['nodes']} workers and {result['pods']} pods, Prometheus {result['prometheus']}\n")
    print(
        f"  while nobody looks   {result['prometheus_core_share']:.1%} of a core, {result['prometheus_rss_mb']:.0f} MB"
    )
    print(f"  rules                {result['rule_eval_s'] * 1000:.0f} ms an evaluation")
    for name, key in (
        ("each look", ""),
        ("a sweep with owners", "owners_"),
        ("what is free", "rooms_"),
        ("pods of 20 workers", "moving_"),
        (f"places, {result['places_owners']} owners", "places_"),
    ):
        print(f"  {name:<20} {result[f'{key}query_s']:.3f} s, {result[f'{key}bytes'] / 1000:.0f} kB")
    print(f"  parse and decide     {result['parse_decide_cpu_ms']:.0f} ms of CPU\n")


if __name__ == "__main__":
    sys.exit(main())

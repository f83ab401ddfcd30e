"""Runs within a measured process: `python -I -S in_child.py FOLDER cold KIND`, or `FOLDER warm URL REPOSITORY ROUNDS`.

FOLDER is the unpacked package, the only place of libraries: nothing else of ours is imported before it is measured.
Prints one line of JSON. A cold start's CPU time is all of the process', the interpreter's own start included.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

LOOKS_BEFORE = 3
"""The first ones make connections and fill caches."""
MOST_LOOKS = 10
"""Until a simulated cluster comes to what is measured: a server may have to be asked first."""


def floor() -> None:
    """What a function must load that looks at EC2, DynamoDB, SSM and Prometheus with these libraries, and logs."""
    boto3 = import_module("boto3")
    import_module("requests")
    logger = import_module("aws_lambda_powertools").Logger
    import_module("aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch")
    logger(service="floor")
    for service in ("dynamodb", "ec2", "ssm"):
        boto3.client(service)


def begin(name: str) -> Any:
    """One of our handlers, assembled, with the same three clients; returns its module's names."""
    handler = vars(import_module(f"handlers.{name}"))
    clients = handler["_app"]().clients
    clients.dynamodb(), clients.ec2(), clients.ssm()
    return handler


def first_webhook() -> None:
    """What the alerts' function loads once a webhook has shown its token."""
    begin("alerts")["_once"]()


KINDS: Mapping[str, Callable[[], object]] = {
    "floor": floor,
    "sweep": lambda: begin("sweep"),
    "lifecycle": lambda: begin("lifecycle"),
    "alerts": lambda: begin("alerts"),
    "alerts and its first webhook": first_webhook,
    "import boto3": lambda: import_module("boto3"),
    "import handlers.sweep": lambda: import_module("handlers.sweep"),
}


def main() -> None:
    """Measure what the arguments say."""
    folder, what, *arguments = sys.argv[1:]
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    os.chdir(folder)
    if what == "cold":
        KINDS[arguments[0]]()
        told: dict[str, Any] = {"cpu_s": time.process_time()}
    else:
        told = warm(*arguments)
    print(json.dumps({**told, "peak_mb": peak_mb(), "modules": len(sys.modules)}))


def peak_mb() -> float:
    """Of this program alone: getrusage counts what its parent held before the start as well (proc(5), VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Context:
    """Lambda's, as far as it is used."""

    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """As at the start."""
        return 25_000


def warm(url: str, repository: str, rounds: str) -> dict[str, Any]:
    """The same process again and again: looks over HTTP beside the bare calls, then looks at fakes."""
    handler = import_module("handlers.sweep")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        shown, sys.stdout = sys.stdout, nowhere  # a look writes its log line there
        app = vars(handler)["_app"]()
        looks, document = over_http(app, handler.handler, url, int(rounds))
        acts, calls = on_fakes(app, repository, max(3, int(rounds) // 8))
        sys.stdout = shown
    return {"looks": looks | acts, "document": document, "calls": calls}


def over_http(app: Any, handler: Any, url: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """CPU seconds of a calm look, all of it, and of its three calls alone; the decision document of the last one."""
    dynamodb, ec2, session = app.clients.dynamodb(), app.clients.ec2(), import_module("requests").Session()
    session.trust_env = False

    def bare_calls() -> None:
        dynamodb.get_item(TableName="state", Key={"cluster_id": {"S": "demo"}, "record": {"S": "STATE"}})
        ec2.describe_instances(Filters=[{"Name": "tag:Cluster", "Values": ["demo"]}])
        session.post(f"{url}/api/v1/query", data={"query": "up"}).json()

    looks: dict[str, list[float]] = {"floor": [], "calm": [], "calm wall": []}
    for number in range(LOOKS_BEFORE + rounds):
        floor_s, _, _ = timed(bare_calls)
        calm_s, wall_s, document = timed(lambda: handler({}, Context()))
        if number >= LOOKS_BEFORE:
            for name, value in (("floor", floor_s), ("calm", calm_s), ("calm wall", wall_s)):
                looks[name].append(value)
    return looks, document


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds, seconds, and what came of it."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - cpu, time.perf_counter() - wall, found


class Apart:
    """A port whose own time is not ours: the simulator's, where the service would wait for a call."""

    spent_s = 0.0

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._port, name)

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*arguments, **named)
            finally:
                Apart.spent_s += time.process_time() - began

        return call


def on_fakes(app: Any, repository: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, dict[str, int]]]:
    """Looks at a simulated cluster that begin something: our CPU seconds without the simulator's, and their calls."""
    import_module("autoscaler").__path__.append(str(Path(repository, "autoscaler")))  # the package has no simulator
    simulated, workload = (import_module(f"autoscaler.simulator.{name}") for name in ("cluster", "world.workload"))

    def pods_come(cluster: Any) -> None:
        template = workload.PodTemplate(request=workload.Ask(cpu_millicores=900, memory_bytes=100 * 1024**2))
        kind = workload.Kind.DEPLOYMENT
        cluster.apply(workload.Workload(namespace="shop", name="web", kind=kind, replicas=8, template=template))
        cluster.run(15)

    def one_too_many(cluster: Any) -> None:
        cluster.add_worker()
        cluster.run(1500)

    looks: dict[str, list[float]] = {}
    calls: dict[str, dict[str, int]] = {}
    for name, prepare in (("scale_up", pods_come), ("scale_down", one_too_many)):
        looks[name] = []
        for _ in range(rounds):
            cluster = simulated.SimCluster(app.policy)
            prepare(cluster)
            spent_s, calls[name] = acting(app, cluster, name)
            looks[name].append(spent_s)
    return looks, calls


def acting(app: Any, cluster: Any, action: str) -> tuple[float, dict[str, int]]:
    """The first look that begins this. Raises SystemExit where none does."""
    document: dict[str, Any] = {}
    for _ in range(MOST_LOOKS):
        spent_s, document = look(app, cluster)
        if document["action"] == action:
            return spent_s, document["calls"]
        cluster.run(15)
    raise SystemExit(f"No {action} in {MOST_LOOKS} looks: {document['message']}")


def look(app: Any, cluster: Any) -> tuple[float, dict[str, Any]]:
    """One look, its log line included."""
    named = ("metrics", "fleet", "commands", "store", "notifier")
    ports = cluster.ports()
    ports = import_module("msgspec").structs.replace(ports, **{name: Apart(getattr(ports, name)) for name in named})
    reconcile, model = import_module("autoscaler.reconcile").reconcile, import_module("autoscaler.model")
    Apart.spent_s, began = 0.0, time.process_time()
    document = reconcile(ports, cluster_id=cluster.cluster_id, policy=app.policy, trigger=model.Trigger(kind="sweep"))
    app.telemetry.decision(document)
    return time.process_time() - began - Apart.spent_s, document


if __name__ == "__main__":
    main()

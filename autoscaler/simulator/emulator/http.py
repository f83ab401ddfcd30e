"""The simulated cluster over HTTP: what Prometheus scrapes, and how a test or the demo plays with it.

* `GET /kube-state-metrics`: the text format of kube-state-metrics.
* `GET /kube-state-metrics-telemetry`: what it says of itself.
* `GET /nodes/<name>/metrics`: of that node's node-exporter; 404 when it does not answer.
* `GET /targets/node-exporter`: Prometheus' HTTP service discovery of those.
* `GET /state`: nodes, pods and what happened, as JSON; `?since=<epoch seconds>` shortens what happened.
* `GET /recorded?query=`: what Prometheus would answer to one of the core's queries, by the simulator's own reckoning,
  where the emulator was given a policy.
* `GET /calls?since=&operation=`: AWS calls that arrived.
* `POST /workloads`: apply one workload (`workload.Workload` as JSON). `DELETE /workloads/<namespace>/<name>`.
* `POST /workloads/<namespace>/<name>/scale` with `{"replicas": n}`.
  `POST /workloads/<namespace>/<name>/burn` with `{"cores": x}`: the CPU that each pod wants.
* `POST /events` with `{"target_url": ...}`: where EventBridge's events go.

A request that is wrong is answered 400 with one sentence, and changes nothing.
"""

import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import msgspec

from autoscaler.simulator.emulator.events import EventBus
from autoscaler.simulator.emulator.moto import CallLog
from autoscaler.simulator.metrics.exposition import telemetry
from autoscaler.simulator.realtime import RealTimeCluster
from autoscaler.simulator.world.workload import Workload

TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
LARGEST_BODY: Final = 1_000_000


class Replicas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a scale request."""

    replicas: int


class Burn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a burn request."""

    cores: float


class EventTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of the request that names the events' receiver."""

    target_url: str | None


class NotThere(LookupError):
    """Nothing has that name."""


class ClusterServer:
    """The HTTP server, in threads of its own."""

    def __init__(self, cluster: RealTimeCluster, *, calls: CallLog, bus: EventBus, port: int) -> None:
        self._cluster = cluster
        self._calls = calls
        self._bus = bus
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"cluster": self}))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, name="cluster-http", daemon=True).start()

    def get(self, path: str, query: dict[str, str]) -> tuple[str, bytes]:
        """Answer a GET: content type and body. Raises NotThere."""
        match path.strip("/").split("/"):
            case ["kube-state-metrics"]:
                return TEXT_FORMAT, self._cluster.kube_state_metrics().encode()
            case ["kube-state-metrics-telemetry"]:
                return TEXT_FORMAT, telemetry().encode()
            case ["nodes", name, "metrics"]:
                text = self._cluster.node_exporters().get(name)
                if text is None:
                    raise NotThere(f"no node-exporter answers for {name}")
                return TEXT_FORMAT, text.encode()
            case ["targets", "node-exporter"]:
                return "application/json", msgspec.json.encode(self._targets())
            case ["state"]:
                return "application/json", msgspec.json.encode(self._cluster.state(float(query.get("since", "0"))))
            case ["recorded"]:
                return "application/json", msgspec.json.encode(self._cluster.answer(query.get("query", "")))
            case ["calls"]:
                calls = self._calls.since(float(query.get("since", "0")), query.get("operation"))
                return "application/json", msgspec.json.encode(calls)
            case _:
                raise NotThere(f"there is no {path}")

    def post(self, path: str, body: bytes) -> None:
        """Do what a POST asks. Raises NotThere, ValueError."""
        match path.strip("/").split("/"):
            case ["workloads"]:
                self._cluster.apply(msgspec.json.decode(body, type=Workload))
            case ["workloads", namespace, name, "scale"]:
                self._cluster.scale(f"{namespace}/{name}", msgspec.json.decode(body, type=Replicas).replicas)
            case ["workloads", namespace, name, "burn"]:
                self._cluster.burn(f"{namespace}/{name}", msgspec.json.decode(body, type=Burn).cores)
            case ["events"]:
                self._bus.target_url = msgspec.json.decode(body, type=EventTarget).target_url
            case _:
                raise NotThere(f"there is no {path}")

    def delete(self, path: str, _body: bytes) -> None:
        """Do what a DELETE asks. Raises NotThere."""
        match path.strip("/").split("/"):
            case ["workloads", namespace, name]:
                self._cluster.delete(f"{namespace}/{name}")
            case _:
                raise NotThere(f"there is no {path}")

    def _targets(self) -> list[dict[str, Any]]:
        host = self.url.removeprefix("http://")
        return [
            {
                "targets": [host],
                "labels": {
                    "__metrics_path__": f"/nodes/{urllib.parse.quote(name)}/metrics",
                    "instance": f"{internal_ip}:9100",
                },
            }
            for name, internal_ip in self._cluster.node_addresses().items()
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: ClusterServer

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self._answer(lambda: self.cluster.get(urllib.parse.unquote(url.path), dict(urllib.parse.parse_qsl(url.query))))

    def do_POST(self) -> None:
        self._change(self.cluster.post)

    def do_DELETE(self) -> None:
        self._change(self.cluster.delete)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: Prometheus comes every two seconds."""

    def _change(self, change: Callable[[str, bytes], None]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._send(413, "text/plain", f"the body may have {LARGEST_BODY} bytes at most\n".encode())
            return
        body = self.rfile.read(length)

        def work() -> tuple[str, bytes]:
            change(urllib.parse.unquote(self.path), body)
            return "application/json", b"{}"

        self._answer(work)

    def _answer(self, work: Callable[[], tuple[str, bytes]]) -> None:
        try:
            kind, body = work()
        except (NotThere, KeyError) as error:
            self._send(404, "text/plain", f"{error.args[0]}\n".encode())
        except msgspec.MsgspecError as error:
            self._send(400, "text/plain", f"the body does not read: {error}\n".encode())
        except ValueError as error:
            self._send(400, "text/plain", f"{error}\n".encode())
        else:
            self._send(200, kind, body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

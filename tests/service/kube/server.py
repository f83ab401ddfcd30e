"""The API server itself: HTTP on a port of the loopback, with the ways in which one fails."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.service.kube import discovery
from tests.service.kube.cluster import Cluster, Object, Selector
from tests.service.kube.status import Refusal, not_found

Query = dict[str, str]


@dataclass
class Fault:
    """What happens to requests whose method and path begin with a match of `on`, `times` times."""

    on: str
    refusal: Refusal | None = None
    hang_s: float = 0.0
    lost: bool = False
    """The request is done and its answer never arrives."""
    times: float = 1


class ApiServer:
    """Begins to listen at once. `stop` and `start` are a restart: the port stays its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        """Method and path of every request but those of discovery."""
        self._http: _Listener | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        self._http = _Listener(self, self.port)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def fault(self, call: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.match(fault.on, call):
                fault.times -= 1
                return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, api: ApiServer, port: int) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A kubectl that was killed in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name of the base class
        pass

    def _serve(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        body = self._body()
        told = discovery.answer(address.path)
        if told is not None:
            self._answer(200, told)
            return
        api, call = self.server.api, f"{self.command} {self.path}"
        api.calls.append(call)
        fault = api.fault(call)
        if fault is not None and fault.hang_s:
            time.sleep(fault.hang_s)
        if fault is not None and fault.refusal is not None:
            self._answer(fault.refusal.code, fault.refusal.body(), retry_after_s=fault.refusal.retry_after_s)
            return
        try:
            with api.cluster.lock:
                happens = api.cluster.before.pop(f"{self.command} {address.path}", None)
                if happens is not None:
                    happens()
                found = _route(api.cluster, self.command, address.path, query, json.loads(body or b"{}"))
                text = json.loads(json.dumps(found))
        except Refusal as refusal:
            self._answer(refusal.code, refusal.body(), retry_after_s=refusal.retry_after_s)
            return
        if fault is not None and fault.lost:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(201 if self.command == "POST" else 200, text)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 # the names of the base class

    def _body(self) -> bytes:
        """Also in chunks: so `kubectl delete --raw -f` sends the file."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, code: int, body: Object, *, retry_after_s: int = 0) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if retry_after_s:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(text)


Answer = Callable[[Cluster, Query, Object, tuple[str, ...]], Object]


def _list(kind: str, version: str, items: list[Object]) -> Object:
    return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1000"}, "items": items}


def _page(found: Object, query: Query) -> Object:
    """As much of a list as was asked for at once; where it goes on is told as a real one does, by a token."""
    limit, first = int(query.get("limit", 0)), int(query.get("continue", 0))
    if "items" not in found or not limit:
        return found
    following = first + limit
    left = len(found["items"]) - following
    more = {"continue": str(following), "remainingItemCount": left} if left > 0 else {}
    return found | {"metadata": found["metadata"] | more, "items": found["items"][first:following]}


def _selects(query: Query) -> Selector:
    """The field selectors that a real one has for pods, of two levels: `spec.nodeName=`, `status.phase!=`."""
    parts = re.findall(r"(\w+)\.(\w+)(!?)==?([^,]*)", query.get("fieldSelector", ""))

    def selects(item: Object) -> bool:
        return all((item.get(part, {}).get(name, "") == value) != bool(no) for part, name, no, value in parts)

    return selects


def _namespaces(cluster: Cluster, query: Query) -> list[Object]:
    found = [
        {"metadata": {"name": name, "labels": cluster.namespace_labels.get(name, {})}, "status": {"phase": phase}}
        for name, phase in cluster.namespaces.items()
    ]
    return [item for item in found if _selects(query)(item)]


def _dry(query: Query) -> bool:
    return query.get("dryRun") == "All"


def _daemon_set(cluster: Cluster, namespace: str, name: str) -> Object:
    if (namespace, name) not in cluster.daemon_sets:
        raise not_found("daemonsets", name, "apps")
    return cluster.daemon_sets[namespace, name]


_POD = r"/api/v1/namespaces/([^/]+)/pods/([^/]+)"
_ROUTES: dict[str, Answer] = {
    r"GET /api/v1/nodes": lambda c, _q, _b, _: _list("Node", "v1", list(c.nodes.values())),
    r"GET /api/v1/nodes/([^/]+)": lambda c, _q, _b, at: c.node(*at),
    r"PATCH /api/v1/nodes/([^/]+)": lambda c, q, b, at: c.patch_node(*at, change=b, dry=_dry(q)),
    r"DELETE /api/v1/nodes/([^/]+)": lambda c, _q, b, at: c.delete_node(*at, options=b),
    r"GET /api/v1/persistentvolumes": lambda c, _q, _b, _: _list("PersistentVolume", "v1", c.volumes),
    r"GET /api/v1/persistentvolumeclaims": lambda c, _q, _b, _: _list("PersistentVolumeClaim", "v1", c.claims),
    r"GET /apis/storage.k8s.io/v1/storageclasses": (
        lambda c, _q, _b, _: _list("StorageClass", "storage.k8s.io/v1", c.classes)
    ),
    r"GET /apis/policy/v1/poddisruptionbudgets": (
        lambda c, _q, _b, _: _list("PodDisruptionBudget", "policy/v1", c.budgets)
    ),
    r"GET /api/v1/namespaces": lambda c, q, _b, _: _list("Namespace", "v1", _namespaces(c, q)),
    r"GET /api/v1/pods": lambda c, q, _b, _: _list("Pod", "v1", c.list_pods(_selects(q))),
    rf"GET {_POD}": lambda c, _q, _b, at: c.pod(*at),
    rf"DELETE {_POD}": lambda c, _q, b, at: c.delete_pod(*at, options=b),
    rf"POST {_POD}/eviction": lambda c, _q, b, at: c.evict(*at, body=b),
    r"GET /apis/apps/v1/daemonsets": lambda c, _q, _b, _: _list("DaemonSet", "apps/v1", [*c.daemon_sets.values()]),
    r"GET /apis/apps/v1/namespaces/([^/]+)/daemonsets/([^/]+)": lambda c, _q, _b, at: _daemon_set(c, *at),
}


def _route(cluster: Cluster, method: str, path: str, query: Query, body: Object) -> Object:
    if method == "GET" and path in cluster.documents:
        return cluster.documents[path]
    for pattern, answer in _ROUTES.items():
        match = re.fullmatch(pattern, f"{method} {path}")
        if match is not None:
            return _page(answer(cluster, query, body, match.groups()), query)
    raise Refusal(404, "NotFound", "the server could not find the requested resource")

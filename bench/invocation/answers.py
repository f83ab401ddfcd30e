"""AWS and Prometheus as a calm look of a small cluster sees them: the same three answers, over loopback HTTP."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import botocore.session
import msgspec
from botocore.model import ListShape, Shape, StructureShape

from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster

CLUSTER_ID: Final = "demo"
WORKERS: Final = 5


class Answers:
    """The three answers, and what was asked: requests by name, and bytes by service."""

    def __init__(self, policy: Policy) -> None:
        cluster = SimCluster(policy, workers=WORKERS, cluster_id=CLUSTER_ID, now_s=time.time() - 600)
        cluster.sweep_for(time.time() - cluster.now_s)  # the first looks ask a server for its rules
        samples = msgspec.json.encode(cluster.samples()).decode()
        item = {"version": {"N": "1"}, "document": {"S": msgspec.json.encode(cluster.state).decode()}}
        self._answers = {
            "query": f'{{"status":"success","data":{{"resultType":"vector","result":{samples}}}}}'.encode(),
            "GetItem": msgspec.json.encode({"Item": item}),
            "DescribeInstances": _described(cluster.ec2.describe()),
        }
        self.asked: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.got_bytes: Counter[str] = Counter()

    def answer(self, name: str, asked_bytes: int) -> bytes:
        """Raises KeyError for what a calm look does not ask."""
        body = self._answers[name]
        self.asked[name] += 1
        self.got_bytes[name] += asked_bytes
        self.sent_bytes[name] += len(body)
        return body


@contextmanager
def served(answers: Answers) -> Iterator[str]:
    """Serve them; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            """Any of the three."""
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            target = self.headers.get("x-amz-target", "")
            form = parse_qs(body.decode())
            name = "query" if "query" in form else (target.rpartition(".")[2] or form.get("Action", [""])[0])
            try:
                status, said = 200, answers.answer(name, len(body))
            except KeyError:
                status, said = 400, f"a calm look asks no {name}".encode()
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Nothing is told."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _described(rows: Any) -> bytes:
    """DescribeInstances as EC2 writes it: botocore's model says how each field is named."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model("DescribeInstances")
    assert model.output_shape is not None
    inner = _xml(model.output_shape, {"Reservations": [{"Instances": list(rows)}]})
    return f"<DescribeInstancesResponse>{inner}</DescribeInstancesResponse>".encode()


def _xml(shape: Shape, value: Any) -> str:
    if isinstance(shape, StructureShape):
        parts = []
        for name, member in shape.members.items():
            if value.get(name) is not None:
                tag = member.serialization.get("name", name)
                parts.append(f"<{tag}>{_xml(member, value[name])}</{tag}>")
        return "".join(parts)
    if isinstance(shape, ListShape):
        return "".join(f"<item>{_xml(shape.member, one)}</item>" for one in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return escape(str(value).lower() if isinstance(value, bool) else str(value))

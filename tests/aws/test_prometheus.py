"""Prometheus in all its failure modes: each is MetricsUnavailable with a clear sentence, in bounded time."""

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.prometheus import Prometheus
from autoscaler.ports import MetricsUnavailable, PortError
from tests.aws.loopback import Answer, closed_url, hang_up, in_turn, reply, serving

SECRET = "s3cr3t-of-the-test"


def vector(*results: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": list(results)}})


def sample(value: str = "1", **labels: str) -> dict[str, object]:
    return {"metric": labels, "value": [1_700_000_000.123, value]}


def prometheus(url: str, *, timeout_s: float = 5.0, **options: object) -> Prometheus:
    return Prometheus(url, timeout_s=timeout_s, calls=Calls(), **options)  # type: ignore[arg-type]  # a test's shorthand


def test_a_vector_comes_back_raw_and_the_query_goes_out_as_a_form() -> None:
    calls = Calls()
    with serving(reply(200, vector(sample("NaN", node="a"), sample("+Inf")))) as server:
        client = Prometheus(f"{server.url}/", timeout_s=5, calls=calls)
        samples = client.query('up{job="x"}')
        client.query("up")
    assert [(row.metric, row.value) for row in samples] == [
        ({"node": "a"}, (1_700_000_000.123, "NaN")),
        ({}, (1_700_000_000.123, "+Inf")),
    ]
    assert (server.asked[0].method, server.asked[0].path) == ("POST", "/api/v1/query")
    assert parse_qs(server.asked[0].body.decode()) == {
        "query": ['up{job="x"}'],
        "timeout": ["5s"],
        "dedup": ["true"],
        "partial_response": ["false"],
        "deny_partial_response": ["1"],
        "nocache": ["1"],
    }
    assert server.asked[0].headers["accept-encoding"] == "gzip"
    assert calls.so_far() == {"prometheus": 2}


def test_a_compressed_answer_reads_and_an_empty_vector_is_an_answer() -> None:
    with serving(reply(200, gzip.compress(vector(sample()).encode()), Content_Encoding="gzip")) as server:
        assert len(prometheus(server.url).query("up")) == 1
    with serving(reply(200, vector())) as server:
        assert list(prometheus(server.url).query("up")) == []


@pytest.mark.parametrize("path", ["/prometheus", "/select/0/prometheus/", "/select/1:2/prometheus"])
def test_the_stores_path_stands_before_the_question(path: str) -> None:
    with serving(reply(200, vector())) as server:
        prometheus(f"{server.url}{path}").query("up")
    assert server.asked[0].path == f"{path.rstrip('/')}/api/v1/query"


def answer(**more: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": [sample()]}, **more})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer(isPartial=False), id="VictoriaMetrics' cluster, whole"),
        pytest.param(answer(stats={"seriesFetched": "3", "executionTimeMsec": 1}), id="VictoriaMetrics' stats"),
        pytest.param(answer(warnings=[]), id="no warnings"),
        pytest.param(answer(warnings=None), id="warnings that are null"),
        pytest.param(answer(infos=["PromQL info: metric might not be a counter"]), id="infos"),
        pytest.param(answer(warnings=["PromQL info: metric might not be a counter"]), id="infos of older ones"),
        pytest.param(answer(trace={}, unknown=[1]), id="fields of tomorrow"),
    ],
)
def test_a_whole_answer_with_more_fields_reads(body: str) -> None:
    with serving(reply(200, body)) as server:
        assert len(prometheus(server.url).query("up")) == 1


def test_a_body_that_grows_without_end_is_not_unpacked_whole() -> None:
    limit = 1_000_000
    body = gzip.compress(b" " * 200 * limit)
    with serving(reply(200, body, Content_Encoding="gzip")) as server:
        client = prometheus(server.url, body_limit_bytes=limit)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(MetricsUnavailable, match=f"more than {limit}"):
                client.query("up")
            assert tracemalloc.get_traced_memory()[1] - before < 4 * limit + len(body)
        finally:
            tracemalloc.stop()


def drip(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """A valid answer, one byte at a time: no single read is slow."""
    body = vector(sample()).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    for letter in "HTTP/1.1 200 OK\r\nX-Long: " + "a" * 1000:
        handler.wfile.write(letter.encode())
        handler.wfile.flush()
        time.sleep(0.05)


def sleepy(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    time.sleep(1.5)
    hang_up(handler, b"")


def cut_short(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"status": "succ')
    hang_up(handler, b"")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(sleepy, "did not answer within", id="slow"),
        pytest.param(drip, "did not answer within", id="drips its body"),
        pytest.param(drip_headers, "did not answer within", id="drips its headers"),
        pytest.param(hang_up, "cannot be reached", id="hangs up"),
        pytest.param(cut_short, "cannot be reached", id="ends in the middle"),
        pytest.param(reply(500, "oops"), "HTTP status 500", id="500"),
        pytest.param(reply(502, "<html>bad gateway</html>"), "HTTP status 502", id="502 with a page"),
        pytest.param(reply(204, ""), "HTTP status 204", id="no content"),
        pytest.param(reply(401, "Unauthorized"), "HTTP status 401", id="401"),
        pytest.param(
            reply(503, json.dumps({"status": "error", "errorType": "timeout", "error": "query timed out"})),
            "timeout: query timed out",
            id="query timed out",
        ),
        pytest.param(
            reply(400, json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error"})),
            "bad_data: parse error",
            id="bad query",
        ),
        pytest.param(
            reply(200, json.dumps({"status": "error", "errorType": "internal", "error": "x"})),
            "internal",
            id="200 error",
        ),
        pytest.param(reply(200, ""), "no Prometheus JSON", id="empty body"),
        pytest.param(reply(200, "<html>login</html>"), "no Prometheus JSON", id="a login page"),
        pytest.param(reply(200, b"\xff\xfe\x00"), "no Prometheus JSON", id="garbage"),
        pytest.param(reply(200, "[" * 100_000), "no Prometheus JSON", id="nested deep"),
        pytest.param(reply(200, "{}"), "no Prometheus JSON", id="no status"),
        pytest.param(reply(200, '{"status": "success"}'), "no data", id="no data"),
        pytest.param(
            reply(200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}})),
            "a matrix where a vector",
            id="a matrix",
        ),
        pytest.param(
            reply(200, json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}})),
            "a scalar where a vector",
            id="a scalar",
        ),
        pytest.param(reply(200, '{"status": "success", "data": {"resultType": "vector"}}'), "does not read", id="none"),
        pytest.param(
            reply(200, vector({"metric": {}, "value": [1, 2]})), "does not read", id="a number where text belongs"
        ),
        pytest.param(reply(200, vector({"value": [1, "2"]})), "does not read", id="no labels"),
        pytest.param(reply(200, vector({"metric": {}, "value": []})), "does not read", id="no value"),
        pytest.param(
            reply(200, answer(warnings=["receive series from Addr: 10.0.3.7:10901: context deadline exceeded"])),
            "a part of what it has.*: receive series from Addr: 10.0.3.7:10901",
            id="Thanos lost a store",
        ),
        pytest.param(
            reply(
                200,
                json.dumps(
                    {"status": "success", "data": {"resultType": "vector", "result": [], "warnings": ["lost", 7]}}
                ),
            ),
            "a part of what it has.*: lost; 7",
            id="warnings beside the result",
        ),
        pytest.param(
            reply(200, answer(warnings=["PromQL info: a", "PromQL warning: b"])), "part.*: PromQL warning: b", id="both"
        ),
        pytest.param(
            reply(200, answer(isPartial=True)), "a part of what it has.*: isPartial", id="VictoriaMetrics lost a node"
        ),
        pytest.param(reply(200, answer(isPartial="yes")), "no Prometheus JSON", id="isPartial that is no bool"),
        pytest.param(
            reply(
                503,
                json.dumps({"status": "error", "errorType": "503", "error": "cannot fetch from vmstorage; see -x"}),
            ),
            "503: cannot fetch from vmstorage",
            id="VictoriaMetrics denied a partial answer",
        ),
        pytest.param(reply(401, "no org id\n"), "HTTP status 401: no org id$", id="Mimir without a tenant"),
        pytest.param(reply(404, "404 page not found\n"), "HTTP status 404: 404 page not found$", id="a wrong path"),
        pytest.param(reply(400, "x" * 201), "HTTP status 400$", id="many words"),
        pytest.param(reply(502, "<html>"), "HTTP status 502$", id="a page is not quoted"),
        pytest.param(reply(302, "", Location="http://elsewhere.example/"), "redirect", id="redirect"),
        pytest.param(reply(307, "", Location="/login"), "redirect", id="redirect at home"),
        pytest.param(reply(200, b" " * 300_000 + vector().encode()), "more than 200000 bytes", id="huge"),
        pytest.param(
            reply(200, gzip.compress(b" " * 20_000_000), Content_Encoding="gzip"), "more than 200000", id="a zip bomb"
        ),
        pytest.param(reply(200, b"not gzip", Content_Encoding="gzip"), "cannot be reached", id="false encoding"),
    ],
)
def test_what_is_no_answer_is_unavailable(answer: Answer, says: str) -> None:
    with serving(answer) as server:
        client = prometheus(server.url, timeout_s=0.6, body_limit_bytes=200_000)
        began = time.monotonic()
        with pytest.raises(MetricsUnavailable, match=says):
            client.query("up")
        assert time.monotonic() - began < 1.4
        assert len(server.asked) == 1, "one attempt"


@pytest.mark.parametrize(
    ("url", "says"),
    [(closed_url, "cannot be reached"), (lambda: "http://prometheus.invalid:9090", "cannot be reached|within")],
)
def test_nobody_there(url: Callable[[], str], says: str) -> None:
    with pytest.raises(MetricsUnavailable, match=says):
        prometheus(url(), timeout_s=2).query("up")


def test_it_works_again_after_a_time_out() -> None:
    answers = [sleepy, reply(200, vector(sample()))]
    with serving(in_turn(*answers)) as server:
        client = prometheus(server.url, timeout_s=0.5)
        with pytest.raises(MetricsUnavailable):
            client.query("up")
        assert len(client.query("up")) == 1


def test_a_parameter_that_cannot_be_read_is_told_and_prometheus_not_asked() -> None:
    def unreadable() -> str:
        raise PortError("AWS refused to read the parameter /k3s/x/auth", code="AccessDeniedException")

    with serving(reply(200, vector())) as server:
        with pytest.raises(MetricsUnavailable, match="/k3s/x/auth"):
            prometheus(server.url, read_auth=unreadable).query("up")
        assert server.asked == []


def test_the_credential_is_sent_and_read_again_after_a_401() -> None:
    credentials = ["bearer old", f"bearer {SECRET}"]
    answers = [reply(401, "no"), reply(200, vector())]
    with serving(in_turn(*answers)) as server:
        client = prometheus(server.url, read_auth=lambda: credentials.pop(0))
        with pytest.raises(MetricsUnavailable, match="401"):
            client.query("up")
        client.query("up")
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer old", f"Bearer {SECRET}"]

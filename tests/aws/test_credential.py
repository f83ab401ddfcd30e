"""Prometheus' credential and further headers, out of one parameter, and never into a message."""

import json

import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.credential import OURS, parse_auth
from autoscaler.aws.prometheus import Prometheus
from autoscaler.ports import MetricsUnavailable
from autoscaler.redaction import Redaction
from tests.aws.loopback import reply, serving

SECRET = "s3cr3t-of-the-test"
EMPTY = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}})


def sent(text: str) -> dict[str, str]:
    """The headers of a request with this parameter, names in lower case."""
    with serving(reply(200, EMPTY)) as server:
        Prometheus(server.url, timeout_s=5, calls=Calls(), read_auth=lambda: text).query("up")
    return server.asked[0].headers


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("bearer abc.def", "Bearer abc.def"),
        ("Bearer  abc \n", "Bearer abc"),
        ("basic ada:love:lace", "Basic YWRhOmxvdmU6bGFjZQ=="),
        ('{"bearer": "abc"}', "Bearer abc"),
        ('{"username": "ada", "password": "love:lace"}', "Basic YWRhOmxvdmU6bGFjZQ=="),
        ('{"bearer": "abc", "headers": {}}', "Bearer abc"),
    ],
)
def test_forms_of_the_credential(text: str, header: str) -> None:
    assert sent(text)["authorization"] == header


@pytest.mark.parametrize(
    ("credential", "header"),
    [
        ({}, None),
        ({"bearer": "abc"}, "Bearer abc"),
        ({"username": "ada", "password": "love:lace"}, "Basic YWRhOmxvdmU6bGFjZQ=="),
        ({"username": "ada"}, "Basic YWRhOg=="),
    ],
)
def test_headers_go_with_each_credential_and_alone(credential: dict[str, str], header: str | None) -> None:
    headers = {"X-Scope-OrgID": "shop|lab", "CF-Access-Client-Id": "a b\tc", "x_1": "!"}
    asked = sent(json.dumps({**credential, "headers": headers}, indent=2))
    assert {name: asked[name.lower()] for name in headers} == headers
    assert asked.get("authorization") == header
    assert asked["accept-encoding"] == "gzip"


@pytest.mark.parametrize("name", [*sorted(OURS), "Authorization", "HOST", "Content-Length"])
def test_a_header_that_the_request_sets_itself_is_refused(name: str) -> None:
    with pytest.raises(MetricsUnavailable, match=f"sets the header {name.lower()}, which the request sets") as caught:
        parse_auth(json.dumps({"bearer": SECRET, "headers": {name: SECRET}}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["", f" {SECRET}", f"{SECRET} ", f"{SECRET}\r\nX-Evil: 1", f"{SECRET}\nb", f"{SECRET}\rb", f"{SECRET}\0b",
     f"{SECRET}\x7fb", f"zwölf {SECRET}", f"{SECRET}\t", f"{SECRET}\n"],
)  # fmt: skip
def test_a_value_that_cannot_be_sent_is_refused(value: str) -> None:
    with pytest.raises(MetricsUnavailable, match=r"header 2 .* has a value that cannot be sent") as caught:
        parse_auth(json.dumps({"headers": {"A": "fine", "X-Key": value}}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "a(b)", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MetricsUnavailable, match=r"header 1 .* has a name that is none") as caught:
        parse_auth(json.dumps({"headers": {name: SECRET}}))
    assert SECRET not in str(caught.value)


def test_one_header_twice_is_refused() -> None:
    with pytest.raises(MetricsUnavailable, match="one header twice"):
        parse_auth(json.dumps({"headers": {"X-Key": SECRET, "x-key": "b"}}))


@pytest.mark.parametrize(
    "text",
    ["", SECRET, f"token {SECRET}", f"basic {SECRET[0:0]}:{SECRET}", f'{{"bearer": 1, "x": "{SECRET}"}}', "{}",
     f'{{"bearer": "{SECRET}", "username": "x"}}', f'{{"{SECRET}": "x"}}', f"bearer {SECRET}\nX-Evil: 1",
     f'{{"bearer": "{SECRET}", "password": "x"}}', f'{{"password": "{SECRET}", "headers": {{"a": "b"}}}}',
     f'{{"headers": "{SECRET}"}}', f'{{"headers": {{"a": ["{SECRET}"]}}}}', '{"headers": {}}', "{" * 5_000],
)  # fmt: skip
def test_a_credential_that_does_not_read_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(MetricsUnavailable, match="does not read: write") as caught:
        parse_auth(text)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_values_of_headers_are_kept_out_of_the_log_but_not_a_tenants_name() -> None:
    redaction = Redaction()
    given = {"bearer": "the-bearer", "headers": {"X-Api-Key": "the-api-key", "X-Scope-OrgID": "shop-production"}}
    redaction.keep(json.dumps(given, indent=2))
    said = redaction.clean('{"cluster_id": "shop-production", "message": "the-api-key and the-bearer were refused"}')
    assert said == '{"cluster_id": "shop-production", "message": "*** and *** were refused"}'


def test_a_parameter_of_any_depth_is_searched() -> None:
    redaction = Redaction()
    redaction.keep(json.dumps({"a": [{"b": [["deep-secret"]]}]}))
    assert redaction.clean("it was deep-secret") == "it was ***"
    redaction.keep('{"a":' * 20_000 + "1" + "}" * 20_000)

"""Whether a failed call may have happened decides what a later look does: real failures of real HTTP exchanges."""

import pytest

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.ec2 import Ec2Fleet
from autoscaler.ports import FleetUnavailable
from tests.aws.loopback import Answer, closed_url, hang_up, in_turn, reply, serving


def refusal(code: str) -> str:
    return f"<Response><Errors><Error><Code>{code}</Code><Message>as told</Message></Error></Errors></Response>"


def fleet(calls: Calls) -> Ec2Fleet:
    return Ec2Fleet(Clients(calls), cluster_id="demo", template_id="lt-1", subnet_ids=("subnet-1",))


@pytest.mark.parametrize(
    ("answer", "code", "effect_unknown"),
    [
        pytest.param(reply(400, refusal("OperationNotPermitted")), "OperationNotPermitted", False, id="refused"),
        pytest.param(reply(403, refusal("UnauthorizedOperation")), "UnauthorizedOperation", False, id="no right"),
        pytest.param(reply(503, refusal("RequestLimitExceeded")), "RequestLimitExceeded", False, id="throttled"),
        pytest.param(reply(500, refusal("InternalError")), "InternalError", True, id="broken service"),
        pytest.param(reply(503, refusal("Unavailable")), "Unavailable", True, id="unavailable"),
        pytest.param(reply(502, "<html>bad gateway"), None, True, id="a page of a gateway"),
        pytest.param(reply(200, "<not xml"), "ResponseParserError", True, id="an answer that does not parse"),
        pytest.param(hang_up, "ConnectionClosedError", True, id="connection lost"),
    ],
)
def test_failures_of_an_effect(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, code: str | None, *, effect_unknown: bool
) -> None:
    calls = Calls()
    with serving(answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(FleetUnavailable) as caught:
            fleet(calls).terminate("i-1")
    assert caught.value.effect_unknown is effect_unknown
    assert code is None or caught.value.code == code
    assert "terminate i-1" in str(caught.value)
    assert len(server.asked) == 1, "one attempt"
    assert calls.so_far() == {"ec2": 1}


def test_nobody_there_means_that_nothing_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    with pytest.raises(FleetUnavailable) as caught:
        fleet(Calls()).terminate("i-1")
    assert caught.value.effect_unknown is False
    assert caught.value.code == "EndpointConnectionError"


def test_no_credentials_means_that_nothing_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(reply(200, "")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(FleetUnavailable) as caught:
            fleet(Calls()).terminate("i-1")
    assert (caught.value.effect_unknown, server.asked) == (False, [])


def test_terminating_an_unknown_instance_is_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(reply(400, refusal("InvalidInstanceID.NotFound"))) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        fleet(Calls()).terminate("i-1")


def test_connections_that_slept_through_a_freeze_are_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other end closes after each answer, as it does during a freeze; wall time says that one went by."""
    now = [1000.0]
    done = reply(200, "<TerminateInstancesResponse/>")
    with serving(in_turn(done, done)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        clients = Clients(Calls(), wall_clock=lambda: now[0])
        workers = Ec2Fleet(clients, cluster_id="demo", template_id="lt-1", subnet_ids=("subnet-1",))
        clients.begin()
        workers.terminate("i-1")
        pool = clients.ec2()._endpoint.http_session._manager  # type: ignore[attr-defined]  # botocore shows no pool
        assert len(pool.pools) == 1
        now[0] += 1
        clients.begin()
        assert len(pool.pools) == 1, "a second later the connection is still good"
        now[0] += 120
        clients.begin()
        assert len(pool.pools) == 0
        workers.terminate("i-1")
    assert len(server.asked) == 2

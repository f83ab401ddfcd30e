"""The NodeCommands port: a terminate follows from SUCCEEDED, so nothing else may read as it."""

import json
from typing import Any

import msgspec
import pytest
from botocore.stub import Stubber

from autoscaler.aws.clients import Clients
from autoscaler.aws.ssm import SsmNodeCommands, _moment
from autoscaler.model import CommandOutcome, Cordon, Found, NodeCommand, Verb
from autoscaler.model.rules import SchedulingRules
from autoscaler.ports import CommandsUnavailable
from autoscaler.simulator.rules_answer import answer

SERVER = "i-0123456789abcdef0"
ID = "11111111-2222-3333-4444-555555555555"
COMMAND = NodeCommand(
    verb=Verb.DRAIN,
    node_name="k3s-worker-i-1",
    provider_id="aws:///eu-central-1a/i-1",
    operation_id="01op",
    fence=12,
    not_after_s=1_700_000_300,
    timeout_s=300,
    grace_s=60,
    reclaim=True,
)
SENT: dict[str, Any] = {
    "InstanceIds": [SERVER],
    "DocumentName": "doc",
    "TimeoutSeconds": 60,
    "Comment": "drain k3s-worker-i-1 01op",
    "Parameters": {
        "verb": ["drain"],
        "node": ["k3s-worker-i-1"],
        "providerId": ["aws:///eu-central-1a/i-1"],
        "operationId": ["01op"],
        "fence": ["12"],
        "notAfter": ["1700000300"],
        "timeoutSeconds": ["300"],
        "graceSeconds": ["60"],
        "reclaim": ["true"],
    },
}


def line(outcome: str = "succeeded", **fields: Any) -> str:
    return json.dumps(
        {"operation": "01op", "verb": "drain", "outcome": outcome, "rule": "", "message": "m", "evicted_pods": 4}
        | fields
    )


def asked(clients: Clients, **answer: Any) -> Any:
    with Stubber(clients.ssm()) as stub:
        stub.add_response("get_command_invocation", answer, {"CommandId": ID, "InstanceId": SERVER})
        return SsmNodeCommands(clients, document_name="doc").result(ID, SERVER)


def test_the_command_goes_to_exactly_one_server_with_every_parameter_as_text(clients: Clients) -> None:
    with Stubber(clients.ssm()) as stub:
        stub.add_response("send_command", {"Command": {"CommandId": ID}}, SENT)
        assert SsmNodeCommands(clients, document_name="doc").send(COMMAND, SERVER) == ID


def test_an_inspection_is_sent_without_a_name_that_nobody_knows(clients: Clients) -> None:
    """SSM takes the document's default; an empty text might be refused."""
    nameless = msgspec.structs.replace(COMMAND, verb=Verb.INSPECT, node_name="")
    parameters = {name: value for name, value in SENT["Parameters"].items() if name != "node"} | {"verb": ["inspect"]}
    sent = SENT | {"Comment": "inspect aws:///eu-central-1a/i-1 01op", "Parameters": parameters}
    with Stubber(clients.ssm()) as stub:
        stub.add_response("send_command", {"Command": {"CommandId": ID}}, sent)
        assert SsmNodeCommands(clients, document_name="doc").send(nameless, SERVER) == ID


INSPECTION: dict[str, Any] = {
    "node": "pi-1-5f2c",
    "uid": "u",
    "created_at_s": 1793520000,
    "ready": False,
    "ready_since_s": None,
    "cordon": "ours",
    "operation": "01op",
    "fence": 7,
    "taints": ["spot=true:NoSchedule"],
    "local_volumes": {"count": 1, "names": ["pvc-1"]},
    "bare_pods": {"count": 0, "names": []},
    "critical_pods": {"count": 0, "names": []},
    "do_not_evict_pods": {"count": 0, "names": []},
    "movable_pods": 3,
    "ending_pods": 1,
}


def inspected(clients: Clients, **fields: Any) -> Any:
    output = line(verb="inspect", **fields)
    return asked(clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=output)


def test_an_inspection_is_a_typed_value(clients: Clients) -> None:
    found = inspected(clients, inspection=INSPECTION).inspection
    assert (found.node, found.ready, found.ready_since_s, found.cordon) == ("pi-1-5f2c", False, None, Cordon.OURS)
    assert found.local_volumes == Found(count=1, names=("pvc-1",))
    assert json.loads(msgspec.json.encode(found)) == INSPECTION


@pytest.mark.parametrize(
    "fields",
    [{}, {"inspection": None}, {"inspection": {}}, {"inspection": INSPECTION | {"ready": "yes"}}],
    ids=["absent", "null", "empty", "of another type"],
)
def test_an_inspection_that_shows_nothing_is_no_success(clients: Clients, fields: dict[str, Any]) -> None:
    result = inspected(clients, **fields)
    assert (result.outcome, result.inspection) == (CommandOutcome.FAILED, None)


def test_the_question_for_rules_is_of_no_node(clients: Clients) -> None:
    asks = msgspec.structs.replace(COMMAND, verb=Verb.RULES, node_name="", provider_id="")
    unnamed = {name: value for name, value in SENT["Parameters"].items() if name not in ("node", "providerId")}
    sent = SENT | {"Comment": "rules the cluster 01op", "Parameters": unnamed | {"verb": ["rules"]}}
    with Stubber(clients.ssm()) as stub:
        stub.add_response("send_command", {"Command": {"CommandId": ID}}, sent)
        assert SsmNodeCommands(clients, document_name="doc").send(asks, SERVER) == ID


def test_rules_come_as_they_are(clients: Clients) -> None:
    told = answer(SchedulingRules(answered_at_s=0))
    output = line(verb="rules", rules=told)
    result = asked(clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=output)
    assert (result.outcome, result.rules) == (CommandOutcome.SUCCEEDED, told)


@pytest.mark.parametrize("fields", [{}, {"rules": ""}, {"rules": None}, {"rules": 7}])
def test_a_question_for_rules_that_tells_none_is_no_success(clients: Clients, fields: dict[str, Any]) -> None:
    output = line(verb="rules", **fields)
    result = asked(clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=output)
    assert (result.outcome, result.rules) == (CommandOutcome.FAILED, "")


def test_an_answer_that_ssm_cut_off_is_no_success(clients: Clients) -> None:
    output = line(verb="rules", rules="x" * 30_000)[:24_000]
    result = asked(clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=output)
    assert (result.outcome, result.rules) == (CommandOutcome.FAILED, "")


def test_an_offline_server_is_a_refusal_with_its_code(clients: Clients) -> None:
    with Stubber(clients.ssm()) as stub:
        stub.add_client_error("send_command", "InvalidInstanceId", "not in a valid state")
        with pytest.raises(CommandsUnavailable) as caught:
            SsmNodeCommands(clients, document_name="doc").send(COMMAND, SERVER)
    assert (caught.value.code, caught.value.effect_unknown) == ("InvalidInstanceId", False)


def test_success_carries_the_result_line(clients: Clients) -> None:
    result = asked(
        clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=f"\n{line()}\n"
    )
    assert (result.outcome, result.message, result.evicted_pods) == (CommandOutcome.SUCCEEDED, "m", 4)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("", id="empty"),
        pytest.param("done", id="no JSON"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="no fields"),
        pytest.param(line()[:40], id="cut"),
        pytest.param(line(evicted_pods="4"), id="wrong type"),
        pytest.param(line("perfect"), id="unknown outcome"),
        pytest.param(line("running"), id="not ended"),
        pytest.param(line("refused"), id="contradicts itself"),
        pytest.param(line() + "\nkilled", id="not the last line"),
    ],
)
def test_a_success_without_a_clean_result_line_is_a_failure(clients: Clients, output: str) -> None:
    result = asked(clients, Status="Success", StatusDetails="Success", ResponseCode=0, StandardOutputContent=output)
    assert result.outcome is CommandOutcome.FAILED
    assert result.message.startswith("the script ended well but")


@pytest.mark.parametrize(
    ("status", "details", "outcome"),
    [
        ("Pending", "Pending", CommandOutcome.RUNNING),
        ("InProgress", "InProgress", CommandOutcome.RUNNING),
        ("Delayed", "Delayed", CommandOutcome.RUNNING),
        ("Cancelling", "Cancelling", CommandOutcome.RUNNING),
        ("TimedOut", "DeliveryTimedOut", CommandOutcome.UNDELIVERED),
        ("TimedOut", "Delivery Timed Out", CommandOutcome.UNDELIVERED),
        ("TimedOut", "ExecutionTimedOut", CommandOutcome.API_UNREACHABLE),
        ("Failed", "Undeliverable", CommandOutcome.UNDELIVERED),
        ("Cancelled", "Terminated", CommandOutcome.UNDELIVERED),
        ("Cancelled", "Cancelled", CommandOutcome.FAILED),
        ("Failed", "Failed", CommandOutcome.FAILED),
    ],
)
def test_statuses(clients: Clients, status: str, details: str, outcome: CommandOutcome) -> None:
    assert asked(clients, Status=status, StatusDetails=details, ResponseCode=-1).outcome is outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (1, CommandOutcome.FAILED),
        (10, CommandOutcome.REFUSED),
        (11, CommandOutcome.BLOCKED_BY_BUDGET),
        (12, CommandOutcome.TIMED_OUT),
        (13, CommandOutcome.FENCED_OFF),
        (14, CommandOutcome.NO_SUCH_NODE),
        (15, CommandOutcome.API_UNREACHABLE),
        (137, CommandOutcome.FAILED),
    ],
)
def test_exit_codes(clients: Clients, code: int, outcome: CommandOutcome) -> None:
    told = {"Status": "Failed", "StatusDetails": "Failed", "ResponseCode": code}
    result = asked(clients, **told, StandardOutputContent=line("refused", rule="local-volume", message="why"))
    assert (result.outcome, result.rule, result.message, result.evicted_pods) == (outcome, "local-volume", "why", 4)
    bare = asked(clients, **told, StandardErrorContent="sh: not\nfound")
    assert (bare.outcome, bare.message) == (outcome, "Failed: sh: not found")


def test_a_command_that_ssm_does_not_know_yet_is_running_and_later_undelivered(clients: Clients) -> None:
    now = [100.0]
    commands = SsmNodeCommands(clients, document_name="doc", monotonic=lambda: now[0])
    with Stubber(clients.ssm()) as stub:
        stub.add_response("send_command", {"Command": {"CommandId": ID}}, SENT)
        for _ in range(3):
            stub.add_client_error("get_command_invocation", "InvocationDoesNotExist")
        commands.send(COMMAND, SERVER)
        now[0] += 29
        assert commands.result(ID, SERVER).outcome is CommandOutcome.RUNNING
        now[0] += 2
        late = commands.result(ID, SERVER)
        assert (late.outcome, late.rule) == (CommandOutcome.UNDELIVERED, "unknown_to_ssm")
        elsewhere = SsmNodeCommands(clients, document_name="doc").result(ID, SERVER)
        assert elsewhere.outcome is CommandOutcome.UNDELIVERED


def test_not_being_able_to_ask_is_no_outcome(clients: Clients) -> None:
    with Stubber(clients.ssm()) as stub:
        stub.add_client_error("get_command_invocation", "ThrottlingException", "Rate exceeded")
        with pytest.raises(CommandsUnavailable):
            SsmNodeCommands(clients, document_name="doc").result(ID, SERVER)


@pytest.mark.parametrize(
    ("told", "ended_at_s"),
    [
        ("2026-11-26T03:04:05.678000+00:00", 1795662245),
        ("2026-11-26T03:04:05Z", 1795662245),
        ("", None),
        ("soon", None),
    ],
)
def test_when_the_script_ended_is_ssms_own_time(told: str, ended_at_s: int | None) -> None:
    """GetCommandInvocation's `ExecutionEndDateTime` is ISO 8601, and empty while the command runs (API reference)."""
    assert _moment(told) == ended_at_s

"""The event `ask`: what is no question, what cannot change anything, and what holds in every mode."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from autoscaler.ask.readonly import ReadOnly, read_only
from autoscaler.model import Mode, ModeSetting, NodeCommand, SchedulingRules, State, Verb
from autoscaler.policy import Policy
from autoscaler.ports import Ports
from autoscaler.simulator.cluster import SimCluster
from handlers import sweep
from tests.ask.asked import Asked, only_read
from tests.handlers.support import FakeContext
from tests.simulator.worlds import deployment


def busy(policy: Policy | None = None) -> SimCluster:
    """Two workers and pods that fit on neither."""
    cluster = SimCluster(policy or Policy(version=1), workers=2)
    cluster.apply(deployment(replicas=12, cpu=700))
    cluster.run(60)
    return cluster


def in_mode(cluster: SimCluster, mode: Mode) -> SimCluster:
    ports = cluster.ports()
    state, version = ports.store.load()
    ports.store.save(State(mode=ModeSetting(mode=mode, set_at_s=int(cluster.now_s), by="ann@laptop")), version)
    assert state == State()
    return cluster


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"ask": "next"}, "`ask` is to be {"),
        ({"ask": None}, "`ask` is to be {"),
        ({"ask": {}}, "`ask` is to be {"),
        ({"ask": {"question": 7}}, "`ask` is to be {"),
        ({"ask": {"question": "weather"}}, "There is no question 'weather': next"),
        ({"ask": {"question": "next", "node": "x"}}, "The question next is not understood: "),
    ],
)
def test_what_is_no_question_is_one_sentence_and_asks_nobody(event: dict[str, Any], said: str) -> None:
    cluster = busy()
    cluster.wires.log.clear()
    ((name, sentence),) = Asked(cluster).event(event).items()
    assert name == "problem"
    assert sentence.startswith(said)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert cluster.wires.log == []


@pytest.mark.parametrize("mode", Mode)
def test_it_is_answered_in_every_mode_and_changes_nothing(mode: Mode) -> None:
    cluster = in_mode(busy(), mode)
    before = (cluster.item.data, cluster.workers())
    desk = Asked(cluster)
    answer = only_read(cluster, lambda: desk.ask("next"))
    assert answer["decision"]["action"] == "scale_up"
    assert answer["decision"]["mode"] == mode
    assert answer["would"]
    assert all(sentence.startswith("launch ") for sentence in answer["would"])
    assert bool(answer["withheld"]) is (mode is not Mode.ACTIVE)
    assert (cluster.item.data, cluster.workers()) == before
    lines = [json.loads(line) for line in desk.log.getvalue().splitlines()]
    assert [line.get("reason") for line in lines] == ["asked"], "no metric, no decision line"


def test_a_look_afterwards_does_what_was_foretold() -> None:
    cluster = busy()
    foretold = Asked(cluster).ask("next")
    document = json.loads(json.dumps(cluster.sweep()))
    same = ("action", "reason", "message", "signals", "blocked", "nodes", "policy_hash")
    assert {field: foretold["decision"][field] for field in same} == {field: document[field] for field in same}
    assert len(cluster.workers()) == 2 + sum(launch.request.count for launch in cluster.state.launches)


def test_a_cluster_without_a_state_begins_in_its_start_mode_without_one_being_written() -> None:
    cluster = busy()
    answer = Asked(cluster, start_mode=Mode.OBSERVE).ask("next")
    assert answer["decision"]["mode"] == "observe"
    assert "observe" in answer["withheld"]
    assert cluster.item.version == 0


def test_what_only_a_server_knows_is_not_asked_and_said() -> None:
    """A pod waits whose owner no server ever told of: a look asks; a question tells that it would."""
    cluster = busy()
    answer = only_read(cluster, lambda: Asked(cluster).ask("next"))
    assert answer["would_ask"] == [
        "A look would ask a server what the scheduler asks of pods; this answer does without."
    ]
    assert cluster.ssm.sent == {}
    cluster.sweep()
    assert [command.verb for command, _, _ in cluster.ssm.sent.values()] == [Verb.RULES]
    cluster.run(10)
    assert Asked(cluster).ask("next")["would_ask"] == []


@pytest.mark.parametrize(
    ("service", "name"), [("dynamodb", "load"), ("ec2", "describe")], ids=["the state", "the fleet"]
)
def test_a_dependency_that_fails_is_one_sentence(service: str, name: str) -> None:
    cluster = busy()
    cluster.fail(service, name)
    problem = Asked(cluster).problem("next")
    assert problem.startswith("The service could not look: ")
    assert problem.count("\n") == 0


def test_metrics_that_fail_are_part_of_the_answer() -> None:
    cluster = busy()
    cluster.fail("prometheus", "query", times=None)
    answer = Asked(cluster).ask("next")
    assert answer["decision"]["reason"] == "metrics_unavailable"


def test_a_fault_of_the_program_escapes_and_is_no_metric() -> None:
    """Lambda tells the asker that the function failed; the alarm on errors is about looks."""
    cluster = busy()
    desk = Asked(cluster)

    def broken(_: Any) -> Ports:
        raise ZeroDivisionError("x")

    app = msgspec.structs.replace(desk.app(), ports=broken)
    with pytest.raises(ZeroDivisionError):
        sweep.handle(app, {"ask": {"question": "next"}}, FakeContext())
    assert "_aws" not in desk.log.getvalue()


def test_no_secret_stands_in_an_answer_however_deep() -> None:
    """A proxy before Prometheus quotes the header that it refused."""
    cluster = busy()
    secret = 's3cret"of-the-test'
    cluster.wires.fail("prometheus", "query", times=None, message=f"refused: Authorization: Bearer {secret}")
    desk = Asked(cluster)
    app = desk.app()
    app.redaction.keep(f"Bearer {secret}")
    answered = json.dumps(sweep.handle(app, {"ask": {"question": "next"}}, FakeContext()))
    assert "s3cret" not in answered
    assert "***" in answered


COMMAND = NodeCommand(
    verb=Verb.DRAIN, node_name="n", provider_id="p", operation_id="o", fence=1, not_after_s=1, timeout_s=1
)
CHANGES: dict[str, Callable[[Ports], object]] = {
    "save": lambda ports: ports.store.save(State(), 0),
    "record": lambda ports: ports.store.record(1, "d", {}),
    "keep_rules": lambda ports: ports.store.keep_rules(SchedulingRules(answered_at_s=1)),
    "terminate": lambda ports: ports.fleet.terminate("i-1"),
    "send": lambda ports: ports.commands.send(COMMAND, "i-1"),
    "notify": lambda ports: ports.notifier.notify({}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_port_of_an_answer_can_change_anything(change: str) -> None:
    cluster = busy()
    cluster.wires.log.clear()
    with pytest.raises(ReadOnly, match="a question changes nothing"):
        CHANGES[change](read_only(cluster.ports()))
    assert cluster.wires.log == []


def test_a_launch_is_refused_as_well() -> None:
    cluster = busy()
    cluster.sweep()
    launch = cluster.state.launches[0]
    cluster.wires.log.clear()
    with pytest.raises(ReadOnly, match="tried to launch"):
        read_only(cluster.ports()).fleet.launch(launch.request)
    assert cluster.wires.log == []

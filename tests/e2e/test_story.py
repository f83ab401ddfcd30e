"""Pending pods -> alert -> webhook -> CreateFleet -> Ready -> load gone -> drain -> terminated -> Node deleted."""

import json
import time
from typing import Any

import pytest
import requests

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, OPERATION_TAG, Verb
from autoscaler.simulator.stack.story import MAIL, NIGHT_WEB_REPLICAS, PENDING_ALERT, STEPS, WEB
from autoscaler.simulator.stack.timeline import Timeline
from tests.e2e.conftest import Played

pytestmark = pytest.mark.real_programs

SETTLE_S = 30


def documents(played: Played, **wanted: str) -> list[dict[str, Any]]:
    """Recorded decisions with these values."""
    records = played.stack.account.records(played.stack.state_table)
    found = [json.loads(row["document"]) for row in records if str(row["record"]).startswith("DECISION#")]
    return [row for row in found if all(row.get(name) == value for name, value in wanted.items())]


def test_every_step_happened_and_in_order(played: Played) -> None:
    times = played.story.times
    assert set(times) == {step.key for step in STEPS}
    causal = ("pending", "webhook", "create_fleet", "nodes_ready", "load_gone", "drain", "drained", "terminated")
    assert [times[key] for key in causal] == sorted(times[key] for key in causal)
    # A delete of the Node before the machine's end would let the agent register again.
    assert times["terminated"] - 1.0 < times["node_deleted"] <= times["back_at_min"]


def test_it_ends_within_three_minutes(played: Played) -> None:
    assert played.took_s < 180


def test_the_alert_path_launched_not_the_sweep(played: Played) -> None:
    webhook = played.watch.webhook(PENDING_ALERT, after_s=played.story.times["pending"])
    assert webhook is not None
    assert webhook.started_at_s <= played.story.times["create_fleet"] <= webhook.ended_at_s
    assert webhook.document is not None
    assert webhook.document["action"] == "scale_up"


def test_every_machine_carries_the_tags_that_allow_its_removal(played: Played) -> None:
    for row in played.watch.managed_instances:
        assert row["tags"][MANAGED_BY_TAG] == MANAGED_BY_VALUE
        assert row["tags"][CLUSTER_TAG] == played.stack.settings.cluster_id
        assert row["tags"][OPERATION_TAG]


def test_ec2_shows_the_minimum_again_and_the_server_untouched(played: Played) -> None:
    alive = [row for row in played.stack.account.instances() if row["State"]["Name"] == "running"]
    assert len(alive) == played.stack.policy.workers.min + 1
    assert played.stack.emulator.server_instance_id in {row["InstanceId"] for row in alive}


def test_no_machine_ended_that_was_not_drained(played: Played) -> None:
    drained = {command.node_name for command, result in played.story.drains if result.outcome == "succeeded"}
    assert drained
    assert {f"worker-{instance_id}" for instance_id in played.watch.ended_at_s} == drained


def test_every_drain_ended_before_its_machine(played: Played) -> None:
    for command in played.watch.commands(Verb.DRAIN):
        ended_at_s = played.watch.ended_at_s[command.node_name.removeprefix("worker-")]
        done = played.watch.event(
            "command",
            lambda event, name=command.node_name: (
                event.subject == name and event.message.startswith("drain: succeeded")
            ),  # type: ignore[misc]
        )
        assert done is not None
        assert done < ended_at_s


def test_evicted_pods_run_again(played: Played) -> None:
    assert sum(result.evicted_pods for _, result in played.story.drains) > 0
    played.watch.look()
    assert played.watch.running(WEB.key) == NIGHT_WEB_REPLICAS
    assert played.watch.running(MAIL.key) == MAIL.replicas


def test_every_launched_machine_is_explained_by_a_recorded_decision(played: Played) -> None:
    by_reason = {row["reason"]: row for row in documents(played, action="scale_up")}
    assert set(by_reason) >= {"below_min", "pods_unschedulable"}
    assert by_reason["below_min"]["trigger"]["kind"] == "sweep"
    assert by_reason["pods_unschedulable"]["trigger"]["kind"] == "alert"
    assert by_reason["pods_unschedulable"]["metrics_status"] in {"ok", "partial"}


def test_a_shrink_was_decided_on_complete_metrics_only(played: Played) -> None:
    shrinks = documents(played, action="scale_down")
    assert shrinks
    assert {row["metrics_status"] for row in shrinks} == {"ok"}


def settled_sweep(played: Played) -> dict[str, Any]:
    """Sweep until no operation is open: the last ones may have ended after the story's last sweep."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        answer = played.stack.sweep()
        assert isinstance(answer, dict)
        if not answer["operations"]:
            return answer
        assert time.monotonic() < deadline, answer["operations"]
        time.sleep(1.0)


def test_nothing_stays_under_way(played: Played) -> None:
    assert settled_sweep(played)["nodes"]["draining"] == 0


def test_a_sweep_with_nothing_to_do_makes_three_calls(played: Played) -> None:
    settled_sweep(played)
    answer = played.stack.sweep()
    assert isinstance(answer, dict)
    assert (answer["action"], answer["calls"]) == ("none", {"dynamodb": 1, "ec2": 1, "prometheus": 1})


def test_events_of_ec2_and_ssm_reached_the_lifecycle_function(played: Played) -> None:
    events = [one for one in played.watch.invocations if one.key == "lifecycle"]
    kinds = {one.event["detail-type"] for one in events}
    assert kinds == {"EC2 Instance State-change Notification", "EC2 Command Status-change Notification"}
    assert {one.status for one in events} == {200}


def test_no_function_failed(played: Played) -> None:
    assert [one.error for one in played.watch.invocations if one.status >= 500] == []


def test_real_alertmanager_bodies_were_accepted(played: Played) -> None:
    webhooks = [one for one in played.watch.invocations if one.key == "alerts"]
    assert webhooks
    for one in webhooks:
        headers = {name.lower(): value for name, value in one.event["headers"].items()}
        assert headers["user-agent"].startswith("Alertmanager/")
        assert one.webhook()["version"] == "4"
        assert one.status == 200


@pytest.mark.parametrize(
    ("given", "token", "body", "status"),
    [
        ("no token", None, b"{}", 401),
        ("another token", "guessed", b"{}", 401),
        ("not JSON", "", b"{", 400),
        ("unknown version", "", b'{"version": "5", "alerts": []}', 400),
        ("oversized", None, b"x" * 2_000_000, 413),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_a_bad_webhook_is_refused_and_nothing_is_evaluated(
    played: Played, given: str, token: str | None, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token or played.stack.webhook_token}"
    played.watch.look()
    seen = len(played.watch.invocations)
    answer = requests.post(played.stack.functions.webhook_url, data=body, headers=headers, timeout=30)
    assert answer.status_code == status, given
    assert set(answer.json()) == {"error"}
    played.watch.look()
    (refused,) = [one for one in played.watch.invocations[seen:] if one.status == status]
    during = [call for call in played.watch.calls if refused.started_at_s <= call.at_s <= refused.ended_at_s]
    assert {call.service for call in during} <= {"ssm"}  # the token may be read anew


def test_the_time_line_tells_the_story_in_order(played: Played) -> None:
    lines = Timeline(played.watch).news()
    assert lines == sorted(lines)
    told = "\n".join(line.text for line in lines)
    for words in ("fit on no node", PENDING_ALERT, "CreateFleet", "is Ready", "drain", "TerminateInstances"):
        assert words in told

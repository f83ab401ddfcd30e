"""The question `reach`: what the function reaches from where it stands, good and bad, and nothing changed."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import PolicyOverride
from autoscaler.observe.query import about_query
from autoscaler.policy import Policy, policy_hash
from autoscaler.simulator.cluster import SimCluster
from tests.ask.asked import Asked, only_read
from tests.monitoring.programs import run


def cluster(policy: Policy | None = None) -> SimCluster:
    made = SimCluster(policy or Policy(version=1), workers=2)
    made.recorder.rendered = "0123456789ab"
    made.run(120)
    return made


def reached(made: SimCluster) -> dict[str, Any]:
    found: dict[str, Any] = only_read(made, lambda: Asked(made).ask("reach"))
    return found


def test_what_answers_is_told_with_its_time_and_the_policy_that_holds() -> None:
    found = reached(cluster())
    assert [(row["what"].partition(",")[0], row["problem"]) for row in found["reached"]] == [
        (what, "") for what in ("DynamoDB", "DynamoDB", "EC2", "EC2", "SSM", "Prometheus", "Prometheus")
    ]
    assert all(isinstance(row["ms"], int) and row["ms"] >= 0 and row["call"] for row in found["reached"])
    assert found["policy"]["deployed_hash"] == found["policy"]["hash"] == policy_hash(Policy(version=1))
    for one in ("deployed", "in_force"):
        assert msgspec.convert(found["policy"][one], Policy) == Policy(version=1)
    assert (found["mode"], found["metrics"]["status"], found["metrics"]["problems"]) == ("active", "ok", [])
    assert abs(found["metrics"]["clock_ahead_s"]) <= 1
    (rules,) = found["rules"]
    assert (rules["group"], rules["rendered"], rules["age_s"] < 30) == ("utilisation", "0123456789ab", True)
    assert sum(found["kubelets"].values()) == 3


@pytest.mark.parametrize(
    ("service", "call", "what"),
    [
        ("dynamodb", "load", "DynamoDB"),
        ("dynamodb", "rules", "DynamoDB, the scheduler's rules"),
        ("ec2", "describe", "EC2"),
        ("ec2", "launch_context", "EC2, launch templates and subnets"),
        ("ssm", "result", "SSM"),
    ],
)
def test_one_that_does_not_answer_is_named_and_the_others_are_asked(service: str, call: str, what: str) -> None:
    made = cluster()
    made.fail(service, call, times=None)
    found = reached(made)
    assert [row["what"] for row in found["reached"] if row["problem"]] == [what]
    assert len(found["reached"]) == 7
    assert (found["metrics"] is None) is (what == "EC2")
    assert (found["mode"] is None) is (what == "DynamoDB")


def test_a_prometheus_that_does_not_answer_is_named_twice_and_its_rules_are_unknown() -> None:
    made = cluster()
    made.metric_faults.down = True
    found = reached(made)
    assert [row["what"] for row in found["reached"] if row["problem"]] == ["Prometheus", "Prometheus, its rules"]
    assert (found["metrics"], found["rules"], found["kubelets"]) == (None, None, {})


def test_rules_that_are_not_loaded_differ_from_rules_that_are_not_known() -> None:
    made = cluster()
    made.recorder.lose_history()
    assert reached(made)["rules"] == []
    made = cluster()
    made.recorder.rendered = ""
    assert [row["rendered"] for row in reached(made)["rules"]] == [""]


def test_live_changes_are_part_of_the_policy_that_holds() -> None:
    made = cluster()
    ports = made.ports()
    state, version = ports.store.load()
    override = PolicyOverride(text="scale_up: {cpu_above: 0.6}", version=7)
    ports.store.save(msgspec.structs.replace(state, policy_override=override), version)
    policy = Asked(made).ask("reach")["policy"]
    assert (policy["version"], policy["in_force"]["scale_up"]["cpu_above"]) == (7, 0.6)
    assert policy["hash"] != policy["deployed_hash"] == policy_hash(Policy(version=1))


@pytest.mark.real_programs
def test_prometheus_reads_the_query(tmp_path: Any) -> None:
    rules = tmp_path / "rules.yml"
    query = about_query(Policy(version=1)).replace("\n", " ")
    rules.write_text(f"groups: [{{name: a, rules: [{{record: b, expr: {msgspec.json.encode(query).decode()}}}]}}]\n")
    assert "SUCCESS" in run("promtool", "check", "rules", str(rules)).stdout

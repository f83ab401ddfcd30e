"""The decision document: how old and how stuck operations are, and how many launches in a row did not join."""

from typing import Any

import msgspec
import pytest

from autoscaler import document
from autoscaler.decide.progress.launch import RESEND_FOR_S, SETTLE_S
from autoscaler.decide.removal.holds import STUCK_AFTER_S
from autoscaler.document import blocked_in_words, open_operations_in_words, rules_in_words
from autoscaler.model import (
    Blocked,
    JoinFailures,
    Mode,
    ModeSetting,
    Notice,
    Replacement,
    ReplacementFailed,
    SchedulingRules,
    State,
    Trigger,
)
from autoscaler.policy import Drain, Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.memory import OWNER_KEPT_S
from tests.decide.builders import NOW_S, snapshot
from tests.simulator.worlds import deployment


def test_what_is_spared_is_what_the_core_takes() -> None:
    assert document.LAUNCH_SPARE_S == RESEND_FOR_S + SETTLE_S
    assert document.REMOVAL_SPARE_S == STUCK_AFTER_S
    assert document.FAILED_LAUNCHES_KEPT_S == OWNER_KEPT_S


@pytest.fixture
def state() -> State:
    """One launch and one removal, both begun in one look."""
    cluster = SimCluster(Policy(version=1))
    cluster.apply(deployment("web", replicas=8, cpu=900))
    cluster.run(15)
    worker = cluster.workers()[0]
    notice = Notice(kind="interruption", subject=worker, received_at_s=int(cluster.now_s))
    cluster.sweep(trigger=Trigger(kind="lifecycle"), facts=(notice,))
    assert cluster.state.launches
    assert cluster.state.removals
    return cluster.state


@pytest.mark.parametrize(
    ("policy", "kind", "allowed_s"),
    [
        (Policy(version=1), "launch", 600 + 900),
        (Policy(version=1, workers=Workers(join_timeout_s=1200)), "launch", 1200 + 900),
        (Policy(version=1), "removal", 300 + 300),
        (Policy(version=1, drain=Drain(timeout_s=1800)), "removal", 1800 + 300),
    ],
)
def test_an_operation_is_stuck_when_it_outlasts_what_the_policy_explains(
    state: State, policy: Policy, kind: str, allowed_s: int
) -> None:
    def row(age_s: int) -> tuple[int, bool]:
        rows = open_operations_in_words(state, policy, now_s=began_s + age_s)
        found = next(row for row in rows if row["kind"] == kind)
        return found["age_s"], found["stuck"]

    began_s = state.launches[0].created_at_s if kind == "launch" else state.removals[0].phase_since_s
    assert row(allowed_s) == (allowed_s, False)
    assert row(allowed_s + 1) == (allowed_s + 1, True)
    assert row(-3) == (0, False), "another invocation's clock was ahead"


def test_a_paused_cluster_does_not_say_what_nobody_looked_at() -> None:
    cluster = SimCluster(Policy(version=1))
    cluster.apply(deployment("web", replicas=8, cpu=900))
    cluster.run(15)
    cluster.sweep()
    store = cluster.ports().store
    held, version = store.load()
    store.save(msgspec.structs.replace(held, mode=ModeSetting(mode=Mode.PAUSED, set_at_s=0)), version)
    told = cluster.sweep()
    assert [(row["age_s"], row["stuck"]) for row in told["operations"]] == [(None, None)] * len(held.launches)
    assert told["failed_launches"] is None


@pytest.mark.parametrize(
    ("ended_s_ago", "told"), [(-600, 3), (0, 3), (document.FAILED_LAUNCHES_KEPT_S - 60, 3), (7200, 0)]
)
def test_join_failures_are_told_until_an_hour_after_their_back_off(ended_s_ago: int, told: int) -> None:
    """A calm cluster writes nothing, so they may stand in the state for days: an alarm would never end."""
    cluster = SimCluster(Policy(version=1))
    now_s = int(cluster.now_s)
    store = cluster.ports().store
    failed = JoinFailures(failures=3, failed_at_s=now_s - 9000, until_s=now_s - ended_s_ago)
    store.save(State(join_failures=failed), 0)
    assert cluster.sweep()["failed_launches"] == told
    assert SimCluster(Policy(version=1)).sweep()["failed_launches"] == 0


def test_a_replacement_is_told_and_what_came_of_those_before() -> None:
    cluster = SimCluster(Policy(version=1), workers=3)
    assert cluster.sweep()["replacement"] is None
    cluster = SimCluster(Policy(version=1), workers=3)
    now_s = int(cluster.now_s)
    going = Replacement(
        instance_id=cluster.workers()[0],
        reason="rotation",
        cause="max_age",
        why="it is old",
        began_at_s=now_s - 90,
        launched_by="d0",
    )
    failed = ReplacementFailed(failures=2, retry_at_s=now_s - 1, why="nobody came", reason="rotation", launched_by="d0")
    cluster.ports().store.save(State(replacement=going, replacement_failed=failed), 0)
    assert cluster.sweep()["replacement"] == {
        "instance_id": cluster.workers()[0],
        "reason": "rotation",
        "cause": "max_age",
        "drains": False,
        "age_s": 90,
        "failures": 2,
        "failed_for": "nobody came",
    }


# ---------------------------------------------------------------------------------------------------------------- rules


def looked(**seen: Any) -> dict[str, Any]:
    return rules_in_words(msgspec.structs.replace(snapshot(1), **{"rules_problem": "", **seen}))


def test_what_a_server_told_is_told_with_its_age_and_its_gaps() -> None:
    malformed = (("shop/Job/a", "why"), ("shop/Job/b", "why"))
    rules = SchedulingRules(answered_at_s=NOW_S - 90, left_out=7, malformed=malformed, incomplete=("nodes", "budgets"))
    assert looked(scheduling_rules=rules) == {
        "rules": "known",
        "rules_age_s": 90,
        "rules_left_out": 7,
        "rules_malformed": 2,
        "rules_incomplete": "nodes, budgets",
        "rules_problem": "",
    }


def test_rules_that_could_not_be_had_are_unknown_whatever_is_kept() -> None:
    rules = SchedulingRules(answered_at_s=NOW_S - 90)
    told = looked(scheduling_rules=rules, rules_problem="i-1 was asked and has not answered yet")
    assert (told["rules"], told["rules_age_s"]) == ("unknown", 90)
    assert told["rules_problem"] == "i-1 was asked and has not answered yet"


def test_rules_that_nobody_told_yet_have_no_age() -> None:
    assert looked(scheduling_rules=SchedulingRules(answered_at_s=0))["rules_age_s"] is None
    for nothing in (rules_in_words(None), looked(scheduling_rules=None)):
        assert nothing == {
            "rules": "not_asked",
            "rules_age_s": None,
            "rules_left_out": 0,
            "rules_malformed": 0,
            "rules_incomplete": "",
            "rules_problem": "",
        }


def test_another_invocations_clock_may_be_ahead() -> None:
    assert looked(scheduling_rules=SchedulingRules(answered_at_s=NOW_S + 3))["rules_age_s"] == 0


def test_what_is_blocked_is_told_by_kinds_and_does_not_grow_with_the_fleet() -> None:
    workers = [
        Blocked(subject=f"worker-{n}", code="no_room", text=f"shop/web-{n} fits on no other") for n in range(1, 41)
    ]
    rows = blocked_in_words([Blocked(subject="shop/giant", code="unfittable", text="a lot"), *workers, workers[0]])
    assert [row["subject"] for row in rows] == ["shop/giant", "worker-1", "worker-2", "worker-3"]
    assert rows[1] == {"subject": "worker-1", "code": "no_room", "text": "shop/web-1 fits on no other"}
    assert rows[3]["others"] == [*(f"worker-{n}" for n in range(4, 9)), "32 more"]
    assert "others" not in blocked_in_words(workers[:3])[2]
    assert blocked_in_words(workers[:8])[2]["others"][-1] == "worker-8", "as many as are named leave nothing to count"

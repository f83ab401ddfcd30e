"""The decision document: how old and how stuck operations are, and how many launches in a row did not join."""

import msgspec
import pytest

from autoscaler import document
from autoscaler.decide.progress.launch import RESEND_FOR_S, SETTLE_S
from autoscaler.decide.removal.shrink import STUCK_AFTER_S
from autoscaler.document import open_operations_in_words
from autoscaler.model import JoinFailures, Mode, ModeSetting, Notice, State, Trigger
from autoscaler.policy import Drain, Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.memory import OWNER_KEPT_S
from tests.simulator.worlds import deployment


def test_what_is_spared_is_what_the_core_takes() -> None:
    assert document.LAUNCH_SPARE_S == RESEND_FOR_S + SETTLE_S
    assert document.REMOVAL_SPARE_S == STUCK_AFTER_S
    assert document.JOIN_FAILURES_KEPT_S == OWNER_KEPT_S


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
    assert told["join_failures"] is None


@pytest.mark.parametrize(
    ("ended_s_ago", "told"), [(-600, 3), (0, 3), (document.JOIN_FAILURES_KEPT_S - 60, 3), (7200, 0)]
)
def test_join_failures_are_told_until_an_hour_after_their_back_off(ended_s_ago: int, told: int) -> None:
    """A calm cluster writes nothing, so they may stand in the state for days: an alarm would never end."""
    cluster = SimCluster(Policy(version=1))
    now_s = int(cluster.now_s)
    store = cluster.ports().store
    failed = JoinFailures(failures=3, failed_at_s=now_s - 9000, until_s=now_s - ended_s_ago)
    store.save(State(join_failures=failed), 0)
    assert cluster.sweep()["join_failures"] == told
    assert SimCluster(Policy(version=1)).sweep()["join_failures"] == 0

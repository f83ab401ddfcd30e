"""The first deployment on a cluster: what mode it begins in, and that it is asked only once."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import Mode, ModeSetting, Notice, State, Trigger
from autoscaler.policy import Policy
from autoscaler.reconcile import reconcile
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.modes import set_mode
from tests.reconcile.conftest import need_two_workers

SWEEP = Trigger(kind="sweep")


def look(cluster: SimCluster, start_mode: Mode | None, *facts: Notice) -> dict[str, Any]:
    return reconcile(
        cluster.ports(),
        cluster_id=cluster.cluster_id,
        policy=cluster.policy,
        trigger=SWEEP,
        facts=facts,
        start_mode=start_mode,
    )


def test_a_new_cluster_that_starts_in_observe_tells_and_does_nothing(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    for _ in range(3):
        document = look(cluster, Mode.OBSERVE)
        assert (document["mode"], document["action"]) == ("observe", "scale_up")
        cluster.run(120)
    assert len(cluster.workers()) == 2
    setting = cluster.state.mode
    assert setting is not None
    assert (setting.mode, setting.until_s, setting.by) == (Mode.OBSERVE, None, "the first deployment")


def test_the_first_look_stores_the_mode_and_a_calm_one_writes_nothing_more(cluster: SimCluster) -> None:
    look(cluster, Mode.OBSERVE)
    assert cluster.item.version == 2, "the mode, and that the cluster was seen"
    look(cluster, Mode.OBSERVE)
    assert cluster.item.version == 2


@pytest.mark.parametrize("said", [Mode.ACTIVE, Mode.PAUSED])
def test_the_operators_word_outlives_the_next_deployment(cluster: SimCluster, said: Mode) -> None:
    look(cluster, Mode.OBSERVE)
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=said, set_at_s=int(cluster.now_s))), version)
    assert look(cluster, Mode.OBSERVE)["mode"] == said.value


def test_a_pause_before_the_first_look_ends_in_the_start_mode(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    until_s = int(cluster.now_s) + 300
    store = cluster.ports().store
    store.save(set_mode(State(), ModeSetting(mode=Mode.PAUSED, set_at_s=int(cluster.now_s), until_s=until_s)), 0)
    modes = []
    for _ in range(4):
        modes.append(look(cluster, Mode.OBSERVE)["mode"])
        cluster.run(120)
    assert modes == ["paused", "paused", "paused", "observe"]
    assert len(cluster.workers()) == 2


def test_a_cluster_that_has_a_state_is_left_as_it_is(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    look(cluster, None)
    assert look(cluster, Mode.OBSERVE)["mode"] == "active"
    assert len(cluster.workers()) == 4


def test_without_a_start_mode_the_policys_holds_and_no_mode_is_written() -> None:
    cluster = SimCluster(Policy(version=1, mode=Mode.OBSERVE))
    assert look(cluster, None)["mode"] == "observe"
    assert msgspec.structs.replace(cluster.state, seen_types=()) == State(unlisted_workers=0)


def test_a_notice_that_comes_before_the_first_look_does_not_hide_that_the_cluster_is_new(cluster: SimCluster) -> None:
    notice = Notice(kind="interruption", subject=cluster.workers()[0], received_at_s=int(cluster.now_s))
    assert look(cluster, Mode.OBSERVE, notice)["mode"] == "observe"
    assert cluster.state.removals == ()


def test_a_first_write_that_somebody_else_won_starts_over_with_what_stands_there(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    rivals = [ModeSetting(mode=Mode.ACTIVE, set_at_s=1, by="ada")]

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("dynamodb", "save", "before") and rivals:
            setting = rivals.pop()
            store = cluster.ports().store
            state, version = store.load()
            store.save(set_mode(state, setting), version)

    cluster.wires.hook = hook
    document = look(cluster, Mode.OBSERVE)
    assert (document["mode"], document["action"]) == ("active", "scale_up")
    assert cluster.state.mode is not None
    assert cluster.state.mode.by == "ada"

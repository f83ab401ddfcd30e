"""What of the loop's news goes into the history and to people."""

import msgspec

from autoscaler.model import Mode
from autoscaler.notifications import Notify
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import deployment


def test_observe_mode_leaves_each_beginning_in_the_history_once() -> None:
    cluster = SimCluster(Policy(version=1, mode=Mode.OBSERVE), workers=2)
    cluster.sweep()
    assert cluster.decisions == []
    cluster.apply(deployment("web", 12))
    cluster.run(30)
    for _ in range(3):
        cluster.sweep()
        cluster.run(120)
    assert [(d["mode"], d["action"]) for d in cluster.decisions] == [("observe", "scale_up")]
    assert cluster.state.observed.startswith("scale_up: ")
    cluster.world.scale("shop/web", 0)
    cluster.run(30)
    cluster.sweep()
    assert cluster.state.observed == "", "it may begin again"
    cluster.world.scale("shop/web", 12)
    cluster.run(30)
    cluster.sweep()
    assert [d["action"] for d in cluster.decisions].count("scale_up") == 2
    assert len(cluster.told) == 0, "nothing was done"


def test_the_policy_says_what_people_are_told_and_the_history_has_it_all_the_same() -> None:
    policy = Policy(version=1, notify=Notify(least="critical"))
    cluster = SimCluster(policy, workers=2)
    cluster.apply(deployment("web", 12))
    cluster.run(30)
    cluster.sweep()
    assert [d["action"] for d in cluster.decisions] == ["scale_up"]
    assert len(cluster.told) == 0


def test_what_is_told_carries_its_severity_and_counts_in_its_hour() -> None:
    cluster = SimCluster(Policy(version=1, notify=Notify(most_an_hour=1)), workers=2)
    cluster.apply(deployment("web", 12))
    cluster.run(30)
    cluster.sweep()
    assert [(d["severity"], d["withheld"]) for d in cluster.told] == [("info", 0)]
    assert cluster.state.notified is not None
    cluster.item.data = msgspec.json.encode(cluster.state)
    assert cluster.state.notified.told == 1


def test_another_mode_in_between_lets_it_be_told_again() -> None:
    observing = Policy(version=1, mode=Mode.OBSERVE)
    cluster = SimCluster(observing, workers=2)
    cluster.apply(deployment("web", 12))
    cluster.run(30)
    cluster.sweep()
    cluster.policy = msgspec.structs.replace(observing, mode=Mode.ACTIVE)
    cluster.sweep()
    assert cluster.state.observed == ""

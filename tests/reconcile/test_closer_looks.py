"""A look asks what its decision needs, and no more; what it cannot have it does not guess."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from autoscaler.asking.server import ACTING_S
from autoscaler.model import Sample
from autoscaler.policy import Policy, ScaleDown
from autoscaler.ports import Metrics, MetricsUnavailable, Ports
from autoscaler.reconcile import reconcile
from autoscaler.simulator.cluster import SWEEP, SimCluster
from tests.reconcile.conftest import deployment, need_two_workers

POLICY = Policy(version=1)


class Asked:
    """Prometheus that remembers what kinds of questions came, and answers only so many of them."""

    def __init__(self, metrics: Metrics, answers: int) -> None:
        self._metrics = metrics
        self._answers = answers
        self.kinds: list[str] = []

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        kind = "sight" if '"scraped_at"' in promql else "rooms" if '"requested"' in promql else "moving"
        self.kinds.append(kind)
        if len(self.kinds) > self._answers:
            raise MetricsUnavailable(f"no answer to {kind}")
        return self._metrics.query(promql, timeout_s=timeout_s)


def look(cluster: SimCluster, *, answers: int = 9, timeout_s: float = 30.0) -> tuple[dict[str, Any], list[str]]:
    ports = cluster.ports(timeout_s=timeout_s)
    asked = Asked(ports.metrics, answers)
    changed: Ports = msgspec.structs.replace(ports, metrics=asked)
    document = reconcile(changed, cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=SWEEP)
    return document, asked.kinds


@pytest.fixture
def waiting() -> SimCluster:
    cluster = SimCluster(POLICY, workers=2)
    need_two_workers(cluster)
    return cluster


@pytest.fixture
def shrinking() -> SimCluster:
    cluster = SimCluster(Policy(version=1, scale_down=ScaleDown(cool_down_s=0)), workers=4)
    cluster.apply(deployment("web", 8, cpu_millicores=100))
    cluster.run(1500)
    return cluster


def test_a_calm_look_asks_once() -> None:
    assert look(SimCluster(POLICY, workers=2))[1] == ["sight"]


def test_pods_that_wait_ask_where_there_is_room(waiting: SimCluster) -> None:
    document, kinds = look(waiting)
    assert (document["action"], kinds) == ("scale_up", ["sight", "rooms"])


def test_a_shrink_that_is_due_asks_whose_pods_would_move(shrinking: SimCluster) -> None:
    document, kinds = look(shrinking)
    assert (document["action"], kinds) == ("scale_down", ["sight", "rooms", "moving"])


FITS, LOW_USE = (Policy(version=1, scale_down=ScaleDown(when=when)) for when in ("fits", "low_use"))


def working(policy: Policy, *, burn_cores: float) -> SimCluster:
    """Three workers of two CPUs that share the load of six pods."""
    cluster = SimCluster(policy, workers=3)
    cluster.apply(deployment("web", 6, cpu_millicores=300, burn_cores=burn_cores))
    cluster.run(1500)
    return cluster


@pytest.mark.parametrize(
    ("policy", "burn_cores", "kinds"),
    [
        pytest.param(LOW_USE, 0.35, ["sight"], id="low_use asks nothing while use is not low"),
        pytest.param(FITS, 0.35, ["sight", "rooms", "moving"], id="fits asks whose pods would fit"),
        pytest.param(FITS, 0.5, ["sight", "rooms"], id="but not whose, where the others could not carry the use"),
    ],
)
def test_what_a_look_at_a_fleet_that_works_asks(policy: Policy, burn_cores: float, kinds: list[str]) -> None:
    assert look(working(policy, burn_cores=burn_cores))[1] == kinds


def test_at_its_minimum_a_fleet_is_asked_once_with_fits_too() -> None:
    assert look(SimCluster(FITS, workers=2))[1] == ["sight"]


def test_without_rooms_nothing_grows_and_the_next_look_does(waiting: SimCluster) -> None:
    document, kinds = look(waiting, answers=1)
    assert kinds == ["sight", "rooms"]
    assert (document["action"], document["reason"], document["metrics_status"]) == (
        "held_back",
        "metrics_partial",
        "partial",
    )
    assert document["metrics_problems"][0] == "what is free on the Nodes is not known: no answer to rooms"
    assert len(waiting.workers()) == 2
    assert look(waiting)[0]["action"] == "scale_up"


def test_without_the_pods_nobody_goes(shrinking: SimCluster) -> None:
    document, kinds = look(shrinking, answers=2)
    assert kinds == ["sight", "rooms", "moving"]
    assert (document["action"], document["metrics_status"]) == ("none", "partial")
    assert "are not known: no answer to moving" in document["metrics_problems"][0]
    assert shrinking.state.removals == ()
    assert look(shrinking)[0]["action"] == "scale_down"


def test_a_closer_look_that_would_eat_the_time_for_acting_is_left_out(waiting: SimCluster) -> None:
    document, kinds = look(waiting, timeout_s=POLICY.metrics.timeout_s + ACTING_S)
    assert kinds == ["sight"]
    assert (document["action"], document["reason"]) == ("held_back", "metrics_partial")
    assert "the time of this invocation is nearly up" in document["message"]

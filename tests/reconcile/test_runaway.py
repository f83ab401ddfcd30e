"""Every worker that is launched is broken, for a whole day: launches stay few, and nobody else suffers.

The bound follows from `join_failed` alone (state/memory.py). A wave ends with its first failure; `MISSING` workers
are wanted all day, so a wave launches at most that many. The first wave's failure is tolerated, the later ones are
waited for: 600 s, doubled up to 3600 s. So a day has room for `waves(86400)` of them.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from autoscaler.conditions import UNSCHEDULABLE_SIGNAL
from autoscaler.model import Notice
from autoscaler.policy import Policy, ScaleDown
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.objects import Faults
from autoscaler.simulator.world.world import NodeView
from autoscaler.state.memory import JOIN_WAIT_S, MAX_JOIN_WAIT_S, PROVEN_AFTER_S, TOLERATED_JOIN_FAILURES
from tests.passed_over import why
from tests.reconcile.conftest import deployment

DAY_S = 86_400
SWEEP_S = 120
MISSING = 6
"""Workers that the pods lack all day: three exist (one of them static) and nine are needed."""
BACK_TO_DEMAND_SWEEPS = MAX_JOIN_WAIT_S // SWEEP_S + 6 + 8
"""From the mended image to all pods running: the longest back-off, the last broken probe's join time-out of 600 s, and
four steps (one probe, then as many more as have stayed) of two sweeps each."""


def waiting(document: dict[str, Any]) -> float:
    """Pods that wait for a worker."""
    return {signal["name"]: signal["value"] for signal in document["signals"]}[UNSCHEDULABLE_SIGNAL] or 0


def waves(seconds: int) -> int:
    """How many waves of launches fit into a time in which every wave fails at once."""
    count, passed_s = TOLERATED_JOIN_FAILURES + 1, 0
    while passed_s < seconds:
        doublings = count - TOLERATED_JOIN_FAILURES - 1
        passed_s += min(JOIN_WAIT_S * 2**doublings, MAX_JOIN_WAIT_S)
        count += 1
    return count


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """What is wrong with the image. Times in seconds."""

    faults: tuple[str, ...] = ()
    lasts_s: int = 0
    """How long a worker is Ready before it is lost; 0 for one that never is, or stays."""
    kubelet_only: bool = False
    """It turns NotReady instead of dying."""


@dataclass
class Day:
    """A cluster whose image breaks what is launched from now on."""

    breakage: Breakage
    cluster: SimCluster = field(default_factory=lambda: SimCluster(Policy(version=1), static_workers=1))
    broken: bool = True
    documents: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.old = {node.instance_id: node.name for node in self.cluster.world.nodes}
        self.known = set(self.old)
        self.launched_before = self.cluster.ec2.bill.launched
        for fault in self.breakage.faults:
            setattr(self.cluster.world.faults, fault, True)

    @property
    def launched(self) -> int:
        return self.cluster.ec2.bill.launched - self.launched_before

    def sweep_for(self, seconds: float) -> None:
        end_s = self.cluster.now_s + seconds
        while self.cluster.now_s < end_s:
            self.cluster.run(SWEEP_S)
            self.doom()
            self.documents.append(self.cluster.sweep())
            self.check()

    def doom(self) -> None:
        """Workers that turned Ready are lost later on."""
        for node in self.cluster.world.nodes:
            if node.ready and node.instance_id not in self.known:
                self.known.add(node.instance_id)
                if self.broken and self.breakage.lasts_s:
                    self.cluster.world.at(self.cluster.now_s + self.breakage.lasts_s, partial(self.lose, node))

    def lose(self, node: NodeView) -> None:
        if not self.breakage.kubelet_only:
            self.cluster.ec2.end(node.instance_id)
        elif node.name in self.cluster.world.state.nodes:
            self.cluster.world.break_node(node.name)

    def check(self) -> None:
        """What holds after every sweep, whatever breaks."""
        world, ec2 = self.cluster.world, self.cluster.ec2
        assert ec2.bill.refused_terminations == []
        assert len(self.cluster.workers()) + 1 <= self.cluster.policy.workers.max, "never above max"
        if not self.broken:
            return  # what is one too many by then goes as usual, the oldest first
        nodes = {node.instance_id: node for node in world.nodes}
        for instance_id in self.old:
            assert ec2.instances[instance_id].ended_at_s is None, "an old worker is never ended"
            assert not nodes[instance_id].cordoned, "nor cordoned"
        assert not [r for r in self.cluster.state.removals if r.instance_id in self.old], "nor is it intended"
        assert not [e for e in self.documents[-1]["done"] if any(name in e for name in self.old.values())]

    def mend(self) -> None:
        """A good image, and what people do about workers that are too many to be replaced by themselves."""
        self.broken = False
        for fault in self.breakage.faults:
            setattr(self.cluster.world.faults, fault, getattr(Faults(), fault))
        self.cluster.run(self.breakage.lasts_s + SWEEP_S)
        if self.breakage.kubelet_only:
            for node in self.cluster.world.nodes:
                self.cluster.world.mend_node(node.name)

    def sweeps_until_all_run(self) -> int:
        """The last of the next sweeps after which a pod still waits."""
        last = 0
        for sweep in range(1, BACK_TO_DEMAND_SWEEPS + 31):
            self.sweep_for(SWEEP_S)
            if any(not pod.node for pod in self.cluster.world.pods if pod.namespace == "shop"):
                last = sweep
        return last


BREAKAGES = {
    "never joins": Breakage(faults=("never_join",)),
    "joins and stays NotReady": Breakage(faults=("broken_image",)),
    "is Ready and dies within minutes": Breakage(lasts_s=60),
    "is Ready and dies after 10 minutes": Breakage(lasts_s=600),
    "is Ready and dies after 25 minutes": Breakage(lasts_s=1500),
    "is Ready and turns NotReady within minutes": Breakage(lasts_s=60, kubelet_only=True),
    "is Ready and turns NotReady after 20 minutes": Breakage(lasts_s=1200, kubelet_only=True),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_broken_workers_are_launched_ever_more_rarely_and_old_ones_are_left_alone(name: str) -> None:
    day = Day(BREAKAGES[name])
    day.cluster.apply(deployment("web", 18))
    day.cluster.run(15)
    day.sweep_for(DAY_S)

    assert MISSING < day.launched <= MISSING * waves(DAY_S), "more than once, and no oftener than the back-off allows"
    if day.breakage.faults:  # none is ever Ready: after the two tolerated waves one probe a wave
        assert day.launched <= (TOLERATED_JOIN_FAILURES + 1) * MISSING + waves(DAY_S)
    last_hour = day.documents[-3600 // SWEEP_S :]
    assert sum(document["action"] == "scale_up" for document in last_hour) <= MISSING
    assert max(waiting(document) for document in last_hour) > 0
    if not day.breakage.kubelet_only:
        assert "join_backoff" in {document["reason"] for document in last_hour}
        assert max(document["failed_launches"] for document in last_hour) >= 10
        assert all("failed_launches" in document["conditions"] for document in last_hour), "and it is alarmed on"
    told = [document for document in day.cluster.told if document["action"] == "held_back"]
    assert 1 <= len(told) <= 3 * waves(DAY_S), "people hear of it, and not every two minutes"

    day.mend()
    assert day.sweeps_until_all_run() <= BACK_TO_DEMAND_SWEEPS
    day.sweep_for(PROVEN_AFTER_S)
    assert all(node.ready for node in day.cluster.world.nodes)


def test_workers_that_turn_not_ready_are_not_replaced_once_they_are_too_many() -> None:
    """The health gate: with more than a third NotReady the cause lies elsewhere, and launching would not help."""
    day = Day(Breakage(lasts_s=60, kubelet_only=True))
    day.cluster.apply(deployment("web", 18))
    day.sweep_for(6 * 3600)
    launched, workers = day.launched, day.cluster.workers()
    day.sweep_for(6 * 3600)
    assert (day.launched, day.cluster.workers()) == (launched, workers)
    assert any("max_unhealthy_share" in why(blocked) for blocked in day.documents[-1]["blocked"])


def test_failures_are_forgotten_once_a_worker_stays() -> None:
    day = Day(Breakage(lasts_s=60))
    day.cluster.apply(deployment("web", 18))
    day.sweep_for(4 * 3600)
    failed = day.cluster.state.join_failures
    assert failed is not None
    assert failed.after_ready
    day.mend()
    day.sweep_for(MAX_JOIN_WAIT_S + PROVEN_AFTER_S + 600)
    assert day.cluster.state.join_failures is None
    assert day.documents[-1]["failed_launches"] == 0
    assert day.documents[-1]["conditions"] == []
    assert any("launches are trusted again" in event for document in day.documents for event in document["done"])


def test_workers_that_last_half_an_hour_are_replaced_no_oftener_than_they_last() -> None:
    day = Day(Breakage(lasts_s=PROVEN_AFTER_S))
    day.cluster.apply(deployment("web", 18))
    day.sweep_for(DAY_S)
    assert MISSING < day.launched <= MISSING * (DAY_S // PROVEN_AFTER_S + 1)


def test_workers_that_no_pod_can_use_are_not_launched_for_ever_nor_are_old_ones_emptied_onto_them() -> None:
    """Ready, and the scheduler places nothing there: an affinity or a spread that no metric shows."""
    policy = Policy(version=1, scale_down=ScaleDown(cool_down_s=60))
    day = Day(Breakage(faults=("useless",)), SimCluster(policy, static_workers=1))
    day.cluster.apply(deployment("web", 10))
    day.cluster.run(15)
    day.sweep_for(DAY_S)
    assert 2 < day.launched <= 22, "the owner's retries: 600 s, doubled up to six hours, two workers each"
    assert [b for d in day.documents for b in d["blocked"] if why(b).startswith("unhelped")]
    assert sum(d["action"] == "scale_up" for d in day.documents[-6 * 3600 // SWEEP_S :]) <= 2


def test_old_workers_that_turn_not_ready_together_are_not_replaced() -> None:
    cluster = SimCluster(Policy(version=1), workers=6)
    cluster.apply(deployment("web", 12))
    cluster.run(60)
    workers = cluster.workers()
    for node in [node for node in cluster.world.nodes if not node.server][:4]:
        cluster.world.break_node(node.name)
    documents = cluster.sweep_for(6 * 3600)
    assert set(workers) <= set(cluster.workers())
    assert any("max_unhealthy_share" in why(blocked) for blocked in documents[-1]["blocked"])


def test_an_interrupted_worker_is_no_failure_of_what_is_launched() -> None:
    cluster = SimCluster(Policy(version=1))
    for _ in range(3):
        victim = cluster.workers()[0]
        cluster.sweep(facts=(Notice(kind="interruption", subject=victim, received_at_s=int(cluster.now_s)),))
        cluster.run(120)
        cluster.ec2.end(victim)
        cluster.sweep_for(600)
        assert cluster.state.join_failures is None

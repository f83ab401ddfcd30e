"""Invariants of plans that knew the rules, on built histories; and what the soak draws for them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from autoscaler.model import LaunchRequest, RemovalOperation, RemovalPhase, State
from autoscaler.model.operations import LaunchOperation, LaunchOverride
from autoscaler.observe.rules import pack_kept
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.soak.chaos import KINDS, plan_for_rules
from autoscaler.simulator.soak.choosy import NAME, SHAPES, choosy_changes, choosy_workload
from autoscaler.simulator.soak.fates import FateRates, Fates
from autoscaler.simulator.soak.faults.stage import Episode, Stage
from autoscaler.simulator.soak.helpable import helpable
from autoscaler.simulator.soak.invariants import rules
from autoscaler.simulator.soak.on_plans import PlanRules
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.soak.stepped import Seen, SteppedInvocation
from autoscaler.simulator.soak.watch import Saved, Watch
from autoscaler.simulator.world.shapes import one_per_host
from autoscaler.simulator.world.told import scheduling_rules
from autoscaler.simulator.world.workload import MIB, Ask, Kind, PodTemplate, Workload

DECISION = "d1"


def shop(name: str, replicas: int, *, cpu: int = 100, **template: Any) -> Workload:
    request = Ask(cpu_millicores=cpu, memory_bytes=32 * MIB)
    return Workload(namespace="shop", name=name, replicas=replicas, template=PodTemplate(request=request, **template))


class History:
    """A cluster, its witness, and what would have been written and told."""

    def __init__(self) -> None:
        self.cluster = SimCluster(Policy(version=1), workers=2)
        self.watch = Watch(self.cluster, rules())
        self.rules = PlanRules()
        self.launches: list[LaunchOperation] = []

    def request(self, count: int) -> LaunchRequest:
        overrides = tuple(
            LaunchOverride(instance_type="t3.small", subnet_id=subnet, zone=zone)
            for subnet, zone in self.cluster.ec2.settings.subnet_zones
        )
        tags = (("ManagedBy", "autoscaler"), ("k3s-autoscaler/cluster", "sim"), ("k3s-autoscaler/operation", "d1-l0"))
        return LaunchRequest(
            client_token="d1-l0", template_id="lt", template_version="1", count=count, overrides=overrides, tags=tags
        )

    def launch(
        self,
        count: int,
        *,
        known: str = "known",
        desired: int = 0,
        wants: int = 0,
        tells: bool = True,
        looked_s_ago: float = 0.0,
        seen: int = 100,
    ) -> str | None:
        """A decision launches so many workers for pods that wait; what the invariant says of its document.

        `desired`: what it decided, where EC2 gave less; `wants`: what the pods want, where that is more;
        `tells`: whether a server told it all.
        """
        if tells:
            self.knows_rules()
        self.cluster.ports().fleet.launch(self.request(count))
        self.watch.ending.looked_at_s = self.cluster.now_s - looked_s_ago
        operation: Mapping[str, Any] = {
            "operation_id": "d1-l0",
            "kind": "launch",
            "reason": "pods_unschedulable",
            "count": count,
        }
        document = {
            "decision_id": DECISION,
            "rules": known,
            "operations": [operation],
            "blocked": [],
            "nodes": {"ready": 2, "joining": 0, "desired": desired or 2 + count},
            "signals": [
                {"name": "minimum", "wants": None},
                {"name": "unschedulable_pods", "value": seen, "wants": wants},
            ],
        }
        return self.rules.nothing_is_launched_for_pods_that_no_worker_helps(self.watch, document)

    def after(self, seconds: float) -> str | None:
        """Time passes; what the plans come to."""
        told = self.rules.a_plan_is_enough(self.watch)
        self.cluster.run(seconds)
        return told or self.rules.a_plan_is_enough(self.watch)

    def save(self, *, removes: str = "", launches: int = 0, reads: bool = True) -> str | None:
        """A write that opens a removal or a launch for pods; what the invariant says of it."""
        now_s = int(self.cluster.now_s)
        removals: tuple[RemovalOperation, ...] = ()
        opened: tuple[LaunchOperation, ...] = ()
        if removes:
            node = self.watch.truth.node_of(removes)
            assert node is not None
            removal = RemovalOperation(
                operation_id="r1",
                created_at_s=now_s,
                reason="low_utilisation",
                instance_id=removes,
                node_name=node.name,
                provider_id=node.provider_id,
                phase=RemovalPhase.DRAINING,
                phase_since_s=now_s,
                fence=1,
                not_after_s=now_s + 60,
            )
            removals = (removal,)
        if launches:
            operation = LaunchOperation(
                operation_id="l1", created_at_s=now_s, reason="pods_unschedulable", request=self.request(launches)
            )
            opened = (operation,)
        by = SteppedInvocation(
            self.cluster.wires,
            Process("sweep 1", lambda _: None),
            lambda number, service, name: Fates(1, FateRates()).draw("sweep 1", number, service, name),
            self.watch,
            lambda _seconds, _action: None,
        )
        new = State(removals=removals, launches=opened)
        return self.rules.no_launch_follows_a_removal(self.watch, Saved(State(), new, by, Seen(rules_read=reads)))

    def knows_rules(self) -> None:
        self.cluster.item.rules = pack_kept(scheduling_rules(self.cluster.world.state))


# ---------------------------------------------------------------------------------------------------------- enough


def one_each(count: int) -> Workload:
    return shop("web", count, constraints=one_per_host("web"))


@pytest.mark.parametrize(("count", "wrong"), [(3, None), (2, "2 workers have joined for it, and shop/web-")])
def test_a_plan_that_leaves_one_of_its_pods_is_found(count: int, wrong: str | None) -> None:
    history = History()
    history.cluster.apply(one_each(5))
    history.cluster.run(15)
    assert history.launch(count) is None
    told = history.after(120)
    assert (told is None) if wrong is None else (told or "").startswith(wrong)
    assert history.after(10) is None, "told once"


@pytest.mark.parametrize(
    ("launch", "between"),
    [
        pytest.param({"wants": 5}, "", id="capped"),
        pytest.param({"desired": 5}, "", id="EC2 gave less"),
        pytest.param({"known": "unknown"}, "", id="without rules"),
        pytest.param({}, "change 1", id="the load changed"),
    ],
)
def test_a_plan_that_could_not_be_whole_is_not_judged(launch: dict[str, Any], between: str) -> None:
    history = History()
    history.cluster.apply(one_each(5))
    history.cluster.run(15)
    history.launch(2, **launch)
    if between:
        history.watch.fault_keys.append(between)
    assert history.after(120) is None


@pytest.mark.parametrize("between", [["change 1"], []], ids=["the load changed", "a dead machine's Node went"])
@pytest.mark.parametrize(("looked_s_ago", "judged"), [(20.0, False), (0.0, True)])
def test_a_plan_is_not_asked_for_pods_that_came_after_its_look(
    between: list[str], looked_s_ago: float, *, judged: bool
) -> None:
    history = History()
    history.cluster.apply(one_each(4))
    history.cluster.run(15)
    history.cluster.world.scale("shop/web", 5)
    history.watch.fault_keys += between
    history.after(15)
    history.launch(2, looked_s_ago=looked_s_ago)
    assert (history.after(120) is not None) == judged


@pytest.mark.parametrize(("seen", "judged"), [(4, False), (5, True)])
def test_a_plan_is_not_asked_for_pods_that_its_picture_did_not_show(seen: int, *, judged: bool) -> None:
    """Prometheus had scraped before the load changed, and the look came after it."""
    history = History()
    history.cluster.apply(one_each(7))
    history.cluster.run(15)
    history.launch(2, seen=seen)
    assert (history.after(120) is not None) == judged


def test_a_plan_is_judged_when_nobody_is_on_the_way_any_more() -> None:
    history = History()
    history.cluster.apply(one_each(5))
    history.cluster.run(15)
    history.launch(2)
    history.cluster.world.break_node(f"worker-{history.cluster.workers()[0]}")
    assert history.after(120) is None
    history.cluster.world.mend_node(f"worker-{history.cluster.workers()[0]}")
    history.watch.truth.look()
    assert "2 workers have joined" in (history.after(30) or "")


def test_a_plan_waits_for_workers_that_still_start() -> None:
    history = History()
    history.cluster.apply(one_each(4))
    history.cluster.run(15)
    history.launch(1)
    assert history.after(10) is None
    assert "1 workers have joined" in (history.after(120) or "")


# ------------------------------------------------------------------------------------------------------ not for nothing


@pytest.mark.parametrize(
    ("template", "wrong"), [({"extended": (("nvidia.com/gpu", 1),)}, True), ({"cpu": 1850}, False)]
)
def test_a_launch_for_a_pod_that_no_worker_helps_is_found(template: dict[str, Any], wrong: bool) -> None:
    history = History()
    history.cluster.apply(shop("filler", 2, cpu=1000))
    history.cluster.apply(shop("web", 1, **template))
    history.after(0)
    history.after(1000)
    told = history.launch(1)
    assert ("would wait on them as well" in (told or "")) is wrong


def test_it_is_not_said_of_an_owner_that_no_answer_told() -> None:
    history = History()
    history.knows_rules()
    history.cluster.apply(shop("web", 1, extended=(("nvidia.com/gpu", 1),)))
    history.cluster.run(15)
    assert history.launch(1, tells=False) is None


def test_it_is_not_said_while_things_change() -> None:
    history = History()
    history.cluster.apply(shop("web", 1, extended=(("nvidia.com/gpu", 1),)))
    history.after(0)
    history.after(1000)
    history.watch.fault_keys.append("change 1")
    history.after(0)
    assert history.launch(1) is None


# ------------------------------------------------------------------------------------------------------------- no turns


@pytest.mark.parametrize(
    ("known", "reads", "wait_s", "between", "wrong"),
    [
        (True, True, 600.0, "", True),
        (True, True, 3700.0, "", False),
        (True, True, 600.0, "change 1", False),
        (False, True, 600.0, "", False),
        (True, False, 600.0, "", False),
    ],
)
def test_a_launch_for_what_a_removal_moved_is_found(
    known: bool, reads: bool, wait_s: float, between: str, wrong: bool
) -> None:
    history = History()
    history.cluster.apply(one_each(2))
    history.cluster.run(30)
    if known:
        history.knows_rules()
    worker = history.cluster.workers()[0]
    assert history.save(removes=worker, reads=reads) is None
    history.cluster.world.cordon(f"worker-{worker}")
    if between:
        history.watch.fault_keys.append(between)
    history.cluster.world.scale("shop/web", 3)  # one of them waits, as after an eviction
    history.cluster.run(wait_s)
    told = history.save(launches=1)
    assert ("gets a new worker" in (told or "")) is wrong


# ---------------------------------------------------------------------------------------------------------------- drawn


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_what_is_drawn_is_helped_by_a_new_worker_or_by_none(number: int) -> None:
    """Asked on workers that are full, or of which another pod has the only host, port or zone."""
    cluster = SimCluster(Policy(version=1), workers=2)
    cluster.apply(shop("filler", 2, cpu=1700, constraints=one_per_host("filler")))
    cluster.run(30)
    cluster.apply(Workload(namespace="shop", name=NAME, replicas=1, template=SHAPES[number]))
    cluster.run(30)
    assert bool(helpable(cluster)) is (number < len(SHAPES) - 4)


def test_daemons_take_their_share_of_a_new_worker() -> None:
    cluster = SimCluster(Policy(version=1), workers=0)
    cluster.apply(shop("web", 1, cpu=1850))
    cluster.run(30)
    assert len(helpable(cluster)) == 1
    daemon = msgspec.structs.replace(shop("agent", 1, cpu=100), kind=Kind.DAEMON_SET)
    cluster.apply(daemon)
    assert helpable(cluster) == []


def test_some_seeds_have_one_and_it_is_the_same_every_time() -> None:
    drawn = [choosy_workload(seed) for seed in range(400)]
    assert drawn == [choosy_workload(seed) for seed in range(400)]
    shapes = {workload.template.constraints for workload in drawn if workload is not None}
    assert 60 < sum(workload is not None for workload in drawn) < 140
    assert shapes == {shape.constraints for shape in SHAPES}
    changes = choosy_changes(7, first=3, begin_s=0.0, end_s=100.0)
    assert [change.key for change in changes] == [f"change {number}" for number in range(3, 7)]
    assert sorted(change.at_s for change in changes) == [change.at_s for change in changes]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("rules: ")])
def test_a_fault_of_answers_begins_and_ends(kind: str) -> None:
    history = History()
    stage = Stage(history.cluster, history.watch, Fates(1, FateRates()), lambda *_: None, lambda _: None)
    begin, end = KINDS[kind]
    episode = Episode(1, kind, 0.0, 60.0, 0.0, 0.0)
    begin(stage, episode)
    assert f"rules: {history.cluster.ssm.rules_fault}" == kind
    end(stage, episode)
    assert history.cluster.ssm.rules_fault is None


def test_faults_of_answers_come_in_half_of_the_seeds_once_the_rules_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> list[list[Episode]]:
        return [plan_for_rules(seed, first=5, begin_s=0.0, end_s=3600.0, only=()) for seed in range(100)]

    monkeypatch.setattr("autoscaler.simulator.soak.chaos.RULES_ARE_USED", False)
    assert not any(drawn())
    monkeypatch.setattr("autoscaler.simulator.soak.chaos.RULES_ARE_USED", True)
    some = [episodes for episodes in drawn() if episodes]
    assert 30 < len(some) < 70
    assert {episode.kind for episodes in some for episode in episodes} == {k for k in KINDS if k.startswith("rules: ")}

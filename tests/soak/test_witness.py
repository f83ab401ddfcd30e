"""What the soak's witness holds an answer, or a launch, to be: on built histories."""

import pytest

from autoscaler.model import LaunchRequest, RemovalOperation, RemovalPhase, State
from autoscaler.model.operations import LaunchOperation, LaunchOverride
from autoscaler.observe.query import moving_query, sight_query
from autoscaler.policy import Policy, ScaleDown
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.metrics.faults import spoil
from autoscaler.simulator.soak.fates import FateRates, Fates
from autoscaler.simulator.soak.invariants import rules
from autoscaler.simulator.soak.on_choice import no_more_leave_together_than_the_budget
from autoscaler.simulator.soak.on_decision import no_shrink_without_complete_metrics, shrink_waits_for_calm
from autoscaler.simulator.soak.on_effect import one_fleet_for_one_intent
from autoscaler.simulator.soak.on_market import one_stands_for_one
from autoscaler.simulator.soak.on_turns import TurnRules
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.soak.stepped import Call, SteppedInvocation
from autoscaler.simulator.soak.watch import Effect, Saved, Watch
from autoscaler.simulator.wires import PROMETHEUS
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload

POLICY = Policy(version=1, scale_down=ScaleDown(budget=2))


class Look:
    """A cluster, its witness, and an invocation that asks."""

    def __init__(self, *, replays_tokens: bool = True) -> None:
        self.cluster = SimCluster(POLICY, workers=2, ec2=Ec2Settings(replays_tokens=replays_tokens))
        self.watch = Watch(self.cluster, rules())
        self.by = SteppedInvocation(
            self.cluster.wires,
            Process("sweep 1", lambda _: None),
            lambda number, service, name: Fates(1, FateRates()).draw("sweep 1", number, service, name),
            self.watch,
            lambda _seconds, _action: None,
        )

    def asks(self, promql: str = "") -> None:
        """A query, the look's first unless it is given, and its answer as the faults leave it."""
        call = Call(PROMETHEUS, "query", promql or sight_query(POLICY))
        self.watch.call_begins(self.by, call)
        answer = spoil(self.cluster.metric_faults, self.cluster.recorder, str(call.subject), self.cluster.now_s)
        self.watch.effect_ended(self.by, call, answer, self.by.seen)

    def removal(
        self,
        operation_id: str,
        nth: int,
        *,
        reason: str = "low_utilisation",
        phase: RemovalPhase = RemovalPhase.DRAINING,
    ) -> RemovalOperation:
        """Of the nth worker, begun now."""
        instance_id, now_s = self.cluster.workers()[nth], int(self.cluster.now_s)
        return RemovalOperation(
            operation_id=operation_id,
            created_at_s=now_s,
            reason=reason,
            instance_id=instance_id,
            node_name=f"worker-{instance_id}",
            provider_id=f"aws:///{instance_id}",
            phase=phase,
            phase_since_s=now_s,
            fence=1,
            not_after_s=now_s + 60,
        )

    def saves(self, old: State, new: State) -> Saved:
        """A write of the invocation."""
        return Saved(old, new, self.by, self.by.seen)

    def removes(self, reason: str) -> str | None:
        """What the invariant says of a removal that begins now."""
        saved = self.saves(State(), State(removals=(self.removal("r1", 0, reason=reason),)))
        return no_shrink_without_complete_metrics(self.watch, saved)

    def request(self, operation_id: str) -> LaunchRequest:
        """For one worker."""
        subnet_id, zone = self.cluster.ec2.settings.subnet_zones[0]
        return LaunchRequest(
            client_token=operation_id,
            template_id="lt",
            template_version="1",
            count=1,
            overrides=(LaunchOverride(instance_type="t3.small", subnet_id=subnet_id, zone=zone),),
            tags=(
                ("ManagedBy", "autoscaler"),
                ("k3s-autoscaler/cluster", "sim"),
                ("k3s-autoscaler/operation", operation_id),
            ),
        )


@pytest.mark.parametrize(
    ("fault", "family", "rotates"),
    [
        pytest.param("dropped", "use_shrink_count", True, id="a window is unknown"),
        pytest.param("dropped", "node", False, id="Nodes did not arrive"),
        pytest.param("dropped", "counted", False, id="nothing is proven"),
        pytest.param("nan", "use_shrink_count", False, id="no number"),
        pytest.param("nan", "node", False, id="Nodes that are nonsense"),
    ],
)
def test_a_rotation_may_go_on_without_a_window_and_a_shrink_may_not(fault: str, family: str, *, rotates: bool) -> None:
    look = Look()
    look.cluster.run(900)
    look.asks()
    assert look.removes("rotation") is None
    assert look.removes("low_utilisation") is None
    getattr(look.cluster.metric_faults, fault).add(family)
    look.asks()
    assert (look.removes("rotation") is None) == rotates
    assert look.removes("low_utilisation") is not None


@pytest.mark.parametrize(
    ("looked_after_s", "waited_s", "wrong"),
    [
        pytest.param(0, 600, False, id="the cool-down begins with the look, and the write came 80 s later"),
        pytest.param(0, 590, True, id="ten seconds too early"),
        pytest.param(-600, 600 - 10, True, id="no launch is older than who decided it"),
    ],
)
def test_the_cool_down_begins_when_a_launch_is_decided(looked_after_s: int, waited_s: int, *, wrong: bool) -> None:
    look = Look()
    began_s = int(look.cluster.now_s)
    launch = LaunchOperation(
        operation_id="d1-l0", created_at_s=began_s + looked_after_s, reason="cpu_high", request=look.request("d1-l0")
    )
    look.cluster.run(80)
    look.watch.saved(look.saves(State(), State(launches=(launch,))))
    assert look.watch.violation is None or "shrink" not in look.watch.violation.invariant
    look.cluster.run(waited_s - 80)
    removal = State(removals=(look.removal("r1", 0),))
    assert (shrink_waits_for_calm(look.watch, look.saves(State(), removal)) is not None) == wrong


@pytest.mark.parametrize(("runs_pods", "wrong"), [(False, False), (True, True)])
def test_nobody_leaves_whose_pods_were_not_shown(*, runs_pods: bool, wrong: bool) -> None:
    """What others run, whose pods were asked for as well, does not bear on who runs none."""
    look = Look()
    template = PodTemplate(request=Ask(cpu_millicores=100, memory_bytes=32 * MIB))
    look.cluster.apply(Workload(namespace="shop", name="web", replicas=8 * runs_pods, template=template))
    look.cluster.run(900)
    look.asks()
    look.cluster.metric_faults.empty = True
    look.asks(moving_query(POLICY, [f"worker-{name}" for name in look.cluster.workers()]))
    look.watch.truth.look()
    assert (look.removes("low_utilisation") is not None) is wrong


def test_an_earlier_look_speaks_for_no_later_one() -> None:
    look = Look()
    look.cluster.run(900)
    look.asks()
    look.watch.call_begins(look.by, Call(PROMETHEUS, "query", sight_query(POLICY)))
    assert look.removes("rotation") is not None, "its answer is not there"


@pytest.mark.parametrize(
    ("replays_tokens", "taken", "wrong"), [(False, True, False), (False, False, True), (True, True, False)]
)
def test_a_launch_that_was_sent_twice_started_too_many(replays_tokens: bool, taken: bool, *, wrong: bool) -> None:
    """Where EC2 replays no token, nobody can know of a worker whose tag a person took before anybody saw it."""
    look = Look(replays_tokens=replays_tokens)
    request = look.request("d1-l0")
    look.watch.requests["d1-l0"] = request
    fleet = look.cluster.ports().fleet
    (instance_id,) = fleet.launch(request).instance_ids
    if taken:
        look.watch.truth.untagged_s[instance_id] = look.cluster.now_s
    fleet.launch(request)
    effect = Effect("launch", request, look.by, look.by.seen)
    for invariant in (one_stands_for_one, one_fleet_for_one_intent):
        assert (invariant(look.watch, effect) is not None) == wrong, invariant.__name__


@pytest.mark.parametrize(("frozen_for_s", "in_sight"), [(10, True), (200, False)])
def test_a_drain_is_in_sight_while_the_picture_is_young(frozen_for_s: int, *, in_sight: bool) -> None:
    look = Look()
    look.cluster.run(900)
    look.cluster.freeze_metrics()
    look.watch.frozen_since_s = look.cluster.now_s
    look.cluster.run(frozen_for_s)
    look.asks()
    assert look.by.seen.drains_in_sight == in_sight


@pytest.mark.parametrize(
    ("phase", "wrong"),
    [(RemovalPhase.UNCORDONING, False), (RemovalPhase.DRAINING, True)],
    ids=["given back", "leaving"],
)
def test_who_was_given_back_may_be_chosen_with_another(phase: RemovalPhase, *, wrong: bool) -> None:
    look = Look()
    look.cluster.run(900)
    look.watch.truth.look()
    before = State(removals=(look.removal("r1", 0, phase=phase),))
    after = State(removals=(look.removal("r2", 0), look.removal("r3", 1)))
    told = no_more_leave_together_than_the_budget(look.watch, look.saves(before, after))
    assert (told is not None) == wrong


@pytest.mark.parametrize(("second", "wrong"), [("d1-l0-od", False), ("d2-l0", True)])
def test_a_retirement_is_replaced_once_on_spot_or_on_demand(second: str, *, wrong: bool) -> None:
    look, judge = Look(), TurnRules()
    look.watch.truth.announced["i-1"] = 1

    def opens(operation_id: str) -> str | None:
        request = look.request(operation_id)
        launch = LaunchOperation(
            operation_id=operation_id, created_at_s=int(look.cluster.now_s), reason="retirement", request=request
        )
        return judge.a_retirement_is_replaced_once(look.watch, look.saves(State(), State(launches=(launch,))))

    assert opens("d1-l0") is None
    assert (opens(second) is not None) == wrong

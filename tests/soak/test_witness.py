"""What the soak's witness holds an answer, or a launch, to be: on built histories."""

import pytest

from autoscaler.model import LaunchRequest, RemovalOperation, RemovalPhase, State
from autoscaler.model.operations import LaunchOverride
from autoscaler.observe.query import sight_query
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.metrics.faults import spoil
from autoscaler.simulator.soak.fates import FateRates, Fates
from autoscaler.simulator.soak.invariants import rules
from autoscaler.simulator.soak.on_decision import no_shrink_without_complete_metrics
from autoscaler.simulator.soak.on_effect import one_fleet_for_one_intent
from autoscaler.simulator.soak.on_market import one_stands_for_one
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.soak.stepped import Call, SteppedInvocation
from autoscaler.simulator.soak.watch import Effect, Saved, Watch
from autoscaler.simulator.wires import PROMETHEUS

POLICY = Policy(version=1)


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

    def asks(self) -> None:
        """The look's one query, and its answer as the faults leave it."""
        call = Call(PROMETHEUS, "query", sight_query(POLICY))
        self.watch.call_begins(self.by, call)
        answer = spoil(self.cluster.metric_faults, self.cluster.recorder, str(call.subject), self.cluster.now_s)
        self.watch.effect_ended(self.by, call, answer, self.by.seen)

    def removes(self, reason: str) -> str | None:
        """What the invariant says of a removal that begins now."""
        instance_id, now_s = self.cluster.workers()[0], int(self.cluster.now_s)
        removal = RemovalOperation(
            operation_id="r1",
            created_at_s=now_s,
            reason=reason,
            instance_id=instance_id,
            node_name=f"worker-{instance_id}",
            provider_id=f"aws:///{instance_id}",
            phase=RemovalPhase.DRAINING,
            phase_since_s=now_s,
            fence=1,
            not_after_s=now_s + 60,
        )
        saved = Saved(State(), State(removals=(removal,)), self.by, self.by.seen)
        return no_shrink_without_complete_metrics(self.watch, saved)


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
    tags = (("ManagedBy", "autoscaler"), ("k3s-autoscaler/cluster", "sim"), ("k3s-autoscaler/operation", "d1-l0"))
    subnet_id, zone = look.cluster.ec2.settings.subnet_zones[0]
    overrides = (LaunchOverride(instance_type="t3.small", subnet_id=subnet_id, zone=zone),)
    request = LaunchRequest(
        client_token="d1-l0", template_id="lt", template_version="1", count=1, overrides=overrides, tags=tags
    )
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

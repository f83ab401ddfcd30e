"""The failure table of the design: given, then."""

import contextlib
from collections.abc import Callable

import msgspec
import pytest

from autoscaler.model import Notice, State, Trigger
from autoscaler.policy import BlindGrowth, Policy, ScaleDown, Workers
from autoscaler.ports import FleetUnavailable, StoreUnavailable
from autoscaler.reconcile import Busy, reconcile
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.faults import MetricFaults
from tests.reconcile.conftest import deployment, make_one_superfluous, need_two_workers

ALERT = Trigger(kind="alert")


def _down(faults: MetricFaults) -> None:
    faults.down = True


def _slow(faults: MetricFaults) -> None:
    faults.slow = True


def _not_an_answer(faults: MetricFaults) -> None:
    faults.not_an_answer = True


def _empty(faults: MetricFaults) -> None:
    faults.empty = True


def _garbage(faults: MetricFaults) -> None:
    faults.garbage = True


def _half(faults: MetricFaults) -> None:
    faults.half = True


def _restarted(faults: MetricFaults) -> None:
    faults.restarted = True


def _source(name: str) -> Callable[[MetricFaults], None]:
    return lambda faults: faults.sources_down.add(name)


def _nan(family: str) -> Callable[[MetricFaults], None]:
    return lambda faults: faults.nan.add(family)


def _dropped(family: str) -> Callable[[MetricFaults], None]:
    return lambda faults: faults.dropped.add(family)


def _missing(family: str) -> Callable[[MetricFaults], None]:
    return lambda faults: faults.missing.add(family)


UNAVAILABLE = [_down, _slow, _not_an_answer, _empty]
BLINDING = {
    "down": _down,
    "slow": _slow,
    "not an answer": _not_an_answer,
    "empty": _empty,
    "garbage": _garbage,
    "half the series": _half,
    "kube-state-metrics down": _source("kube-state-metrics"),
    "nodes are NaN": _nan("node"),
    "requests dropped": _dropped("requested"),
    "requests missing": _missing("requested"),
    "nodes missing": _missing("node"),
    "counts dropped": _dropped("counted"),
}
PARTIAL = {
    "restarted": _restarted,
    "node-exporter down": _source("node-exporter"),
    "utilisation NaN": _nan("use_shrink_max"),
    "utilisation dropped": _dropped("use"),
}


@pytest.mark.parametrize("fault", [*BLINDING.values(), *PARTIAL.values()], ids=[*BLINDING, *PARTIAL])
def test_incomplete_metrics_never_start_a_shrink(cluster: SimCluster, fault: Callable[[MetricFaults], None]) -> None:
    make_one_superfluous(cluster)
    fault(cluster.metric_faults)
    for _ in range(5):
        document = cluster.sweep()
        assert document["metrics_status"] != "ok"
        assert document["metrics_problems"]
        cluster.run(120)
    assert len(cluster.workers()) == 3
    assert cluster.state.removals == ()


@pytest.mark.parametrize("fault", BLINDING.values(), ids=BLINDING)
def test_incomplete_metrics_never_grow_from_a_guess(cluster: SimCluster, fault: Callable[[MetricFaults], None]) -> None:
    need_two_workers(cluster)
    fault(cluster.metric_faults)
    for _ in range(3):
        document = cluster.sweep()
        assert document["action"] == "held_back"
        cluster.run(120)
    assert len(cluster.workers()) == 2


@pytest.mark.parametrize("fault", PARTIAL.values(), ids=PARTIAL)
def test_pods_that_wait_are_served_although_something_else_is_missing(
    cluster: SimCluster, fault: Callable[[MetricFaults], None]
) -> None:
    need_two_workers(cluster)
    fault(cluster.metric_faults)
    document = cluster.sweep()
    assert (document["action"], document["metrics_status"]) == ("scale_up", "partial")


def test_stale_metrics_are_partial(cluster: SimCluster) -> None:
    make_one_superfluous(cluster)
    cluster.freeze_metrics()
    cluster.run(60)
    document = cluster.sweep()
    assert document["metrics_status"] == "partial"
    assert len(cluster.workers()) == 3


@pytest.mark.parametrize("fault", UNAVAILABLE)
def test_a_firing_alert_grows_one_step_while_prometheus_is_gone(
    cluster: SimCluster, fault: Callable[[MetricFaults], None]
) -> None:
    cluster.sweep()
    fault(cluster.metric_faults)
    facts = (_alert("a", cluster),)
    assert cluster.sweep(trigger=ALERT, facts=facts)["reason"] == "blind_growth"
    assert len(cluster.workers()) == 3
    cluster.run(30)
    cluster.sweep(trigger=ALERT, facts=facts)
    assert len(cluster.workers()) == 3


def test_blind_growth_waits_for_what_is_joining_and_ends_at_max() -> None:
    cluster = SimCluster(Policy(version=1, blind_growth=BlindGrowth(step=2)))
    cluster.sweep()
    cluster.metric_faults.down = True
    cluster.sweep(trigger=ALERT, facts=(_alert("a", cluster),))
    assert len(cluster.workers()) == 4
    cluster.run(15)
    document = cluster.sweep(trigger=ALERT, facts=(_alert("b", cluster),))
    assert document["action"] == "held_back"
    assert len(cluster.workers()) == 4
    assert [notice.subject[0] for notice in cluster.state.notices] == ["a"]


def test_blind_growth_counts_workers_that_only_the_last_whole_look_saw() -> None:
    """Static workers without the cluster's tag: EC2 does not list them, and Prometheus cannot be asked."""
    policy = Policy(version=1, workers=Workers(max=5), scale_down=ScaleDown(min_age_s=86_400))
    cluster = SimCluster(policy, workers=2, static_workers=2, static_tagged=False, history_s=1500)
    cluster.metric_faults.down = True
    first = cluster.sweep(trigger=ALERT, facts=(_alert("a", cluster),))
    assert (first["action"], first["reason"]) == ("held_back", "never_seen"), "nobody knows how many there are"
    cluster.metric_faults.down = False
    cluster.sweep()
    version = cluster.item.version
    cluster.sweep()
    assert (cluster.state.unlisted_workers, cluster.item.version) == (2, version), "a calm look writes nothing"
    cluster.metric_faults.down = True
    assert cluster.sweep(trigger=ALERT, facts=(_alert("b", cluster),))["reason"] == "blind_growth"
    cluster.run(300)
    cluster.metric_faults.down = False
    cluster.sweep()
    cluster.metric_faults.down = True
    document = cluster.sweep(trigger=ALERT, facts=(_alert("c", cluster),))
    assert (document["action"], document["reason"], len(cluster.workers())) == ("held_back", "at_max", 3)


def test_an_alert_is_no_fact_while_prometheus_answers(cluster: SimCluster) -> None:
    cluster.sweep()
    version = cluster.item.version
    cluster.sweep(trigger=ALERT, facts=(_alert("a", cluster),))
    assert (len(cluster.workers()), cluster.item.version) == (2, version)


def test_an_interruption_drains_and_replaces_at_once_without_metrics_of_calm(cluster: SimCluster) -> None:
    cluster.apply(deployment("web", 4))
    cluster.run(60)
    victim = cluster.workers()[0]
    notice = Notice(kind="interruption", subject=victim, received_at_s=int(cluster.now_s))
    document = cluster.sweep(trigger=Trigger(kind="lifecycle"), facts=(notice,))
    assert any("EC2 gave notice" in event for event in document["done"])
    assert [op["kind"] for op in document["operations"]] == ["launch", "removal"]
    assert len(cluster.workers()) == 3
    cluster.sweep_for(600, every_s=30)
    assert victim not in cluster.workers()
    assert len(cluster.ready_workers()) == 2
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


def test_a_notice_for_a_machine_that_is_not_ours_changes_no_machine(cluster: SimCluster) -> None:
    notice = Notice(kind="interruption", subject="i-0dddddddddddddddd", received_at_s=int(cluster.now_s))
    cluster.sweep(facts=(notice,))
    assert len(cluster.workers()) == 2
    assert cluster.state.removals == ()


def test_describe_instances_fails_loudly_and_nothing_changes(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.fail("ec2", "describe")
    with pytest.raises(FleetUnavailable):
        cluster.sweep()
    assert len(cluster.workers()) == 2


@pytest.mark.parametrize("call", ["load", "save"])
def test_dynamodb_down_means_nothing_is_changed(cluster: SimCluster, call: str) -> None:
    need_two_workers(cluster)
    cluster.fail("dynamodb", call, times=None)
    with pytest.raises(StoreUnavailable):
        cluster.sweep()
    assert len(cluster.workers()) == 2
    cluster.heal()
    assert cluster.sweep()["action"] == "scale_up"


@pytest.mark.parametrize("status_500", [True, False])
def test_a_write_that_came_to_nothing_is_loud_and_no_lost_race(cluster: SimCluster, *, status_500: bool) -> None:
    """A PutItem with status 500 may have been written. It was not, and nobody else wrote: there is no winner."""
    need_two_workers(cluster)
    cluster.fail("dynamodb", "save", effect_unknown=status_500, code="InternalServerError", times=None)
    with pytest.raises(StoreUnavailable, match="dynamodb save failed"):
        cluster.sweep()
    assert (len(cluster.workers()), cluster.item.version) == (2, 0)


def test_a_write_of_unknown_effect_that_somebody_else_overtook_is_a_lost_race(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.fail("dynamodb", "save", effect_unknown=True)

    def overtake(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("dynamodb", "save", "before") and cluster.item.version == 0:
            cluster.item.data, cluster.item.version = msgspec.json.encode(State(fence=1)), 1

    cluster.wires.hook = overtake
    assert cluster.sweep()["action"] == "scale_up", "it starts over, on what the other one wrote"


def test_a_lost_response_of_the_intent_is_recognised_as_our_own_write(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.fail("dynamodb", "save", after_effect=True)
    assert cluster.sweep()["action"] == "scale_up"
    assert len(cluster.workers()) == 4


def test_a_lost_response_of_create_fleet_launches_once(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.fail("ec2", "launch", after_effect=True, times=2)
    assert cluster.sweep()["failures"]
    cluster.sweep_for(300, every_s=30)
    assert len(cluster.workers()) == 4
    assert cluster.state.launches == ()


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InsufficientInstanceCapacity", "UnauthorizedOperation"])
def test_ec2_refusing_is_told_and_never_a_false_done(cluster: SimCluster, code: str) -> None:
    need_two_workers(cluster)
    cluster.fail("ec2", "launch", code=code, times=2)
    document = cluster.sweep()
    assert len(document["failures"]) == 2
    assert len(cluster.workers()) == 2
    cluster.sweep_for(600, every_s=60)
    assert len(cluster.ready_workers()) == 4


class _Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(22))
def test_killed_at_any_call_of_a_launch_a_later_look_goes_on(cluster: SimCluster, number: int, moment: str) -> None:
    need_two_workers(cluster)
    _kill_at(cluster, number, moment)
    _look_on(cluster, 420, every_s=30)
    assert len(cluster.ready_workers()) == len(cluster.workers()) == 4
    assert cluster.state.launches == ()
    assert cluster.state.lease is None or cluster.state.lease.expires_at_s < cluster.now_s


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("look", range(4))
@pytest.mark.parametrize("number", range(9))
def test_killed_at_any_call_of_a_removal_a_later_look_goes_on(
    cluster: SimCluster, look: int, number: int, moment: str
) -> None:
    make_one_superfluous(cluster)
    for _ in range(look):
        cluster.sweep()
        cluster.run(60)
    _kill_at(cluster, number, moment)
    _look_on(cluster, 1200, every_s=60)
    assert len(cluster.ready_workers()) == len(cluster.workers()) == 2
    assert cluster.state.removals == ()
    assert not any(node.cordoned for node in cluster.world.nodes)


def test_an_unexpired_lease_with_something_to_do_is_busy_and_without_is_not(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    _kill_at(cluster, 14, "before")  # its first CreateFleet
    with pytest.raises(Busy):
        cluster.sweep()
    cluster.run(60)
    cluster.sweep()
    cluster.sweep_for(240, every_s=30)
    assert len(cluster.workers()) == 4


def _look_on(cluster: SimCluster, seconds: float, *, every_s: float) -> None:
    """Sweep on; a lease that the dead still hold only delays."""
    end_s = cluster.now_s + seconds
    while cluster.now_s < end_s:
        cluster.run(every_s)
        with contextlib.suppress(Busy):
            cluster.sweep()


def _kill_at(cluster: SimCluster, number: int, moment: str) -> None:
    """Run one sweep and kill it at its call `number`; a shorter run ends by itself."""
    seen = 0

    def hook(service: str, name: str, when: str) -> None:
        nonlocal seen
        del service, name
        if when != moment:
            return
        if seen == number:
            raise _Killed
        seen += 1

    cluster.wires.hook = hook
    try:
        ports = cluster.ports()
        reconcile(ports, cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=Trigger(kind="sweep"))
    except _Killed:
        pass
    finally:
        cluster.wires.hook = None


def _alert(fingerprint: str, cluster: SimCluster) -> Notice:
    return Notice(kind="blind_alert", subject=f"{fingerprint}@{cluster.now_s}", received_at_s=int(cluster.now_s))


def test_an_alert_that_found_every_pool_exhausted_may_ask_again(cluster: SimCluster) -> None:
    cluster.sweep()
    cluster.metric_faults.down = True
    cluster.fail("ec2", "launch_context", code="RequestLimitExceeded")
    facts = (_alert("a", cluster),)
    assert cluster.sweep(trigger=ALERT, facts=facts)["action"] == "held_back"
    assert len(cluster.workers()) == 2
    cluster.run(10)
    assert cluster.sweep(trigger=ALERT, facts=facts)["reason"] == "blind_growth"
    assert len(cluster.workers()) == 3


def test_pods_bound_to_an_exhausted_zone_launch_nothing_elsewhere(cluster: SimCluster) -> None:
    cluster.ec2.exhaust("t3.small", "us-east-1a")
    web = deployment("web", 6)
    zone = (("topology.kubernetes.io/zone", "us-east-1a"),)
    cluster.apply(msgspec.structs.replace(web, template=msgspec.structs.replace(web.template, node_selector=zone)))
    cluster.run(15)
    for _ in range(5):
        cluster.sweep()
        cluster.run(60)
    assert len(cluster.workers()) == 2
    cluster.ec2.replenish()
    cluster.sweep_for(900, every_s=60)
    at_work = {pod.node for pod in cluster.world.pods if pod.namespace == "shop"}
    assert (len(at_work), at_work <= set(cluster.ready_workers())) == (3, True)
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


# ----------------------------------------------------------------------------------------------------------- told once


def _told_of_failures(cluster: SimCluster) -> tuple[int, int]:
    told = [document for document in cluster.told if document["failures"]]
    return len(told), len([document for document in cluster.decisions if document["failures"]])


def test_a_protected_worker_is_handed_back_told_once_and_another_goes(cluster: SimCluster) -> None:
    make_one_superfluous(cluster)
    oldest = cluster.workers()[0]
    cluster.ec2.protected.add(oldest)
    cluster.sweep_for(3600)
    assert _told_of_failures(cluster) == (1, 1)
    assert len(cluster.workers()) == 2
    assert oldest in cluster.workers()
    assert (cluster.state.removals, [n.name for n in cluster.world.nodes if n.cordoned]) == ((), [])
    [refusal] = cluster.state.held_workers
    assert (refusal.node_name, refusal.reason) == (f"worker-{oldest}", "EC2 protects it from termination")
    assert refusal.by_ec2


def test_a_protected_orphan_is_asked_rarely(cluster: SimCluster) -> None:
    cluster.world.faults.never_join = True
    need_two_workers(cluster)
    cluster.sweep()
    cluster.world.faults.never_join = False
    protected = cluster.workers()[-1]
    cluster.ec2.protected.add(protected)
    cluster.sweep_for(3 * 3600)
    assert protected in cluster.workers()
    told, recorded = _told_of_failures(cluster)
    assert told == recorded <= 2
    assert cluster.state.removals == ()


@pytest.mark.parametrize(
    ("service", "code", "calls"),
    [
        pytest.param(
            "ssm", "InvalidInstanceId", range(100, 200), id="a command: at every look, to each server in turn"
        ),
        pytest.param("ec2", "UnauthorizedOperation", range(8, 20), id="a terminate: ever more rarely"),
    ],
)
def test_a_lasting_failure_is_told_once_and_recorded_once(
    cluster: SimCluster, service: str, code: str, calls: range
) -> None:
    make_one_superfluous(cluster)
    if service == "ssm":
        cluster.ec2.end(cluster.workers()[0])  # its Node is to be deleted
    cluster.fail(service, "send" if service == "ssm" else "terminate", code=code, times=None)
    documents = cluster.sweep_for(6 * 3600)
    assert sum(bool(document["failures"]) for document in documents) in calls, "the log tells each"
    assert _told_of_failures(cluster) == (1, 1)
    cluster.heal()
    cluster.sweep_for(2400)
    assert cluster.state.removals == ()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["a failure", "a refusal"])
def test_killed_while_people_are_told_it_is_told_at_the_next_look(cluster: SimCluster, kind: str, moment: str) -> None:
    """Once more is a nuisance; never is a failure that nobody hears of."""
    if kind == "a failure":
        make_one_superfluous(cluster)
        cluster.ec2.end(cluster.workers()[0])
        cluster.fail("ssm", "send", code="InvalidInstanceId", times=None)
    else:
        cluster.metric_faults.down = True

    def hook(service: str, _name: str, when: str) -> None:
        if service == "sns" and when == moment:
            raise _Killed

    cluster.wires.hook = hook
    killed = False
    for _ in range(20):
        cluster.run(120)
        try:
            reconcile(
                cluster.ports(), cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=Trigger(kind="sweep")
            )
        except _Killed:
            killed = True
            break
    cluster.wires.hook = None
    assert killed
    heard = len(cluster.told)
    cluster.sweep_for(600)
    told = [
        document for document in [*cluster.told][heard:] if document["failures"] or document["action"] == "held_back"
    ]
    assert len(told) == 1, "told, and once"


def test_a_history_that_cannot_be_written_stops_nothing_and_is_told(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.fail("dynamodb", "record", code="ThrottlingException")
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert document["failures"] == [
        "the history lacks this decision: dynamodb record failed before its effect (switched on)."
    ]
    assert list(cluster.told) == [{**cluster.told[0], "failures": document["failures"]}]
    assert (len(cluster.workers()), cluster.state.lease) == (4, None)

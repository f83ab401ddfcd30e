"""Teardown on a simulated cluster: what goes, what stays, what stops it."""

from typing import Any

import pytest

from autoscaler.cli.teardown.run import End
from autoscaler.model import MANAGED_BY_TAG, Mode, ModeSetting, Notice
from autoscaler.policy import Drain, Policy, Workers
from autoscaler.ports import FleetUnavailable, StoreUnavailable
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import Budget
from autoscaler.state.modes import set_mode
from autoscaler.state.transitions import take_lease
from tests.cli.teardown.teardowns import ME, POLICY, assert_nothing_of_ours_is_left, run, teardown_of
from tests.simulator.worlds import SERVER_ID, bare, database, deployment


def test_every_worker_of_ours_goes_drained_and_static_ones_stay(cluster: SimCluster) -> None:
    workers = cluster.workers()
    told: list[str] = []
    report = run(cluster, told=told)
    assert (report.end, report.removed, report.left) == (End.DONE, tuple(workers), ())
    assert_nothing_of_ours_is_left(cluster)
    running = [pod for pod in cluster.world.pods if pod.namespace == "shop" and pod.node]
    assert {pod.node for pod in running} <= {"static-1", "ip-10-0-1-10"}
    assert told[0] == "the autoscaler is paused"
    assert sum(text.endswith("is deleted") for text in told) == 2
    setting = cluster.state.mode
    assert setting is not None
    assert (setting.by, setting.until_s) == (ME, None)


def test_workers_are_emptied_one_after_another_unless_told_otherwise() -> None:
    def most_at_once(**wishes: Any) -> int:
        fresh = SimCluster(POLICY, workers=3)
        seen = [0]

        def hook(service: str, name: str, when: str) -> None:
            if (service, name, when) == ("dynamodb", "save", "after"):
                seen.append(sum(r.phase.value == "draining" for r in fresh.state.removals))

        fresh.wires.hook = hook
        run(fresh, **wishes)
        return max(seen)

    assert most_at_once() == 1
    assert most_at_once(at_once=3) == 3


def test_it_leaves_its_trace_in_the_history(cluster: SimCluster) -> None:
    run(cluster)
    paused, *documents = cluster.decisions
    assert (paused["kind"], paused["by"], paused["mode"]) == ("mode", ME, "paused")
    assert {(d["reason"], d["trigger"]["kind"], d["mode"]) for d in documents} == {("teardown", "teardown", "paused")}
    assert any("is drained" in event for d in documents for event in d["events"])


def test_a_cluster_without_workers_of_ours_is_done_at_once() -> None:
    cluster = SimCluster(POLICY, workers=0, static_workers=1)
    assert run(cluster).end is End.DONE
    assert cluster.state.removals == ()


def test_a_budget_stops_it_and_gives_the_worker_back() -> None:
    cluster = SimCluster(POLICY, workers=2)
    cluster.apply(deployment(replicas=4, cpu=300, budget=Budget(min_available=4)))
    cluster.run(60)
    workers = cluster.workers()
    report = run(cluster)
    assert (report.end, set(report.left)) == (End.REFUSED, set(workers))
    assert len(report.refused) == 1
    assert "blocked_by_budget" in report.refused[0]
    assert "shop/web" in report.refused[0], "the person must hear whose budget it is"
    assert cluster.state.removals == ()
    assert not any(node.cordoned for node in cluster.world.nodes)
    assert cluster.state.mode is not None
    assert cluster.state.mode.mode is Mode.PAUSED


@pytest.mark.parametrize("workload", [bare(), database()], ids=["a bare pod", "a node-local volume"])
def test_a_rule_stops_it_as_well(workload: Any) -> None:
    cluster = SimCluster(POLICY, workers=2)
    cluster.apply(workload)
    cluster.run(60)
    report = run(cluster)
    assert report.end is End.REFUSED
    assert report.left
    assert any(rule in report.refused[0] for rule in ("bare-pod", "local-volume"))


@pytest.mark.parametrize(
    "workload",
    [deployment(replicas=4, cpu=300, budget=Budget(min_available=4)), bare(), database()],
    ids=["a budget", "a bare pod", "a node-local volume"],
)
def test_force_waits_for_the_drain_timeout_and_then_ends_it(workload: Any) -> None:
    cluster = SimCluster(Policy(version=1, workers=Workers(min=2, max=4), drain=Drain(timeout_s=200)), workers=2)
    cluster.apply(workload)
    cluster.run(60)
    workers, began_s = cluster.workers(), cluster.now_s
    ended_s: list[float] = []

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ec2", "terminate", "before"):
            ended_s.append(cluster.now_s)

    cluster.wires.hook = hook
    report = run(cluster, force=True)
    assert (report.end, set(report.removed)) == (End.DONE, set(workers))
    assert max(ended_s) - began_s >= 200, "what refuses is asked again until the time-out is over"
    assert cluster.workers() == []


def test_a_server_that_carries_a_workers_tags_is_never_ended_not_even_by_force() -> None:
    cluster = SimCluster(POLICY, workers=2)
    server, worker = cluster.workers()
    cluster.world.state.nodes[f"worker-{server}"].machine.server = True
    cluster.world.state.nodes[f"worker-{worker}"].machine.server = False
    cluster.apply(deployment(replicas=2, cpu=300, budget=Budget(min_available=2)))
    cluster.run(60)
    report = run(cluster)
    assert (report.end, set(report.left)) == (End.REFUSED, {server, worker})
    assert "runs the control plane" in report.refused[0]
    report = run(cluster, force=True)
    assert (report.end, report.left, report.removed) == (End.REFUSED, (server,), (worker,))
    assert cluster.workers() == [server]


def test_without_a_running_server_force_ends_the_workers(cluster: SimCluster) -> None:
    workers = cluster.workers()
    cluster.ec2.end(SERVER_ID)
    cluster.run(120)
    report = run(cluster, force=True)
    assert (report.end, set(report.removed)) == (End.DONE, set(workers))


def test_a_worker_on_its_way_is_not_forgotten(cluster: SimCluster) -> None:
    cluster.apply(deployment("burst", replicas=4, cpu=900))
    cluster.run(15)
    cluster.sweep()
    assert len(cluster.workers()) > 2
    assert cluster.state.launches
    assert run(cluster).end is End.DONE
    assert cluster.workers() == []
    cluster.run(900)
    assert cluster.workers() == []


def test_a_launch_whose_answer_was_lost_is_waited_for_and_never_sent_again(cluster: SimCluster) -> None:
    cluster.apply(deployment("burst", replicas=4, cpu=900))
    cluster.run(15)
    cluster.fail("ec2", "launch", after_effect=True, times=None)
    cluster.sweep()
    cluster.heal()
    launches = cluster.wires.totals["ec2", "launch"]
    assert run(cluster).end is End.DONE
    assert cluster.wires.totals["ec2", "launch"] == launches
    assert cluster.workers() == []


def test_a_launch_without_a_trace_is_waited_for_until_ec2_has_settled(cluster: SimCluster) -> None:
    cluster.apply(deployment("burst", replicas=4, cpu=900))
    cluster.run(15)
    cluster.fail("ec2", "launch", times=None)
    cluster.sweep()
    cluster.heal()
    assert cluster.state.launches
    report = run(cluster)
    assert report.end is End.DONE
    assert report.seconds >= 300 - 30


def test_what_the_autoscaler_had_begun_is_taken_over(cluster: SimCluster) -> None:
    worker = cluster.workers()[0]
    notice = Notice(kind="interruption", subject=worker, received_at_s=int(cluster.now_s))
    cluster.sweep(facts=(notice,))
    assert cluster.state.removals
    assert run(cluster).end is End.DONE
    assert cluster.workers() == []


def test_an_invocation_at_work_is_waited_for(cluster: SimCluster) -> None:
    store = cluster.ports().store
    state, version = store.load()
    store.save(take_lease(state, "lambda", int(cluster.now_s) + 40), version)
    began_s = cluster.now_s
    first: list[float] = []

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ssm", "send", "before"):
            first.append(cluster.now_s)

    cluster.wires.hook = hook
    told: list[str] = []
    assert run(cluster, told=told).end is End.DONE
    assert first[0] - began_s >= 40
    assert told.count("waiting for an invocation that still holds the lease") == 1


def test_somebody_who_resumes_it_meanwhile_stops_it(cluster: SimCluster) -> None:
    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ssm", "send", "after"):
            cluster.wires.hook = None
            store = cluster.ports().store
            state, version = store.load()
            store.save(set_mode(state, ModeSetting(mode=Mode.ACTIVE, set_at_s=int(cluster.now_s))), version)

    cluster.wires.hook = hook
    report = run(cluster)
    assert report.end is End.MODE_CHANGED
    assert len(report.left) == 2


def test_servers_that_never_take_a_command_end_in_a_sentence_not_in_a_wait_for_ever(cluster: SimCluster) -> None:
    cluster.fail("ssm", "send", times=None, code="InvalidInstanceId")
    report = run(cluster)
    assert report.end is End.STALLED
    assert report.seconds < 300


def test_force_ends_what_no_server_takes_commands_for(cluster: SimCluster) -> None:
    workers = cluster.workers()
    cluster.ssm.offline.add(SERVER_ID)
    report = run(cluster, force=True, at_once=2)
    assert (report.end, set(report.removed)) == (End.DONE, set(workers))


@pytest.mark.parametrize(("service", "call"), [("ec2", "describe"), ("ssm", "result")])
def test_a_few_failures_are_ridden_out(cluster: SimCluster, service: str, call: str) -> None:
    run_of = teardown_of(cluster)
    cluster.fail(service, call, times=3)
    assert run_of.run(by=ME).end is End.DONE
    assert cluster.wires.totals[service, call] > 3


def test_many_failures_in_a_row_are_told(cluster: SimCluster) -> None:
    cluster.fail("ec2", "describe", times=None)
    with pytest.raises(FleetUnavailable):
        run(cluster)
    assert cluster.wires.totals["ec2", "describe"] < 20


def test_a_refusal_of_aws_is_told_at_once(cluster: SimCluster) -> None:
    cluster.fail("ec2", "describe", times=None, code="UnauthorizedOperation")
    before = cluster.wires.totals["ec2", "describe"]
    with pytest.raises(FleetUnavailable):
        run(cluster)
    assert cluster.wires.totals["ec2", "describe"] == before + 1


def test_lost_answers_change_nothing(cluster: SimCluster) -> None:
    for service, call in (("dynamodb", "save"), ("ssm", "send"), ("ec2", "terminate"), ("dynamodb", "record")):
        cluster.fail(service, call, after_effect=True, times=2)
    try:
        report = run(cluster)
    except StoreUnavailable:
        report = run(cluster)
    assert report.end is End.DONE
    assert_nothing_of_ours_is_left(cluster)


def test_an_instance_that_lost_our_tag_is_left_alone(cluster: SimCluster) -> None:
    foreign = cluster.workers()[0]
    del cluster.ec2.instances[foreign].tags[MANAGED_BY_TAG]
    assert run(cluster).end is End.DONE
    assert cluster.ec2.instances[foreign].state(cluster.now_s).value == "running"

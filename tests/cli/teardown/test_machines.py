"""Teardown of machines that are not what a name or a silence suggests, on a simulated cluster."""

from typing import Any

import pytest

from autoscaler.cli.teardown.run import End
from autoscaler.policy import Drain, Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from tests.cli.teardown.teardowns import Undrained, assert_nothing_of_ours_is_left, named, node_of, run
from tests.simulator.worlds import SERVER_ID, bare, database, deployment, has_node

QUICK = Policy(version=1, workers=Workers(min=2, max=4), drain=Drain(timeout_s=200))


def shop(cluster: SimCluster) -> SimCluster:
    cluster.apply(deployment(replicas=4, cpu=300))
    cluster.run(30)
    return cluster


def test_workers_with_node_ids_in_their_names_are_drained_and_their_nodes_deleted() -> None:
    cluster = shop(named("-1f2e3d4c"))
    watch, told = Undrained(cluster), list[str]()
    assert run(cluster, told=told).end is End.DONE
    assert watch.victims == []
    assert sum("is drained" in text for text in told) == 2
    assert_nothing_of_ours_is_left(cluster)


def test_nodes_of_dead_machines_are_found_by_provider_id_under_any_name() -> None:
    cluster = shop(named("-1f2e3d4c"))
    for key in cluster.workers():
        cluster.ec2.end(key)
    cluster.run(120)
    assert run(cluster).end is End.DONE
    assert_nothing_of_ours_is_left(cluster)


def test_a_node_that_only_carries_a_dead_workers_name_stays() -> None:
    cluster = shop(named(""))
    dead = cluster.workers()[0]
    cluster.ec2.end(dead)
    cluster.run(120)
    state = cluster.world.state
    impostor = state.nodes.pop("static-1")
    del state.nodes[f"worker-{dead}"]
    impostor.name = impostor.machine.node_name = f"worker-{dead}"
    state.nodes[impostor.name] = impostor
    assert run(cluster).end is End.DONE
    assert has_node(cluster.world, f"worker-{dead}")
    assert not any(command.node_name == f"worker-{dead}" for command, _, _ in cluster.ssm.sent.values())


def test_a_worker_that_boots_is_waited_for_and_drained(cluster: SimCluster) -> None:
    cluster.world.faults.join_delay_s = 200
    young = cluster.add_worker(2)
    watch, told = Undrained(cluster), list[str]()
    report = run(cluster, told=told)
    assert (report.end, watch.victims) == (End.DONE, [])
    assert f"{young} has no Node yet: it is asked again until it is 600 s old" in told
    assert f"draining worker-{young}" in told


def test_a_machine_that_never_joins_is_ended_once_it_had_its_time(cluster: SimCluster) -> None:
    cluster.world.faults.never_join = True
    lost = cluster.add_worker(2)
    launched_s, ended_s = cluster.now_s, list[float]()

    def hook(service: str, name: str, when: str) -> None:
        going = [r.instance_id for r in cluster.state.removals if r.phase == "terminating"]
        if (service, name, when) == ("ec2", "terminate", "before") and lost in going:
            ended_s.append(cluster.now_s)

    cluster.wires.hook = hook
    assert run(cluster).end is End.DONE
    assert 600 <= ended_s[0] - launched_s < 700


@pytest.mark.parametrize("for_s", [60, 900], ids=["a moment ago", "long ago, its pods given up"])
def test_a_dead_kubelet_stops_nothing(cluster: SimCluster, for_s: int) -> None:
    broken = cluster.workers()[0]
    cluster.world.break_node(f"worker-{broken}")
    cluster.run(for_s)
    told: list[str] = []
    report = run(cluster, told=told)
    assert (report.end, report.refused) == (End.DONE, ())
    assert f"worker-{broken} is not Ready and nothing runs on it: it is terminated" in told
    assert any(f"draining worker-{broken}" in text for text in told) is (for_s == 60)
    assert_nothing_of_ours_is_left(cluster)


def test_volumes_of_a_notready_worker_keep_it_until_they_are_overruled() -> None:
    cluster = SimCluster(QUICK, workers=1, static_workers=1)
    cluster.apply(database())
    cluster.run(60)
    [worker] = cluster.workers()
    [volume] = [v for v in cluster.world.state.volumes.values() if v.node_name == f"worker-{worker}"]
    cluster.world.break_node(f"worker-{worker}")
    cluster.run(900)
    report = run(cluster)
    assert (report.end, report.left) == (End.REFUSED, (worker,))
    assert f"holds node-local volumes ({volume.name})" in report.refused[0]
    told: list[str] = []
    forced = run(cluster, told=told, force=True)
    assert (forced.end, forced.removed) == (End.DONE, (worker,))
    assert forced.seconds >= 200, "it is asked about until the time-out is over"
    assert any(text.endswith(f"lost with it: node-local volumes ({volume.name})") for text in told)


def test_silence_ends_nobody(cluster: SimCluster) -> None:
    workers = cluster.workers()
    cluster.ssm.offline.add(SERVER_ID)
    told: list[str] = []
    report = run(cluster, told=told)
    assert (report.end, set(report.left)) == (End.STALLED, set(workers))
    assert any(f"{workers[0]}: no server says what it holds" in text for text in told)


@pytest.mark.parametrize("wishes", [{}, {"force": True}], ids=["", "force"])
def test_a_worker_that_ec2_protects_is_given_back_and_named(cluster: SimCluster, wishes: dict[str, Any]) -> None:
    protected, other = cluster.workers()
    cluster.ec2.protected.add(protected)
    report = run(cluster, **wishes)
    assert (report.end, protected in report.left) == (End.REFUSED, True)
    assert report.refused == (
        f"{protected}: EC2 protects it from termination: switch the protection off, or terminate it yourself. "
        "--force does not overrule that.",
    )
    assert (other in report.removed) is bool(wishes)
    assert not node_of(cluster, protected).cordoned


def test_a_protected_machine_without_a_node_is_named_as_well(cluster: SimCluster) -> None:
    cluster.world.faults.never_join = True
    lost = cluster.add_worker(2)
    cluster.ec2.protected.add(lost)
    report = run(cluster)
    assert (report.end, report.left) == (End.REFUSED, (lost,))
    assert "EC2 protects it from termination" in report.refused[0]


def test_the_first_worker_that_is_refused_stops_those_that_were_only_asked_about() -> None:
    cluster = SimCluster(QUICK, workers=3, static_workers=1)
    cluster.apply(bare())
    cluster.run(60)
    report = run(cluster, at_once=3)
    assert report.end is End.REFUSED
    assert "bare-pod" in report.refused[0]

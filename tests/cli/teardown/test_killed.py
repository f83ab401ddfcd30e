"""Teardown killed before and after every call: another one finishes it, or a resumed autoscaler goes on."""

import pytest

from autoscaler.cli.teardown.run import End
from autoscaler.model import Mode, ModeSetting, RemovalPhase, Verb
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.preflight import movable_pods
from autoscaler.state.modes import set_mode
from tests.cli.teardown.teardowns import Undrained, assert_nothing_of_ours_is_left, named, run
from tests.simulator.worlds import deployment

MOMENTS = ("before", "after")
NAMES = ("", "-1f2e3d4c")


class Killed(BaseException):
    """The process dies here."""


def small(suffix: str = "") -> SimCluster:
    made = named(suffix, history_s=120, patience_s=120)
    made.apply(deployment(replicas=3, cpu=300))
    made.run(30)
    return made


def calls_of_a_teardown() -> int:
    cluster = small()
    before = sum(cluster.wires.totals.values())
    run(cluster)
    return sum(cluster.wires.totals.values()) - before


def kill_at(cluster: SimCluster, number: int, moment: str) -> Undrained:
    """Run a teardown and kill it at its call `number`; returns who watches from then on."""
    watch, seen = Undrained(cluster), 0

    def hook(service: str, name: str, when: str) -> None:
        nonlocal seen
        watch(service, name, when)
        if when == moment:
            if seen == number:
                raise Killed
            seen += 1

    cluster.wires.hook = hook
    try:
        run(cluster)
    except Killed:
        pass
    finally:
        cluster.wires.hook = watch
    return watch


def resume(cluster: SimCluster) -> None:
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=Mode.ACTIVE, set_at_s=int(cluster.now_s))), version)
    cluster.run(80)  # the dead one's lease


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_call_another_teardown_finishes_it(moment: str, suffix: str) -> None:
    calls = calls_of_a_teardown()
    assert calls > 50
    for number in range(calls):
        cluster = small(suffix)
        watch = kill_at(cluster, number, moment)
        report = run(cluster)
        assert report.end is End.DONE, (number, report)
        assert watch.victims == [], number
        assert_nothing_of_ours_is_left(cluster)


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_call_a_resumed_autoscaler_goes_on(moment: str, suffix: str) -> None:
    for number in range(0, calls_of_a_teardown(), 3):
        cluster = small(suffix)
        watch = kill_at(cluster, number, moment)
        resume(cluster)
        cluster.sweep_for(1500, every_s=60)
        assert len(cluster.ready_workers()) == 2, number
        assert cluster.state.removals == ()
        assert not any(node.cordoned for node in cluster.world.nodes), number
        assert watch.victims == [], number


def test_a_worker_that_boots_outlives_a_teardown_that_only_asked_about_it() -> None:
    """*No such Node* is no leave for whoever resumes the cluster."""
    cluster = small()
    young = cluster.add_worker(2)

    def hook(service: str, name: str, when: str) -> None:
        asked = [r for r in cluster.state.removals if r.instance_id == young and r.phase is RemovalPhase.INSPECTING]
        if asked and (service, name, when) == ("ssm", "result", "after"):
            raise Killed

    cluster.wires.hook = hook
    with pytest.raises(Killed):
        run(cluster, at_once=3)
    cluster.wires.hook = None
    resume(cluster)
    cluster.sweep_for(600, every_s=60)
    assert young in cluster.workers()
    assert all(r.instance_id != young for r in cluster.state.removals)


@pytest.mark.parametrize("call", [("ssm", "result"), ("ec2", "terminate")], ids="-".join)
def test_what_was_drained_before_somebody_used_it_again_is_drained_anew(call: tuple[str, str]) -> None:
    cluster = small("-1f2e3d4c")

    def hook(service: str, name: str, when: str) -> None:
        drained = any(node.cordoned and not movable_pods(node) for node in cluster.world.state.nodes.values())
        if (service, name, when) == (*call, "before") and drained:
            raise Killed

    cluster.wires.hook = hook
    with pytest.raises(Killed):
        run(cluster)
    cluster.run(120)
    [used] = [node for node in cluster.world.state.nodes.values() if node.cordoned]
    cluster.world.uncordon(used.name)
    cluster.apply(deployment("more", replicas=6, cpu=300))
    cluster.run(120)
    assert movable_pods(used)
    watch = Undrained(cluster)
    assert run(cluster).end is End.DONE
    assert watch.victims == []
    assert_nothing_of_ours_is_left(cluster)


def test_every_machine_is_asked_about_before_it_is_touched() -> None:
    cluster = small()
    run(cluster)
    sent = [command for command, _, _ in cluster.ssm.sent.values()]
    for machine in {command.provider_id for command in sent}:
        verbs = [command.verb for command in sent if command.provider_id == machine]
        assert verbs == [Verb.INSPECT, Verb.DRAIN, Verb.DELETE_NODE]

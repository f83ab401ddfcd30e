"""What a look costs: remote calls, counted exactly."""

from autoscaler.model import Mode, ModeSetting
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.modes import set_mode
from tests.reconcile.conftest import make_one_superfluous, need_two_workers


def test_a_warm_no_op_sweep_makes_three_calls_and_no_write(cluster: SimCluster) -> None:
    cluster.sweep()
    cluster.wires.log.clear()
    version = cluster.item.version
    document = cluster.sweep()
    assert sorted(cluster.wires.log) == [("dynamodb", "load"), ("ec2", "describe"), ("prometheus", "query")]
    assert document["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert cluster.item.version == version
    assert document["action"] == "none"


def test_waiting_for_workers_costs_no_write(cluster: SimCluster) -> None:
    need_two_workers(cluster)
    cluster.sweep()
    version = cluster.item.version
    cluster.run(5)
    cluster.wires.log.clear()
    cluster.sweep()
    looked = [("dynamodb", "load"), ("ec2", "describe"), ("prometheus", "query"), ("prometheus", "query")]
    assert sorted(cluster.wires.log) == sorted([*looked, ("dynamodb", "rules")])
    assert cluster.item.version == version


def test_paused_costs_one_read_and_changes_nothing(cluster: SimCluster) -> None:
    _set_mode(cluster, Mode.PAUSED)
    need_two_workers(cluster)
    cluster.wires.log.clear()
    document = cluster.sweep()
    assert cluster.wires.log == [("dynamodb", "load")]
    assert document["reason"] == "paused"
    assert len(cluster.workers()) == 2


def test_observe_decides_and_tells_but_does_nothing(cluster: SimCluster) -> None:
    _set_mode(cluster, Mode.OBSERVE)
    need_two_workers(cluster)
    cluster.sweep()
    version = cluster.item.version
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert document["message"].startswith("Observe mode, not done: Launching 2 workers")
    assert (len(cluster.workers()), cluster.item.version) == (2, version)


def test_a_mode_ends_by_itself(cluster: SimCluster) -> None:
    _set_mode(cluster, Mode.PAUSED, until_s=int(cluster.now_s) + 60)
    need_two_workers(cluster)
    assert cluster.sweep()["reason"] == "paused"
    cluster.run(60)
    assert cluster.sweep()["action"] == "scale_up"


def test_a_shrink_of_an_empty_worker_asks_once_more_and_for_no_pods(cluster: SimCluster) -> None:
    make_one_superfluous(cluster)
    cluster.wires.log.clear()
    assert cluster.sweep()["action"] == "scale_down"
    assert cluster.wires.log.count(("prometheus", "query")) == 2


def _set_mode(cluster: SimCluster, mode: Mode, until_s: int | None = None) -> None:
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=mode, set_at_s=int(cluster.now_s), until_s=until_s)), version)


def test_a_refusal_is_recorded_and_told_once_until_it_changes(cluster: SimCluster) -> None:
    cluster.metric_faults.down = True
    for _ in range(3):
        assert cluster.sweep()["reason"] == "metrics_unavailable"
    assert [d["reason"] for d in cluster.decisions] == ["metrics_unavailable"]
    assert [d["reason"] for d in cluster.told] == ["metrics_unavailable"]
    cluster.metric_faults.down = False
    cluster.sweep()
    cluster.metric_faults.down = True
    cluster.sweep()
    assert len(cluster.decisions) == 2

"""`explain` and `next` as somebody on call uses them: the questions of the night, and the lines that answer them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from autoscaler.aws.clients import Clients
from autoscaler.model import HeldWorker, Mode, ModeSetting, State
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.table import StateItem
from tests.aws.loopback import closed_url
from tests.cli.oncall import OnCall, on_call
from tests.simulator.worlds import database, deployment

SLOW = Policy(version=1, scale_down=ScaleDown(when="low_use"))


def quiet(policy: Policy = SLOW) -> SimCluster:
    """Three workers with a little to do each; use is not low enough, or nothing is due."""
    cluster = SimCluster(policy, workers=3)
    cluster.apply(deployment(replicas=6, cpu=400, burn=0.3))
    cluster.run(900)
    return cluster


def full(most: int = 2) -> SimCluster:
    """At max, with pods that wait."""
    cluster = SimCluster(Policy(version=1, workers=Workers(max=most)), workers=2)
    cluster.apply(deployment(replicas=8, cpu=700))
    cluster.run(60)
    return cluster


@pytest.fixture(scope="module")
def quiet_cluster() -> SimCluster:
    return quiet()


@pytest.fixture(scope="module")
def full_cluster() -> SimCluster:
    return full()


@pytest.fixture
def calm(quiet_cluster: SimCluster, clients_there: Clients, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCall]:
    with on_call(as_new(quiet_cluster), clients_there, monkeypatch) as person:
        yield person


@pytest.fixture
def crowded(
    full_cluster: SimCluster, clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnCall]:
    with on_call(as_new(full_cluster), clients, monkeypatch) as person:
        yield person


@pytest.fixture
def clients_there(clients: Clients, _moto: None) -> Clients:
    return clients


def as_new(cluster: SimCluster) -> SimCluster:
    """Commands only read: the machines and pods serve every test, the state is a new one."""
    cluster.item = StateItem()
    cluster.heal()
    return cluster


def put(cluster: SimCluster, **changes: object) -> None:
    ports = cluster.ports()
    state, version = ports.store.load()
    ports.store.save(msgspec.structs.replace(state, **changes), version)


# ------------------------------------------------------------------------------------------------ the on-call questions


def test_why_did_it_not_scale_up(crowded: OnCall) -> None:
    """`explain`: the limit, and the field that lifts it."""
    lines = crowded.lines("explain")
    assert "held_back (at_max)" in lines[1]
    assert [line for line in lines if line.startswith("  at_max: ") and line.endswith("[workers.max]")]
    assert [
        line for line in lines if "4 pods wait that a worker could help" in line and "scale_up.pending_for_s" in line
    ]


def test_why_was_this_one_removed_and_not_that_one(clients_there: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain NODE` before it, `explain NODE --at TIME` after it."""
    cluster = SimCluster(Policy(version=1), workers=3)
    cluster.apply(database())
    cluster.run(900)
    with on_call(cluster, clients_there, monkeypatch) as person:
        (holder,) = {pod.node for pod in cluster.world.pods if pod.name.startswith("db")}
        kept = person.lines("explain", holder)
        assert [line for line in kept if "local_volume: 1 node-local volumes live on it [no field: " in line]
        document = person.sweep()
        assert document["action"] == "scale_down"
        (gone,) = {row["node"] for row in document["operations"]} or {""}
        assert gone != holder
        after = person.lines("explain", holder, "--decision", document["decision_id"])
        assert f"scale_down (consolidation): Draining: removing {gone}" in after[1]
        assert after[2].strip().startswith(f"{holder}: local_volume: 1 node-local volumes live on it")


def test_what_will_it_do_next(calm: OnCall) -> None:
    """`next`: the decision, and what it would begin."""
    lines = calm.lines("next")
    assert lines[1].startswith("none (")
    assert lines[-1] == "  would begin nothing"


def test_what_it_would_launch_next(clients_there: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_call(full(most=10), clients_there, monkeypatch) as person:
        lines = person.lines("next")
        assert lines[1].startswith("scale_up (pods_unschedulable): Launching ")
        assert [line for line in lines if line.startswith("  would launch 1 worker: on-demand, t3.small in ")]
        document = person.sweep()
        assert lines[1] == f"scale_up (pods_unschedulable): {document['message']}"


def test_what_holds_removals(calm: OnCall) -> None:
    """`explain`: every rule that holds, not only the first, each with its field; the cool-down with its end."""
    now_s = int(calm.cluster.now_s)
    put(calm.cluster, last_scale_up_s=now_s - 100)
    lines = calm.lines("explain")
    below = lines[lines.index("removals:") + 1 :]
    assert [line.partition(":")[0].strip() for line in below] == ["steady", "cooling_down"]
    assert below[0].endswith("[scale_down.cpu_below, scale_down.memory_below, scale_down.when]")
    assert "the cool-down ends in 500 s (until 2027-01-15 08:" in below[1]
    assert below[1].endswith(" UTC) [scale_down.cool_down_s]")


# ------------------------------------------------------------------------------------------------------ the answers


def test_a_no_op_is_explained_in_under_fifteen_lines_each_with_its_field(calm: OnCall) -> None:
    lines = calm.lines("explain")
    assert len(lines) < 15
    assert "asked of k3s-autoscaler-demo-sweep; mode active" in lines[0]
    reasons = [line for line in lines if line.startswith("  ")]
    assert len(reasons) >= 5
    assert all(line.endswith("]") for line in reasons)


def test_programs_get_it_all(calm: OnCall) -> None:
    found = calm.json("explain")
    assert {verdict["name"] for verdict in found["signals"]} == {
        "unschedulable_pods",
        "cpu_utilisation",
        "memory_utilisation",
        "minimum",
    }
    assert found["decision"]["action"] == "none"


def test_a_worker_is_told_everything_that_keeps_it(calm: OnCall) -> None:
    name = calm.cluster.ready_workers()[0]
    now_s = int(calm.cluster.now_s)
    put(calm.cluster, held_workers=(HeldWorker(node_name=name, until_s=now_s + 600, reason="bare pods", failures=1),))
    lines = calm.lines("explain", name)
    assert lines[2].startswith(f"{name}, i-"), lines
    kept = lines[lines.index("  keeps it, whatever the demand:") + 1]
    assert kept.strip().startswith("held: bare pods; asked again in 600 s (until ")
    assert kept.endswith("[scale_down.refused_for_s]")
    assert "  holds every removal:" in lines
    by_id = calm.lines("explain", name.removeprefix("worker-"))
    assert by_id[2] == lines[2]


def test_a_pod_is_told_each_place_and_the_filter_that_refuses_it(crowded: OnCall) -> None:
    waiting = next(pod for pod in crowded.cluster.world.pods if not pod.node)
    lines = crowded.lines("explain", f"shop/{waiting.name}")
    assert "workers (0 of 2 would take it):" in lines
    refusals = [line for line in lines if "NodeResourcesFit: Insufficient cpu (" in line]
    assert len(refusals) == 2
    new = lines[lines.index("workers that could be launched:") + 1]
    assert new == "  new t3.small ($0.0208 an hour): it fits"
    assert [line for line in lines if line.endswith("[workers.max]")]


def test_a_pod_that_runs_is_found_on_its_worker(calm: OnCall) -> None:
    pod = next(pod for pod in calm.cluster.world.pods if pod.node and pod.name.startswith("web"))
    lines = calm.lines("explain", f"shop/{pod.name}")
    assert lines[2].startswith(f"shop/{pod.name}: runs on {pod.node}; asks for 400m cpu, 64 MiB memory")


@pytest.mark.parametrize(("mode", "said"), [(Mode.PAUSED, "The mode is paused"), (Mode.OBSERVE, "The mode is observe")])
def test_a_mode_that_withholds_it_is_said_first(calm: OnCall, mode: Mode, said: str) -> None:
    put(calm.cluster, mode=ModeSetting(mode=mode, set_at_s=int(calm.cluster.now_s), by="ann"))
    assert calm.lines("explain")[2].startswith(said)
    assert [line for line in calm.lines("next") if line.startswith(said)]


# ----------------------------------------------------------------------------------------------------------- the past


def test_the_past_is_the_last_decision_at_or_before_and_says_how_old_it_was(crowded: OnCall) -> None:
    crowded.sweep()
    lines = crowded.lines("explain", "--at", "2027-01-15T08:30:00+00:00")
    assert lines[0].startswith("sim, 2027-01-15 08:01:")
    assert "(recorded)" in lines[0]
    assert lines[1].startswith("held_back (at_max): ")
    assert lines[1].endswith(" [workers.max]")
    assert lines[-1].startswith("the last one recorded, 28m")
    assert "; a look that did nothing stands in the log only" in lines[-1]
    assert crowded.json("explain", "--at", "2027-01-15T08:30:00+00:00")["reason"] == "at_max"


def test_what_a_record_does_not_tell_is_said(crowded: OnCall) -> None:
    crowded.sweep()
    lines = crowded.lines("explain", "worker-x", "--at", "2027-01-15T08:30:00+00:00")
    assert [line for line in lines if line.strip().startswith("the record says nothing of worker-x")]


def test_a_change_of_the_mode_since_then_is_told(crowded: OnCall) -> None:
    document = crowded.sweep()
    change = {"kind": "mode", "decision_id": "m1", "message": "active -> paused by ann"}
    crowded.store.record(int(crowded.cluster.now_s) + 60, "m1", change)
    lines = crowded.lines("explain", "--at", "2027-01-15T08:30:00+00:00")
    assert document["decision_id"] in lines[0]
    assert lines[-1].endswith(": active -> paused by ann")


def test_where_nobody_answers_the_last_recorded_decision_is_told_as_such(
    crowded: OnCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded.sweep()
    monkeypatch.setenv("STAGE", "other")
    code, out, err = crowded.run("explain")
    assert code == 0
    assert err.startswith("There is no function k3s-autoscaler-other-sweep in this account and region")
    assert err.endswith("The last recorded decision instead:\n")
    assert "held_back (at_max): " in out


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("explain", "worker-x"), 1, "There is no worker worker-x: the workers are worker-i-"),
        (("explain", "shop/none"), 1, "No pod shop/none waits for a node, and none runs on a worker"),
        (("explain", "--at", "1h"), 1, "No decision was recorded at "),
        (("explain", "--decision", "01x"), 1, "No decision 01x is recorded"),
        (("explain", "--at", "yesterday"), 2, "'yesterday' is no time: "),
        (("explain", "--at", "1h", "--decision", "01x"), 2, "Give one of --at, --decision and --prometheus."),
        (("explain", "--prometheus", "127.0.0.1:9090"), 2, "--prometheus is '127.0.0.1:9090': write http(s)"),
        (("next", "--prometheus", "http://127.0.0.1:9", "--policy", "none.yml"), 2, "none.yml"),
    ],
    ids=["worker", "pod", "time", "id", "no time", "two", "address", "policy"],
)
def test_bad_input_is_one_sentence(calm: OnCall, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in calm.refused(*arguments, code=code)
    assert calm.store.load() == (State(), 0)


def test_nothing_is_told_of_a_worker_that_cannot_be_seen(calm: OnCall) -> None:
    name = calm.cluster.ready_workers()[0]
    calm.cluster.fail("prometheus", "query", times=None)
    assert calm.refused("explain", name).startswith(f"Nothing can be told of {name} now: prometheus query failed")
    lines = calm.lines("explain")
    assert [line for line in lines if line.startswith("  metrics_unavailable: ") and "docs/monitoring.md" in line]


def test_without_the_function_the_same_core_runs_here(calm: OnCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ports: an emulated EC2 and table, and a Prometheus that nobody runs."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", closed_url())
    policy = str(Path(__file__).resolve().parents[3] / "policy.yml")
    lines = calm.lines("explain", "--prometheus", closed_url(), "--policy", policy)
    assert "(run here, http://127.0.0.1:" in lines[0]
    assert lines[1].startswith("now: held_back (metrics_unavailable): Nothing is decided: ")
    assert calm.store.load() == (State(), 0)

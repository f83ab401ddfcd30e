"""The ports in virtual time: EC2, SSM, Prometheus, the state table, and how they fail."""

import msgspec
import pytest

from autoscaler.model import (
    SPOT,
    CommandOutcome,
    InstanceState,
    LaunchOverride,
    LaunchRequest,
    MetricsStatus,
    Snapshot,
    State,
    Verb,
)
from autoscaler.observe.query import sight_query
from autoscaler.observe.snapshot import assemble
from autoscaler.policy_text import parse_policy
from autoscaler.ports import (
    CommandsUnavailable,
    Conflict,
    FleetUnavailable,
    MetricsUnavailable,
    StateMalformed,
    StoreUnavailable,
)
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from tests.simulator.worlds import POLICY, SERVER_ID, command, deployment

QUERY = sight_query(POLICY)


def request(cluster: SimCluster, count: int = 1, operation: str = "op-1") -> LaunchRequest:
    overrides = tuple(
        LaunchOverride(instance_type="t3.small", subnet_id=subnet, zone=zone)
        for subnet, zone in cluster.ec2.settings.subnet_zones
    )
    tags = (("ManagedBy", "autoscaler"), ("k3s-autoscaler/cluster", "sim"), ("k3s-autoscaler/operation", operation))
    return LaunchRequest(
        client_token=operation, template_id="lt-1", template_version="1", count=count, overrides=overrides, tags=tags
    )


# ------------------------------------------------------------------------------------------------------------------ EC2


def test_a_launch_becomes_a_ready_node() -> None:
    cluster = SimCluster(POLICY, workers=1)
    ids = cluster.ports().fleet.launch(request(cluster, 2)).instance_ids
    assert len(ids) == 2
    cluster.run_until(lambda: len(cluster.ready_workers()) == 3, within_s=120)
    assert {f"worker-{i}" for i in ids} < set(cluster.ready_workers())


def test_rows_look_like_boto3s_through_an_instances_life() -> None:
    cluster = SimCluster(POLICY, workers=1)
    fleet = cluster.ports().fleet
    (new,) = fleet.launch(request(cluster)).instance_ids

    def row() -> dict[str, object] | None:
        return next((dict(row) for row in fleet.describe() if row["InstanceId"] == new), None)

    states: list[str | None] = []
    for seconds in (0, 6, 0, 19, 2, 3500, 110):
        cluster.run(seconds)
        if seconds == 0 and states:
            fleet.terminate(new)
        seen = row()
        states.append(seen["State"]["Name"] if seen else None)  # type: ignore[index] # a row
    assert states == ["pending", "running", "shutting-down", "shutting-down", "terminated", "terminated", None]


def test_a_client_token_replays_and_nothing_is_launched_twice() -> None:
    cluster = SimCluster(POLICY)
    fleet = cluster.ports().fleet
    first = fleet.launch(request(cluster, 2))
    assert fleet.launch(request(cluster, 2)) == first
    assert cluster.ec2.bill.launched == 2 + 2
    with pytest.raises(FleetUnavailable) as mismatch:
        fleet.launch(request(cluster, 3))
    assert mismatch.value.code == "IdempotentParameterMismatch"
    for instance_id in first.instance_ids:
        fleet.terminate(instance_id)
    with pytest.raises(FleetUnavailable) as gone:
        fleet.launch(request(cluster, 2))
    assert gone.value.code == "IdempotentInstanceTerminated"


def test_an_ec2_without_replay_launches_again() -> None:
    cluster = SimCluster(POLICY, workers=0, ec2=Ec2Settings(replays_tokens=False))
    fleet = cluster.ports().fleet
    assert fleet.launch(request(cluster)) != fleet.launch(request(cluster))


@pytest.mark.parametrize(
    ("left_a", "left_b", "launched", "errors"),
    [
        (None, None, 3, []),
        (0, None, 3, ["us-east-1a"]),
        (1, 1, 2, ["us-east-1a", "us-east-1b"]),
        (0, 0, 0, ["us-east-1a", "us-east-1b"]),
    ],
)
def test_capacity_runs_out_by_pool(left_a: int | None, left_b: int | None, launched: int, errors: list[str]) -> None:
    cluster = SimCluster(POLICY, workers=0)
    for zone, left in (("us-east-1a", left_a), ("us-east-1b", left_b)):
        if left is not None:
            cluster.ec2.exhaust("t3.small", zone, left=left)
    result = cluster.ports().fleet.launch(request(cluster, 3))
    assert len(result.instance_ids) == launched
    assert result.errors == tuple(("InsufficientInstanceCapacity", "t3.small", zone) for zone in errors)
    cluster.ec2.replenish()
    assert not cluster.ports().fleet.launch(request(cluster, 1, "op-2")).errors


def test_each_market_runs_out_by_itself_and_what_is_on_spot_says_so() -> None:
    cluster = SimCluster(POLICY, workers=0)
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone, market=SPOT)
    fleet = cluster.ports().fleet
    assert fleet.launch(msgspec.structs.replace(request(cluster, 1, "op-s"), market=SPOT)).instance_ids == ()
    assert len(fleet.launch(request(cluster, 1, "op-d")).instance_ids) == 1
    cluster.ec2.replenish()
    (spot,) = fleet.launch(msgspec.structs.replace(request(cluster, 1, "op-t"), market=SPOT)).instance_ids
    rows = {row["InstanceId"]: row.get("InstanceLifecycle") for row in fleet.describe()}
    assert [instance_id for instance_id, market in rows.items() if market == SPOT] == [spot]


def test_only_a_spot_worker_is_taken_back_two_minutes_after_its_notice() -> None:
    cluster = SimCluster(POLICY, workers=2, spot_workers=1)
    on_demand, spot = cluster.workers()
    for instance_id in (on_demand, spot):
        cluster.ec2.interrupt(instance_id)
    cluster.run(119)
    assert cluster.workers() == [on_demand, spot]
    cluster.run(2)
    assert cluster.workers() == [on_demand]


def test_what_is_launched_is_listed_late() -> None:
    cluster = SimCluster(POLICY, workers=0, ec2=Ec2Settings(visibility_s=30.0))
    fleet = cluster.ports().fleet
    (new,) = fleet.launch(request(cluster)).instance_ids
    cluster.run(29)
    assert new not in {row["InstanceId"] for row in fleet.describe()}
    cluster.run(1)
    assert new in {row["InstanceId"] for row in fleet.describe()}


@pytest.mark.parametrize("victim", [SERVER_ID, "i-0bbbbbbbbbbbbbb01"])
def test_only_ours_can_be_terminated(victim: str) -> None:
    cluster = SimCluster(POLICY, static_workers=1)
    with pytest.raises(FleetUnavailable) as refused:
        cluster.ports().fleet.terminate(victim)
    assert refused.value.code == "UnauthorizedOperation"
    assert cluster.ec2.bill.refused_terminations == [victim]
    cluster.ports().fleet.terminate("i-0unknown")


def test_a_person_stops_and_starts_an_instance() -> None:
    cluster = SimCluster(POLICY, workers=1, ec2=Ec2Settings(visibility_s=60.0))
    [worker] = cluster.workers()
    cluster.run(60)

    def row() -> tuple[str, float]:
        [found] = [row for row in cluster.ports().fleet.describe() if row["InstanceId"] == worker]
        return found["State"]["Name"], found["LaunchTime"].timestamp()

    launched_s = row()[1]
    cluster.ec2.stop(worker)
    assert row() == ("stopping", launched_s)
    cluster.run(60)
    assert row() == ("stopped", launched_s)
    began_s = cluster.now_s
    cluster.ec2.start(worker)
    cluster.run(10)
    assert row() == ("running", began_s), "listed all the time, and launched anew"
    cluster.run(120)
    assert len(cluster.ready_workers()) == 1


def test_a_server_that_is_lost_runs_nothing_more() -> None:
    cluster = SimCluster(POLICY, workers=1)
    cluster.ssm.delay_s = 20.0
    late = drain(cluster)
    cluster.ssm.lose(SERVER_ID)
    cluster.ec2.end(SERVER_ID)
    cluster.run(60)
    assert cluster.world.command_status(late) is None


def test_dollars() -> None:
    cluster = SimCluster(POLICY, workers=1)
    before = cluster.ec2.spent_usd()
    cluster.run(3600)
    assert cluster.ec2.spent_usd() - before == pytest.approx(0.0208 + 0.0416)
    cluster.ec2.end(cluster.workers()[0])
    before = cluster.ec2.spent_usd()
    cluster.run(3600)
    assert cluster.ec2.spent_usd() - before == pytest.approx(0.0416)


# ------------------------------------------------------------------------------------------------------------------ SSM


def drain(cluster: SimCluster) -> str:
    (worker,) = cluster.workers()
    zone = cluster.ec2.instances[worker].zone
    wanted = command(
        Verb.DRAIN,
        node_name=f"worker-{worker}",
        provider_id=f"aws:///{zone}/{worker}",
        not_after_s=int(cluster.now_s) + 60,
    )
    return cluster.ports().commands.send(wanted, SERVER_ID)


def test_a_command_runs_and_tells() -> None:
    cluster = SimCluster(POLICY, workers=1)
    command_id = drain(cluster)
    commands = cluster.ports().commands
    assert commands.result(command_id, SERVER_ID).outcome is CommandOutcome.RUNNING
    cluster.run(10)
    assert commands.result(command_id, SERVER_ID).outcome is CommandOutcome.SUCCEEDED
    assert commands.result("other", SERVER_ID).outcome is CommandOutcome.UNDELIVERED


def test_an_offline_server_never_gets_it() -> None:
    cluster = SimCluster(POLICY, workers=1)
    cluster.ssm.offline.add(SERVER_ID)
    command_id = drain(cluster)
    commands = cluster.ports().commands
    cluster.run(59)
    assert commands.result(command_id, SERVER_ID).outcome is CommandOutcome.RUNNING
    cluster.run(2)
    assert commands.result(command_id, SERVER_ID).outcome is CommandOutcome.UNDELIVERED


def test_only_a_living_server_takes_commands() -> None:
    cluster = SimCluster(POLICY, workers=1)
    with pytest.raises(CommandsUnavailable) as refused:
        cluster.ports().commands.send(command(), cluster.workers()[0])
    assert refused.value.code == "InvalidInstanceId"


# ---------------------------------------------------------------------------------------------------------------- state


def test_compare_and_set() -> None:
    cluster = SimCluster(POLICY)
    store = cluster.ports().store
    assert store.load() == (State(), 0)
    assert store.save(State(fence=1), 0) == 1
    with pytest.raises(Conflict):
        store.save(State(fence=2), 0)
    assert store.load() == (State(fence=1), 1)
    assert cluster.state == State(fence=1)


def test_a_malformed_item_is_an_error_and_stays() -> None:
    cluster = SimCluster(POLICY)
    cluster.item.data, cluster.item.version = b'{"fence": "many"}', 4
    with pytest.raises(StateMalformed):
        cluster.ports().store.load()
    assert cluster.item.data == b'{"fence": "many"}'


def test_decisions_and_news_are_plain_json() -> None:
    cluster = SimCluster(POLICY)
    ports = cluster.ports()
    ports.store.record(5, "d-1", {"action": "none"})
    ports.notifier.notify({"action": "scale_up"})
    cluster.fail("sns", "notify")
    ports.notifier.notify({"action": "lost"})
    assert cluster.decisions == [{"action": "none"}]
    assert list(cluster.told) == [{"action": "scale_up"}]
    assert list(cluster.lost) == [{"action": "lost"}]


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_failure_before_the_effect_leaves_nothing_behind() -> None:
    cluster = SimCluster(POLICY, workers=0)
    cluster.fail("ec2", "launch", code="RequestLimitExceeded")
    with pytest.raises(FleetUnavailable) as failed:
        cluster.ports().fleet.launch(request(cluster))
    assert (failed.value.code, failed.value.effect_unknown) == ("RequestLimitExceeded", False)
    assert cluster.workers() == []
    assert cluster.ports().fleet.launch(request(cluster)).instance_ids


def test_a_failure_after_the_effect_leaves_it_done_and_says_that_it_is_unknown() -> None:
    cluster = SimCluster(POLICY, workers=0)
    cluster.fail("ec2", "launch", after_effect=True)
    with pytest.raises(FleetUnavailable) as failed:
        cluster.ports().fleet.launch(request(cluster))
    assert failed.value.effect_unknown
    assert len(cluster.workers()) == 1
    cluster.fail("dynamodb", "save", after_effect=True)
    with pytest.raises(StoreUnavailable):
        cluster.ports().store.save(State(fence=9), 0)
    assert cluster.state.fence == 9


def test_failures_last_as_long_as_they_are_told_to() -> None:
    cluster = SimCluster(POLICY)
    store = cluster.ports().store
    cluster.fail("dynamodb", "load", times=2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.load()
    store.load()
    cluster.fail("dynamodb", "load", times=None)
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            store.load()
    cluster.heal()
    store.load()


def test_calls_are_counted_by_invocation_and_logged_in_order() -> None:
    cluster = SimCluster(POLICY)
    cluster.wires.log.clear()
    ports = cluster.ports()
    ports.store.load()
    ports.fleet.describe()
    ports.metrics.query(QUERY)
    assert ports.calls() == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert cluster.ports().calls() == {}
    assert cluster.wires.log == [("dynamodb", "load"), ("ec2", "describe"), ("prometheus", "query")]


def test_a_hook_may_kill_before_or_after_the_effect() -> None:
    class Killed(BaseException):
        pass

    cluster = SimCluster(POLICY, workers=0)
    for point, left in (("before", 0), ("after", 1)):

        def hook(service: str, name: str, at: str, *, wanted: str = point) -> None:
            if (service, name, at) == ("ec2", "launch", wanted):
                raise Killed

        cluster.wires.hook = hook
        with pytest.raises(Killed):
            cluster.ports().fleet.launch(request(cluster))
        assert len(cluster.workers()) == left


def test_latency_uses_up_the_invocation() -> None:
    cluster = SimCluster(POLICY)
    cluster.wires.latency_s["dynamodb"] = 2.5
    ports = cluster.ports(timeout_s=10)
    began_ms = ports.clock.elapsed_ms()
    ports.store.load()
    assert ports.clock.remaining_s() == 7.5
    assert ports.clock.elapsed_ms() - began_ms == 2500


def test_ids_sort_by_time_and_repeat_with_the_seed() -> None:
    first, second = SimCluster(POLICY), SimCluster(POLICY)
    ids = []
    for _ in range(5):
        ids.append(first.ids.new())
        assert ids[-1] == second.ids.new()
        first.run(1)
        second.run(1)
    assert ids == sorted(set(ids))
    assert all((len(one) <= 32 and one.isalnum() and one.islower()) or one.isdigit() for one in ids)


# -------------------------------------------------------------------------------------------------------------- metrics


def look(cluster: SimCluster) -> Snapshot:
    ports = cluster.ports()
    try:
        answer = ports.metrics.query(QUERY)
    except MetricsUnavailable as error:
        return assemble_with(cluster, error)
    return assemble_with(cluster, list(answer))


def assemble_with(cluster: SimCluster, answer: object) -> Snapshot:
    return assemble(
        answer,  # type: ignore[arg-type] # samples or the error
        cluster.ec2.describe(),
        (),
        state=State(),
        cluster_id=cluster.cluster_id,
        policy=POLICY,
        now_s=int(cluster.now_s),
    )


OK, PARTIAL, UNAVAILABLE = MetricsStatus.OK, MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE


@pytest.mark.parametrize(
    ("fault", "status", "cluster_known"),
    [
        ({}, OK, True),
        ({"down": True}, UNAVAILABLE, False),
        ({"slow": True}, UNAVAILABLE, False),
        ({"not_an_answer": True}, UNAVAILABLE, False),
        ({"empty": True}, UNAVAILABLE, False),
        ({"garbage": True}, PARTIAL, False),
        ({"half": True}, PARTIAL, False),
        ({"restarted": True}, PARTIAL, True),
        ({"nan": {"node"}}, PARTIAL, False),
        ({"nan": {"use"}}, PARTIAL, True),
        ({"missing": {"node"}}, PARTIAL, False),
        ({"missing": {"node_not_ready"}}, PARTIAL, False),
        ({"missing": {"node_cordoned"}}, PARTIAL, False),
        ({"dropped": {"node_control_plane"}}, PARTIAL, False),
        ({"foreign": True}, PARTIAL, False),
        ({"two_clusters": True}, PARTIAL, False),
        ({"target_gone": True}, PARTIAL, True),
        ({"no_allow_lists": True}, OK, True),
        ({"scraped_every_s": 30}, OK, True),
        ({"sources_down": {"kube-state-metrics"}}, PARTIAL, False),
        ({"sources_down": {"node-exporter"}}, PARTIAL, True),
    ],
)
def test_the_core_notices_every_fault(fault: dict[str, object], status: MetricsStatus, cluster_known: bool) -> None:
    cluster = SimCluster(POLICY)
    cluster.apply(deployment())
    cluster.run(60)
    for name, value in fault.items():
        setattr(cluster.metric_faults, name, value)
    seen = look(cluster)
    assert (seen.metrics_status, seen.cluster_known) == (status, cluster_known), seen.metrics_problems


def test_frozen_metrics_grow_stale() -> None:
    cluster = SimCluster(POLICY)
    cluster.freeze_metrics()
    cluster.run(5)
    assert look(cluster).metrics_status is OK
    cluster.run(30)
    assert look(cluster).metrics_status is PARTIAL
    cluster.metric_faults.frozen = None
    assert look(cluster).metrics_status is OK


def test_a_slow_prometheus_costs_its_time_out() -> None:
    cluster = SimCluster(POLICY)
    cluster.metric_faults.slow = True
    ports = cluster.ports()
    with pytest.raises(MetricsUnavailable):
        ports.metrics.query(QUERY)
    assert ports.clock.remaining_s() == 30 - POLICY.metrics.timeout_s


# -------------------------------------------------------------------------------------------------------------- cluster


def test_a_cluster_begins_with_its_workers_ready_and_full_windows() -> None:
    short = parse_policy("version: 1\nscale_down: {window_s: 60, cool_down_s: 60, min_age_s: 60}\n")
    for policy in (POLICY, short):
        cluster = SimCluster(policy, workers=3, static_workers=1)
        assert cluster.now_s == 1_800_000_000
        assert len(cluster.ready_workers()) == 4
        assert cluster.ec2.ids(InstanceState.RUNNING) == cluster.ec2.ids()
        counts = [s.value[1] for s in cluster.samples() if s.metric["family"] == "use_shrink_count"]
        assert {int(count) for count in counts} == {policy.scale_down.window_s // 15}


def test_virtual_hours_are_cheap() -> None:
    """A thousand sweeps of a cluster in which little happens; generous, for slow machines."""
    cluster = SimCluster(POLICY, workers=5)
    cluster.apply(deployment(replicas=10, cpu=300, burn=0.2))
    events = len(cluster.world.events)
    for _ in range(1000):
        cluster.run(120)
        cluster.samples()
    assert len(cluster.world.events) - events < 50
    assert msgspec.json.encode(cluster.world.nodes)


def test_the_real_loop_runs_in_it() -> None:
    """Pods wait, the sweep launches, the node joins, the pods run; the calls are those of the log."""
    cluster = SimCluster(POLICY, workers=2)
    cluster.apply(deployment(replicas=6, cpu=900))
    cluster.run(20)
    cluster.wires.log.clear()
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert sum(document["calls"].values()) <= len(cluster.wires.log)
    assert len(cluster.workers()) == 3
    cluster.run_until(lambda: not any(pod.unschedulable_since_s for pod in cluster.world.pods), within_s=120)
    documents = cluster.sweep_for(600)
    assert len(documents) == 5
    assert {document["action"] for document in documents} == {"none"}
    assert len(cluster.workers()) == 3


def test_run_until_gives_up() -> None:
    with pytest.raises(TimeoutError, match="within 10 s"):
        SimCluster(POLICY).run_until(lambda: False, within_s=10)

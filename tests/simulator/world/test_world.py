"""Machines boot, join, get Ready and die; pods follow."""

import re
from collections.abc import Callable

import pytest

from autoscaler.model.rules import Effect, Taint, Toleration
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import (
    CONTROL_PLANE_LABEL,
    Ask,
    Budget,
    Kind,
    PodTemplate,
    Workload,
)
from autoscaler.simulator.world.world import SERVER, FixedNode, World, WorldSettings
from tests.simulator.worlds import (
    POLICY,
    START_S,
    bare,
    database,
    deployment,
    has_node,
    instance_id,
    node,
    node_name,
    pods_of,
    row,
    world,
)


def waiting(made: World, owner: str) -> int:
    return sum(1 for pod in pods_of(made, owner) if pod.unschedulable_since_s is not None)


def test_a_new_instance_boots_joins_not_ready_and_gets_ready() -> None:
    made = world(ready_s=5.0)
    made.see_instances([row(0)])
    made.advance(START_S + 19)
    assert not has_node(made, node_name(0))
    while not has_node(made, node_name(0)):
        made.advance(made.now_s + 0.5)
    joined_s = node(made, node_name(0)).created_at_s
    assert START_S + 20 <= joined_s <= START_S + 30
    made.advance(joined_s + 4.9)
    assert not node(made, node_name(0)).ready
    made.advance(joined_s + 5)
    fresh = node(made, node_name(0))
    assert fresh.ready
    assert (fresh.instance_id, fresh.zone, fresh.managed) == (instance_id(0), "us-east-1a", True)


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(row(0, ManagedBy=""), id="not managed by us"),
        pytest.param(row(0, **{"k3s-autoscaler/cluster": "other"}), id="of another cluster"),
        pytest.param(row(0, **{"aws:autoscaling:groupName": "group"}), id="of an Auto Scaling group"),
        pytest.param(row(0, **{"k3s-autoscaler/role": "server"}), id="a server"),
        pytest.param(row(0, state="pending"), id="not running yet"),
    ],
)
def test_an_instance_that_is_not_a_running_worker_of_ours_never_joins(foreign: dict[str, object]) -> None:
    made = world()
    made.see_instances([foreign])
    made.advance(START_S + 600)
    assert not has_node(made, node_name(0))


def test_an_unknown_instance_type_is_refused_in_one_sentence_and_changes_nothing() -> None:
    made = world()
    with pytest.raises(ValueError, match=r"knows no instance type x9\.huge"):
        made.see_instances([row(0, instance_type="x9.huge")])
    made.advance(START_S + 600)
    assert len(made.nodes) == 1


@pytest.mark.parametrize(
    "rows", [pytest.param([], id="not listed"), pytest.param([row(0, state="shutting-down")], id="dying")]
)
def test_a_gone_machine_leaves_a_node_that_stays_not_ready_for_ever(rows: list[dict[str, object]]) -> None:
    made = world(workers=1)
    made.see_instances(rows)
    made.advance(made.now_s + 39)
    assert node(made, node_name(0)).ready, "the control plane has not noticed yet"
    made.advance(made.now_s + 2)
    assert not node(made, node_name(0)).ready
    made.advance(made.now_s + 86_400)
    dead = node(made, node_name(0))
    assert not dead.ready
    assert not dead.alive


def test_fixed_nodes_die_only_when_a_row_says_so() -> None:
    static = FixedNode(name="static-1", instance_id=instance_id(7))
    made = world(fixed_nodes=(static,))
    made.see_instances([])
    assert node(made, "static-1").alive
    made.see_instances([row(7, state="terminated")])
    assert not node(made, "static-1").alive


def test_a_machine_that_is_started_again_gets_its_node_and_its_volume_back() -> None:
    made = world(workers=1)
    made.apply(database())
    made.advance(made.now_s + 10)
    made.see_instances([row(0, state="stopping")])
    made.advance(made.now_s + 60)
    assert (node(made, node_name(0)).alive, node(made, node_name(0)).ready) == (False, False)
    made.see_instances([row(0)])
    made.advance(made.now_s + 60)
    assert (node(made, node_name(0)).alive, node(made, node_name(0)).ready) == (True, True)
    assert [(pod.node, pod.ready) for pod in pods_of(made, "shop/db")] == [(node_name(0), True)]


def test_workers_may_register_under_longer_names() -> None:
    made = world(workers=1, with_node_id=True)
    [name] = [one.name for one in made.nodes if not one.server]
    assert re.fullmatch(rf"{node_name(0)}-[0-9a-f]{{8}}", name)


@pytest.mark.parametrize(("for_s", "placed"), [(30.0, True), (None, False)])
def test_a_start_up_taint_goes_and_any_other_stays(for_s: float | None, placed: bool) -> None:
    made = world(
        workers=1,
        worker_taints=(Taint(key="dedicated", value="x", effect=Effect.NO_SCHEDULE),),
        worker_taints_for_s=for_s,
    )
    made.apply(deployment())
    made.advance(made.now_s + 60)
    assert (pods_of(made, "shop/web")[0].node == node_name(0)) is placed


def test_bare_metal_stands_beside_ec2_and_in_no_zone() -> None:
    pi = FixedNode(name="pi-1", instance_id="pi-1", zone="", provider_id="k3s://pi-1")
    made = SimCluster(POLICY, workers=1, world=WorldSettings(cluster_id="sim", fixed_nodes=(SERVER, pi)))
    assert "pi-1" not in made.ec2.instances
    shown = [line for line in made.world.kube_state_metrics().splitlines() if 'node="pi-1"' in line]
    assert any(line.startswith("kube_node_info{") and 'provider_id="k3s://pi-1"' in line for line in shown)
    assert not any("us-east-1" in line for line in shown)


def test_never_join() -> None:
    made = world()
    made.faults.never_join = True
    made.see_instances([row(0)])
    made.advance(START_S + 3600)
    assert not has_node(made, node_name(0))


def test_join_late() -> None:
    made = world()
    made.faults.join_delay_s = 500
    made.see_instances([row(0)])
    made.advance(START_S + 519)
    assert not has_node(made, node_name(0))
    made.advance(START_S + 531)
    assert has_node(made, node_name(0))


def test_a_broken_image_joins_and_never_gets_ready() -> None:
    made = world()
    made.faults.broken_image = True
    made.see_instances([row(0)])
    made.advance(START_S + 3600)
    assert not node(made, node_name(0)).ready


def test_a_broken_node_turns_not_ready_and_can_be_mended() -> None:
    made = world(workers=1)
    made.apply(deployment())
    made.advance(made.now_s + 10)
    made.break_node(node_name(0))
    made.advance(made.now_s + 41)
    assert not node(made, node_name(0)).ready
    assert not pods_of(made, "shop/web")[0].ready
    made.mend_node(node_name(0))
    made.advance(made.now_s + 10)
    assert node(made, node_name(0)).ready
    assert pods_of(made, "shop/web")[0].ready


def test_a_node_that_is_mended_in_time_never_turns_not_ready() -> None:
    made = world(workers=1)
    made.break_node(node_name(0))
    made.advance(made.now_s + 35)
    made.mend_node(node_name(0))
    made.advance(made.now_s + 4)
    made.apply(deployment())
    made.advance(made.now_s + 100)
    assert pods_of(made, "shop/web")[0].ready
    assert not any("NotReady" in event.message for event in made.events if event.subject == node_name(0))


def test_pods_of_a_lost_node_are_replaced_after_the_toleration_and_stay_until_the_node_goes() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=2, cpu=1500))
    made.advance(made.now_s + 10)
    made.see_instances([row(1)])
    made.advance(made.now_s + 40 + 299)
    assert len(pods_of(made, "shop/web")) == 2
    made.advance(made.now_s + 2)
    pods = pods_of(made, "shop/web")
    assert sorted((pod.terminating, bool(pod.node)) for pod in pods) == [(False, False), (False, True), (True, True)]
    made.advance(made.now_s + 3600)
    assert len(pods_of(made, "shop/web")) == 3, "nobody confirms the end of a pod on a dead machine"


# ----------------------------------------------------------------------------------------------------------- workloads


def test_the_scheduler_spreads_to_the_emptiest_node() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=4, cpu=400))
    made.advance(made.now_s + 10)
    nodes = [pod.node for pod in pods_of(made, "shop/web")]
    assert nodes.count(node_name(0)) == nodes.count(node_name(1)) == 2


def test_what_does_not_fit_is_unschedulable_from_the_first_look_until_there_is_room() -> None:
    made = world(workers=1)
    since_s = made.now_s
    made.apply(deployment(replicas=3, cpu=900))
    assert waiting(made, "shop/web") == 1
    made.advance(made.now_s + 100)
    late = next(pod for pod in pods_of(made, "shop/web") if not pod.node)
    assert late.unschedulable_since_s == since_s
    made.see_instances([row(0), row(1)])
    made.advance(made.now_s + 60)
    assert waiting(made, "shop/web") == 0
    assert all(pod.ready for pod in pods_of(made, "shop/web"))


@pytest.mark.parametrize(
    ("template", "placed"),
    [
        pytest.param(PodTemplate(request=Ask(cpu_millicores=1800)), True, id="fits"),
        pytest.param(PodTemplate(request=Ask(cpu_millicores=1900)), False, id="more CPU than is free"),
        pytest.param(PodTemplate(request=Ask(memory_bytes=2 * 1024**3)), False, id="more memory than it has"),
        pytest.param(PodTemplate(node_selector=(("pool", "gpu"),)), False, id="selects what is not there"),
        pytest.param(
            PodTemplate(node_selector=(("topology.kubernetes.io/zone", "us-east-1a"),)), True, id="selects the zone"
        ),
        pytest.param(PodTemplate(gated=True), False, id="gated"),
        pytest.param(PodTemplate(node_selector=((CONTROL_PLANE_LABEL, "true"),)), False, id="server, not tolerated"),
        pytest.param(
            PodTemplate(node_selector=((CONTROL_PLANE_LABEL, "true"),), tolerations=(Toleration(any_value=True),)),
            True,
            id="server, tolerated",
        ),
        pytest.param(
            PodTemplate(request=Ask(cpu_millicores=100), init=Ask(cpu_millicores=2000)),
            False,
            id="a large init",
        ),
        pytest.param(
            PodTemplate(request=Ask(cpu_millicores=1000), sidecar=Ask(cpu_millicores=1000)),
            False,
            id="and a sidecar",
        ),
    ],
)
def test_filters(template: PodTemplate, placed: bool) -> None:
    made = world(workers=1)
    made.apply(Workload(namespace="shop", name="one", template=template))
    made.advance(made.now_s + 10)
    (pod,) = pods_of(made, "shop/one")
    assert bool(pod.node) is placed
    assert (pod.unschedulable_since_s is None) is placed


def test_the_pod_limit_counts() -> None:
    made = world(workers=1, max_pods=5)
    made.apply(deployment(replicas=10, cpu=1))
    made.advance(made.now_s + 10)
    assert waiting(made, "shop/web") == 7, "two of the five are DaemonSets' pods"


def test_no_pod_goes_to_a_cordoned_node_and_daemons_stay() -> None:
    made = world(workers=1)
    made.cordon(node_name(0))
    made.apply(deployment())
    made.advance(made.now_s + 10)
    assert waiting(made, "shop/web") == 1
    assert node(made, node_name(0)).pods == 2
    made.uncordon(node_name(0))
    made.advance(made.now_s + 10)
    assert waiting(made, "shop/web") == 0


def test_critical_pods_are_placed_first() -> None:
    made = world()
    made.apply(deployment("plain", cpu=1500))
    made.apply(deployment("critical", cpu=1500, priority_class="system-cluster-critical"))
    made.see_instances([row(0)])
    made.advance(made.now_s + 60)
    assert pods_of(made, "shop/critical")[0].ready
    assert waiting(made, "shop/plain") == 1


def test_a_local_volume_binds_its_pod_to_the_node() -> None:
    made = world(workers=2)
    made.apply(database())
    made.advance(made.now_s + 10)
    home = pods_of(made, "shop/db")[0].node
    made.cordon(home)
    made.scale("shop/db", 0)
    made.advance(made.now_s + 10)
    made.scale("shop/db", 1)
    made.advance(made.now_s + 10)
    assert waiting(made, "shop/db") == 1, "the other node has room, and the volume does not move"
    made.uncordon(home)
    made.advance(made.now_s + 10)
    assert pods_of(made, "shop/db")[0].node == home


def test_replicas_follow_scale_and_delete() -> None:
    made = world(workers=2)
    made.apply(deployment(replicas=5, cpu=100))
    made.scale("shop/web", 2)
    made.advance(made.now_s + 10)
    assert len(pods_of(made, "shop/web")) == 2
    made.delete("shop/web")
    made.advance(made.now_s + 10)
    assert pods_of(made, "shop/web") == []
    assert node(made, node_name(0)).cpu_requested_millicores == 10, "node-exporter's own"


def test_too_many_replicas_go_from_the_fullest_node_not_the_youngest_of_all() -> None:
    made = world(workers=2)
    made.cordon(node_name(0))
    made.apply(deployment(replicas=3, cpu=200))
    made.advance(made.now_s + 10)
    made.uncordon(node_name(0))
    made.scale("shop/web", 4)
    made.advance(made.now_s + 10)
    assert sorted(pod.node for pod in pods_of(made, "shop/web")) == [node_name(0)] + [node_name(1)] * 3
    made.scale("shop/web", 3)
    made.advance(made.now_s + 10)
    assert sorted(pod.node for pod in pods_of(made, "shop/web")) == [node_name(0)] + [node_name(1)] * 2


def test_an_image_that_cannot_be_pulled_is_pending_and_bound() -> None:
    made = world(workers=1)
    made.apply(deployment(image_pull_fails=True))
    made.advance(made.now_s + 600)
    (pod,) = pods_of(made, "shop/web")
    assert (pod.phase, pod.node, pod.ready, pod.unschedulable_since_s) == ("Pending", node_name(0), False, None)


def test_a_finished_pod_frees_its_room() -> None:
    made = world(workers=1)
    made.apply(bare("big", request=Ask(cpu_millicores=1500), run_for_s=60.0))
    made.apply(deployment(cpu=1500))
    made.advance(made.now_s + 30)
    assert waiting(made, "shop/web") == 1
    made.advance(made.now_s + 60)
    assert waiting(made, "shop/web") == 0
    assert pods_of(made, "batch/big")[0].phase == "Succeeded"


def test_many_owners_follow_at_one_moment_as_each_would_alone() -> None:
    def grown() -> World:
        made = world()
        made.see_instances([row(0)])
        made.apply(deployment("web", replicas=2, cpu=100))
        made.apply(deployment("api", replicas=3, cpu=100))
        made.advance(START_S + 120)
        return made

    together, apart = grown(), grown()
    together.follow([("shop/web", 4, 0.3), ("shop/api", 1, 0.0)])
    apart.scale("shop/web", 4)
    apart.burn("shop/web", 0.3)
    apart.scale("shop/api", 1)
    apart.burn("shop/api", 0.0)
    for made in (together, apart):
        made.advance(START_S + 180)
        assert (len(pods_of(made, "shop/web")), len(pods_of(made, "shop/api"))) == (4, 1)
    assert node(together, node_name(0)).cpu_used == pytest.approx(node(apart, node_name(0)).cpu_used)


def test_burn_changes_running_pods() -> None:
    made = world(workers=1)
    made.apply(deployment(burn=0.2))
    made.advance(made.now_s + 10)
    quiet = node(made, node_name(0)).cpu_used
    made.burn("shop/web", 1.2)
    assert node(made, node_name(0)).cpu_used == pytest.approx(quiet + 0.5)


def test_add_ons_run_on_the_server_and_daemons_everywhere() -> None:
    made = world(workers=2)
    where = {pod.owner: pod.node for pod in made.pods if pod.owner.startswith("kube-system/")}
    for name in ("coredns", "metrics-server", "local-path-provisioner", "traefik"):
        assert where[f"kube-system/{name}"] == "ip-10-0-1-10"
    assert len(pods_of(made, "monitoring/node-exporter")) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda w: w.advance(START_S - 1), "runs forward only"),
        (lambda w: w.scale("monitoring/node-exporter", 2), "only a Deployment or StatefulSet"),
        (lambda w: w.apply(Workload(namespace="kube-system", name="coredns", kind=Kind.POD)), "delete it before"),
        (lambda _: Workload(namespace="a", name="b", local_volume=True), "only a StatefulSet"),
        (lambda _: Workload(namespace="a", name="b", replicas=-1), "0 is the least"),
        (lambda _: Budget(), "exactly one"),
    ],
)
def test_wrong_use_is_one_sentence(wrong: Callable[[World], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(world())


def test_the_same_seed_is_the_same_world() -> None:
    def story(seed: int) -> list[object]:
        made = world(workers=3, seed=seed)
        made.apply(deployment(replicas=5))
        made.advance(made.now_s + 600)
        return [made.events, made.pods, made.nodes]

    assert story(4) == story(4)
    assert story(4) != story(5)


def test_nothing_is_done_while_nothing_happens() -> None:
    made = world(workers=2)
    made.advance(made.now_s + 100)
    assert made.next_event_s() is None

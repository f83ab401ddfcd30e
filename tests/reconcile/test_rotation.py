"""Workers that work and are replaced all the same: one at a time, oldest first, launched before drained."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from autoscaler.policy import Policy, Rotation, ScaleDown, Workers
from autoscaler.ports import PortError
from autoscaler.simulator.cluster import SimCluster
from autoscaler.windows import Blackout
from tests.passed_over import why
from tests.reconcile.conftest import deployment
from tests.reconcile.test_consolidation import live

NEW_K3S = "v1.37.0+k3s1"
LOOKS_S = 2 * 3600


def busy(rotation: Rotation, *, workers: int = 3, history_s: float | None = None, **changes: Any) -> SimCluster:
    """Each worker runs two pods that fit together on no other one, and use enough for nobody to be idle."""
    changes.setdefault("scale_down", ScaleDown(when="low_use"))  # with fits what was launched in vain leaves again
    cluster = SimCluster(Policy(version=1, rotation=rotation, **changes), workers=workers, history_s=history_s)
    cluster.apply(deployment("web", 2 * workers, cpu_millicores=800, burn_cores=0.5))
    cluster.run(1500)
    return cluster


def ready_at_each_look(cluster: SimCluster, seconds: float) -> Iterator[int]:
    """Ready workers that take pods, each time anything is looked at."""
    for _ in live(cluster, seconds):
        yield sum(node.ready and not node.cordoned and not node.server for node in cluster.world.nodes)


def documents(cluster: SimCluster, seconds: float = LOOKS_S) -> list[dict[str, Any]]:
    return list(live(cluster, seconds))


def began(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(d["action"], d["reason"]) for d in told if d["action"] in {"scale_up", "scale_down", "repair"}]


ROTATED = [("scale_up", "rotation"), ("repair", "rotation")] * 3


def test_a_calm_fleet_that_is_young_and_has_not_drifted_is_left_alone_and_asked_nothing_of() -> None:
    cluster = busy(Rotation(max_age_s=86_400, drift=("image", "k3s_version")))
    told = documents(cluster, 1200)
    assert began(told) == []
    assert told[-1]["calls"] == {"dynamodb": 1, "prometheus": 1, "ec2": 1}


def test_workers_that_are_too_old_are_rotated_the_oldest_first_and_never_is_one_fewer_ready() -> None:
    cluster = busy(Rotation(max_age_s=3600), history_s=3600)
    old, gone = cluster.workers(), []
    ages = {i: cluster.ec2.instances[i].launched_at_s for i in old}
    for ready in ready_at_each_look(cluster, 3600):
        assert ready >= 3, "launched before drained"
        assert len(cluster.workers()) <= 4, "one at a time"
        gone += [i for i in old if i not in cluster.workers() and i not in gone]
        if len(gone) == 3:
            break
    assert gone == sorted(gone, key=lambda i: (ages[i], i))
    assert len(gone) == 3
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")


@pytest.mark.parametrize("cause", ["image", "template", "k3s_version"])
def test_what_drifted_is_rotated_once_it_shows(cause: Any) -> None:
    cluster = busy(Rotation(drift=(cause,)))
    assert began(documents(cluster, 600)) == []
    settings = cluster.ec2.settings
    if cause == "k3s_version":
        cluster.world.upgrade_servers(NEW_K3S)
    elif cause == "template":
        cluster.ec2.settings = msgspec.structs.replace(settings, template_version="2")
    else:
        cluster.ec2.settings = msgspec.structs.replace(settings, image_id="ami-0new")
        assert began(documents(cluster, 600)) == [], "nobody has seen the new image yet"
        cluster.add_worker()
        cluster.run(120)
    old = cluster.workers()[:3]
    told = documents(cluster)
    assert began(told)[: len(ROTATED)] == ROTATED
    assert not {*old} & {*cluster.workers()}
    assert began(documents(cluster, 1800)) == [], "and then it is over"
    drains = [d for d in told if d["reason"] == "rotation" and d["action"] == "repair"]
    words = {
        "k3s_version": f"it runs K3s v1.36.2+k3s1 and the servers {NEW_K3S}",
        "template": "its launch template's version is 1, and 2 is the latest",
        "image": "its image is ami-0simulated0000000, and the last launch got ami-0new",
    }
    assert all(words[cause] in d["message"] for d in drains)


def test_what_the_template_is_now_costs_one_call_and_unknown_is_not_drifted() -> None:
    cluster = busy(Rotation(drift=("template",)))
    assert cluster.sweep()["calls"]["ec2"] == 2
    cluster.ec2.settings = msgspec.structs.replace(cluster.ec2.settings, template_version="2")
    cluster.fail("ec2", "launch_context", times=None)
    told = documents(cluster, 600)
    assert began(told) == []
    assert {d["metrics_status"] for d in told} == {"ok"}
    cluster.heal()
    assert began(documents(cluster, 240)) == [("scale_up", "rotation")]


def test_a_rotation_waits_for_the_end_of_a_blackout_on_both_sides_of_its_launch() -> None:
    """The drain that is due when it begins waits for it as the next launch does."""
    hour = Blackout(name="sale", time_zone="UTC", from_time="08:27", to_time="09:27")
    down = ScaleDown(blackouts=(hour,))
    cluster = busy(Rotation(max_age_s=3600), history_s=3600, scale_down=down)
    began_s = cluster.now_s
    told = documents(cluster, 40 * 60)
    assert began(told) == [("scale_up", "rotation")], "it began two minutes before"
    assert "its drain waits: the blackout sale holds until" in why(told[-1]["blocked"][0])
    assert (told[-1]["reason"], len(cluster.workers())) == ("replacing", 4)
    told = documents(cluster, 30 * 60)
    assert began(told)[0] == ("repair", "rotation")
    assert cluster.now_s - began_s > 3600


def test_a_deployment_rotates_nobody_unless_it_is_asked_to() -> None:
    cluster = busy(Rotation())
    cluster.ec2.settings = msgspec.structs.replace(cluster.ec2.settings, template_version="2", image_id="ami-0new")
    cluster.world.upgrade_servers(NEW_K3S)
    assert began(documents(cluster, 1800)) == []


def test_new_workers_that_have_it_too_are_no_reason_to_go_on() -> None:
    """The parameter with the version was not changed with the servers."""
    cluster = busy(Rotation(drift=("k3s_version",)))
    cluster.world.upgrade_servers(NEW_K3S, new_workers=False)
    told = documents(cluster, 3000)
    assert began(told) == [("scale_up", "rotation")]
    assert f"runs K3s v1.36.2+k3s1 too, not the servers' {NEW_K3S}" in " ".join(e for d in told for e in d["done"])
    assert cluster.wires.totals["ec2", "terminate"] == 0
    failed = cluster.state.replacement_failed
    assert failed is not None
    waits = "k3s_version: it is replaced later (3 more are due): the last one came to nothing (the new worker-"
    assert any(why(row).startswith(waits) for row in told[-1]["blocked"])


def test_a_launch_that_does_not_join_stops_the_rotation_and_the_next_try_is_an_hour_later() -> None:
    cluster = busy(Rotation(max_age_s=3600), history_s=3600)
    cluster.world.faults.never_join = True
    began_s = cluster.now_s
    first = began(documents(cluster, 1800))
    assert first == [("scale_up", "rotation"), ("repair", "repair")], "what did not join is cleared away"
    failed = cluster.state.replacement_failed
    assert failed is not None
    assert (failed.failures, failed.why) == (1, "0 of 1 that were launched for it are Ready")
    cluster.world.faults.never_join = False
    told = documents(cluster, 3600 + 1200)
    assert began(told)[:2] == ROTATED[:2]
    assert cluster.now_s - began_s > 3600
    assert cluster.state.replacement_failed is None


def test_an_ec2_without_capacity_stops_it_too() -> None:
    cluster = busy(Rotation(max_age_s=3600), history_s=3600)
    cluster.fail("ec2", "launch", times=None, code="InsufficientInstanceCapacity")
    told = documents(cluster, 1200)
    assert [d["action"] for d in told].count("scale_up") == 1
    assert cluster.state.replacement_failed is not None
    assert len(cluster.workers()) == 3


def test_a_drain_that_is_refused_leaves_one_more_worker_and_not_another_one_each_hour() -> None:
    cluster = busy(Rotation(max_age_s=3600), history_s=3600)
    cluster.world.faults.admission_denies = True
    told = documents(cluster, 6 * 3600)
    assert began(told).count(("scale_up", "rotation")) == 1, "what was launched for the first stands in for the next"
    assert began(told).count(("repair", "rotation")) >= 3
    assert len(cluster.workers()) == 4
    cluster.world.faults.admission_denies = False
    documents(cluster, 24 * 3600)
    assert cluster.state.replacement is None


def test_at_max_nobody_is_drained_first() -> None:
    cluster = busy(Rotation(max_age_s=3600), workers=10, history_s=3600)
    told = documents(cluster, 1200)
    assert began(told) == []
    assert "max_age: at_max: 10 workers exist and workers.max is 10" in why(told[-1]["blocked"][0])


def test_whoever_may_go_is_found_behind_many_that_may_not() -> None:
    """Sixteen pods that nobody may evict keep the eight oldest: a look has seven questions."""
    chosen = Policy(version=1, rotation=Rotation(max_age_s=3600), scale_down=ScaleDown(when="low_use"))
    cluster = SimCluster(msgspec.structs.replace(chosen, workers=Workers(max=20)), workers=8, history_s=3600)
    stays = deployment("stays", 16, cpu_millicores=800, burn_cores=0.5)
    kept = msgspec.structs.replace(stays.template, annotations=(("karpenter.sh/do-not-disrupt", "true"),))
    cluster.apply(msgspec.structs.replace(stays, template=kept))
    cluster.run(600)
    cluster.add_worker()
    cluster.apply(deployment("web", 2, cpu_millicores=800, burn_cores=0.5))
    cluster.run(3700)
    [young] = cluster.workers()[8:]
    told = documents(cluster, 1200)
    assert began(told) == ROTATED[:2]
    assert young not in cluster.workers()
    assert told[0]["calls"]["prometheus"] == 3


def test_idle_workers_that_are_too_old_go_without_a_replacement() -> None:
    cluster = SimCluster(Policy(version=1, rotation=Rotation(max_age_s=3600)), workers=5, history_s=3700)
    told = began(documents(cluster, 1200))
    assert told[0] == ("scale_down", "consolidation")
    assert len(cluster.workers()) == cluster.wires.totals["ec2", "launch"] == 2, "two are needed, and three are not"


def test_while_a_shrink_goes_on_nobody_is_replaced_who_may_leave_for_nothing() -> None:
    """Twelve pods of 0.6 CPU need four of eight workers; each look after a removal waits until use is measured anew."""
    cluster = SimCluster(Policy(version=1, rotation=Rotation(max_age_s=3600)), workers=8, history_s=3600)
    cluster.apply(deployment("web", 12, cpu_millicores=600, burn_cores=0.1))
    cluster.run(1500)
    told = began(documents(cluster, 2400))
    assert told == [("scale_down", "consolidation")] * 4 + [("scale_up", "rotation"), ("repair", "rotation")] * 4
    assert len(cluster.workers()) == cluster.wires.totals["ec2", "launch"] == 4


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("call", [("dynamodb", "save"), ("ec2", "launch"), ("ssm", "send"), ("ec2", "terminate")])
def test_whoever_looks_next_goes_on_where_a_call_failed(call: tuple[str, str], after_effect: bool) -> None:
    cluster = busy(Rotation(max_age_s=3600), history_s=3600)
    old = cluster.workers()
    cluster.fail(*call, after_effect=after_effect, times=2, effect_unknown=True)
    least = 9
    for _ in range(60):
        with suppress(PortError):
            cluster.sweep()
        cluster.run(60)
        least = min(least, sum(n.ready and not n.cordoned and not n.server for n in cluster.world.nodes))
    assert least == 3
    assert not {*old} & {*cluster.workers()}
    assert len(cluster.workers()) <= 4

"""A pool on the Spot market, end to end on the simulated cluster."""

import contextlib
from typing import Any

import msgspec
import pytest

from autoscaler.model import ON_DEMAND, SPOT, Notice
from autoscaler.policy import Cost, Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import listed_usd
from autoscaler.simulator.world.workload import Workload
from tests.passed_over import why
from tests.reconcile.conftest import deployment, need_two_workers

ZONES = ("us-east-1a", "us-east-1b")
LAUNCH = ("ec2", "launch")
TYPES = ("t3.small", "t3a.small", "t3.medium")


def spot_policy(*, base: int = 2, high: int = 10, types: tuple[str, ...] = TYPES, **changes: Any) -> Policy:
    workers = Workers(market="spot", on_demand_base=base, max=high, instance_types=types)
    return msgspec.structs.replace(Policy(version=1, workers=workers), **changes)


def drought(cluster: SimCluster, *, code: str = "InsufficientInstanceCapacity", left: int = 0) -> None:
    """Spot gives nothing more of any type."""
    for instance_type in cluster.policy.workers.instance_types:
        for zone in ZONES:
            cluster.ec2.exhaust(instance_type, zone, market=SPOT, left=left, code=code)


def markets(cluster: SimCluster) -> dict[str, int]:
    found = [cluster.ec2.instances[i].market for i in cluster.workers()]
    return {market: found.count(market) for market in (ON_DEMAND, SPOT)}


def interrupt(cluster: SimCluster, instance_id: str) -> dict[str, Any]:
    """EC2's warning, and the end two minutes later whatever anybody does."""
    notice = Notice(kind="interruption", subject=instance_id, received_at_s=int(cluster.now_s))
    cluster.world.at(cluster.now_s + 120, lambda: cluster.ec2.end(instance_id))
    return cluster.sweep(facts=(notice,))


def spot_workers(cluster: SimCluster) -> list[str]:
    return [i for i in cluster.workers() if cluster.ec2.instances[i].market == SPOT]


def test_growth_beyond_the_base_is_on_spot() -> None:
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    document = cluster.sweep()
    assert (document["action"], document["reason"]) == ("scale_up", "pods_unschedulable")
    assert [row["market"] for row in document["operations"]] == ["spot", "spot"]
    assert markets(cluster) == {ON_DEMAND: 2, SPOT: 2}
    cluster.sweep_for(300)
    assert len(cluster.ready_workers()) == 4


@pytest.mark.parametrize(
    "code",
    [
        "InsufficientInstanceCapacity",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
    ],
)
def test_a_drought_is_bridged_on_demand_within_the_same_look(code: str) -> None:
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    drought(cluster, code=code)
    document = cluster.sweep()
    assert markets(cluster) == {ON_DEMAND: 4, SPOT: 0}, "one invocation, and nobody waits for the next"
    assert [event for event in document["done"] if "launched on demand" in event]
    assert any(code in failure for failure in document["failures"])
    assert len(cluster.told) == 1
    calls = cluster.wires.totals[LAUNCH]
    cluster.apply(deployment("more", 4))
    cluster.run(15)
    after = cluster.sweep()
    assert cluster.wires.totals[LAUNCH] - calls == 2, "Spot is not asked while it is left alone"
    assert [row for row in after["blocked"] if row["subject"] == "spot" and "on demand instead" in why(row)]
    assert [row["market"] for row in after["operations"]][-2:] == ["on-demand", "on-demand"]
    cluster.sweep_for(300)
    assert len(cluster.ready_workers()) == 6
    assert all(pod.node for pod in cluster.world.pods)


def test_half_a_drought_is_half_bridged() -> None:
    cluster = SimCluster(spot_policy(types=("t3.small",)))
    need_two_workers(cluster)
    cluster.ec2.exhaust("t3.small", ZONES[0], market=SPOT)
    cluster.sweep()
    assert markets(cluster) == {ON_DEMAND: 3, SPOT: 1}


def test_a_drought_everywhere_is_told_as_such_and_nothing_is_held_up_for_long() -> None:
    cluster = SimCluster(spot_policy(types=("t3.small",)))
    need_two_workers(cluster)
    drought(cluster)
    for zone in ZONES:
        cluster.ec2.exhaust("t3.small", zone)
    cluster.sweep()
    later = cluster.sweep()
    assert (later["action"], later["reason"]) == ("held_back", "capacity_backoff")
    cluster.ec2.replenish()
    cluster.sweep_for(900, every_s=30)
    assert len(cluster.ready_workers()) == 4


@pytest.mark.parametrize(
    ("spare_usd", "expected"),
    [
        pytest.param(2.0, {ON_DEMAND: 4, SPOT: 0}, id="room for two on demand"),
        pytest.param(1.0, {ON_DEMAND: 3, SPOT: 0}, id="for one"),
        pytest.param(0.8, {ON_DEMAND: 2, SPOT: 0}, id="for none"),
    ],
)
def test_what_is_on_demand_instead_stays_within_the_cap(spare_usd: float, expected: dict[str, int]) -> None:
    small = listed_usd("t3.small")
    prices = {kind: listed_usd(kind, SPOT) for kind in TYPES}
    cluster = SimCluster(
        spot_policy(types=("t3.small",), cost=Cost(max_usd_per_hour=(2 + spare_usd) * small, spot_usd_per_hour=prices))
    )
    need_two_workers(cluster)
    drought(cluster)
    cluster.sweep_for(240, every_s=20)
    assert markets(cluster) == expected
    assert cluster.ec2.spent_usd() > 0
    cost = cluster.sweep()["cost"]
    assert cost["usd_per_hour"] <= (2 + spare_usd) * small + 1e-9


def test_max_holds_with_fallbacks() -> None:
    cluster = SimCluster(spot_policy(high=3))
    need_two_workers(cluster)
    drought(cluster)
    cluster.sweep_for(120, every_s=10)
    assert markets(cluster) == {ON_DEMAND: 3, SPOT: 0}


def on_market(name: str, market: str, *, replicas: int = 1) -> Workload:
    """Pods that fill a worker each, and run on workers of one market only."""
    plain = deployment(name, replicas, cpu_millicores=1500)
    selector = (("k3s-autoscaler/capacity-type", market),)
    return msgspec.structs.replace(plain, template=msgspec.structs.replace(plain.template, node_selector=selector))


def waiting_in(cluster: SimCluster) -> set[str]:
    return {pod.name.rsplit("-", 2)[0] for pod in cluster.world.pods if not pod.node}


def test_pods_that_run_on_spot_only_get_nothing_on_demand_while_others_do() -> None:
    cluster = SimCluster(spot_policy())
    drought(cluster)
    cluster.apply(on_market("picky", SPOT))
    cluster.apply(deployment("web", 6))
    cluster.run(15)
    cluster.sweep_for(1200, every_s=60)
    assert (markets(cluster), waiting_in(cluster)) == ({ON_DEMAND: 3, SPOT: 0}, {"picky"}), "as many as the others need"
    cluster.ec2.replenish()
    cluster.sweep_for(3600, every_s=60)
    assert (markets(cluster), waiting_in(cluster)) == ({ON_DEMAND: 2, SPOT: 2}, set()), "and the others return"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_pods_that_run_on_spot_only_get_spot_whatever_base_and_share_lack(share: float) -> None:
    cluster = SimCluster(msgspec.structs.replace(spot_policy(), workers=_mixed(base=6, share=share)))
    cluster.apply(on_market("picky", SPOT, replicas=2))
    cluster.run(15)
    cluster.sweep_for(600, every_s=60)
    assert (markets(cluster), waiting_in(cluster)) == ({ON_DEMAND: 2, SPOT: 2}, set())


def _mixed(*, base: int, share: float) -> Workers:
    return Workers(market="spot", on_demand_base=base, on_demand_share=share, max=10, instance_types=TYPES)


def test_pods_that_run_on_demand_only_get_it_from_a_pool_that_has_both_and_keep_it() -> None:
    cluster = SimCluster(spot_policy())
    cluster.apply(on_market("picky", ON_DEMAND, replicas=3))
    cluster.apply(deployment("web", 4))
    cluster.run(15)
    cluster.sweep_for(300, every_s=20)
    assert (markets(cluster), waiting_in(cluster)) == ({ON_DEMAND: 3, SPOT: 2}, set()), "one, also while it joins"
    launched = cluster.ec2.bill.launched
    cluster.sweep_for(3 * 3600, every_s=120)
    assert (cluster.ec2.bill.launched, markets(cluster)) == (launched, {ON_DEMAND: 3, SPOT: 2}), "no return in vain"


def test_a_return_launches_the_types_alone_that_the_pods_run_on() -> None:
    """On Spot EC2 takes whichever of the types it names."""
    cluster = SimCluster(spot_policy(base=0))
    for zone in ZONES:
        cluster.ec2.exhaust("t3.small", zone, market=SPOT)
    plain = deployment("picky", 4, cpu_millicores=1500)
    selector = (("node.kubernetes.io/instance-type", "t3.small"),)
    template = msgspec.structs.replace(plain.template, node_selector=selector)
    cluster.apply(msgspec.structs.replace(plain, template=template))
    cluster.run(15)
    cluster.sweep_for(6 * 3600, every_s=120)
    assert (markets(cluster), waiting_in(cluster)) == ({ON_DEMAND: 4, SPOT: 0}, set())
    assert cluster.ec2.bill.launched == 4, "what is no t3.small would have come in vain"
    assert any("return_to_spot" in d["reason"] for d in cluster.decisions), "it was tried"


class _Killed(BaseException):
    """The function's process is gone."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 16))
def test_whoever_is_killed_between_spot_and_its_fallback_leads_to_no_more_workers(number: int, moment: str) -> None:
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    drought(cluster)
    seen = 0

    def hook(_service: str, _name: str, when: str) -> None:
        nonlocal seen
        seen += when == moment
        if when == moment and seen == number:
            raise _Killed

    cluster.wires.hook = hook
    with contextlib.suppress(_Killed):
        cluster.sweep()
    cluster.wires.hook = None
    cluster.run(60)
    cluster.sweep_for(600, every_s=30)
    assert len(cluster.workers()) == len(cluster.ready_workers()) == 4
    assert cluster.state.launches == ()


# ---------------------------------------------------------------------------------------- interruptions, and the return


def served(cluster: SimCluster) -> bool:
    return all(pod.node for pod in cluster.world.pods)


def test_an_interruption_is_replaced_before_the_machine_goes() -> None:
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    cluster.sweep_for(240)
    victim = spot_workers(cluster)[0]
    document = interrupt(cluster, victim)
    assert document["reason"] == "interruption"
    assert len(spot_workers(cluster)) == 3, "asked for while the old one is drained"
    cluster.sweep_for(240, every_s=20)
    assert victim not in cluster.workers()
    assert (markets(cluster), served(cluster)) == ({ON_DEMAND: 2, SPOT: 2}, True)


def test_a_storm_is_weathered_on_demand_and_followed_by_a_return_one_at_a_time() -> None:
    """Three of six Spot workers within ten minutes; Spot gives plenty all the while, to be taken next."""
    cluster = SimCluster(spot_policy(high=12))
    cluster.apply(deployment("web", 16))
    cluster.sweep_for(300, every_s=30)
    assert markets(cluster) == {ON_DEMAND: 2, SPOT: 6}
    first, second, third = spot_workers(cluster)[:3]
    for victim in (first, second, third):
        interrupt(cluster, victim)
        cluster.sweep_for(150, every_s=30)
    cluster.sweep_for(300, every_s=30)
    assert served(cluster), "nobody waits when it is over"
    assert markets(cluster) == {ON_DEMAND: 3, SPOT: 5}, "the first was replaced by Spot, the others were a storm"


def test_what_was_launched_on_demand_returns_to_spot_without_churn() -> None:
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    drought(cluster)
    cluster.sweep_for(300, every_s=30)
    assert markets(cluster) == {ON_DEMAND: 4, SPOT: 0}
    cluster.ec2.replenish()
    cluster.sweep_for(1200, every_s=30)
    assert markets(cluster) == {ON_DEMAND: 4, SPOT: 0}, "not before return_after_s"
    launched, most, fewest = cluster.ec2.bill.launched, 0, 99
    for _ in range(180):
        cluster.run(30)
        cluster.sweep()
        most, fewest = max(most, len(cluster.workers())), min(fewest, len(cluster.ready_workers()))
    assert markets(cluster) == {ON_DEMAND: 2, SPOT: 2}
    assert (most, fewest) == (5, 4), "one at a time, launched before drained"
    assert cluster.ec2.bill.launched - launched == 2, "and none twice"
    assert served(cluster)
    assert {d["reason"] for d in cluster.decisions if d["action"] == "scale_up"} == {
        "pods_unschedulable",
        "return_to_spot",
    }


def test_a_return_in_vain_waits_and_the_fleet_stays() -> None:
    """The drought goes on, unseen because nobody asks Spot meanwhile."""
    cluster = SimCluster(spot_policy())
    need_two_workers(cluster)
    drought(cluster)
    cluster.sweep_for(300, every_s=30)
    calls = cluster.wires.totals[LAUNCH]
    cluster.sweep_for(6 * 3600, every_s=60)
    assert markets(cluster) == {ON_DEMAND: 4, SPOT: 0}
    assert 1 <= cluster.wires.totals[LAUNCH] - calls <= 6, "in six hours"
    assert cluster.state.spot_return is not None
    assert cluster.state.spot_return.failures >= 1

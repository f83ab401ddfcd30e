"""The cost cap, through whole looks at a simulated cluster: t3.small in us-east-1, $0.0208 an hour each."""

import pytest

from autoscaler.model import Mode
from autoscaler.policy import Cost, Policy, Workers
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import deployment

SMALL = 0.0208


def play(cost: Cost, *, unlisted: int = 0, replicas: int = 20, types: tuple[str, ...] = ("t3.small",)) -> SimCluster:
    """`unlisted`: static workers that EC2's list does not show, as nobody gave them the cluster's tag."""
    policy = Policy(version=1, workers=Workers(instance_types=types), cost=cost)
    cluster = SimCluster(policy, workers=2, static_workers=unlisted, static_tagged=False)
    cluster.apply(deployment("burst", replicas))
    cluster.run(15)
    return cluster


def test_growth_stops_at_the_cap_and_people_are_told_once() -> None:
    cluster = play(Cost(max_usd_per_hour=5.5 * SMALL))
    first = cluster.sweep()
    assert (first["action"], first["nodes"]["desired"]) == ("scale_up", 5)
    assert first["cost"]["usd_per_hour"] == pytest.approx(2 * SMALL)
    cluster.sweep_for(600, every_s=60)
    documents = [cluster.sweep() for _ in range(3)]
    assert {(d["action"], d["reason"]) for d in documents} == {("held_back", "at_cost_cap")}
    assert documents[0]["cost"] == {
        "usd_per_hour": pytest.approx(5 * SMALL),
        "known_workers": 5,
        "unknown_workers": 0,
        "baseline_usd_per_hour": None,
        "saved_usd_per_hour": None,
    }
    assert "cost.max_usd_per_hour is 0.1144 and what there is costs $0.1040 an hour" in documents[0]["message"]
    assert len(cluster.workers()) == 5
    told = [d for d in cluster.told if d["reason"] == "at_cost_cap"]
    assert len(told) == 1


def test_no_dearer_type_is_launched_when_ec2_is_out_of_the_wanted_one() -> None:
    """Room for three t3.small more or one t3.large: with t3.small gone, one worker at a time may be large."""
    cluster = play(Cost(max_usd_per_hour=0.13), types=("t3.small", "t3.large"))
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone)
    for _ in range(10):
        cluster.sweep()
        cluster.run(60)
        assert sum(usd(cluster)) <= 0.13
    assert sorted(usd(cluster)) == [SMALL, SMALL, 0.0832], (
        "what is left pays for one, and none of four may cost so much"
    )


def usd(cluster: SimCluster) -> list[float]:
    prices = {"t3.small": SMALL, "t3.large": 0.0832}
    workers = set(cluster.workers())
    return [prices[i.instance_type] for i in cluster.ec2.instances.values() if i.instance_id in workers]


def test_a_worker_of_unknown_price_stops_growth_until_somebody_says_what_it_costs() -> None:
    cluster = play(Cost(max_usd_per_hour=9.0), unlisted=1)
    document = cluster.sweep()
    assert (document["action"], document["reason"]) == ("held_back", "at_cost_cap")
    assert document["cost"]["unknown_workers"] == 1
    assert "nobody knows what static-1 costs" in document["message"]
    assert cluster.wires.totals["ec2", "launch"] == 0
    said = play(Cost(max_usd_per_hour=9.0, other_usd_per_hour=0.02), unlisted=1)
    assert said.sweep()["action"] == "scale_up"


def test_without_a_cap_an_unknown_price_stops_nothing() -> None:
    cluster = play(Cost(baseline_workers=5), unlisted=1)
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert document["cost"]["baseline_usd_per_hour"] == pytest.approx(5 * SMALL)
    assert document["cost"]["saved_usd_per_hour"] is None, "what is spent is not known to the last worker"


def test_what_is_saved_stands_in_the_document() -> None:
    cluster = play(Cost(baseline_workers=5), replicas=2)
    assert cluster.sweep()["cost"]["saved_usd_per_hour"] == pytest.approx(3 * SMALL)


def test_nothing_is_said_of_a_cost_that_nobody_looked_at() -> None:
    cluster = SimCluster(Policy(version=1, mode=Mode.PAUSED))
    assert cluster.sweep()["cost"] is None

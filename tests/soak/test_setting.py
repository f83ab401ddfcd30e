"""What the soak sets up, and says by itself of what has to hold, is right: else it judges by a wrong measure."""

import pytest

from autoscaler.decide.demand.schedules import spans_of
from autoscaler.live_policy import changed_policy
from autoscaler.model import SPOT, PolicyOverride
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.simulator.cluster import START_S
from autoscaler.simulator.soak.clockwork import CHANGES, limits_of
from autoscaler.simulator.soak.live import Offer, Parameter
from autoscaler.simulator.soak.run import Run
from autoscaler.windows import Window

SEEDS = range(1, 61)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [Run(seed, hours=3.0) for seed in SEEDS]


def made_of(deployed: Policy, text: str) -> Policy | None:
    try:
        return changed_policy(deployed, text)
    except PolicyError:
        return None


def test_a_share_of_the_seeds_plays_each_part(runs: list[Run]) -> None:
    several = [run.policy.pools for run in runs if len(run.policy.pools) > 1]
    assert len(several) > 10
    named = {pool.name for pools in several for pool in pools}
    assert named == {"general", "web", "batch", "graviton", "spot", "any"}
    assert any(pool.min for pools in several for pool in pools)
    assert any(pool.max is not None for pools in several for pool in pools)
    assert any(pool.market == SPOT for pools in several for pool in pools[1:])
    assert sum(run.policy.scale_down.replace_when_saves is not None for run in runs) > 5
    assert sum(bool(run.offers) for run in runs) > 10
    assert sum(run.began_s != START_S for run in runs) > 2
    zones = {"zone outage", "Spot storm", "Spot drought"}
    struck = {e.kind for run in runs if len(run.policy.pools) > 1 for e in run.episodes}
    assert zones <= struck


def test_what_a_live_change_makes_of_the_policy_is_what_it_is_held_to(runs: list[Run]) -> None:
    kinds = set()
    for run in runs:
        for offer in run.offers:
            kinds.add("gone" if offer.text is None else "holds" if offer.policy is not None else "refused")
            if offer.text is not None:
                assert made_of(run.policy, offer.text) == offer.policy, f"seed {run.seed}: {offer.text}"
    assert kinds == {"gone", "holds", "refused"}


def test_the_parameter_counts_its_versions_and_begins_anew_when_it_was_gone() -> None:
    deployed = Policy(version=1)
    parameter = Parameter(deployed)
    assert parameter.is_seen(None)
    for at_s, text in ((10, "a"), (20, "b"), (30, None), (40, "c")):
        parameter.write(Offer(0, at_s, text, deployed), at_s)
    assert (parameter.read().version, parameter.read().text) == (1, "c")
    assert [parameter.order_of(1, 10), parameter.order_of(2, 20), parameter.order_of(1, 40)] == [1, 2, 4]
    assert (parameter.deleted_after(2), parameter.deleted_after(3)) == (3, None)
    assert not parameter.is_seen(None)
    assert not parameter.is_seen(PolicyOverride(version=2, text="b", changed_at_s=20))
    assert parameter.is_seen(PolicyOverride(version=1, text="c", changed_at_s=40))


@pytest.mark.parametrize("day_s", CHANGES)
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "UTC"])
@pytest.mark.parametrize(
    ("begins", "ends"), [("00:40", "01:00"), ("01:30", "02:30"), ("02:10", "02:40"), ("01:10", "03:20")]
)
def test_a_window_holds_by_the_wall_clock_where_clocks_are_changed(
    day_s: float, zone: str, begins: str, ends: str
) -> None:
    """Two ways to tell: by the spans of the core, and by every minute that a clock shows."""
    window = Window(name="night", time_zone=zone, from_time=begins, to_time=ends, min=5)
    policy = Policy(version=1, schedules=(window,))
    spans = list(spans_of(window, int(day_s) - 86_400, int(day_s) + 86_400))
    for minute in range(int(day_s) // 60 - 120, int(day_s) // 60 + 300):
        holds = any(begin_s <= minute * 60 < end_s for begin_s, end_s in spans)
        assert (limits_of(policy, minute * 60, minute * 60).least_min == 5) is holds, minute

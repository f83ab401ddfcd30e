"""What operators change about the deployed policy: what may be changed, what is taken up, and what holds then."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml import safe_dump

from autoscaler.live_policy import LOCKED, changed_policy, in_force, policy_told, taken_up
from autoscaler.model import OfferedPolicy, PolicyOverride, State
from autoscaler.policy import Policy, Workers, policy_hash
from autoscaler.policy_text import PolicyError, parse_policy
from tests.test_policy_extremes import WHOLE

DEPLOYED = parse_policy("version: 1\nworkers: {min: 3, max: 20}\nscale_up: {max_step: 4}")


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("", "version: 1\nworkers: {min: 3, max: 20}\nscale_up: {max_step: 4}"),
        ("# nothing\n", "version: 1\nworkers: {min: 3, max: 20}\nscale_up: {max_step: 4}"),
        ("workers: {max: 30}", "version: 1\nworkers: {min: 3, max: 30}\nscale_up: {max_step: 4}"),
        ("version: 1\nworkers: {max: null}", "version: 1\nworkers: {min: 3}\nscale_up: {max_step: 4}"),
        ("scale_up: null", "version: 1\nworkers: {min: 3, max: 20}"),
        (
            "schedules: [{name: sale, time_zone: UTC, from: 09:00, to: 21:00, min: 8}]\nscale_down: {window_s: 20m}",
            "version: 1\nworkers: {min: 3, max: 20}\nscale_up: {max_step: 4}\nscale_down: {window_s: 1200}\n"
            "schedules: [{name: sale, time_zone: UTC, from: 09:00, to: 21:00, min: 8}]",
        ),
    ],
)
def test_the_changes_lie_over_the_deployed_policy(text: str, same_as: str) -> None:
    changed = changed_policy(DEPLOYED, text)
    assert changed == parse_policy(same_as)
    assert policy_hash(changed) == policy_hash(parse_policy(same_as))


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_no_change_is_no_change_whatever_was_deployed(whole: dict[str, object]) -> None:
    deployed = parse_policy(safe_dump({"version": 1, **whole}))
    assert changed_policy(deployed, "") == deployed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers: {max: 2}", "workers.min is 3 and workers.max is 2"),
        ("workers: {max: ten}\nscale_up: {cpu_above: 70}", "2 things are wrong: (1) workers.max is 'ten'"),
        ("workers: {instance_types: [x9.huge]}", "names x9.huge, whose size is not in the catalogue"),
        ("workers: {instance_types: [t4g.small]}", "names t4g.small, which is arm64, and the workers' image is"),
        ("[a]", "The changes hold no fields"),
        ("a: [", "The changes are not valid YAML"),
        ("x" * 4097, "4097 characters, and a parameter may have 4096"),
        ("workers: null", "(1) workers.join_timeout_s cannot be changed live: the workers' user data knows it"),
        *[(f"{{{path.replace('.', ': {')}: 1{'}' * (path.count('.') + 1)}", f"{path} cannot be") for path in LOCKED],
        ("metrics: {utilisation_interval_s: 30}", "metrics cannot be changed live: Prometheus' rules and scrapes"),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_live_is_refused_with_all_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        changed_policy(DEPLOYED, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


POOLS = parse_policy(
    "version: 1\nworkers:\n  pools:\n    - {name: general, instance_types: [m7g.large, m7i.large]}\n"
    "    - {name: gpu, instance_types: [g4dn.xlarge]}\n"
    "    - {name: any, requirements: {cpu: 64, memory: 64 GiB, generation: 9}}\n"
    "  sizes: {m9g.16xlarge: {cpu_millicores: 64 CPU, memory_mib: 64GiB}}\n"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[
            (f"workers: {{{name}: {value}}}", f"workers.{name} cannot be changed live: each of the deployed workers.")
            for name, value in (
                ("instance_types", "[m7g.xlarge]"),
                ("market", "spot"),
                ("on_demand_base", "2"),
                ("on_demand_share", "50%"),
            )
        ],
        ("workers: null", "(2) workers.pools cannot be changed live: each pool has a launch template of its own"),
        ("workers: {pools: null}", "workers.pools cannot be changed live: each pool has a launch template of its own"),
        (
            "workers: {sizes: {m9i.16xlarge: {cpu_millicores: 64 CPU, memory_mib: 64GiB}}}",
            "workers.pools.any names m9i.16xlarge, which is amd64, and the workers' image is for arm64: name types of",
        ),
    ],
)
def test_of_a_fleet_with_pools_nothing_is_taken_for_changed_that_the_pools_state(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        changed_policy(POOLS, text)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["workers: {min: 3, market: null}", "cost: {usd_per_hour: {m7i.large: 0.01}}"])
def test_of_a_fleet_with_pools_the_rest_can_be_changed(text: str) -> None:
    assert [pool.archs for pool in changed_policy(POOLS, text).pools] == [pool.archs for pool in POOLS.pools]


def test_the_docs_name_what_is_refused() -> None:
    page = (Path(__file__).parent.parent / "docs" / "policy" / "live.md").read_text(encoding="utf-8")
    for path in LOCKED:
        assert f"| `{path}` |" in page or f"| `{path}.*` |" in page or f"without `{path}`" in page, path


GOOD = OfferedPolicy(text="workers: {max: 30}", version=7, changed_at_s=100)
BAD = OfferedPolicy(text="workers: {max: 1}", version=8, changed_at_s=200)
BETTER = OfferedPolicy(text="workers: {max: 31}", version=9, changed_at_s=300)
GONE = OfferedPolicy(text=None)


def after(*offered: OfferedPolicy) -> State:
    state = State()
    for one in offered:
        state = taken_up(state, one, DEPLOYED)
    return state


@pytest.mark.parametrize(
    ("offered", "most", "version", "problem"),
    [
        ((), 20, None, ""),
        ((GOOD,), 30, 7, ""),
        ((GOOD, GOOD), 30, 7, ""),
        (
            (GOOD, BAD),
            30,
            7,
            "version 8 of the policy's parameter is refused, and version 7 stays: The changes make no",
        ),
        ((BAD,), 20, None, "version 8 of the policy's parameter is refused, and the deployed policy holds alone"),
        ((BAD, GOOD), 20, None, "version 8"),
        ((GOOD, BAD, BETTER), 31, 9, ""),
        ((BETTER, BAD, GOOD), 31, 9, ""),
        ((GOOD, GONE), 20, None, ""),
        ((GOOD, GONE, OfferedPolicy(text="workers: {max: 40}", version=1, changed_at_s=400)), 40, 1, ""),
    ],
)
def test_the_last_good_version_holds_and_what_is_older_comes_too_late(
    offered: tuple[OfferedPolicy, ...], most: int, version: int | None, problem: str
) -> None:
    holds = in_force(DEPLOYED, after(*offered).policy_override)
    assert (holds.policy.workers.max, holds.version) == (most, version)
    assert holds.problem.startswith(problem)
    assert bool(holds.problem) == bool(problem)


OFFERED = st.builds(
    OfferedPolicy,
    text=st.sampled_from(["workers: {max: 30}", "workers: {max: 1}", "scale_up: {max_step: 2}", "nonsense"]),
    version=st.integers(1, 6),
    changed_at_s=st.just(5),
)


@given(st.lists(OFFERED, max_size=6, unique_by=lambda offered: offered.version), st.randoms(use_true_random=False))
def test_events_in_any_order_and_twice_end_with_the_newest_word(offered: list[OfferedPolicy], dice: object) -> None:
    """What holds at the end is valid, and no version that is newer than the one seen last was forgotten."""
    shuffled = [*offered, *offered]
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    override = after(*shuffled).policy_override
    if not offered:
        assert override is None
        return
    assert override is not None
    newest = max(offered, key=lambda one: one.version)
    assert override.seen_version == newest.version
    valid = "30" in str(newest.text) or "step" in str(newest.text)
    assert (override.version == newest.version and not override.invalid) is valid
    in_force(DEPLOYED, override)


def test_a_deployment_that_the_changes_do_not_fit_holds_alone() -> None:
    override = PolicyOverride(version=7, text="workers: {min: 8}", changed_at_s=1)
    small = Policy(version=1, workers=Workers(max=5))
    assert in_force(DEPLOYED, override).policy.workers.min == 8
    holds = in_force(small, override)
    assert (holds.policy, holds.version) == (small, None)
    assert (
        "version 7 of the policy's parameter does not fit the policy that is deployed, which holds alone"
        in holds.problem
    )
    assert "workers.min is 8 and workers.max is 5" in holds.problem


def test_what_people_are_told_of_each_version_once() -> None:
    assert policy_told(after(GOOD), GOOD).done == ("version 7 of the policy's parameter holds",)
    refused = policy_told(after(GOOD, BAD), BAD)
    assert (len(refused.failures), refused.fresh_failure) == (1, True)
    assert policy_told(after(GOOD, BAD), GOOD).failures == (), "an older event says nothing of the newer version"
    assert "is gone" in policy_told(after(GOOD, GONE), GONE).done[0]

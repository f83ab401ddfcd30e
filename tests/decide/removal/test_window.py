"""What the shrink window says of requests: who only looks empty, and whose pods fit elsewhere only just now."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import Decision, Node, Resources, Snapshot, State
from autoscaler.policy import Policy, ScaleDown
from tests.decide.builders import MIB, NOW_S, Machine, decided, pod, policy, snapshot, use, worker

FITS = policy(low=1, down=ScaleDown(when="fits"))
LOW_USE = policy(low=1, down=ScaleDown(when="low_use"))


def held(cpu: int, *, pods: int = 1, memory_mib: int = 0) -> dict[str, Any]:
    """What the pods of a worker asked for at most."""
    return {"requested_most": Resources(cpu_millicores=cpu, memory_bytes=memory_mib * MIB, pods=pods)}


def going(decision: Decision) -> list[str]:
    return [removal.instance_id for removal in decision.state.removals]


def reasons(decision: Decision) -> dict[str, str]:
    return {blocked.subject: blocked.reason for blocked in decision.blocked}


def without_window(seen: Snapshot, name: str) -> Snapshot:
    """The window of that Node has a gap."""

    def changed(node: Node) -> Node:
        return msgspec.structs.replace(node, requested_most=None) if node.name == name else node

    return msgspec.structs.replace(seen, nodes=tuple(changed(node) for node in seen.nodes))


# -------------------------------------------------------------------------------------------------------- looks empty


def test_workers_that_were_empty_all_through_leave_together_before_one_that_only_looks_empty() -> None:
    machines = [worker(1, **held(500)), worker(2), worker(3), worker(4)]
    assert going(decided(snapshot(machines), its_policy=LOW_USE)) == ["i-002", "i-003", "i-004"]


@pytest.mark.parametrize("chosen", [LOW_USE, FITS], ids=["low_use", "fits"])
def test_one_that_only_looks_empty_goes_alone_if_what_left_it_would_fit_on_the_others(chosen: Policy) -> None:
    """900m left it; 1,000m are free on the other."""
    machines = [worker(1, **held(900)), worker(2, pods=[pod("p", cpu=900)])]
    assert going(decided(snapshot(machines), its_policy=chosen)) == ["i-001"]
    three = [worker(1, **held(100)), worker(2, **held(100)), worker(3, pods=[pod("p", cpu=900)])]
    assert going(decided(snapshot(three), its_policy=chosen)) == ["i-001"], "one at a time"


@pytest.mark.parametrize("chosen", [LOW_USE, FITS], ids=["low_use", "fits"])
@pytest.mark.parametrize(
    ("left", "words"),
    [
        pytest.param(held(1001), "1001m CPU, 0 MiB and 1 pods", id="CPU"),
        pytest.param(held(0, memory_mib=1401), "0m CPU, 1401 MiB and 1 pods", id="memory"),
        pytest.param(held(0, pods=110), "0m CPU, 0 MiB and 110 pods", id="as many pods"),
    ],
)
def test_one_that_only_looks_empty_stays_where_what_left_it_would_not_fit(
    left: dict[str, Any], words: str, chosen: Policy
) -> None:
    """A tainted worker is no place."""
    machines = [worker(1, **left), worker(2, pods=[pod("p", cpu=900)]), worker(3, tainted=True)]
    decision = decided(snapshot(machines), its_policy=chosen)
    assert going(decision) == []
    assert reasons(decision)["worker-i-001"] == (
        f"needed: in the last 600 s pods on it asked for up to {words}, and 1000m CPU, 1400 MiB and 109 pods is free "
        "on the others"
    )


def test_what_left_counts_beside_what_is_there() -> None:
    """500m run there and 600m left: 1,100m do not fit beside 900m."""
    machines = [worker(1, pods=[pod("a", cpu=500)], **held(1100)), worker(2, pods=[pod("b", cpu=900)])]
    decision = decided(snapshot(machines), its_policy=LOW_USE)
    assert going(decision) == []
    assert reasons(decision)["worker-i-001"].startswith("needed: in the last 600 s pods on it asked for up to 1100m")
    assert going(decided(snapshot([machines[0], worker(2, pods=[pod("b", cpu=800)])]), its_policy=LOW_USE)) == ["i-001"]


@pytest.mark.parametrize(("at_once", "stays"), [(0, False), (1900, False), (1901, True)])
def test_what_left_with_workers_that_are_gone_keeps_its_room_too(at_once: int, stays: bool) -> None:
    """These held 1,800m at their fullest, and 1,000m are free on the one that would stay."""
    machines = [worker(1, pods=[pod("a", cpu=500)], **held(900)), worker(2, pods=[pod("p", cpu=900)])]
    together = Resources(cpu_millicores=at_once, memory_bytes=200 * MIB)
    seen = msgspec.structs.replace(snapshot(machines), requested_at_once=together)
    decision = decided(seen, its_policy=FITS)
    assert going(decision) == ([] if stays else ["i-001"])
    if stays:
        assert reasons(decision)["worker-i-001"] == (
            "needed: in the last 600 s pods on it and on workers that are gone asked for up to 1001m CPU, 100 MiB and "
            "1 pods, and 1000m CPU, 1400 MiB and 109 pods is free on the others"
        )


def test_who_runs_what_those_that_are_gone_ran_is_not_asked_for_it_twice() -> None:
    """All of it is on the workers that there are, and a server's pods are none of theirs."""
    machines = [worker(1, pods=[pod("a", cpu=500)]), worker(2, pods=[pod("p", cpu=900)])]
    together = Resources(cpu_millicores=1400, memory_bytes=200 * MIB)
    assert going(decided(msgspec.structs.replace(snapshot(machines), requested_at_once=together), its_policy=FITS))
    server = worker(9, pods=[pod("s", cpu=900)], control_plane=True)
    seen = msgspec.structs.replace(snapshot([*machines, server]), requested_at_once=together)
    assert going(decided(seen, its_policy=FITS)) == ["i-001"]


# ---------------------------------------------------------------------------------------------------------- looks free


def test_room_that_was_taken_in_the_window_is_none() -> None:
    """1,400m are free on the other now, and 400m when it was at its fullest."""
    machines = [worker(1, pods=[pod("a", cpu=500)]), worker(2, pods=[pod("b", cpu=500)], **held(1500))]
    decision = decided(snapshot(machines), its_policy=LOW_USE)
    assert going(decision) == []
    assert reasons(decision)["worker-i-001"] == "no_room: shop/a fits on no other worker (NodeResourcesFit on 1)"
    calmer = [machines[0], worker(2, pods=[pod("b", cpu=500)], **held(1400))]
    assert going(decided(snapshot(calmer), its_policy=LOW_USE)) == ["i-001"]


def test_pods_moved_a_moment_ago_are_where_they_are_now() -> None:
    """What a removal moves raises the others' present requests above their window: it is counted once."""
    machines = [worker(n, pods=[pod(f"p{n}", cpu=900)], **held(450)) for n in (1, 2)]
    assert going(decided(snapshot(machines), its_policy=LOW_USE)) == ["i-001"]


# ------------------------------------------------------------------------------------------------------------- unknown


@pytest.mark.parametrize("chosen", [LOW_USE, FITS], ids=["low_use", "fits"])
@pytest.mark.parametrize("name", ["worker-i-001", "worker-i-002"])
def test_a_window_with_a_gap_lets_nobody_go(name: str, chosen: Policy) -> None:
    seen = without_window(snapshot([worker(1), worker(2), worker(3)]), name)
    decision = decided(seen, its_policy=chosen)
    assert (decision.reason, going(decision)) == ("window_unknown", [])
    assert decision.message == (
        f"Nothing to do: it is not known what pods asked of {name} for all of the last 600 s: where it never is, "
        "load the present rules (make rules, docs/metrics.md)."
    )


def test_all_whose_window_has_a_gap_are_counted() -> None:
    seen = snapshot([worker(1), worker(2), worker(3)])
    for number in (1, 2, 3):
        seen = without_window(seen, f"worker-i-00{number}")
    assert "what pods asked of worker-i-001 and 2 more for all of" in decided(seen, its_policy=FITS).message


def test_a_gap_of_one_that_is_neither_place_nor_candidate_holds_nobody() -> None:
    seen = without_window(snapshot([worker(1), worker(2), worker(3, cordoned=True)]), "worker-i-003")
    assert going(decided(seen, its_policy=policy(low=2))) == ["i-001"]


def test_above_max_nobody_waits_for_the_window() -> None:
    machines = [worker(n, **held(1900)) for n in range(1, 5)]
    seen = without_window(snapshot(machines, utilisation=use(cpu=0.5)), "worker-i-004")
    for chosen in (policy(high=3), policy(high=3, down=ScaleDown(when="fits"))):
        decision = decided(seen, its_policy=chosen)
        assert (decision.reason, going(decision)) == ("above_max", ["i-001"])


# ---------------------------------------------------------------------------------------------------------------- fits

SLACK = [worker(n, pods=[pod(f"p{n}", cpu=400)]) for n in range(1, 5)]
"""Four workers whose pods fit on two of them."""


@pytest.mark.parametrize(
    ("cpu", "memory", "reason"),
    [
        pytest.param(0.44, 0.1, "consolidation", id="4 x 0.44 / 3 = 59 %"),
        pytest.param(0.46, 0.1, "no_candidate", id="4 x 0.46 / 3 = 61 % of CPU, and 60 % is allowed"),
        pytest.param(0.1, 0.52, "consolidation", id="4 x 0.52 / 3 = 69 %"),
        pytest.param(0.1, 0.53, "no_candidate", id="4 x 0.53 / 3 = 71 % of memory, and 70 % is allowed"),
    ],
)
def test_use_need_not_be_low_but_has_to_stay_below_the_grow_targets(cpu: float, memory: float, reason: str) -> None:
    seen = snapshot(SLACK, utilisation=use(cpu=cpu, memory=memory))
    decision = decided(seen, its_policy=FITS)
    assert (decision.reason, going(decision)) == (reason, ["i-001"] if reason == "consolidation" else [])
    if cpu > 0.3:
        assert decided(seen, its_policy=LOW_USE).reason == "steady"


@pytest.mark.parametrize("utilisation", [use(cpu=None), use(memory=None)])
def test_use_that_is_not_known_lets_nobody_go(utilisation: Any) -> None:
    assert going(decided(snapshot(SLACK, utilisation=utilisation), its_policy=FITS)) == []


@pytest.mark.parametrize(
    ("oldest", "reason"),
    [
        pytest.param(worker(1, pods=[pod("k", cpu=10, do_not_evict=True)]), "do_not_evict", id="do-not-evict"),
        pytest.param(worker(1, local_volumes=1), "local_volume", id="a local volume"),
        pytest.param(worker(1, of={"launched_at_s": NOW_S - 10}), "young", id="young"),
        pytest.param(worker(1, cordoned=True), "not_schedulable", id="cordoned"),
    ],
)
def test_what_keeps_a_worker_keeps_it_here_too(oldest: Machine, reason: str) -> None:
    decision = decided(snapshot([oldest, *SLACK[1:]], utilisation=use(cpu=0.35)), its_policy=FITS)
    assert going(decision) == ["i-002"]
    assert reasons(decision)["worker-i-001"].partition(":")[0] == reason


def test_the_minimum_holds() -> None:
    assert decided(snapshot(SLACK), its_policy=policy(low=4, down=ScaleDown(when="fits"))).reason == "at_min"


def test_after_the_last_one_left_use_is_measured_first() -> None:
    """The window's highest use is of a fleet that was larger: it would be taken for the use of this one."""
    seen = snapshot(SLACK, utilisation=use(cpu=0.35))
    assert decided(seen, State(last_scale_down_s=NOW_S - 89), FITS).reason == "cooling_down"
    assert going(decided(seen, State(last_scale_down_s=NOW_S - 90), FITS)) == ["i-001"]

"""How many leave by choice at once, and when nobody does."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from autoscaler.decide.removal.pace import at_once
from autoscaler.model import Decision, Notice, RemovalPhase, State
from autoscaler.model.rules import Budget
from autoscaler.policy import ScaleDown
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.windows import Blackout
from tests.decide.builders import NOW_S, Machine, decided, full, notice, pod, policy, removal, snapshot, use, worker
from tests.decide.demand.test_scheduling_rules import APP, rules, seen_with

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime.fromtimestamp(NOW_S, BERLIN)
"""Friday, 15 January 2027, 09:00."""
SALE = Blackout(name="sale", time_zone="Europe/Berlin", days=("fri",), from_time="08:00", to_time="20:00")
ALMOST_IDLE = [worker(n, pods=[pod(f"p{n}", cpu=100)]) for n in range(1, 7)]


def going(decision: Decision) -> list[str]:
    return [r.instance_id for r in decision.state.removals if r.operation_id.startswith("d1-")]


def reasons(decision: Decision) -> dict[str, str]:
    return {blocked.subject: blocked.reason for blocked in decision.blocked}


def look(machines: list[Machine], state: State | None = None, *, low: int = 1, high: int = 10, **down: Any) -> Decision:
    return decided(snapshot(machines), state, policy(low=low, high=high, down=ScaleDown(**down)))


# ------------------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize(
    ("budget", "ready", "count"),
    [
        (0, 10, 0),
        (1, 10, 1),
        (3, 10, 3),
        ("0%", 1000, 0),
        ("20%", 10, 2),
        ("20 %", 10, 2),
        ("20%", 14, 2),
        ("20%", 4, 1),
        ("1%", 0, 1),
        ("100%", 7, 7),
    ],
)
def test_a_share_is_rounded_down_but_to_no_less_than_one(budget: int | str, ready: int, count: int) -> None:
    assert at_once(policy(down=ScaleDown(budget=budget)), ready) == count


@pytest.mark.parametrize("budget", ["20%", "20 %"])
def test_a_share_is_written_as_any_other(budget: str) -> None:
    assert at_once(parse_policy(f"version: 1\nscale_down: {{budget: {budget}}}"), 10) == 2


@pytest.mark.parametrize("budget", ["101%", "20", "20  %", "%", "-1%", "2.5%"])
def test_what_is_no_share_is_refused_with_what_is_allowed(budget: str) -> None:
    with pytest.raises(PolicyError, match=r"scale_down.budget is '.*': give a number of workers, or a share from 0%"):
        parse_policy(f"version: 1\nscale_down: {{budget: '{budget}'}}")


@pytest.mark.parametrize(
    ("budget", "gone"), [(1, ["i-001"]), (2, ["i-001", "i-002"]), ("50%", ["i-001", "i-002", "i-003"])]
)
def test_as_many_as_the_budget_allows_leave_together(budget: int | str, gone: list[str]) -> None:
    assert sorted(going(look(ALMOST_IDLE, budget=budget))) == gone


def test_no_budget_goes_below_the_minimum() -> None:
    decision = look(ALMOST_IDLE, low=5, budget="100%")
    assert len(going(decision)) == 1
    assert "needed: 5 workers are wanted" in reasons(decision).values()


def test_those_that_leave_together_find_room_together() -> None:
    """1,000m are free on the one that stays: for the pods of one of them, and not of both."""
    machines = [worker(1, pods=[pod("a")]), worker(2, pods=[pod("b")]), worker(3, pods=[pod("c")])]
    decision = look(machines, budget=2)
    assert going(decision) == ["i-001"]
    assert reasons(decision)["worker-i-002"].startswith("no_room: shop/b may find no place")


def test_one_that_runs_nothing_now_takes_no_room_away_that_another_needs() -> None:
    """The pods of the first go to the second."""
    once = worker(2, requested_most=pod("x", cpu=100).requests)
    machines = [worker(1, pods=[pod("a")]), once, full(3)]
    assert going(look(machines, budget=2)) == ["i-001"]
    machines = [worker(1, pods=[pod("a", cpu=100)]), once, full(3), worker(4, pods=[pod("d", cpu=1700)])]
    assert sorted(going(look(machines, budget=2))) == ["i-001", "i-002"]


def test_they_do_not_leave_together_where_one_disruption_budget_covers_both_or_none_is_known() -> None:
    def gone(**told: Any) -> list[str]:
        seen = seen_with(ALMOST_IDLE, [], rules(), **told)
        decision = decided(seen, None, policy(low=1, down=ScaleDown(budget=2)))
        why.append(reasons(decision).get("worker-i-002", ""))
        return sorted(going(decision))

    why: list[str] = []
    shop, other = (Budget(namespace=name, name="web", selector=APP, allowed=5) for name in ("shop", "other"))
    assert gone() == gone(budgets=(other,)) == ["i-001", "i-002"]
    assert gone(budgets=(shop,)) == gone(incomplete=("budgets",)) == ["i-001"]
    assert why[2:] == [
        "budget: shop/web covers pods of another that leaves, too",
        "budget: which disruption budgets there are is not known, so it does not leave with others",
    ]


def test_what_left_all_of_them_has_to_find_its_room_too() -> None:
    """Each held 500m more a while ago; 900m are free on the one that stays."""
    held = pod("x", cpu=600).requests
    machines = [worker(n, pods=[pod(f"p{n}", cpu=100)], requested_most=held) for n in (1, 2)]
    machines.append(worker(3, pods=[pod("c", cpu=1000)]))
    decision = look(machines, budget=2)
    assert going(decision) == ["i-001"]
    assert reasons(decision)["worker-i-002"] == (
        "needed: in the last 600 s pods on these asked for up to 1200m CPU, 200 MiB and 2 pods, and "
        "900m CPU, 1400 MiB and 109 pods is free on the others"
    )


def test_use_is_judged_without_all_of_them() -> None:
    """27 % of six workers are 54 % of three, and more than 60 % of two."""
    decision = decided(
        snapshot(ALMOST_IDLE, utilisation=use(cpu=0.27)), None, policy(low=1, down=ScaleDown(budget="100%"))
    )
    assert len(going(decision)) == 3


def test_empty_ones_have_their_own_limit_and_leave_without_the_others() -> None:
    machines = [*(worker(n) for n in range(1, 4)), *(worker(n, pods=[pod(f"p{n}", cpu=10)]) for n in range(4, 7))]
    assert sorted(going(look(machines, budget=2, max_empty_step=5))) == ["i-001", "i-002", "i-003"]
    assert sorted(going(look(machines, budget=5, max_empty_step=2))) == ["i-001", "i-002"]


def test_a_budget_of_nothing_lets_only_empty_ones_leave() -> None:
    assert going(look([*ALMOST_IDLE[:2], worker(9)], budget=0)) == ["i-009"]
    decision = look(ALMOST_IDLE, budget="0%")
    assert going(decision) == []
    assert reasons(decision)["worker-i-001"] == "budget: scale_down.budget lets only empty workers leave"


def test_the_next_ones_wait_for_the_end_of_those_that_leave() -> None:
    decision = look(ALMOST_IDLE, State(fence=9, removals=(removal(1),)), budget=3)
    assert (decision.reason, going(decision)) == ("removal_under_way", [])


# ---------------------------------------------------------------------------------------------------------- blackouts


def test_nobody_leaves_by_choice_in_a_blackout_and_its_end_is_told() -> None:
    decision = look(ALMOST_IDLE, blackouts=(SALE,))
    assert (decision.reason, going(decision)) == ("blackout", [])
    assert decision.message == (
        "Nothing to do: the blackout sale holds until 2027-01-15 20:00 (Europe/Berlin), and nobody leaves by choice "
        "before (scale_down.blackouts)."
    )


def test_too_many_stay_too() -> None:
    """They cost money; what they run is worth more now, as the operator said."""
    assert look(ALMOST_IDLE, high=4, blackouts=(SALE,)).reason == "blackout"


@pytest.mark.parametrize(
    ("begins", "ends", "days", "holds"),
    [
        ("08:00", "20:00", ("fri",), True),
        ("08:00", "20:00", ("thu", "sat"), False),
        ("09:00", "20:00", ("fri",), True),
        ("09:01", "20:00", ("fri",), False),
        ("08:00", "09:00", ("fri",), False),
        ("22:00", "09:01", ("thu",), True),
        (None, None, ("fri",), True),
    ],
)
def test_it_holds_from_its_first_minute_to_its_last(
    begins: str | None, ends: str | None, days: tuple[str, ...], holds: bool
) -> None:
    assert (NOW.hour, NOW.minute, NOW.weekday()) == (9, 0, 4)
    window = Blackout(name="sale", time_zone="Europe/Berlin", days=days, from_time=begins, to_time=ends)
    assert (look(ALMOST_IDLE, blackouts=(window,)).reason == "blackout") is holds


def test_of_several_the_one_that_ends_last_is_told() -> None:
    later = Blackout(name="freeze", time_zone="UTC", days=("fri",))
    two = look(ALMOST_IDLE, blackouts=(later, SALE))
    assert "the blackout freeze holds until 2027-01-16 00:00 (UTC)" in two.message
    always = Blackout(name="always", time_zone="UTC")
    assert "the blackout always has no end" in look(ALMOST_IDLE, blackouts=(SALE, always, later)).message


def test_what_is_no_choice_goes_on() -> None:
    """EC2's notice, its retirement, and what was begun before."""
    chosen = policy(low=1, down=ScaleDown(blackouts=(SALE,)))

    def look_at(state: State) -> list[tuple[str, RemovalPhase]]:
        return [(r.instance_id, r.phase) for r in decided(snapshot(ALMOST_IDLE), state, chosen).state.removals]

    def told(about: Notice) -> State:
        return State(fence=9, notices=(about,))

    assert look_at(told(notice(3))) == [("i-003", RemovalPhase.DRAINING)]
    assert look_at(told(notice(3, "retirement", due_at_s=NOW_S + 86_400))) == [("i-003", RemovalPhase.DRAINING)]
    assert look_at(State(fence=9, removals=(removal(1),))) == [("i-001", RemovalPhase.DRAINING)]


@pytest.mark.parametrize(
    ("blackout", "sentence"),
    [
        ("name: a, time_zone: Mars/Base", "scale_down.blackouts.a: the time_zone Mars/Base is unknown"),
        ("name: a, time_zone: UTC, from: 9:00, to: 10:00", "scale_down.blackouts.a: from is '9:00'"),
        ("name: a, time_zone: UTC}, {name: a, time_zone: UTC", "scale_down.blackouts names a twice"),
        (
            "name: a, time_zone: UTC, min: 3",
            "scale_down.blackouts.a.min is an unknown field: scale_down.blackouts.a has name, time_zone, days",
        ),
    ],
)
def test_a_blackout_that_is_none_is_refused_with_a_sentence(blackout: str, sentence: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(f"version: 1\nscale_down: {{blackouts: [{{{blackout}}}]}}")
    assert sentence in str(refused.value)

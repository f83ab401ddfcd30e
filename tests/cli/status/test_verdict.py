"""Whether it is alive: the sweep says it, and what is not known is no sign of life."""

from typing import Any

import pytest

from autoscaler.cli.status.looks import Looks, Seen
from autoscaler.cli.status.verdict import DEFAULT_RATE_S, WATCHDOG_WITHIN_S, Health, rate_s, verdict

NOW = 1_700_000_000


def seen(age_s: int | None = 30, **line: Any) -> Seen:
    return Seen(at_s=None if age_s is None else NOW - age_s, line={"mode": "active", "metrics_status": "ok"} | line)


def judged(
    sweep: Seen | None = None,
    *,
    alert: Seen | None = None,
    watchdog: Seen | None = None,
    rate: int | None = 120,
    stuck: tuple[str, ...] = (),
) -> tuple[Health, str]:
    looks = Looks(
        by_trigger={"sweep": sweep or seen(), "alert": alert or seen(90), "lifecycle": seen(None)},
        watchdog=watchdog or seen(40),
    )
    found = verdict(looks, now_s=NOW, sweep_rate_s=rate, stuck=stuck)
    assert found.is_alive == (found.health in {Health.ALIVE, Health.TROUBLED})
    assert found.said.startswith(f"{found.health}: ")
    return found.health, found.said


def test_it_is_alive_while_the_sweep_looks() -> None:
    assert judged() == (Health.ALIVE, "alive: the sweep looked 30s ago")
    assert judged(seen(360))[0] is Health.ALIVE, "three sweeps: the log may be late"
    assert judged(alert=seen(None))[0] is Health.ALIVE, "no alert, no look: nothing is wrong with that"


@pytest.mark.parametrize(
    ("sweep", "rate", "says"),
    [
        (seen(361), 120, "not alive: the last sweep looked 6m1s ago, and one is due every 2m"),
        (seen(3 * DEFAULT_RATE_S + 1), None, "not alive: the last sweep looked 15m1s ago, and how often one is due"),
        (seen(None), 120, "not alive: the sweep has not looked for 2d"),
        (seen(20, reason="failed", message="could not read\n the state"), 120,
         "not alive: the last sweep failed 20s ago: could not read the state"),
    ],
)  # fmt: skip
def test_a_sweep_that_is_late_or_fails_is_no_life(sweep: Seen, rate: int | None, says: str) -> None:
    health, said = judged(sweep, rate=rate)
    assert health is Health.DEAD
    assert said.startswith(says)


def test_what_cannot_be_read_is_not_known() -> None:
    refused = "AWS refused to read the log x: AccessDeniedException: no"
    assert judged(Seen(unknown=refused)) == (Health.UNKNOWN, f"not known: {refused}")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"watchdog": seen(WATCHDOG_WITHIN_S + 1)}, "the last Watchdog alert came 10m1s ago: alerts do not reach it"),
        ({"watchdog": Seen()}, "no Watchdog alert came for 2d: alerts do not reach it"),
        ({"watchdog": Seen(unknown="denied")}, "whether alerts arrive is not known (denied)"),
        ({"alert": seen(60, reason="failed")}, "the last alert's look failed 1m ago"),
        ({"sweep": seen(mode="paused")}, "it is paused: nothing is looked at"),
        ({"sweep": seen(mode="observe")}, "it only observes: nothing is done"),
        ({"sweep": seen(metrics_status="partial", metrics_problems=["node-exporter is missing"])},
         "metrics are partial (node-exporter is missing)"),
        ({"sweep": seen(action="refused", reason="at_max", message="Full.")}, "it refuses (at_max): Full"),
        ({"sweep": seen(failures=["could not terminate i-1."])}, "in the last look could not terminate i-1"),
        ({"sweep": seen(policy_problem="version 3 is refused.")}, "the policy: version 3 is refused"),
        ({"stuck": ("removal op2",)}, "removal op2 is stuck"),
    ],
)  # fmt: skip
def test_trouble_comes_first_and_it_is_alive_all_the_same(given: dict[str, Any], says: str) -> None:
    health, said = judged(**given)
    assert health is Health.TROUBLED
    assert said.startswith(f"alive, with trouble: {says}; ")


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("rate(2 minutes)", 120),
        ("rate(1 hour)", 3600),
        ("rate(1 day)", 86_400),
        ("cron(0 * * * ? *)", None),
        ("", None),
    ],
)
def test_rates(expression: str, seconds: int | None) -> None:
    assert rate_s(expression) == seconds

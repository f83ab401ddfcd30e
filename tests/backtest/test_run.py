"""Plays in several processes: the decisions are the core's, the same each time, and Ctrl-C keeps what was played."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from autoscaler.backtest import play as player
from autoscaler.backtest import replay
from autoscaler.backtest.demand import demand_of
from autoscaler.backtest.replay import plans_of
from autoscaler.backtest.results import Report, together
from autoscaler.backtest.run import backtest, play_plan
from autoscaler.backtest.words import differences, table
from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.policy import Policy, ScaleDown, Workers, policy_hash
from tests.backtest.recordings import group, recording
from tests.bench.plans import SHORT

ROOT = Path(__file__).resolve().parents[2]
POLICY = Policy(version=1)
EAGER = Policy(version=1, scale_down=ScaleDown(cool_down_s=60, window_s=180))
NOON = recording(group(*(4 if hour < 1 or hour > 2 else 14 for hour in range(5))), step_s=3600)


def test_every_step_that_is_passed_over_is_one_at_which_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The play from event to event, and the same tick by tick: the same figures, series and decisions."""
    by_event = play_plan(SHORT, POLICY)
    monkeypatch.setattr(player, "ticks_until", lambda _now_s, _due_s: 1)
    assert play_plan(SHORT, POLICY) == by_event
    figures, span = by_event
    assert figures.launches >= 3
    assert figures.looks > len(span.decisions) > 2


def test_policies_side_by_side_are_each_what_one_process_plays_alone() -> None:
    report = backtest([SHORT], {"present": POLICY, "eager": EAGER}, source="a test", notes=("n",), processes=2)
    present, eager = report.fleets
    assert (present.name, eager.name) == ("present", "eager")
    assert eager.policy_hash == policy_hash(EAGER)
    assert eager.figures.node_hours < present.figures.node_hours
    for fleet, policy in ((present, POLICY), (eager, EAGER)):
        figures, span = play_plan(SHORT, policy)
        assert (fleet.figures, fleet.spans) == (figures, (span,))
    assert not report.stopped
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_the_decisions_of_a_noon_that_was_recorded() -> None:
    (plan,) = plans_of(NOON, "it")
    figures, span = play_plan(plan, POLICY)
    actions = [one.action for one in span.decisions]
    assert {"scale_up", "scale_down"} <= set(actions)
    first = next(one for one in span.decisions if one.action == "scale_up")
    # At one o'clock it is 14 pods of half a core, and two workers hold six. A webhook comes within 12 s.
    assert 0 <= first.at_s - (span.begin_s + 3600) <= 60
    assert first.reason == "pods_unschedulable"
    fewest = max(count for _, count in demand_of(plan, POLICY).workers)
    assert fewest <= max(count for _, count in span.workers) <= fewest + 1
    assert figures.waiting_pod_minutes > 0
    held = itertools.pairwise([*span.workers, (span.end_s, 0)])
    area = sum(count * (end_s - at_s) for (at_s, count), (end_s, _) in held)
    assert figures.node_hours == pytest.approx(area / 3600, abs=0.05), "the picture shows what is paid for"


def test_a_fleet_at_its_limit_is_refused_once_and_not_at_every_look() -> None:
    small = Policy(version=1, workers=Workers(max=3))
    figures, span = play_plan(SHORT, small)
    held_back = [one for one in span.decisions if one.action == "held_back"]
    assert [one.reason for one in held_back] == ["at_max"]
    assert figures.waiting_pod_minutes > 10, "all the while pods waited"


def test_a_lead_is_played_and_not_counted() -> None:
    plan = msgspec.structs.replace(SHORT, lead_s=900.0)
    figures, span = play_plan(plan, POLICY)
    whole, _ = play_plan(SHORT, POLICY)
    assert figures.hours == pytest.approx(SHORT.hours - 0.25)
    assert span.begin_s == SHORT.begin_s + 900
    assert span.workers[0][0] == span.begin_s
    assert span.workers[0][1] > 2, "it has the workers that its lead had launched"
    assert figures.launches < whole.launches
    assert all(one.at_s >= span.begin_s for one in span.decisions)


def test_cut_into_pieces_it_comes_to_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seams: what the first piece leaves is not what the second begins with, worker for worker."""
    busy = recording(group(*(3 if hour % 3 < 2 else 9 for hour in range(9))), step_s=3600)
    (whole,) = (play_plan(plan, POLICY)[0] for plan in plans_of(busy, "it"))
    monkeypatch.setattr(replay, "WHOLE_S", 2 * 3600)
    monkeypatch.setattr(replay, "LEAD_S", 2 * 3600)
    plans = plans_of(busy, "it")
    assert len(plans) == 2
    pieces = together([play_plan(plan, POLICY)[0] for plan in plans])
    assert pieces.hours == whole.hours == 9.0
    assert pieces.node_hours == pytest.approx(whole.node_hours, rel=0.01)
    assert pieces.waiting_pod_minutes == pytest.approx(whole.waiting_pod_minutes, rel=0.1)


# -------------------------------------------------------------------------------------------------------- interruption


def test_an_interruption_keeps_what_was_played() -> None:
    asked = 0

    def show(share: float) -> None:
        nonlocal asked
        if share > 0.02 and not asked:
            asked += 1
            raise KeyboardInterrupt

    plan = WORKLOADS["ecommerce-day"]()
    report = backtest([plan], {"present": POLICY, "eager": EAGER}, source="x", notes=(), processes=2, show=show)
    assert asked
    assert report.stopped
    hours = [fleet.figures.hours for fleet in report.fleets]
    assert 0 < max(hours) < plan.hours
    for fleet in report.fleets:
        for span in fleet.spans:
            assert fleet.figures.hours == pytest.approx((span.end_s - span.begin_s) / 3600, abs=0.01)
            assert all(one.at_s <= span.end_s for one in span.decisions)
    assert table(report.fleets).count("\n") == 2
    if hours[0] != hours[1]:
        assert "cannot be held against each other" in next(differences(*report.fleets))


def test_ctrl_c_reaches_every_process_and_the_report_is_made_all_the_same(tmp_path: Path) -> None:
    script = tmp_path / "it.py"
    script.write_text(
        textwrap.dedent(
            """
            from autoscaler.backtest.run import backtest
            from autoscaler.backtest.workloads import WORKLOADS
            from autoscaler.policy import Policy

            if __name__ == "__main__":
                plan = WORKLOADS["ecommerce-day"]()
                report = backtest(
                    [plan], {"present": Policy(version=1)}, source="x", notes=(), processes=1,
                    show=lambda share: print("played" if share > 0 else "", flush=True),
                )
                print(report.stopped, 0 < report.fleets[0].figures.hours < plan.hours)
            """
        ),
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert any(line.strip() == "played" for line in running.stdout)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = running.communicate(timeout=120)
    assert out.splitlines()[-1] == "True True"
    assert (running.returncode, err) == (0, "")

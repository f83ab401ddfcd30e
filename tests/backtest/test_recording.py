"""What a recording is, how it is read, and what becomes of it."""

import gzip
from pathlib import Path

import msgspec
import pytest

from autoscaler.backtest.demand import demand_of, first_workers
from autoscaler.backtest.plan import Plan
from autoscaler.backtest.recording import BadRecording, DaemonSet, read_recording, write_recording
from autoscaler.backtest.replay import LEAD_S, PIECE_S, notes_of, past_of, plans_of
from autoscaler.policy import Policy
from autoscaler.simulator.world.objects import SYSTEM_BURN_CORES
from autoscaler.simulator.world.workload import Kind
from tests.backtest.recordings import BEGIN_S, MIB, group, recording

POLICY = Policy(version=1)


@pytest.mark.parametrize("name", ["plain.json", "packed.json.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    made = recording(group(4, None, 6), group(1, 1, 0, kind="", millicores=0), notes=("a note",))
    write_recording(made, tmp_path / name)
    assert read_recording(tmp_path / name) == made
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") is name.endswith(".gz")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no recording"),
        (b"[]", "is no recording: Expected `object`"),
        (b"\xff\xfe{}", "is no recording"),
        (b"\x1f\x8bnothing", "is no recording"),
        (gzip.compress(b"{}", mtime=0)[:-9], "cut off"),
        (gzip.compress(b"{}", mtime=0), "missing required field"),
        (None, "could not be read: No such file"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path, data: bytes | None, words: str) -> None:
    file = tmp_path / "it.json"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(BadRecording, match=words) as refused:
        read_recording(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has the format 2, and this version reads 1"),
        ({"workers": [2]}, "its series differ in length"),
        ({"used_cores": [None, None]}, "holds no moment at which everything is known"),
        ({"step_s": 0}, "is no recording"),
        ({"used_cores": [-1.0, 1.0]}, "is no recording"),
        ({"node": "10.0.0.1"}, "unknown field"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    raw = msgspec.to_builtins(recording(group(4, 4)))
    (tmp_path / "it.json").write_bytes(msgspec.json.encode({**raw, **change}))
    with pytest.raises(BadRecording, match=words):
        read_recording(tmp_path / "it.json")


# ---------------------------------------------------------------------------------------------------------------- gaps


def starts(plans: list[Plan]) -> list[float]:
    return [plan.begin_s - BEGIN_S for plan in plans]


def test_gaps_are_gaps() -> None:
    # Pods are not known at one step, what they used at two others; a moment alone is no stretch.
    known = recording(
        group(4, 4, None, 4, 4, 4, 4, 4), used_cores=(1.0, 1.0, 1.0, 1.0, 1.0, None, 1.0, None), step_s=300
    )
    assert known.stretches() == [range(2), range(3, 5), range(6, 7)]
    plans = plans_of(known, "it")
    assert starts(plans) == [0.0, 900.0]
    assert [plan.length_s for plan in plans] == [600.0, 600.0]
    assert "Of 0.7 hours 0.2 are not recorded, in 3 gaps" in notes_of(known)[0]


def test_no_pods_are_not_the_same_as_none_known() -> None:
    empty = recording(group(0, 0, 0))
    assert len(plans_of(empty, "it")) == 1
    assert not any("not recorded" in note for note in notes_of(empty))


@pytest.mark.parametrize(
    ("days", "pieces"), [(2.0, 1), (2.5, 2), (16.0, 2), (16.5, 4), (30.0, 4), (33.0, 6)], ids=lambda it: f"{it:g}"
)
def test_a_long_one_is_cut_into_equal_pieces_that_begin_early_and_count_every_moment_once(
    days: float, pieces: int
) -> None:
    hours = round(24 * days)
    long = recording(group(*(4 + hour % 3 for hour in range(hours))), step_s=3600)
    plans = plans_of(long, "it")
    assert [plan.lead_s for plan in plans] == [0.0, *[LEAD_S] * (pieces - 1)]
    begins = [plan.begin_s + plan.lead_s - BEGIN_S for plan in plans]
    lengths = [plan.length_s - plan.lead_s for plan in plans]
    assert begins == [sum(lengths[:number]) for number in range(pieces)]
    assert sum(lengths) == hours * 3600
    assert max(lengths) - min(lengths) <= 3600
    assert max(lengths) <= PIECE_S
    assert any("cut into pieces" in note for note in notes_of(long)) is (pieces > 1)


# ---------------------------------------------------------------------------------------------------------------- pods


def test_pods_and_their_use_follow_the_record() -> None:
    made = recording(
        group(4, 4, 6),
        group(2, 0, 0, kind="Job", millicores=1000),
        group(1, 1, 1, kind="", millicores=0),
        used_cores=(2.06, 2.06, 3.06),
        daemon_sets=(DaemonSet(namespace="logs", name="agent", cpu_millicores=50, memory_bytes=40 * MIB),),
    )
    (plan,) = plans_of(made, "it")
    web, job, bare = plan.base
    # Two workers need SYSTEM_BURN_CORES each; the rest goes by requests: 4 x 0.5 and 2 x 1.
    each = 2.06 - 2 * SYSTEM_BURN_CORES
    assert [workload.replicas for workload in plan.base] == [4, 2, 1]
    assert web.template.burn_cores == pytest.approx(each * 0.5 / 4)
    assert job.template.burn_cores == pytest.approx(each * 1.0 / 4)
    assert bare.template.burn_cores == 0.0
    assert {change.at_s for change in plan.changes} == {300.0, 600.0}
    last = [change for change in plan.changes if change.at_s == 600.0]
    assert [(change.owner, change.replicas) for change in last] == [(web.key, 6)]
    assert last[0].burn_cores == pytest.approx((3.06 - 0.06) / 6)
    assert plan.daemon_sets is not None
    (agent,) = plan.daemon_sets
    assert (agent.kind, agent.template.request.cpu_millicores) == (Kind.DAEMON_SET, 50)
    assert (agent.template.burn_cores, agent.template.used_memory_bytes) == (0.0, 0)


def test_where_nobody_requests_cpu_all_use_the_same() -> None:
    (plan,) = plans_of(recording(group(3, 3, millicores=0), group(1, 1, millicores=0, kind="")), "it")
    assert {workload.template.burn_cores for workload in plan.base} == {round((1.0 - 2 * SYSTEM_BURN_CORES) / 4, 4)}


def test_a_forecast_reads_what_was_recorded_and_nothing_where_that_is_not_known() -> None:
    past = past_of(recording(group(4, None, 6), used_cores=(1.0, 1.0, 2.5)))
    assert past(BEGIN_S - 1) == {}
    assert past(BEGIN_S + 299)["requests", "cpu"] == 2.0
    assert past(BEGIN_S + 300) == {}, "unknown is not zero"
    assert past(BEGIN_S + 600) == {
        ("requests", "cpu"): 3.0,
        ("requests", "memory"): 6 * 64.0 * MIB,
        ("use", "cpu"): 2.5,
        ("use", "memory"): 1024.0 * MIB,
    }
    assert past(BEGIN_S + 900) == {}


def test_demand_in_workers_is_what_division_gives() -> None:
    # A t3.small gives pods 1.9 cores: 12 pods of half a core need four.
    (plan,) = plans_of(recording(group(2, 12, 12, 1)), "it")
    demand = demand_of(plan, POLICY)
    assert [(at_s - BEGIN_S, count) for at_s, count in demand.workers] == [(0, 1), (300, 4), (900, 1)]
    assert [cores for _, cores in demand.cores] == [1.0, 6.0, 0.5]
    assert demand.end_s - demand.begin_s == 1200
    assert first_workers(plan, POLICY) == POLICY.workers.min


def test_demand_begins_with_what_holds_once_the_lead_is_over() -> None:
    (plan,) = plans_of(recording(group(2, 12, 12, 1)), "it")
    later = msgspec.structs.replace(plan, lead_s=450.0)
    assert [(at_s - BEGIN_S, count) for at_s, count in demand_of(later, POLICY).workers] == [(450, 4), (900, 1)]

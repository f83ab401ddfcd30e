"""A real Prometheus that holds two hours of a simulated cluster gives the recording that its story asks for."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from autoscaler.backtest.recording import Recording, read_recording
from autoscaler.backtest.results import Report
from autoscaler.cli.backtest.history import STEP_S
from autoscaler.cli.main import app
from autoscaler.observe.series import KUBE_STATE_METRICS, NODE_EXPORTER
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import MIB, Ask, Kind, PodTemplate, Workload
from tests.monitoring.programs import ROOT, daemon, free_port, get_json, run, wait_until
from tests.monitoring.scrape import _LABEL, _LINE, series_text

pytestmark = pytest.mark.real_programs

SCRAPE_S, PHASE_S = 60, -7
"""The slowest that people scrape, and never at the moment that is asked about."""
STEPS = 20
"""Of the story, each of STEP_S."""
GROWS_AT, HIDDEN_AT = 8, range(14, 16)
"""Steps at which the shop grows, and at which nothing is scraped."""
SHOP = Workload(
    namespace="shop",
    name="web",
    replicas=4,
    template=PodTemplate(
        request=Ask(cpu_millicores=250, memory_bytes=128 * MIB),
        sidecar=Ask(cpu_millicores=50, memory_bytes=16 * MIB),
        used_memory_bytes=64 * MIB,
        burn_cores=0.2,
    ),
)
LOOKBACK_S = 300
"""So long Prometheus believes what was scraped last."""
BARE = Workload(namespace="tools", name="shell", kind=Kind.POD, template=PodTemplate(request=Ask()))


@dataclass(frozen=True)
class Past:
    url: str
    begin_s: int
    """Of the story's first step."""


def pages(cluster: SimCluster) -> Iterator[tuple[str, str]]:
    """(series, value) of one scrape of every target."""
    addresses = {node.name: cluster.world.state.nodes[node.name].machine.ip for node in cluster.world.nodes}
    targets = [({"job": KUBE_STATE_METRICS, "instance": "10.42.0.5:8080"}, cluster.world.kube_state_metrics())]
    for name, page in cluster.world.node_exporters().items():
        targets.append(({"job": NODE_EXPORTER, "instance": f"{addresses[name]}:9100"}, page))
    for labels, page in targets:
        yield series_text("up", labels), "1"
        for line in page.splitlines():
            match = None if line.startswith("#") else _LINE.fullmatch(line)
            if match:
                own = {label["key"]: label["value"] for label in _LABEL.finditer(match["labels"] or "")}
                yield series_text(match["name"], {**labels, **own}), match["value"]


def story(begin_s: int) -> dict[str, list[tuple[int, str]]]:
    cluster = SimCluster(Policy(version=1), workers=2, now_s=float(begin_s - 4 * STEP_S))
    cluster.apply(SHOP)
    cluster.apply(BARE)
    found: dict[str, list[tuple[int, str]]] = {}
    hidden = range(HIDDEN_AT.start * STEP_S - LOOKBACK_S, HIDDEN_AT.stop * STEP_S - SCRAPE_S)
    # It goes on for a while: whoever asks late sees it all the same.
    for since_s in range(-3 * STEP_S + PHASE_S, (STEPS + 3) * STEP_S, SCRAPE_S):
        at_s = begin_s + since_s
        cluster.run(at_s - cluster.now_s)
        if since_s == (GROWS_AT - 1) * STEP_S + SCRAPE_S + PHASE_S:
            cluster.world.scale(SHOP.key, 14)  # twelve find room on two workers
        if since_s in hidden:
            continue
        for series, value in pages(cluster):
            found.setdefault(series, []).append((at_s, value))
    return found


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    begin_s = (int(time.time()) // STEP_S - STEPS) * STEP_S
    with (folder / "past.txt").open("w", encoding="utf-8") as file:
        for series, samples in sorted(story(begin_s).items(), key=lambda item: item[0].partition("{")[0]):
            file.writelines(f"{series} {value} {at_s}\n" for at_s, value in samples)
        file.write("# EOF\n")
    made = run("promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "past.txt", folder / "data")
    assert made.returncode == 0, made.stderr
    (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    with daemon(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        log=folder / "prometheus.log",
    ):
        ready = f"http://{address}/api/v1/status/buildinfo"
        wait_until(lambda: get_json(ready)["status"] == "success", within_s=30, what="Prometheus answers")
        yield Past(f"http://{address}", begin_s)


@pytest.fixture(scope="module")
def recorded(past: Past, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Report, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    file, report = folder / "past.json.gz", folder / "report.json"
    done = CliRunner().invoke(
        app,
        [
            "backtest", "--prometheus", past.url, "--days", "1", "--record", str(file), "--json", str(report),
            "--policy", str(ROOT / "policy.yml"),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return read_recording(file), msgspec.json.decode(report.read_bytes(), type=Report), file


def test_pods_are_told_by_what_they_ask(past: Past, recorded: tuple[Recording, Report, Path]) -> None:
    recording, _, _ = recorded
    first = (past.begin_s - recording.begin_s) // STEP_S
    groups = {(one.namespace, one.kind, one.cpu_millicores, one.memory_bytes): one.pods for one in recording.groups}
    assert set(groups) == {("shop", "ReplicaSet", 300, 144 * MIB), ("tools", "", 0, 0)}, "not what servers run"
    shop = groups["shop", "ReplicaSet", 300, 144 * MIB][first : first + STEPS]
    expected = [4] * GROWS_AT + [14] * (STEPS - GROWS_AT)
    assert [count for step, count in enumerate(shop) if step not in HIDDEN_AT] == [
        count for step, count in enumerate(expected) if step not in HIDDEN_AT
    ]
    assert all(shop[step] is None for step in HIDDEN_AT), "what was not scraped is not known"
    assert [recording.waiting[first + step] for step in (0, GROWS_AT)] == [0, 2]
    assert [recording.workers[first + step] for step in (0, GROWS_AT)] == [2, 2]
    assert {(one.name, one.cpu_millicores, one.memory_bytes) for one in recording.daemon_sets} == {
        ("node-exporter", 10, 30 * MIB),
        ("svclb-traefik", 0, 0),
    }


def test_use_is_what_the_pods_burned(past: Past, recorded: tuple[Recording, Report, Path]) -> None:
    recording, _, _ = recorded
    first = (past.begin_s - recording.begin_s) // STEP_S
    # Two workers need 0.03 cores each and their two DaemonSets 0.002; they give pods 1.9 of 2.
    four, twelve = ((0.068 + pods * 0.2) * 0.95 for pods in (4, 12))
    assert recording.used_cores[first + 3] == pytest.approx(four, rel=0.02)
    assert recording.used_cores[first + GROWS_AT + 2] == pytest.approx(twelve, rel=0.02)


def test_the_play_says_what_is_not_known_and_begins_anew_after_a_gap(recorded: tuple[Recording, Report, Path]) -> None:
    recording, report, _ = recorded
    known = [len(stretch) for stretch in recording.stretches()]
    assert len(known) == 2
    assert len(report.fleets[0].spans) == 2
    assert any("are not recorded, in 2 gaps" in note for note in report.notes)
    assert report.fleets[0].figures.hours == pytest.approx(sum(known) * STEP_S / 3600, abs=0.01)
    assert [one.reason for one in report.fleets[0].spans[0].decisions][:1] == ["pods_unschedulable"]


def test_what_was_recorded_plays_the_same_offline(recorded: tuple[Recording, Report, Path], tmp_path: Path) -> None:
    _, report, file = recorded
    again = tmp_path / "again.json"
    arguments = ["--recorded", str(file), "--json", str(again), "--policy", str(ROOT / "policy.yml")]
    done = CliRunner().invoke(app, ["backtest", *arguments])
    assert done.exit_code == 0, done.output
    offline = msgspec.json.decode(again.read_bytes(), type=Report)
    assert offline == msgspec.structs.replace(report, source="past.json.gz")


def test_a_cluster_that_is_not_in_the_store_is_told_in_one_sentence(past: Past, tmp_path: Path) -> None:
    (tmp_path / "other.yml").write_text("version: 1\nmetrics: {matchers: {cluster: other}}\n", encoding="utf-8")
    done = CliRunner().invoke(
        app, ["backtest", "--prometheus", past.url, "--days", "1", "--policy", str(tmp_path / "other.yml")]
    )
    assert done.exit_code == 1
    assert "holds no kube_node_info of the last 1 days with {'cluster': 'other'}" in done.output
    assert done.output.count("\n") == 1

"""`k3s-autoscaler backtest` and `simulate policy`: what they print, write and refuse."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from autoscaler.backtest.recording import write_recording
from autoscaler.backtest.results import Report
from autoscaler.cli.backtest import playing, sources
from autoscaler.cli.backtest.history import STEP_S
from autoscaler.cli.main import app
from tests.backtest.recordings import group, recording
from tests.backtest.reports import REPORT
from tests.bench.plans import SHORT
from tests.monitoring.programs import QuietHandler, serving

TICKED = "version: 1\nscale_down: {cool_down_s: 60, window_s: 180}\n"


def called(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One workload, and a short one."""
    monkeypatch.setattr(sources, "WORKLOADS", {"short": lambda: SHORT})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.yml").write_text("version: 1\n", encoding="utf-8")
    (tmp_path / "eager.yml").write_text(TICKED, encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("short")
def test_a_workload_under_a_file_and_a_preset(files: Path) -> None:
    done = called(
        "backtest", "--workload", "short", "--policy", files / "eager.yml", "--preset", "swift",
        "--html", files / "out.html", "--json", files / "out.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    head, eager, swift, *rest = done.stdout.splitlines()
    assert head.startswith("policy")
    assert (eager.split()[0], swift.split()[0]) == ("eager", "swift")
    assert any(line.startswith("swift instead of eager: ") for line in rest)
    report = msgspec.json.decode((files / "out.json").read_bytes(), type=Report)
    assert [fleet.name for fleet in report.fleets] == ["eager", "swift"]
    text = (files / "out.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert all(f"{fleet.figures.node_hours:.1f}" in text for fleet in report.fleets)
    assert f"Written: {files / 'out.html'}" in done.stderr


@pytest.mark.usefixtures("short")
def test_simulate_policy_says_the_difference(files: Path) -> None:
    done = called("simulate", "policy", files / "eager.yml", "--against", files / "policy.yml", "--workload", "short")
    assert done.exit_code == 0, done.output
    *_, sums, first = done.stdout.splitlines()
    assert sums.startswith("eager instead of policy: $")
    assert "fewer" in sums
    assert first.startswith("They first differ: policy ")


def test_an_interruption_ends_with_130_and_the_report_is_written(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_plans: object, _policies: object, **_more: object) -> Report:
        return msgspec.structs.replace(REPORT, stopped=True)

    monkeypatch.setattr(playing, "backtest", stopped)
    done = called("backtest", "--workload", "steady", "--preset", "default", "--json", files / "out.json")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "Ended before all was played: the report is of the part that was."
    assert msgspec.json.decode((files / "out.json").read_bytes(), type=Report).stopped
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ----------------------------------------------------------------------------------------------------------- bad input


def refused(done: Result, words: str, code: int = 2) -> None:
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert words in " ".join(done.stderr.split())
    assert done.stderr.count("\n") == 1, "one sentence"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give one of --prometheus URL, --recorded FILE and --workload NAME"),
        (("--workload", "steady", "--prometheus", "http://x"), "Give one of --prometheus URL"),
        (("--workload", "stedy"), "There is no workload 'stedy': give one of ecommerce-day"),
        (("--recorded", "absent.json"), "absent.json could not be read: No such file"),
        (("--workload", "steady", "--record", "x.json"), "--record keeps what --prometheus tells"),
        (("--workload", "steady", "--auth-file", "x"), "--auth-file is for --prometheus"),
        (("--workload", "steady", "--html", "absent/out.html"), "out.html cannot be written: there is no folder"),
        (("--workload", "steady", "--json", "."), "cannot be written: it is a folder"),
        (("--workload", "steady", "--preset", "fast"), "There is no preset 'fast': give one of default, brief"),
        (("--workload", "steady", "--preset", "swift", "--preset", "swift"), "is given twice"),
        (("--workload", "steady", "--policy", "eager.yml", "--policy", "./eager.yml"), "eager.yml is given twice"),
        (("--workload", "steady", "--policy", "./eager.yml", "--policy", "eager.yml"), "eager.yml is given twice"),
        (("--workload", "steady", "--policy", "absent.yml"), "absent.yml could not be read: No such file"),
        (("--workload", "steady", "--policy", "odd.yml"), "names x9.huge, whose size or price nobody knows here"),
        (("--prometheus", "prometheus:9090"), "'prometheus:9090' is no address of a Prometheus"),
        (("--prometheus", "http://a:b@host:9090"), "The address holds a credential"),
        (("--prometheus", "http://host:9090?x=1"), "is no address of a Prometheus"),
        (("--prometheus", "http://host:9090", "--auth-file", "absent"), "absent could not be read"),
    ],
)
def test_wrong_input_is_one_sentence_and_2(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(files)
    (files / "odd.yml").write_text(
        "version: 1\nworkers:\n  instance_types: [x9.huge]\n"
        "  sizes: {x9.huge: {cpu_millicores: 4000, memory_mib: 8000}}\n",
        encoding="utf-8",
    )
    before = sorted(files.iterdir())
    refused(called("backtest", *arguments), words)
    assert sorted(files.iterdir()) == before, "nothing was written"


def test_a_policy_that_changes_nothing_is_not_played(files: Path) -> None:
    (files / "same.yml").write_text("version: 1\nworkers: {min: 2}\n", encoding="utf-8")
    done = called("simulate", "policy", files / "same.yml", "--against", files / "policy.yml", "--workload", "steady")
    refused(done, "mean the same: there is nothing to compare")


def test_a_recording_of_moments_alone_is_not_played(files: Path) -> None:
    write_recording(recording(group(4, None, 4, None, 4)), files / "it.json")
    done = called("backtest", "--recorded", files / "it.json", "--policy", files / "policy.yml")
    refused(done, "holds no two moments in a row at which everything is known")


# ---------------------------------------------------------------------------------------------------------- Prometheus


class Odd(QuietHandler):
    """Something on that port that is no Prometheus, or one that refuses."""

    def reply(self) -> None:
        match self.path.split("/", 2)[1]:
            case "html":
                self.answer(502, b"<html>Bad gateway</html>")
            case "refuses":
                self.answer(422, b'{"status": "error", "errorType": "execution", "error": "too many samples"}')
            case "part":
                data = b'{"resultType": "matrix", "result": []}'
                self.answer(200, b'{"status": "success", "warnings": ["a store is away"], "data": ' + data + b"}")
            case "moved":
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "young":
                series = {"metric": {}, "values": [[int(time.time()) // STEP_S * STEP_S, "3"]]}
                matrix = {"resultType": "matrix", "result": [series]}
                self.answer(200, json.dumps({"status": "success", "data": matrix}).encode())
            case _:
                self.answer(200, b'{"status": "success", "data": {"resultType": "matrix", "result": []}}')


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    with serving(Odd) as address:
        yield address


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("html", "answered with HTTP status 502 and something that is no Prometheus JSON"),
        ("refuses", "refused the query with HTTP status 422: too many samples"),
        ("part", "answered with a part of what it has: a store is away"),
        ("moved", "answered with a redirect: give the address that answers itself"),
        ("empty", "holds no kube_node_info of the last 14 days: it has to scrape kube-state-metrics"),
        ("young", "the last 14 days of a cluster holds no two moments in a row at which everything is known"),
    ],
)
def test_a_prometheus_that_does_not_answer_is_one_sentence_and_1(odd: str, files: Path, path: str, words: str) -> None:
    url = odd if odd.startswith("http") else f"http://{odd}"
    done = called("backtest", "--prometheus", f"{url}/{path}", "--policy", files / "policy.yml")
    refused(done, words, code=1)


def test_nobody_listens(files: Path) -> None:
    done = called("backtest", "--prometheus", "http://127.0.0.1:9", "--policy", files / "policy.yml")
    refused(done, "Prometheus at http://127.0.0.1:9 cannot be reached: ConnectionRefusedError", code=1)

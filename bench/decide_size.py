"""What a look costs us in large clusters: `python -m bench.decide_size`, or `--mix owners --nodes 1000`.

Our CPU alone: the answers of Prometheus (JSON), EC2 and a server are made beforehand (`bench/crowds.py`); decoding,
parsing, deciding and every closer question are counted, as the functions run them. Each cluster is looked at in a
process of its own, which tells how much memory it held at most, with all that a function imports.
"""

import argparse
import hashlib
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from autoscaler.asking.asking import CLOSER_LOOKS
from autoscaler.collector import collector_at_rest
from autoscaler.decide.decision import decide
from autoscaler.model import Asks, Decision, MetricsStatus, Sample, Snapshot
from autoscaler.observe.closer import look_closer
from autoscaler.observe.query import sight_query
from autoscaler.observe.snapshot import assemble
from autoscaler.simulator.metrics.promql import Reader
from bench.crowds import CLUSTER_ID, MIXES, NOW_S, PODS_ON_A_NODE, ZONES, Crowd
from bench.figures import median

SIZES: Final = (10, 100, 1_000, 5_000)
ROUNDS: Final = 2
LONG_ENOUGH_MS: Final = 500
"""Short looks are repeated for so long: one of a millisecond says little."""
RESULTS: Final = Path(__file__).parent / "results" / "decide_size.json"
FITTED_FROM: Final = 100
"""Smaller clusters cost what any look costs: they say nothing about growth."""
CALIBRATING_STEPS: Final = 300_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.decide_size", description=__doc__)
    parser.add_argument("--mix", action="append", choices=MIXES, help="default: all of them")
    parser.add_argument("--nodes", action="append", type=int, help=f"default: {', '.join(map(str, SIZES))}")
    parser.add_argument("--json", action="store_true", help=f"write bench/results/{RESULTS.name}")
    parser.add_argument("--answers", type=Path, help="look at one cluster in this process; its answers lie there")
    options = parser.parse_args(arguments)
    mixes, sizes = options.mix or list(MIXES), options.nodes or list(SIZES)
    if min(sizes) < 1:
        parser.error("--nodes must be at least 1")
    if options.answers is not None:
        print(json.dumps(measure(mixes[0], sizes[0], options.answers)))
        return 0
    titles = f"{'look':>12}{'decisions':>14}{'longest':>13}{'peak':>9}   outcome"
    print(f"{'cluster':<12}{'nodes':>6}{'pods':>8}{'wait':>7}{titles}")
    measured = [_apart(mix, nodes) for mix in mixes for nodes in sizes]
    exponents = {mix: exponent for mix in mixes if (exponent := _exponent(measured, mix)) is not None}
    for mix, exponent in exponents.items():
        print(f"{mix:<12} a look grows as nodes^{exponent:.2f}")
    if options.json:
        RESULTS.write_text(f"{json.dumps(_results(measured, exponents), indent=1)}\n", encoding="utf-8")
    return 0


def _apart(mix: str, nodes: int) -> dict[str, Any]:
    """Twice in a process of its own: who makes the answers holds more memory than who reads them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.decide_size", "--answers", folder, "--mix", mix, "--nodes", str(nodes)]
        for _ in range(2):
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    times = "".join(
        f"{told[key]:>{width}.1f} ms" for key, width in (("look_ms", 9), ("decide_ms", 11), ("longest_ms", 10))
    )
    times += f"{told['peak_mb']:>6.0f} MB"
    print(f"{mix:<12}{nodes:>6}{told['pods']:>8}{told['waiting']:>7}{times}   {told['outcome']}", flush=True)
    return told


def _exponent(measured: Sequence[dict[str, Any]], mix: str) -> float | None:
    """The slope of log(time) over log(nodes), by least squares; None of fewer than two sizes."""
    points = [
        (math.log(one["nodes"]), math.log(one["look_ms"]))
        for one in measured
        if one["mix"] == mix and one["nodes"] >= FITTED_FROM
    ]
    if len(points) < 2:
        return None
    fitted = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return fitted.slope


def _results(measured: Sequence[dict[str, Any]], exponents: dict[str, float]) -> dict[str, Any]:
    """Ratios hold on any machine: times over what a loop of plain Python takes there."""
    named = {f"{one['mix']}_{one['nodes']}": one for one in measured}
    return {
        "bench": "decide_size",
        "ratios": {f"{name}_look": round(one["look_ms"] / one["calibration_ms"], 3) for name, one in named.items()},
        "exponents": {mix: round(exponent, 2) for mix, exponent in exponents.items()},
        "exact": {f"{name}_outcome": one["outcome"] for name, one in named.items()},
        "peak_mb": {name: one["peak_mb"] for name, one in named.items()},
        "seconds": {
            f"{name}_{part}": round(one[f"{part}_ms"] / 1000, 5)
            for name, one in named.items()
            for part in ("look", "decide", "longest", "calibration")
        },
    }


def measure(mix: str, nodes: int, answers: Path) -> dict[str, Any]:
    """One cluster in this process."""
    import handlers.sweep  # noqa: F401, PLC0415 - what a function holds beside the look, and how it collects garbage

    look, fresh = Look(Crowd(MIXES[mix], nodes), answers), not any(answers.iterdir())
    look.whole()
    if fresh:
        return {}  # who made the answers is no measure of who reads them
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times: list[tuple[float, float]] = []
    while len(times) < ROUNDS or sum(look_ms for look_ms, _ in times) < LONG_ENOUGH_MS:
        times.append(look.whole())
    growth = look.decision.growth
    outcome = f"{look.decision.reason}, {growth.count if growth is not None else 0} more, {look.closer} closer looks"
    return {
        "mix": mix,
        "nodes": nodes,
        "pods": nodes * PODS_ON_A_NODE,
        "waiting": look.crowd.waiting,
        "look_ms": round(median([look_ms for look_ms, _ in times]), 2),
        "decide_ms": round(median([decide_ms for _, decide_ms in times]), 2),
        "peak_mb": round(peak_mb, 1),
        "longest_ms": round(look.longest_ms, 2),
        "calibration_ms": round(median([_cpu_ms(_calibrate) for _ in range(5)]), 3),
        "outcome": outcome,
    }


class Look:
    """One look, again and again: what a function does between the answers and the decision."""

    def __init__(self, crowd: Crowd, answers: Path) -> None:
        self.crowd = crowd
        self.closer = 0
        self.longest_ms = 0.0
        """Of one decision, in the last look."""
        self.decision: Decision
        self._answers, self._reader = answers, Reader(crowd.policy)
        self._instances = crowd.instances()
        self._bodies: dict[str, bytes] = {}
        self._apart_ms = 0.0

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Prometheus' answer, decoded as autoscaler/aws/prometheus.py decodes it. Only that is counted."""
        del timeout_s
        began = time.process_time()
        body = self._body(promql)
        self._apart_ms += (time.process_time() - began) * 1000
        return msgspec.json.decode(msgspec.json.decode(body, type=_Answer).data.result, type=list[Sample])

    def whole(self) -> tuple[float, float]:
        """Observe, decide, look closer while that is asked. Returns our CPU time, and the decisions' part, in ms."""
        self._apart_ms, self.longest_ms, self.closer = 0.0, 0.0, 0
        began = time.process_time()
        with collector_at_rest():  # as autoscaler/runtime.py looks
            decide_ms = self._looked()
        return (time.process_time() - began) * 1000 - self._apart_ms, decide_ms

    def _looked(self) -> float:
        """The decisions' part, in ms. What was seen is gone when it returns."""
        crowd, decide_ms, snapshot = self.crowd, 0.0, self._first()
        while True:
            deciding = time.process_time()
            decision = decide(snapshot, crowd.state, crowd.policy, now_s=NOW_S, decision_id="bench")
            took_ms = (time.process_time() - deciding) * 1000
            decide_ms += took_ms
            self.longest_ms = max(self.longest_ms, took_ms)
            if not decision.asks or self.closer == CLOSER_LOOKS:
                break
            snapshot = self._closer(snapshot, decision.asks)
            self.closer += 1
        if snapshot.metrics_status is not MetricsStatus.OK:
            raise SystemExit(f"The bench's own snapshot is not whole: {snapshot.metrics_problems[0]}.")
        self.decision = decision
        return decide_ms

    def _first(self) -> Snapshot:
        samples = self.query(sight_query(self.crowd.policy))
        return assemble(
            samples,
            self._instances,
            (),
            state=self.crowd.state,
            cluster_id=CLUSTER_ID,
            policy=self.crowd.policy,
            now_s=NOW_S,
        )

    def _closer(self, snapshot: Snapshot, asks: Asks) -> Snapshot:
        snapshot = look_closer(self, snapshot, asks, self.crowd.policy)
        if asks.rules or asks.rules_of:
            snapshot = msgspec.structs.replace(snapshot, scheduling_rules=self.crowd.rules)
        return msgspec.structs.replace(snapshot, zones=ZONES) if asks.zones else snapshot

    def _body(self, promql: str) -> bytes:
        name = hashlib.sha256(promql.encode()).hexdigest()
        if name not in self._bodies:
            path = self._answers / name
            if not path.exists():
                path.write_bytes(self.crowd.answer(self._reader.read(promql)))
            self._bodies[name] = path.read_bytes()
        return self._bodies[name]


class _Data(msgspec.Struct):
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    data: _Data


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def _calibrate() -> int:
    """Plain Python of the kind that a decision is: dictionaries, tuples, whole numbers."""
    counts: dict[tuple[int, int], int] = {}
    for number in range(CALIBRATING_STEPS):
        key = (number % 97, number % 89)
        counts[key] = counts.get(key, 0) + number
    return len(counts)


if __name__ == "__main__":
    sys.exit(main())

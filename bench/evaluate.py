"""How long one warm look takes in a large cluster: `python -m bench.evaluate --nodes 50 --pods 3000`.

The simulated cluster answers as Prometheus and EC2 would; what is timed is ours: parsing both answers and deciding.
Three cases: nothing to do, a shrink to judge, many unschedulable pods to pack.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from autoscaler.decide.decision import decide
from autoscaler.model import Decision, MetricsStatus
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload
from bench.figures import median, nearest_rank

INSTANCE_TYPE: Final = "m5.2xlarge"
PODS_ON_A_NODE: Final = 100
WAITING_SHARE: Final = 0.1
SHORT: Final = ScaleDown(window_s=60, min_age_s=60, cool_down_s=0)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One measured case, times in milliseconds."""

    name: str
    action: str
    samples: int
    parse_ms: float
    decide_ms: float
    p95_ms: float
    """Of both together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.evaluate", description=__doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print only JSON on standard output")
    options = parser.parse_args(arguments)
    if not 0 < options.pods <= options.nodes * PODS_ON_A_NODE:
        parser.error(f"--pods must be from 1 to {PODS_ON_A_NODE} a node")
    cases = [
        _case("nothing to do", options, burn_share=0.5, waiting=0),
        _case("a shrink is judged", options, burn_share=0.05, waiting=0),
        _case("many pods wait", options, burn_share=0.5, waiting=int(options.pods * WAITING_SHARE)),
    ]
    if not options.json:
        print(f"One warm look at {options.nodes} workers and {options.pods} pods, median of {options.rounds} rounds\n")
        print(f"{'case':<20} {'action':<11} {'samples':>8} {'parse':>10} {'decide':>10} {'p95 of both':>12}")
        for case in cases:
            times = f"{case.parse_ms:>7.1f} ms {case.decide_ms:>7.1f} ms {case.p95_ms:>9.1f} ms"
            print(f"{case.name:<20} {case.action:<11} {case.samples:>8} {times}")
        print()
    print(json.dumps({"bench": "evaluate", "nodes": options.nodes, "pods": options.pods, "cases": _plain(cases)}))
    return 0


def _plain(cases: Sequence[Case]) -> Any:
    return msgspec.to_builtins(cases)


def _case(name: str, options: argparse.Namespace, *, burn_share: float, waiting: int) -> Case:
    policy = Policy(
        version=1,
        workers=Workers(min=2, max=2 * options.nodes, instance_types=(INSTANCE_TYPE,)),
        scale_down=SHORT,
    )
    cluster = SimCluster(policy, workers=options.nodes, history_s=180)
    cores = 8 * burn_share * options.nodes / options.pods
    # Small enough that all fit by request, so that only `waiting` pods wait.
    request = Ask(cpu_millicores=max(10, int(7000 * options.nodes / options.pods / 2)), memory_bytes=32 * MIB)
    groups = max(1, options.pods // 30)
    for number in range(groups):
        replicas = options.pods // groups + (number < options.pods % groups)
        template = PodTemplate(request=request, burn_cores=cores)
        cluster.apply(Workload(namespace="bench", name=f"app-{number}", replicas=replicas, template=template))
    if waiting:
        template = PodTemplate(request=Ask(cpu_millicores=6000, memory_bytes=256 * MIB))
        cluster.apply(Workload(namespace="bench", name="burst", replicas=waiting, template=template))
    cluster.run(240)
    return _time(name, cluster, policy, options.rounds)


def _time(name: str, cluster: SimCluster, policy: Policy, rounds: int) -> Case:
    samples, rows, now_s, state = cluster.samples(), cluster.ec2.describe(), int(cluster.now_s), cluster.state

    def look() -> Any:
        return assemble(samples, rows, (), state=state, cluster_id=cluster.cluster_id, policy=policy, now_s=now_s)

    snapshot = look()
    if snapshot.metrics_status is not MetricsStatus.OK:
        raise SystemExit(f"The bench's own snapshot is not complete: {snapshot.metrics_problems[0]}.")

    def judge() -> Decision:
        return decide(snapshot, state, policy, now_s=now_s, decision_id="bench")

    parse_ms, decide_ms = _timed(look, rounds), _timed(judge, rounds)
    both = [one + other for one, other in zip(parse_ms, decide_ms, strict=True)]
    return Case(
        name=name,
        action=judge().action.value,
        samples=len(samples),
        parse_ms=round(median(parse_ms), 2),
        decide_ms=round(median(decide_ms), 2),
        p95_ms=round(nearest_rank(both, 0.95), 2),
    )


def _timed(work: Callable[[], object], rounds: int) -> list[float]:
    work()  # warm
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return times


if __name__ == "__main__":
    sys.exit(main())

"""Our filters and our sizing beside the real scheduler's and autoscaler's answers: `python -m bench.verdicts DIR`.

Prints agreements by plugin and kind, and names each disagreement. Exits 1 on any that has no reason of its own in
`bench/verdict_cases.py`. `--size` measures instead what sizing a large cluster costs.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import size
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    Amounts,
    NodeSpec,
    PodRules,
    PodTerm,
    SpreadConstraint,
    equal_to,
)
from bench.figures import median
from bench.verdict_cases import EXPLAINED, Unreadable, compare, table, tallies

DATA: Final = Path(__file__).parent.parent / "tests" / "data" / "verdicts"
NODES: Final = 1000
PODS_ON_A_NODE: Final = 30
OWNERS: Final = 1000
WAITING_CLASSES: Final = 50
WAITING_PODS: Final = 3000
ROUNDS: Final = 5
ZONES: Final = ("z-a", "z-b", "z-c")
ZONE: Final = "topology.kubernetes.io/zone"
ALLOCATABLE: Final[Amounts] = (("cpu", 4000), ("memory", 16 << 30), ("pods", 110))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or measure, and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.verdicts", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA, help="default: the project's own data")
    parser.add_argument("--size", action="store_true", help="measure sizing in a large cluster")
    options = parser.parse_args(arguments)
    if options.size:
        return _measure()
    try:
        outcomes = list(compare(options.folder))
    except Unreadable as error:
        sys.stderr.write(f"The verdicts cannot be compared: {error}\n")
        return 1
    print("\n".join(table(tallies(outcomes))))
    differing = [outcome for outcome in outcomes if not outcome.agrees]
    for outcome in differing:
        reason = f" ({outcome.explained})" if outcome.explained else ""
        print(f"differs: {outcome.kind}: {outcome.case}: {outcome.difference}{reason}")
    for name in sorted({outcome.explained for outcome in differing} - {""}):
        print(f"{name}: {EXPLAINED[name]}.")
    return 1 if any(not outcome.explained for outcome in differing) else 0


# ------------------------------------------------------------------------------------------------------ a large cluster


def _measure() -> int:
    owners = [_owner(number) for number in range(OWNERS)]
    each = WAITING_PODS // WAITING_CLASSES
    waiting = [Waiting(owners[number * 20 + number % 5], each) for number in range(WAITING_CLASSES)]
    build_ms, judge_ms, size_ms = [], [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        cluster = _cluster(owners)
        build_ms.append((time.process_time() - began) * 1000)
        began = time.process_time()
        trial, nodes = Trial(cluster), list(cluster.nodes.values())
        fitting = sum(trial.fits(group.rules, node) for group in waiting for node in nodes)
        judge_ms.append((time.process_time() - began) * 1000)
        cluster = _cluster(owners)
        began = time.process_time()
        sizing = size(waiting, _templates(), cluster, at_most=NODES)
        size_ms.append((time.process_time() - began) * 1000)
    figures = {
        "bench": "verdicts --size",
        "nodes": NODES,
        "pods": NODES * PODS_ON_A_NODE,
        "waiting": WAITING_PODS,
        "classes": WAITING_CLASSES,
        "fitting": fitting,
        "new_nodes": sizing.new_nodes,
        "left": sum(group.count for group in sizing.left),
        "build_cpu_ms": round(median(build_ms), 1),
        "judge_cpu_ms": round(median(judge_ms), 1),
        "size_cpu_ms": round(median(size_ms), 1),
    }
    print(json.dumps(figures))
    return 0


def _cluster(owners: Sequence[PodRules]) -> Cluster:
    """Each node has pods of as many owners as it has pods."""
    cluster = Cluster({"shop": {}})
    for number in range(NODES):
        node = cluster.add_node(_node(f"n{number}", ZONES[number % len(ZONES)]))
        for place in range(PODS_ON_A_NODE):
            cluster.place(owners[(number + 33 * place) % OWNERS], node)
    return cluster


def _templates() -> list[Template]:
    return [Template(name=zone, node=_node(f"new-{zone}", zone)) for zone in ZONES]


def _node(name: str, zone: str) -> NodeSpec:
    labels = {HOSTNAME_LABEL: name, ZONE: zone, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return NodeSpec(name=name, labels=tuple(sorted(labels.items())), allocatable=ALLOCATABLE)


def _owner(number: int) -> PodRules:
    """A fifth each: spread over zones, one to a host, a node selector, near its like in a zone, nothing at all."""
    labels = {"app": f"app-{number}"}
    its_own = equal_to(labels)
    kind = number % 5
    return PodRules(
        namespace="shop",
        labels=tuple(labels.items()),
        requests=(("cpu", 100 + 10 * (number % 20)), ("memory", (256 + 16 * (number % 9)) << 20)),
        spread=(SpreadConstraint(topology_key=ZONE, max_skew=1, selector=its_own),) if kind == 1 else (),
        anti_affinity=(PodTerm(selector=its_own, topology_key=HOSTNAME_LABEL),) if kind == 2 else (),
        node_selector=(("kubernetes.io/arch", "amd64"),) if kind == 3 else (),
        affinity=(PodTerm(selector=its_own, topology_key=ZONE),) if kind == 4 else (),
    )


if __name__ == "__main__":
    sys.exit(main())

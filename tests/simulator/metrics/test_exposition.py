"""The pages look like a real kube-state-metrics' and node_exporter's: same names, same label keys."""

import re
from collections import defaultdict
from pathlib import Path

import msgspec

from autoscaler.simulator.world.workload import MIB, SAFE_TO_EVICT, Ask, Budget, Toleration
from autoscaler.simulator.world.world import World
from tests.simulator.worlds import bare, database, deployment, node_name, row, world

DATA = Path(__file__).resolve().parents[2] / "data"
ADDED = {
    "kube_pod_init_container_info",  # 2.11 and later; the sample's flags left it out
    "kube_pod_overhead_cpu_cores",
    "kube_pod_overhead_memory_bytes",
}
FREE_LABELS = re.compile(r"(label|annotation|nodeselector)_")
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def keys_by_name(page: str) -> dict[str, set[frozenset[str]]]:
    """Label keys of each metric; allow-listed labels are anybody's choice."""
    found: dict[str, set[frozenset[str]]] = defaultdict(set)
    for line in page.splitlines():
        if not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match, line
            float(match[3])
            keys = {key for key, _ in _LABEL.findall(match[2] or "") if not FREE_LABELS.match(key)}
            found[match[1]].add(frozenset(keys))
    return found


def values(page: str, name: str) -> dict[str, float]:
    """Values of one metric by its label text."""
    lines = (match for line in page.splitlines() if (match := _LINE.fullmatch(line)) and match[1] == name)
    return {match[2] or "": float(match[3]) for match in lines}


def full_world() -> World:
    """Something of everything."""
    made = world(workers=3)
    request = Ask(cpu_millicores=50, memory_bytes=32 * MIB)
    made.apply(deployment("web", replicas=4, budget=Budget(max_unavailable=0), init=request, sidecar=request))
    made.apply(deployment("vm", overhead=request))
    made.apply(deployment("gated", gated=True))
    made.apply(deployment("broken", image_pull_fails=True))
    made.apply(deployment("huge", cpu=12_000))
    gpu = Toleration(key="nvidia.com/gpu", effect="NoSchedule")
    made.apply(deployment("gpu", node_selector=(("k3s-autoscaler/pool", "gpu"),), tolerations=(gpu,)))
    made.apply(deployment("noreq", cpu=0))
    made.apply(bare("keep", annotations=((SAFE_TO_EVICT, "false"),)))
    made.apply(bare("finished", run_for_s=5.0))
    made.apply(database())
    made.advance(made.now_s + 60)
    made.cordon(node_name(1))
    made.see_instances([row(0), row(1)])
    made.advance(made.now_s + 60)
    return made


def test_kube_state_metrics_has_the_samples_names_and_labels() -> None:
    real = keys_by_name((DATA / "kube-state-metrics.prom").read_text(encoding="utf-8"))
    ours = keys_by_name(full_world().kube_state_metrics())
    assert {name: ours.get(name) for name in real} == real
    assert set(ours) - set(real) == ADDED


def test_node_exporter_has_the_samples_names_and_labels() -> None:
    real = (DATA / "node-exporter.prom").read_text(encoding="utf-8")
    ours = world(workers=1).node_exporters()[node_name(0)]
    assert keys_by_name(real).items() <= keys_by_name(ours).items()
    modes = {name: set(re.findall(r'mode="(\w+)"', page)) for name, page in (("real", real), ("ours", ours))}
    assert modes["real"] == modes["ours"]


def test_types_stand_before_their_samples() -> None:
    page = full_world().kube_state_metrics()
    named: set[str] = set()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in named, "a family is written once"
            named.add(line.split()[2])
        elif not line.startswith("#"):
            assert line.split("{")[0].split(" ")[0] in named


def test_a_dead_nodes_condition_is_unknown_and_it_has_no_exporter() -> None:
    made = full_world()
    ready = values(made.kube_state_metrics(), "kube_node_status_condition")
    dead = f'node="{node_name(2)}",condition="Ready",status='
    assert [ready[f'{dead}"{status}"'] for status in ("true", "false", "unknown")] == [0, 0, 1]
    assert set(made.node_exporters()) == {"ip-10-0-1-10", node_name(0), node_name(1)}


def test_node_info_carries_the_address() -> None:
    page = world(workers=1).kube_state_metrics()
    assert f'node="{node_name(0)}"' in page
    assert 'internal_ip="10.0.9.1"' in page


def test_cpu_seconds_grow_with_the_load() -> None:
    made = world(workers=1)
    made.apply(deployment(burn=0.6))
    made.advance(made.now_s + 30)
    before = values(made.node_exporters()[node_name(0)], "node_cpu_seconds_total")
    made.advance(made.now_s + 100)
    after = values(made.node_exporters()[node_name(0)], "node_cpu_seconds_total")
    grown = {labels: after[labels] - before[labels] for labels in after}
    assert abs(sum(grown.values()) - 200) < 1e-6, "two CPUs for 100 s"
    busy = sum(value for labels, value in grown.items() if 'mode="idle"' not in labels)
    assert 60 < busy < 70, "0.6 cores for 100 s, and the system's own"


def test_a_machine_cannot_burn_more_than_it_has() -> None:
    made = world(workers=1)
    made.apply(deployment(replicas=3, burn=2.0))
    made.advance(made.now_s + 30)
    assert made.nodes[1].cpu_used == 1.0


def test_views_are_plain_values() -> None:
    made = full_world()
    assert msgspec.json.decode(msgspec.json.encode(made.nodes))
    assert msgspec.json.decode(msgspec.json.encode(made.pods))

"""The pages look like a real kube-state-metrics' and node_exporter's: same names, same label keys."""

import re
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from autoscaler.model.rules import Effect, Toleration
from autoscaler.simulator.world.workload import MIB, SAFE_TO_EVICT, Ask, Budget
from autoscaler.simulator.world.world import World
from tests.simulator.worlds import bare, database, deployment, node_name, pods_of, row, world

DATA = Path(__file__).resolve().parents[2] / "data"
NO_ALLOW_LISTS = "kube-state-metrics-2.20-no-allow-lists.prom"
SAMPLES = ("kube-state-metrics.prom", "kube-state-metrics-2.20-shipped-flags.prom", NO_ALLOW_LISTS)
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
    gpu = Toleration(key="nvidia.com/gpu", any_value=True, effect=Effect.NO_SCHEDULE)
    made.apply(deployment("gpu", node_selector=(("k3s-autoscaler/pool", "gpu"),), tolerations=(gpu,)))
    made.apply(deployment("noreq", cpu=0))
    made.apply(bare("keep", annotations=((SAFE_TO_EVICT, "false"),)))
    made.apply(bare("finished", run_for_s=5.0))
    made.apply(database())
    made.apply(deployment("held", cpu=12_000, finalizer_s=600.0))
    made.advance(made.now_s + 60)
    made.delete("shop/held")
    made.cordon(node_name(1))
    made.see_instances([row(0), row(1)])
    made.advance(made.now_s + 60)
    return made


@pytest.mark.parametrize("sample", SAMPLES)
def test_kube_state_metrics_has_the_samples_names_and_labels(sample: str) -> None:
    real = keys_by_name((DATA / sample).read_text(encoding="utf-8"))
    ours = keys_by_name(full_world().kube_state_metrics())
    assert {name: ours[name] for name in real if name in ours} == {name: real[name] for name in real if name in ours}
    missing = set(real) - set(ours)
    # Without an allow-list of metrics it shows much that nobody asks for.
    assert missing == set() or sample == NO_ALLOW_LISTS


def test_no_family_is_made_up() -> None:
    real = {name for sample in SAMPLES for name in keys_by_name((DATA / sample).read_text(encoding="utf-8"))}
    ours = set(keys_by_name(full_world().kube_state_metrics()))
    assert ours - real == {"kube_pod_deletion_timestamp"}, "no sample has a pod that is being deleted"


def test_reasons_have_rows_only_for_what_holds() -> None:
    """As from 2.20 on: a row of the value 0 would stand for a kube-state-metrics that shows no gates."""
    assert list(values(full_world().kube_state_metrics(), "kube_pod_status_reason").values()) == [1]


def test_a_dual_stack_node_shows_both_addresses_and_its_info_the_last() -> None:
    page = world(workers=1, dual_stack=True).kube_state_metrics()
    node = f'node="{node_name(0)}"'
    addresses = [row for row in values(page, "kube_node_status_addresses") if node in row]
    assert addresses == [
        f'{node},type="InternalIP",address="10.0.9.1"',
        f'{node},type="InternalIP",address="2a05:d014:1:2:10:0:9:1"',
        f'{node},type="Hostname",address="{node_name(0)}"',
    ]
    assert any(node in row and 'internal_ip="2a05:d014:1:2:10:0:9:1"' in row for row in values(page, "kube_node_info"))


def test_volumes_of_a_driver_do_not_tell_their_node_and_the_proof_volume_always_stands() -> None:
    made = world(workers=1)
    made.apply(database())
    made.apply(msgspec.structs.replace(database(), name="lvm", csi_driver="topolvm.io"))
    made.advance(made.now_s + 30)
    page = made.kube_state_metrics()
    drivers = [re.search('csi_driver="([^"]*)"', row) for row in values(page, "kube_persistentvolume_info")]
    assert sorted(driver[1] for driver in drivers if driver) == ["", "k3s-autoscaler-proof", "topolvm.io"]
    annotation = "annotation_local_path_provisioner_selected_node"
    placed = [re.search(f'{annotation}="([^"]*)"', row) for row in values(page, "kube_persistentvolume_annotations")]
    assert sorted(place[1] for place in placed if place) == ["none", node_name(0)]
    assert len(placed) == 3


def test_a_finalizer_holds_a_pod_that_is_deleted_before_any_node_took_it() -> None:
    made = world()
    made.apply(deployment("huge", cpu=12_000, finalizer_s=60.0))
    made.advance(made.now_s + 10)
    made.delete("shop/huge")
    deleted_at_s = made.now_s
    made.advance(deleted_at_s + 59)
    assert list(values(made.kube_state_metrics(), "kube_pod_deletion_timestamp").values()) == [deleted_at_s]
    made.advance(deleted_at_s + 60)
    assert pods_of(made, "shop/huge") == []


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

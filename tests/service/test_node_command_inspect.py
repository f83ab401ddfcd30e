"""The verb that only looks: a Node by its provider-id, and all that would stand against ending its machine."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.k3s_server import NODE, PROVIDER_ID, Server, local_volume, node, pod, serving
from tests.service.kube import status

ENDING = {"deletionTimestamp": "2026-11-01T08:00:00Z"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


def test_an_idle_ready_node(server: Server) -> None:
    result = server.run("inspect", node="", fence="0")
    assert result["inspection"] == {
        "node": NODE,
        "uid": f"uid-of-{NODE}",
        "created_at_s": 1793520000,
        "ready": True,
        "ready_since_s": 1793520030,
        "cordon": "none",
        "operation": "",
        "fence": 0,
        "taints": [],
        "local_volumes": {"count": 0, "names": []},
        "bare_pods": {"count": 0, "names": []},
        "critical_pods": {"count": 0, "names": []},
        "do_not_evict_pods": {"count": 0, "names": []},
        "movable_pods": 0,
        "ending_pods": 0,
    }
    assert f"The Node {NODE}" in result["message"]


def test_everything_that_stands_against_ending_it(server: Server) -> None:
    taints = [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-01T09:00:00Z"},
        {"key": "spot", "value": "true", "effect": "NoSchedule"},
    ]
    server.cluster.edit_node(NODE, spec={"taints": taints})
    condition = server.cluster.nodes[NODE]["status"]["conditions"][1]
    condition |= {"status": "Unknown", "lastTransitionTime": "2026-11-01T09:00:00Z"}
    server.mark(operation="op1", fence="12")
    server.cordon()
    server.cluster.volumes.append(local_volume(NODE))
    server.cluster.add(
        pod("web"),
        pod("bare", ""),
        pod("sidecar-owner", "Backup", controller=False),
        pod("dns", spec={"priorityClassName": "system-cluster-critical"}),
        pod("db", annotations={"karpenter.sh/do-not-disrupt": "true"}),
        pod("leaving", "", metadata=ENDING),
        pod("exporter", "DaemonSet"),
        pod("done", "Job", phase="Succeeded"),
        pod("static", "Node", annotations={"kubernetes.io/config.mirror": "hash"}),
    )
    found = server.run("inspect")["inspection"]
    assert (found["ready"], found["ready_since_s"]) == (False, 1793523600)
    assert (found["cordon"], found["operation"], found["fence"]) == ("ours", "op1", 12)
    assert found["taints"] == ["node.kubernetes.io/unreachable:NoExecute", "spot=true:NoSchedule"]
    assert found["local_volumes"] == {"count": 1, "names": [f"pvc-on-{NODE}"]}
    assert found["bare_pods"] == {"count": 2, "names": ["shop/bare", "shop/sidecar-owner"]}
    assert found["critical_pods"] == {"count": 1, "names": ["shop/dns"]}
    assert found["do_not_evict_pods"] == {"count": 1, "names": ["shop/db"]}
    assert (found["movable_pods"], found["ending_pods"]) == (5, 1)


def test_a_persons_cordon_is_told_apart(server: Server) -> None:
    server.cordon()
    assert server.run("inspect")["inspection"]["cordon"] == "other"


def test_counts_go_on_where_names_end(server: Server) -> None:
    server.cluster.add(*[pod(f"bare-{n}", "") for n in range(12)])
    found = server.run("inspect")["inspection"]["bare_pods"]
    assert found == {"count": 12, "names": [f"shop/bare-{n}" for n in range(5)]}


def test_it_finds_a_node_under_any_name(server: Server) -> None:
    """K3s' --with-node-id: the name says nothing."""
    server.cluster.nodes = {name: node(name, f"aws:///a/{name}") for name in ("a", "b")}
    server.cluster.nodes["pi-1-5f2c"] = node("pi-1-5f2c")
    assert server.run("inspect", node="some-other-name")["inspection"]["node"] == "pi-1-5f2c"


def test_it_changes_nothing_and_no_fence_and_no_lock_hold_it_up(server: Server) -> None:
    drain = server.begin_stuck(fence="9")
    before = server.node
    writes = len(server.cluster.writes)
    found = server.run("inspect", fence="0")["inspection"]
    assert (found["cordon"], found["movable_pods"], found["ending_pods"]) == ("ours", 0, 1)
    assert (server.node, len(server.cluster.writes)) == (before, writes)
    assert not any(path.name.startswith("op1.inspect") for path in (server.folder / "results").iterdir())
    server.cluster.remove("stuck")
    drain.communicate(timeout=30)


def test_no_node_is_an_answer_of_the_whole_list(server: Server) -> None:
    server.cluster.nodes[NODE]["spec"]["providerID"] = PROVIDER_ID + "0"
    result = server.run("inspect")
    assert result["outcome"] == "no_such_node"
    assert PROVIDER_ID in result["message"]


OURS = {"k3s-autoscaler/managed": "true"}


@pytest.mark.parametrize(
    ("name", "provider_id", "labels"),
    [
        pytest.param(NODE, f"k3s://{NODE}", {}, id="K3s' own provider-id"),
        pytest.param(f"{NODE}-1f2e3d4c", "", OURS, id="none, and --with-node-id"),
        pytest.param(
            "renamed", "k3s://renamed", OURS, id="our label, and no instance id in its name: it may be any of ours"
        ),
        pytest.param("renamed", PROVIDER_ID.replace("1a", "1b"), {}, id="its instance id after another zone"),
    ],
)
def test_a_machine_that_registered_without_its_provider_id_is_no_absence(
    server: Server, name: str, provider_id: str, labels: dict[str, str]
) -> None:
    server.cluster.nodes = {name: node(name, provider_id, **labels), "other": node("other", "aws:///a/i-0fedcba98")}
    if not provider_id:
        del server.cluster.nodes[name]["spec"]["providerID"]
    result = server.run("inspect")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert f"The Node {name} " in result["message"]


@pytest.mark.parametrize(
    ("name", "provider_id", "labels"),
    [
        pytest.param("pi-1", "k3s://pi-1", {}, id="a bare-metal Node"),
        pytest.param("worker-i-0fedcba9876543210", "k3s://x", OURS, id="another machine of ours"),
        pytest.param(NODE, "aws:///eu-central-1a/i-0fedcba9876543210", OURS, id="another instance under its name"),
    ],
)
def test_a_node_of_another_machine_is_none_of_this_one(
    server: Server, name: str, provider_id: str, labels: dict[str, str]
) -> None:
    server.cluster.nodes = {name: node(name, provider_id, **labels)}
    assert server.run("inspect")["outcome"] == "no_such_node"


@pytest.mark.parametrize("role", ["control-plane", "master", "etcd"])
def test_a_server_is_refused_whatever_its_tags(server: Server, role: str) -> None:
    server.cluster.nodes[NODE] = node(**{f"node-role.kubernetes.io/{role}": "true"})
    result = server.run("inspect")
    assert (result["outcome"], result["rule"]) == ("refused", "control-plane")


def test_an_api_without_any_node_proves_nothing(server: Server) -> None:
    server.cluster.nodes.clear()
    assert server.run("inspect")["outcome"] == "api_unreachable"


@pytest.mark.parametrize("asked", ["nodes", "persistentvolumes", "pods"])
def test_what_cannot_be_seen_is_no_answer(server: Server, asked: str) -> None:
    server.cluster.volumes.append(local_volume(NODE))
    server.fault(f"GET /api/v1/{asked}", refusal=status.SHUTTING_DOWN)
    result = server.run("inspect")
    assert result["outcome"] == "api_unreachable"


def test_two_nodes_of_one_machine_are_no_answer(server: Server) -> None:
    server.cluster.nodes["twin"] = node("twin")
    result = server.run("inspect")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert "twin" in result["message"]


def test_it_may_come_too_late(server: Server) -> None:
    assert server.run("inspect", notAfter=str(int(time.time()) - 5))["rule"] == "late"

"""The verb `rules`: what the scheduler asks, by owner, out of real Kubernetes objects and through the real kubectl."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoscaler.model.rules import (
    BoundClaim,
    Budget,
    HostPort,
    ImmediateClaim,
    MissingClaim,
    OwnerRules,
    Taint,
    WaitingClaim,
    WaitingWord,
)
from autoscaler.observe.rules import parse_rules
from bench import verdicts
from bench.verdict_cases import FILTERS, Json, load, node_spec, pod_rules, storage
from tests.service.crowd import put_crowd
from tests.service.k3s_server import HOSTNAME, NODE, Server, budget, expression, node, serving
from tests.service.kube.cluster import Object
from tests.service.recorded_objects import own_names, put
from tests.service.told_rules import NOW_S, asked, container, lines, owned, told, waiting

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
POD_NAME = "statefulset.kubernetes.io/pod-name"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


# --------------------------------------------------------------------------------------------- beside recorded clusters


def test_all_recorded_clusters_are_told_as_they_are(server: Server) -> None:
    """Every pod and Node of the real scheduler's cases, in one API server: the same as the case itself is read."""
    cases = [own_names(case) for case in load(verdicts.DATA, FILTERS) if "nodeName" not in case["pending"]["spec"]]
    server.cluster.nodes.clear()
    for case in cases:
        put(case, server.cluster)
    server.environment["NODE_COMMAND_RULES_ROOM"] = "2000000"
    output, _ = server.begin("rules", node="", providerId="").communicate(timeout=60)
    rules = parse_rules(json.loads(output)["rules"], answered_at_s=NOW_S)
    assert (rules.left_out, rules.malformed) == (0, ())
    found = {owner.owner: owner for owner in rules.owners}
    nodes = {spec.name: spec for spec in rules.nodes}
    for case in cases:
        for item in case["nodes"]:
            assert nodes.pop(item["metadata"]["name"]) == node_spec(item)
        for item in _unfinished(case):
            owner = found.pop(f"{item['metadata']['namespace']}/Pod/{item['metadata']['name']}")
            assert owner.rules == pod_rules(item, storage(case), bound=True), case["id"]
    assert (found, nodes) == ({}, {})
    labels = {item["metadata"]["name"]: item["metadata"].get("labels", {}) for c in cases for item in c["namespaces"]}
    assert {name: dict(own) for name, own in rules.namespaces} == labels | {"shop": labels.get("shop", {})}


def _unfinished(case: Json) -> Iterator[Json]:
    for item in (*case["pods"], case["pending"]):
        if item.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            yield item


@pytest.mark.parametrize("theme", ["volumes", "spread", "interpod", "ports", "taints", "resources"])
def test_a_recorded_cluster_within_the_room_of_an_answer(server: Server, theme: str) -> None:
    case = next(case for case in load(verdicts.DATA, FILTERS) if case["tags"][0] == theme)
    server.cluster.nodes.clear()
    put(case, server.cluster)
    rules = told(server)
    assert {spec.name: spec for spec in rules.nodes} == {n["metadata"]["name"]: node_spec(n) for n in case["nodes"]}
    kept = storage(case)
    assert {owner.owner: owner.rules for owner in rules.owners} == {
        f"{item['metadata']['namespace']}/Pod/{item['metadata']['name']}": pod_rules(item, kept, bound=True)
        for item in _unfinished(case)
    }


# ------------------------------------------------------------------------------------------------------------- by owner


def test_pods_of_one_owner_are_one_line_without_their_names(server: Server) -> None:
    server.cluster.add(*[owned(f"web-{n}", spec={"containers": [container(cpu="250m")]}) for n in range(3)])
    result = asked(server)
    (line,) = [line for line in lines(result) if line[0] == "owner"]
    assert line[1:3] == ["shop/ReplicaSet/web", ""]
    assert result["message"] == "3 of 3 lines about 3 pods."
    (owner,) = parse_rules(result["rules"], answered_at_s=NOW_S).owners
    assert (owner.owner, owner.pods, owner.rules.requests) == ("shop/ReplicaSet/web", (), (("cpu", 250),))
    assert owner.seen_at_s == NOW_S


def test_two_revisions_name_their_pods(server: Server) -> None:
    revisions = {"db-0": "1", "db-1": "1", "db-2": "2"}
    for name, revision in revisions.items():
        labels = {"controller-revision-hash": revision, POD_NAME: name, "apps.kubernetes.io/pod-index": name[3:]}
        server.cluster.add(owned(name, "StatefulSet", "db", metadata={"labels": labels}))
    first, second = told(server).owners
    assert (first.owner, first.pods, second.pods) == ("shop/StatefulSet/db", ("db-0", "db-1"), ("db-2",))
    assert [dict(owner.rules.labels) for owner in (first, second)] == [
        {"app": "db", "controller-revision-hash": "1"},
        {"app": "db", "controller-revision-hash": "2"},
    ]


@pytest.mark.parametrize("by", ["pod", "budget", "template"])
def test_a_label_of_each_pod_is_told_where_something_selects_by_it(server: Server, by: str) -> None:
    selector = {"matchLabels": {POD_NAME: "db-0"}}
    affinity = {"podAntiAffinity": {REQUIRED: [{"labelSelector": selector, "topologyKey": HOSTNAME}]}}
    if by == "budget":
        server.cluster.budgets.append(budget("db", "db") | {"spec": {"selector": selector}})
    elif by == "pod":
        server.cluster.add(owned("web-1", spec={"affinity": affinity}))
    else:
        template = {"spec": {"containers": [], "affinity": affinity}}
        metadata = {"namespace": "shop", "name": "agent"}
        server.cluster.daemon_sets["shop", "agent"] = {"metadata": metadata, "spec": {"template": template}}
    server.cluster.add(
        *[owned(f"db-{n}", "StatefulSet", "db", metadata={"labels": {POD_NAME: f"db-{n}"}}) for n in (0, 1)]
    )
    found = [owner for owner in told(server).owners if owner.owner == "shop/StatefulSet/db"]
    assert [(owner.pods, dict(owner.rules.labels)[POD_NAME]) for owner in found] == [
        (("db-0",), "db-0"),
        (("db-1",), "db-1"),
    ]


def test_daemon_sets_are_told_by_their_template_also_without_a_pod(server: Server) -> None:
    metadata = {"namespace": "shop", "name": "agent"}
    spec = {
        "hostNetwork": True,
        "nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 9100}]}],
    }
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": spec}
    server.cluster.daemon_sets["shop", "agent"] = {"metadata": metadata, "spec": {"template": template}}
    server.cluster.add(owned("agent-1", "DaemonSet", "agent"), waiting(owned("agent-2", "DaemonSet", "agent"), "full"))
    foreign = owned("other-1", "DaemonSet", "other")
    foreign["metadata"]["ownerReferences"][0]["apiVersion"] = "apps.kruise.io/v1alpha1"
    server.cluster.add(foreign)
    rules = told(server)
    assert [owner.owner for owner in rules.owners] == ["shop/DaemonSet/other"]
    assert rules.waiting == (WaitingWord(pod="shop/agent-2", message="full"),)
    (daemon,) = rules.daemons
    assert (daemon.owner, daemon.rules.labels, daemon.rules.requests, daemon.rules.node_selector) == (
        "shop/DaemonSet/agent",
        (("app", "agent"),),
        (("cpu", 1000),),
        (("disk", "ssd"),),
    )
    assert daemon.rules.host_ports == (HostPort(port=9100),)
    assert "node.kubernetes.io/network-unavailable" in {toleration.key for toleration in daemon.rules.tolerations}


def test_everything_that_is_not_in_the_recorded_clusters(server: Server) -> None:
    spec = {
        "containers": [container(cpu="100m")],
        "resources": {"requests": {"cpu": "900m"}},
        "schedulerName": 'odd"\\name',
        "priority": -7,
        "preemptionPolicy": "Never",
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
        "schedulingGates": [{"name": "example.com/later"}],
    }
    gated = "Scheduling is blocked due to non-empty scheduling gates"
    server.cluster.add(waiting(owned("one", spec=spec), gated, nominatedNodeName="worker-9"))
    server.cluster.budgets.append(budget("web", "web", allowed=3))
    server.cluster.edit_node(
        NODE,
        spec={"taints": [{"effect": "NoSchedule", "key": "spot", "timeAdded": "2026-11-01T08:00:00Z", "value": "x"}]},
    )
    server.cordon()
    server.cluster.nodes[NODE]["status"]["allocatable"] = {"cpu": "1930m", "pods": "110"}
    rules = told(server)
    (owner,) = rules.owners
    assert (owner.rules.requests, owner.shown) == ((("cpu", 900),), (("cpu", 100),))
    assert (owner.rules.scheduler, owner.rules.priority, owner.rules.preempts) == ('odd"\\name', -7, False)
    assert owner.rules.resource_claims
    assert rules.waiting == (WaitingWord(pod="shop/one", nominated_node="worker-9", message=gated),)
    (found,) = rules.budgets
    assert (found.namespace, found.name, found.allowed) == ("shop", "web", 3)
    assert isinstance(found, Budget)
    assert found.selector is not None
    (spec_of_node,) = rules.nodes
    assert spec_of_node.unschedulable
    assert Taint(key="spot", value="x", effect=spec_of_node.taints[0].effect) in spec_of_node.taints
    assert spec_of_node.allocatable == (("cpu", 1930), ("pods", 110))
    assert (HOSTNAME, NODE) in spec_of_node.labels


def test_claims_in_every_state(server: Server) -> None:
    def claim(name: str, **spec: Any) -> Object:
        whole = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"], **spec}
        return {"metadata": {"namespace": "shop", "name": name}, "spec": whole}

    def volume(name: str, phase: str, **spec: Any) -> Object:
        whole = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], **spec}
        return {"metadata": {"name": name}, "spec": whole, "status": {"phase": phase}}

    here = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression(HOSTNAME, "In", NODE)]}]}}
    server.cluster.claims += [
        claim("bound", volumeName="pv-1"),
        claim("now", storageClassName="fast"),
        claim("local", storageClassName="local"),
        claim("db-0-cache", storageClassName="late", accessModes=["ReadWriteOncePod"]),
        claim("unused", storageClassName="gone"),
    ]
    server.cluster.volumes += [
        volume("pv-1", "Bound", nodeAffinity=here),
        volume("free-1", "Available", storageClassName="local", nodeAffinity=here),
        volume("free-2", "Available", storageClassName="local", claimRef={"namespace": "shop", "name": "other"}),
        volume("free-3", "Available", storageClassName="local", claimRef={"namespace": "shop", "name": "local"}),
        volume("free-4", "Released", storageClassName="local"),
    ]
    modes = {"fast": "Immediate", "local": "WaitForFirstConsumer", "late": "WaitForFirstConsumer"}
    zones = [{"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["a", "b"]}]}]
    for name, mode in modes.items():
        provisioner = "kubernetes.io/no-provisioner" if name == "local" else "ebs.csi.aws.com"
        more = {"allowedTopologies": zones} if name == "late" else {}
        server.cluster.classes.append(
            {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}
        )
    named = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("bound", "now", "local", "missing")
    ]
    volumes = [*named, {"name": "cache", "ephemeral": {"volumeClaimTemplate": {}}}, {"name": "tmp", "emptyDir": {}}]
    server.cluster.add(*[owned(f"db-{n}", "StatefulSet", "db", spec={"volumes": volumes}) for n in (0, 1)])
    first, second = told(server).owners
    assert (first.pods, second.pods) == (("db-0",), ("db-1",)), "the ephemeral claim is each pod's own"
    claims = {found.name: found for found in first.rules.claims}
    assert isinstance(claims["bound"], BoundClaim)
    assert claims["bound"].node_affinity
    assert isinstance(claims["now"], ImmediateClaim)
    local = claims["local"]
    assert isinstance(local, WaitingClaim)
    assert (local.provisioned, [free.name for free in local.free]) == (False, ["free-1", "free-3"])
    assert isinstance(claims["missing"], MissingClaim)
    late = claims["db-0-cache"]
    assert isinstance(late, WaitingClaim)
    assert (late.provisioned, late.topologies[0][0].values) == (True, ("a", "b"))
    assert first.rules.exclusive_claims
    assert [found.name for found in second.rules.claims if isinstance(found, MissingClaim)] == ["missing", "db-1-cache"]


def test_storage_is_asked_for_only_where_a_pod_has_a_claim(server: Server) -> None:
    server.cluster.add(owned("web-1", spec={"volumes": [{"name": "tmp", "emptyDir": {}}]}))
    told(server)
    assert not [call for call in server.api.calls if "persistentvolume" in call or "storageclass" in call]


def test_words_of_waiting_pods_are_short_and_few(server: Server) -> None:
    long = '0/9 nodes are available: "taint" ü\n' + "3 node(s) had untolerated taint, " * 40
    server.cluster.add(*[waiting(owned(f"web-{n}"), long) for n in range(8)])
    server.cluster.add(waiting(owned("web-9"), "x" * 400, nominatedNodeName="n9"))
    ending = waiting(owned("gone", owner="gone"), "no")
    ending["metadata"]["deletionTimestamp"] = "2026-11-01T08:00:00Z"
    server.cluster.add(ending)
    rules = told(server)
    assert [word.pod for word in rules.waiting] == [f"shop/web-{n}" for n in (0, 1, 2, 9)]
    message = rules.waiting[0].message
    assert message.endswith(" ...")
    assert long.startswith(message.removesuffix(" ..."))
    assert 250 < len(message) <= 304
    assert (rules.waiting[-1].message, rules.waiting[-1].nominated_node) == ("", "n9")
    assert rules.incomplete == ("waiting",)


# ----------------------------------------------------------------------------------------------------------------- size


def test_300_owners_of_3000_pods_fit(server: Server) -> None:
    put_crowd(server.cluster, owners=300, pods_each=10, nodes=100, waiting_owners=20)
    rules = told(server)
    counts = len(rules.owners), len(rules.nodes), len(rules.daemons), len(rules.budgets), len(rules.namespaces)
    assert counts == (300, 100, 6, 75, 21)
    assert (rules.left_out, rules.malformed) == (0, ())
    pages = [call for call in server.api.calls if call.startswith("GET /api/v1/pods")]
    assert len(pages) == 6, "500 at once"


def test_1000_nodes_fit(server: Server) -> None:
    put_crowd(server.cluster, owners=2, pods_each=2, nodes=1000)
    rules = told(server)
    assert (len(rules.nodes), rules.left_out, rules.incomplete) == (1000, 0, ())


def test_what_does_not_fit_is_counted_and_waiting_owners_are_told_first(server: Server) -> None:
    put_crowd(server.cluster, owners=900, pods_each=1, nodes=20, waiting_owners=100)
    result = asked(server)
    rules = parse_rules(result["rules"], answered_at_s=NOW_S)
    assert len(rules.owners) + rules.left_out == 900
    assert rules.left_out > 0
    assert len(result["rules"]) > 23_600 - 200, "as much as there is room for"
    numbers = [int(owner.owner.split("-")[2]) for owner in rules.owners]
    assert set(range(800, 900)) <= set(numbers), "those that wait"
    assert (len(rules.daemons), len(rules.nodes), len(rules.budgets)) == (6, 20, 225)
    assert rules.incomplete == ("namespaces",)


def test_what_the_log_keeps_is_short(server: Server) -> None:
    result = asked(server)
    log = (server.folder / "log").read_text()
    assert result["message"] in log
    assert result["rules"] not in log


def test_it_looks_and_changes_nothing_while_a_drain_holds_the_node(server: Server) -> None:
    drain = server.begin_stuck(fence="9")
    before, writes = server.node, len(server.cluster.writes)
    assert [owner.owner for owner in told(server).owners] == ["shop/ReplicaSet/owner"]
    assert (server.node, len(server.cluster.writes)) == (before, writes)
    assert not any(path.name.startswith("op1.rules") for path in (server.folder / "results").iterdir())
    server.cluster.remove("stuck")
    drain.communicate(timeout=30)


def test_it_may_come_too_late(server: Server) -> None:
    result = asked(server, notAfter=str(int(time.time()) - 5))
    assert (result["outcome"], result["rule"]) == ("refused", "late")


def test_finished_pods_ask_nothing(server: Server) -> None:
    server.cluster.add(owned("job-1", "Job", phase="Succeeded"), owned("job-2", "Job", phase="Failed"), owned("web-1"))
    owners: tuple[OwnerRules, ...] = told(server).owners
    assert [owner.owner for owner in owners] == ["shop/ReplicaSet/web"]


def test_a_node_among_others_is_told_with_its_own_name(server: Server) -> None:
    server.cluster.nodes["twin"] = node("twin", "aws:///a/i-0fedcba98", **{"example.com/only": "yes"})
    found = {spec.name: dict(spec.labels) for spec in told(server).nodes}
    assert found["twin"][HOSTNAME] == "twin"
    assert "example.com/only" not in found[NODE]

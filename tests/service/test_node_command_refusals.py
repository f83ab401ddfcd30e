"""What node-command.sh refuses before it changes anything: rules, their order, and bad input."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.k3s_server import (
    HOSTNAME,
    NODE,
    PROVIDER_ID,
    Server,
    budget,
    local_volume,
    node,
    pod,
    serving,
    zonal_volume,
)
from tests.service.kube import status

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
ETCD = "node-role.kubernetes.io/etcd"
NOT_SAFE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
NOT_TO_DISRUPT = {"karpenter.sh/do-not-disrupt": "true"}
ENDING = {"deletionTimestamp": "2026-11-01T08:00:00Z"}

Edit = Callable[[Server], object]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


def refuse_eviction(server: Server, refusal: status.Refusal) -> None:
    server.cluster.add(pod("db"))
    server.fault("POST .*/eviction", refusal=refusal)


REFUSALS: dict[str, tuple[Edit, str]] = {
    "another machine": (
        lambda s: s.cluster.edit_node(NODE, spec={"providerID": "aws:///eu-central-1a/i-0f"}),
        "identity",
    ),
    "a server": (lambda s: s.cluster.edit_node(NODE, labels={CONTROL_PLANE: "true"}), "control-plane"),
    "an etcd-only server": (lambda s: s.cluster.edit_node(NODE, labels={ETCD: ""}), "control-plane"),
    "a node that a person cordoned": (Server.cordon, "cordoned-by-others"),
    "a volume on the node, mounted by nobody": (
        lambda s: s.cluster.volumes.append(local_volume(NODE) | {"status": {"phase": "Released"}}),
        "local-volume",
    ),
    "a bare pod": (lambda s: s.cluster.add(pod("job", "")), "bare-pod"),
    "a pod whose owner is no controller": (
        lambda s: s.cluster.add(pod("job", "Backup", controller=False)),
        "bare-pod",
    ),
    "a pod that is not safe to evict": (lambda s: s.cluster.add(pod("db", annotations=NOT_SAFE)), "do-not-evict"),
    "a pod that is not to be disrupted": (
        lambda s: s.cluster.add(pod("db", annotations=NOT_TO_DISRUPT)),
        "do-not-evict",
    ),
    "an admission policy that says no": (lambda s: refuse_eviction(s, status.denied("refused: not now")), "admission"),
    "a ValidatingAdmissionPolicy that says no": (
        lambda s: refuse_eviction(
            s, status.forbidden("db", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no")
        ),
        "admission",
    ),
}


@pytest.mark.parametrize(("edit", "rule"), REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("verb", ["preflight", "drain"])
def test_a_preflight_refuses_before_anything_changes(server: Server, edit: Edit, rule: str, verb: str) -> None:
    edit(server)
    before = server.node
    result = server.run(verb)
    assert (result["outcome"], result["rule"]) == ("refused", rule)
    assert server.node == before
    assert server.evicted() == []


def test_the_rules_are_judged_in_the_documented_order(server: Server) -> None:
    """Everything stands against this drain; each rule that is mended shows the next one."""
    cluster = server.cluster
    cluster.edit_node(NODE, spec={"providerID": "aws:///x/i-0f"}, labels={CONTROL_PLANE: ""})
    server.cordon()
    server.mark(fence="9")
    cluster.volumes.append(local_volume(NODE))
    cluster.add(pod("job", ""), pod("db", annotations=NOT_SAFE))
    cluster.budgets.append(budget("db", "db"))
    mends: list[tuple[str, Callable[[], object]]] = [
        ("fenced_off", lambda: server.mark(fence=None)),
        ("identity", lambda: cluster.edit_node(NODE, spec={"providerID": PROVIDER_ID})),
        ("control-plane", lambda: cluster.edit_node(NODE, labels={CONTROL_PLANE: None})),
        ("cordoned-by-others", lambda: server.cordon(on=False)),
        ("local-volume", cluster.volumes.clear),
        ("bare-pod", lambda: cluster.remove("job")),
        ("do-not-evict", cluster.pods["shop", "db"]["metadata"]["annotations"].clear),
        ("disruption-budget", cluster.budgets.clear),
    ]
    late = server.run("preflight", notAfter="1")
    assert (late["outcome"], late["rule"]) == ("refused", "late")
    for rule, mend in mends:
        result = server.run("preflight")
        assert rule in (result["rule"], result["outcome"])
        mend()
    assert server.run("preflight")["outcome"] == "succeeded"


def test_a_budget_at_zero_is_told_at_once_and_nothing_is_cordoned(server: Server) -> None:
    server.cluster.add(pod("web"))
    server.cluster.budgets.append(budget("web", "web"))
    began = time.monotonic()
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("blocked_by_budget", "disruption-budget")
    assert 'pods/"web"' in result["message"]
    assert time.monotonic() - began < 4, "kubectl sleeps 5 s over a budget: it is not waited for"
    assert not server.cordoned()
    assert server.cluster.writes == []


def test_two_budgets_over_one_pod_are_a_budget_that_forbids_it(server: Server) -> None:
    server.cluster.add(pod("web"))
    server.cluster.budgets += [budget("one", "web", allowed=1), budget("two", "web", allowed=1)]
    assert server.run("preflight")["rule"] == "disruption-budget"


def test_what_does_not_stand_against_a_drain(server: Server) -> None:
    server.cluster.add(
        pod("node-exporter", "DaemonSet", annotations=NOT_SAFE),
        pod("static", "Node", annotations={"kubernetes.io/config.mirror": "hash", **NOT_SAFE}),
        pod("done", "Job", phase="Succeeded", annotations=NOT_SAFE),
        pod("two-owners", "Job", annotations={}),
        pod("leaving", "", metadata=ENDING),
        pod("leaving-too", annotations=NOT_SAFE, metadata=ENDING),
        pod("of-a-namespace-that-ends", "", namespace="preview", annotations=NOT_SAFE),
    )
    server.cluster.pods["shop", "two-owners"]["metadata"]["ownerReferences"].insert(
        0, {"apiVersion": "example.org/v1", "kind": "Run", "name": "r", "uid": "u"}
    )
    server.cluster.daemon_sets["shop", "owner"] = {"metadata": {"name": "owner", "namespace": "shop"}}
    server.cluster.namespaces["preview"] = "Terminating"
    server.cluster.nodes["another-node"] = node("another-node", "k3s://another-node", **{HOSTNAME: "another-node"})
    server.cluster.volumes += [local_volume("another-node"), zonal_volume()]
    assert server.run("preflight")["outcome"] == "succeeded"


def test_a_reclaim_keeps_the_identity_and_control_plane_checks_only(server: Server) -> None:
    server.cluster.volumes.append(local_volume(NODE))
    server.cluster.add(pod("api"), pod("bare", ""))
    result = server.run("drain", reclaim="true", graceSeconds="60")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 2)
    assert [row["deleteOptions"] for row in server.cluster.evictions] == [{"gracePeriodSeconds": 60}] * 2
    server.cluster.edit_node(NODE, spec={"providerID": "aws:///eu-central-1a/i-0f"})
    assert server.run("drain", reclaim="true", operationId="op2", fence="8")["rule"] == "identity"


def test_no_grace_is_the_least_that_still_ends_a_pod_in_order(server: Server) -> None:
    """Zero takes a pod out of the API while it runs; `kubectl delete` reads it as one second for that reason."""
    server.cluster.add(pod("api"))
    assert server.run("drain", reclaim="true", graceSeconds="0")["outcome"] == "succeeded"
    assert [row["deleteOptions"] for row in server.cluster.evictions] == [{"gracePeriodSeconds": 1}]


INPUTS = {
    "a node name with a command": ("node", "a;reboot"),
    "a node name in capitals": ("node", "Worker"),
    "no node": ("node", ""),
    "an option as a node": ("node", "--all"),
    "a provider-id with a quote": ("providerId", "aws:///a/i-0'"),
    "an operation that leaves its folder": ("operationId", "../../etc/cron"),
    "a fence that is no number": ("fence", "7x"),
    "a negative fence": ("fence", "-1"),
    "an octal fence": ("fence", "010"),
    "a time that is none": ("notAfter", "tomorrow"),
    "no time-out": ("timeoutSeconds", "0"),
    "a grace period below -1": ("graceSeconds", "-2"),
    "a reclaim that is neither": ("reclaim", "yes"),
    "an unknown verb": ("verb", "reboot"),
}


@pytest.mark.parametrize(("name", "value"), INPUTS.values(), ids=INPUTS.keys())
def test_bad_input_is_refused_before_kubectl_is_asked(server: Server, name: str, value: str) -> None:
    verb = value if name == "verb" else "drain"
    result = server.run(verb, **({} if name == "verb" else {name: value}))
    assert (result["outcome"], result["rule"]) == ("refused", "input")
    assert server.api.calls == []


def test_a_late_command_is_refused_and_does_not_stand_in_for_the_first_result(server: Server) -> None:
    result = server.run("drain", notAfter=str(int(time.time()) - 5))
    assert (result["outcome"], result["rule"]) == ("refused", "late")
    assert server.api.calls == []
    assert server.run("drain")["outcome"] == "succeeded"

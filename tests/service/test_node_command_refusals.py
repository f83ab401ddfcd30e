"""What node-command.sh refuses before it changes anything: rules, their order, and bad input."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.k3s_server import (
    NODE,
    PREFIX,
    Server,
    local_volume,
    pod,
    zonal_volume,
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another machine": (lambda w: w["nodes"][NODE]["spec"].update(providerID="aws:///eu-central-1a/i-0f"), "identity"),
    "a server": (
        lambda w: w["nodes"][NODE]["metadata"]["labels"].update({"node-role.kubernetes.io/control-plane": "true"}),
        "control-plane",
    ),
    "an etcd-only server": (
        lambda w: w["nodes"][NODE]["metadata"]["labels"].update({"node-role.kubernetes.io/etcd": ""}),
        "control-plane",
    ),
    "a node that a person cordoned": (
        lambda w: w["nodes"][NODE]["spec"].update(unschedulable=True),
        "cordoned-by-others",
    ),
    "a volume on the node, mounted by nobody": (lambda w: w["volumes"].append(local_volume(NODE)), "local-volume"),
    "a bare pod": (lambda w: w["pods"].append(pod("job", "")), "bare-pod"),
    "a pod that is not safe to evict": (
        lambda w: w["pods"].append(pod("db", annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"})),
        "do-not-evict",
    ),
    "a pod that is not to be disrupted": (
        lambda w: w["pods"].append(pod("db", annotations={"karpenter.sh/do-not-disrupt": "true"})),
        "do-not-evict",
    ),
}


@pytest.mark.parametrize(("edit", "rule"), REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("verb", ["preflight", "drain"])
def test_a_preflight_refuses_before_anything_changes(
    server: Server, edit: Callable[[dict[str, Any]], object], rule: str, verb: str
) -> None:
    server.change(edit)
    before = server.world["nodes"]
    result = server.run(verb)
    assert (result["outcome"], result["rule"]) == ("refused", rule)
    assert server.world["nodes"] == before
    assert server.world["drains"] == []


def test_the_rules_are_judged_in_the_documented_order(server: Server) -> None:
    """Everything stands against this drain; each rule that is mended shows the next one."""
    world = server.world
    node = world["nodes"][NODE]
    server.change(lambda world: world["nodes"][NODE]["spec"].update(providerID="aws:///x/i-0f", unschedulable=True))
    server.change(lambda world: world["nodes"][NODE]["metadata"]["annotations"].update({f"{PREFIX}/fence": "9"}))
    server.change(
        lambda world: world["nodes"][NODE]["metadata"]["labels"].update({"node-role.kubernetes.io/control-plane": ""})
    )
    server.change(lambda world: world["volumes"].append(local_volume(NODE)))
    kept = pod("db", annotations={"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}, budget=0)
    server.change(lambda world: world["pods"].extend([pod("job", ""), kept]))
    mends: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("fenced_off", lambda w: w["nodes"][NODE]["metadata"]["annotations"].pop(f"{PREFIX}/fence")),
        ("identity", lambda w: w["nodes"][NODE]["spec"].update(providerID=node["spec"]["providerID"])),
        (
            "control-plane",
            lambda w: w["nodes"][NODE]["metadata"]["labels"].pop("node-role.kubernetes.io/control-plane"),
        ),
        ("cordoned-by-others", lambda w: w["nodes"][NODE]["spec"].pop("unschedulable")),
        ("local-volume", lambda w: w["volumes"].clear()),
        ("bare-pod", lambda w: w["pods"].pop(0)),
        ("do-not-evict", lambda w: w["pods"][0]["metadata"]["annotations"].clear()),
        ("disruption-budget", lambda w: w["pods"].clear()),
    ]
    late = server.run("preflight", notAfter="1")
    assert (late["outcome"], late["rule"]) == ("refused", "late")
    for rule, mend in mends:
        result = server.run("preflight")
        assert rule in (result["rule"], result["outcome"])
        server.change(mend)
    assert server.run("preflight")["outcome"] == "succeeded"


def test_a_budget_at_zero_is_told_at_once_and_nothing_is_cordoned(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("web", budget=0)))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("blocked_by_budget", "disruption-budget")
    assert not server.cordoned()
    assert server.world["writes"] == []


def test_what_does_not_stand_against_a_drain(server: Server) -> None:
    keep = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    rows = [
        pod("node-exporter", "DaemonSet", annotations=keep),
        pod("static", "Node", annotations={"kubernetes.io/config.mirror": "hash", **keep}),
        pod("done", "Job", phase="Succeeded", annotations=keep),
    ]
    server.change(lambda world: world["pods"].extend(rows))
    server.change(lambda world: world["volumes"].extend([local_volume("another-node"), zonal_volume()]))
    assert server.run("preflight")["outcome"] == "succeeded"


def test_a_reclaim_keeps_the_identity_and_control_plane_checks_only(server: Server) -> None:
    server.change(lambda world: world["volumes"].append(local_volume(NODE)))
    server.change(lambda world: world["pods"].append(pod("api")))
    result = server.run("drain", reclaim="true", graceSeconds="60")
    assert result["outcome"] == "succeeded"
    (arguments,) = server.world["drains"]
    assert {"--force", "--grace-period=60"} <= set(arguments)
    server.change(lambda world: world["nodes"][NODE]["spec"].update(providerID="aws:///eu-central-1a/i-0f"))
    assert server.run("drain", reclaim="true", operationId="op2", fence="8")["rule"] == "identity"


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
    assert server.world["calls"] == []


def test_a_late_command_is_refused_and_does_not_stand_in_for_the_first_result(server: Server) -> None:
    result = server.run("drain", notAfter=str(int(time.time()) - 5))
    assert (result["outcome"], result["rule"]) == ("refused", "late")
    assert server.world["calls"] == []
    assert server.run("drain")["outcome"] == "succeeded"

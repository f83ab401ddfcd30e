"""node-command.sh on a stand-in API server, through every outcome. The script itself runs, in a real shell."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.k3s_server import (
    NODE,
    PREFIX,
    Server,
    ended,
    local_volume,
    pod,
    until,
    zonal_volume,
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


# ------------------------------------------------------------------------------------------------------------ success


def test_a_drain_cordons_evicts_and_leaves_the_node_cordoned_as_ours(server: Server) -> None:
    server.change(lambda world: world["pods"].extend([pod("api-1"), pod("api-2"), pod("proxy", "DaemonSet")]))
    result = server.run("drain")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 2)
    assert server.cordoned()
    assert server.annotations() == {"fence": "7", "operation": "op1"}
    assert [row["metadata"]["name"] for row in server.world["pods"]] == ["proxy"]


def test_the_cordon_and_its_marks_are_one_write(server: Server) -> None:
    server.run("drain")
    cordon = [write for write in server.world["writes"] if write["spec"].get("unschedulable")]
    assert cordon == [
        {
            "metadata": {
                "annotations": {f"{PREFIX}/fence": "7", f"{PREFIX}/operation": "op1", f"{PREFIX}/draining": "op1"}
            },
            "spec": {"unschedulable": True},
        }
    ]


def test_preflight_and_status_change_nothing(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api-1")))
    before = server.world["nodes"]
    assert server.run("preflight")["outcome"] == "succeeded"
    status = server.run("status")
    assert status["outcome"] == "succeeded"
    assert "cordoned=false fence=0" in status["message"]
    assert server.world["nodes"] == before
    assert server.world["drains"] == []


def test_uncordon_gives_back_what_we_cordoned(server: Server) -> None:
    server.run("drain")
    assert server.run("uncordon", fence="8")["outcome"] == "succeeded"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "8"}


def test_uncordon_leaves_the_cordon_of_someone_else(server: Server) -> None:
    server.change(lambda world: world["nodes"][NODE]["spec"].update(unschedulable=True))
    result = server.run("uncordon")
    assert result["outcome"] == "succeeded"
    assert "not ours" in result["message"]
    assert server.cordoned()


def test_delete_removes_the_node_and_is_content_when_it_is_gone(server: Server) -> None:
    assert server.run("delete-node")["outcome"] == "succeeded"
    assert server.world["nodes"] == {}
    assert server.run("delete-node", operationId="op2")["outcome"] == "succeeded"


def test_a_delete_never_takes_a_node_that_took_the_name_meanwhile(server: Server) -> None:
    server.change(lambda world: world["faults"].update(replaced_before_delete=True))
    result = server.run("delete-node")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert NODE in server.world["nodes"]


# ----------------------------------------------------------------------------------------------------------- refusals

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


# ------------------------------------------------------------------------------------------------- fences, duplicates


@pytest.mark.parametrize("verb", ["preflight", "drain", "uncordon", "delete-node"])
def test_a_lower_fence_is_fenced_off(server: Server, verb: str) -> None:
    server.change(lambda world: world["nodes"][NODE]["metadata"]["annotations"].update({f"{PREFIX}/fence": "9"}))
    before = server.world["nodes"]
    assert server.run(verb)["outcome"] == "fenced_off"
    assert server.world["nodes"] == before


def test_a_fence_that_someone_overwrote_is_told(server: Server) -> None:
    server.change(lambda world: world["nodes"][NODE]["metadata"]["annotations"].update({f"{PREFIX}/fence": "high"}))
    result = server.run("drain")
    assert result["outcome"] == "failed"
    assert "not a number" in result["message"]


def test_a_repeat_returns_the_first_result(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api")))
    first = server.run("drain")
    calls = len(server.world["calls"])
    assert server.run("drain") == first
    assert len(server.world["calls"]) == calls
    assert server.run("drain", operationId="op2", fence="8")["evicted_pods"] == 0, "another operation is no repeat"


def test_a_repeat_while_the_first_runs_waits_for_its_result(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api", stuck=True)))
    first = server.begin("drain")
    until(server.cordoned)
    second = server.begin("drain")
    time.sleep(0.3)
    assert second.poll() is None
    server.change(lambda world: world["pods"].clear())
    assert ended(first) == ended(second)
    assert len(server.world["drains"]) == 1


def test_an_unreachable_api_is_no_answer_the_command_may_be_sent_again(server: Server) -> None:
    server.change(lambda world: world["faults"].update(down=["get"]))
    assert server.run("drain")["outcome"] == "api_unreachable"
    server.change(lambda world: world["faults"].clear())
    assert server.run("drain")["outcome"] == "succeeded"


def test_another_write_in_between_is_tried_again(server: Server) -> None:
    server.change(lambda world: world["faults"].update(conflicts=2))
    assert server.run("drain")["outcome"] == "succeeded"
    assert server.annotations()["fence"] == "7"


def test_an_uncordon_stops_a_running_drain_and_waits_for_it(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api", stuck=True)))
    drain = server.begin("drain")
    until(server.cordoned)
    uncordon = server.run("uncordon", fence="8")
    assert uncordon["outcome"] == "succeeded"
    assert ended(drain)["outcome"] == "fenced_off"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "8"}


def test_an_uncordon_of_the_same_fence_stops_it_too(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api", stuck=True)))
    drain = server.begin("drain")
    until(server.cordoned)
    assert server.run("uncordon")["outcome"] == "succeeded"
    assert ended(drain)["outcome"] == "fenced_off"
    assert not server.cordoned()


def test_an_uncordon_does_not_wait_for_ever_for_a_dead_drain(server: Server) -> None:
    server.environment["NODE_COMMAND_STOP_S"] = "1"
    marks = {f"{PREFIX}/fence": "6", f"{PREFIX}/operation": "old", f"{PREFIX}/draining": "old"}
    server.change(lambda world: world["nodes"][NODE]["metadata"]["annotations"].update(marks))
    server.change(lambda world: world["nodes"][NODE]["spec"].update(unschedulable=True))
    assert server.run("uncordon")["outcome"] == "succeeded"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}


def test_a_reclaim_takes_over_from_a_running_drain(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("api", stuck=True)))
    first = server.begin("drain")
    until(lambda: bool(server.world["drains"]))
    second = server.begin("drain", operationId="op2", fence="8", reclaim="true")
    assert ended(first)["outcome"] == "fenced_off"
    until(lambda: len(server.world["drains"]) == 2)
    assert server.annotations() == {"fence": "8", "operation": "op2", "draining": "op2"}
    server.change(lambda world: world["pods"].clear())
    assert ended(second)["outcome"] == "succeeded"
    assert server.cordoned()
    assert server.annotations() == {"fence": "8", "operation": "op2"}


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_drain_that_takes_too_long_gives_the_node_back(server: Server) -> None:
    server.change(lambda world: world["pods"].extend([pod("quick"), pod("slow", stuck=True)]))
    result = server.run("drain", timeoutSeconds="1")
    assert (result["outcome"], result["evicted_pods"]) == ("timed_out", 1)
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}


def test_a_budget_that_closes_during_the_drain_is_told_apart(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("slow", stuck=True)))
    drain = server.begin("drain", timeoutSeconds="2")
    until(lambda: bool(server.world["drains"]))
    server.change(lambda world: world["pods"][0].update(budget=0))
    assert ended(drain)["outcome"] == "blocked_by_budget"
    assert not server.cordoned()


def test_a_machine_that_goes_away_stays_cordoned_when_its_drain_fails(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("slow", stuck=True)))
    result = server.run("drain", timeoutSeconds="1", reclaim="true")
    assert result["outcome"] == "timed_out"
    assert server.cordoned()
    assert server.annotations() == {"fence": "7", "operation": "op1"}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_undoes_the_cordon(server: Server, name: str) -> None:
    server.change(lambda world: world["pods"].append(pod("slow", stuck=True)))
    drain = server.begin("drain")
    until(lambda: bool(server.world["drains"]))
    drain.send_signal(getattr(signal, name))
    assert ended(drain)["outcome"] == "failed"
    assert not server.cordoned()
    assert server.run("drain", timeoutSeconds="1")["outcome"] == "timed_out", "a crash is no result: it ran again"


def test_a_killed_script_takes_its_kubectl_along(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("slow", stuck=True)))
    drain = server.begin("drain")
    until(lambda: bool(server.world["drains"]))
    drain.kill()
    drain.communicate(timeout=20)
    until(lambda: not _processes_of(server.path))


def _processes_of(world: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(world).encode() in arguments and b"drain" in arguments:
            found.append(path.parent.name)
    return found


def test_a_drain_that_can_no_longer_see_its_fence_stops(server: Server) -> None:
    server.change(lambda world: world["pods"].append(pod("slow", stuck=True)))
    drain = server.begin("drain")
    until(lambda: bool(server.world["drains"]))
    server.change(lambda world: world["faults"].update(down=["get"]))
    assert ended(drain)["outcome"] == "api_unreachable"
    assert not _processes_of(server.path)


def test_a_cordon_whose_answer_was_lost_is_undone(server: Server) -> None:
    server.change(lambda world: world["faults"].update(lose_patch_answer=True))
    assert server.run("drain")["outcome"] == "api_unreachable"
    assert server.world["drains"] == []
    assert not server.cordoned()


def test_an_api_server_that_hangs_is_unreachable(server: Server) -> None:
    server.environment["NODE_COMMAND_CALL_S"] = "1"
    server.change(lambda world: world["faults"].update(hangs=["get"]))
    assert server.run("preflight")["outcome"] == "api_unreachable"


@pytest.mark.parametrize("verb", ["preflight", "drain", "uncordon", "status"])
def test_a_node_that_is_not_there(server: Server, verb: str) -> None:
    server.change(lambda world: world["nodes"].clear())
    assert server.run(verb)["outcome"] == "no_such_node"


def test_a_missing_kubectl_is_a_failure_that_says_so(server: Server) -> None:
    server.environment["NODE_COMMAND_KUBECTL"] = "/nowhere/k3s kubectl"
    result = server.run("status")
    assert result["outcome"] == "failed"
    assert "/nowhere/k3s" in result["message"]

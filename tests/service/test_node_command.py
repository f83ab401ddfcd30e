"""node-command.sh on a stand-in API server, through every outcome. The script itself runs, in a real shell."""

import signal
import time
from pathlib import Path

import pytest

from tests.service.k3s_server import (
    NODE,
    PREFIX,
    Server,
    ended,
    pod,
    until,
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

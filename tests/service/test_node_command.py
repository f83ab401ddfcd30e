"""node-command.sh and the real kubectl on a small API server: verbs, fences, repeats, signals, lost answers."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.k3s_server import NODE, PREFIX, Server, ended, node, pod, serving, until
from tests.service.kube import status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------ success


def test_a_drain_cordons_evicts_and_leaves_the_node_cordoned_as_ours(server: Server) -> None:
    server.cluster.add(pod("api-1"), pod("api-2"), pod("proxy", "DaemonSet"))
    server.cluster.daemon_sets["shop", "owner"] = {"metadata": {"name": "owner", "namespace": "shop"}}
    result = server.run("drain")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 2)
    assert server.cordoned()
    assert server.annotations() == {"fence": "7", "operation": "op1"}
    assert server.cluster.pod_names() == ["proxy"]


def test_the_cordon_and_its_marks_are_one_write(server: Server) -> None:
    server.run("drain")
    cordon = [write for write in server.cluster.writes if write["spec"].get("unschedulable")]
    assert cordon == [
        {
            "metadata": {
                "annotations": {f"{PREFIX}/fence": "7", f"{PREFIX}/operation": "op1", f"{PREFIX}/draining": "op1"}
            },
            "spec": {"unschedulable": True},
        }
    ]


def test_preflight_and_status_change_nothing(server: Server) -> None:
    server.cluster.add(pod("api-1"))
    before = server.node
    assert server.run("preflight")["outcome"] == "succeeded"
    status = server.run("status")
    assert status["outcome"] == "succeeded"
    assert "cordoned=false fence=0" in status["message"]
    assert server.node == before
    assert server.evicted() == []
    assert len(server.cluster.tried) == 1, "a dry run is one that evicts nothing"


def test_uncordon_gives_back_what_we_cordoned(server: Server) -> None:
    server.run("drain")
    assert server.run("uncordon", fence="8")["outcome"] == "succeeded"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "8"}


def test_uncordon_leaves_the_cordon_of_someone_else(server: Server) -> None:
    server.cordon()
    result = server.run("uncordon")
    assert result["outcome"] == "succeeded"
    assert "not ours" in result["message"]
    assert server.cordoned()


def test_delete_removes_the_node_and_is_content_when_it_is_gone(server: Server) -> None:
    assert server.run("delete-node")["outcome"] == "succeeded"
    assert server.cluster.nodes == {}
    assert server.run("delete-node", operationId="op2")["outcome"] == "succeeded"


def test_a_delete_never_takes_a_node_that_took_the_name_meanwhile(server: Server) -> None:
    stranger = node() | {"metadata": node()["metadata"] | {"uid": "another"}}
    server.cluster.before[f"DELETE /api/v1/nodes/{NODE}"] = lambda: server.cluster.nodes.update({NODE: stranger})
    result = server.run("delete-node")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert NODE in server.cluster.nodes


# ------------------------------------------------------------------------------------------------- fences, duplicates


@pytest.mark.parametrize("verb", ["preflight", "drain", "uncordon", "delete-node"])
def test_a_lower_fence_is_fenced_off(server: Server, verb: str) -> None:
    server.mark(fence="9")
    before = server.node
    assert server.run(verb)["outcome"] == "fenced_off"
    assert server.node == before


def test_a_fence_that_someone_overwrote_is_told(server: Server) -> None:
    server.mark(fence="high")
    result = server.run("drain")
    assert result["outcome"] == "failed"
    assert "not a number" in result["message"]


def test_a_repeat_returns_the_first_result(server: Server) -> None:
    server.cluster.add(pod("api"))
    first = server.run("drain")
    calls = len(server.api.calls)
    assert server.run("drain") == first
    assert len(server.api.calls) == calls
    assert server.run("drain", operationId="op2", fence="8")["evicted_pods"] == 0, "another operation is no repeat"


def test_a_repeat_while_the_first_runs_waits_for_its_result(server: Server) -> None:
    first = server.begin_stuck()
    second = server.begin("drain")
    time.sleep(0.3)
    assert second.poll() is None
    server.cluster.remove("stuck")
    assert ended(first) == ended(second)
    assert server.evicted() == ["stuck"]


def test_an_unreachable_api_is_no_answer_the_command_may_be_sent_again(server: Server) -> None:
    server.api.stop()
    assert server.run("drain")["outcome"] == "api_unreachable"
    server.api.start()
    assert server.run("drain")["outcome"] == "succeeded"


def test_another_write_in_between_is_tried_again(server: Server) -> None:
    written = f"PATCH /api/v1/nodes/{NODE}"

    def again() -> None:
        server.cluster.edit_node(NODE, annotations={"other": "changed"})
        if len(server.api.calls) < 4:
            server.cluster.before[written] = again

    server.cluster.before[written] = again
    assert server.run("drain", reclaim="true")["outcome"] == "succeeded"
    assert [call.startswith(written) for call in server.api.calls].count(True) >= 3
    assert server.annotations()["fence"] == "7"


def test_an_uncordon_stops_a_running_drain_and_waits_for_it(server: Server) -> None:
    drain = server.begin_stuck()
    uncordon = server.run("uncordon", fence="8")
    assert uncordon["outcome"] == "succeeded"
    assert ended(drain)["outcome"] == "fenced_off"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "8"}


def test_an_uncordon_of_the_same_fence_stops_it_too(server: Server) -> None:
    drain = server.begin_stuck()
    assert server.run("uncordon")["outcome"] == "succeeded"
    assert ended(drain)["outcome"] == "fenced_off"
    assert not server.cordoned()


def test_an_uncordon_does_not_wait_for_ever_for_a_dead_drain(server: Server) -> None:
    server.environment["NODE_COMMAND_STOP_S"] = "1"
    server.mark(fence="6", operation="old", draining="old")
    server.cordon()
    assert server.run("uncordon")["outcome"] == "succeeded"
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}


def test_a_reclaim_takes_over_from_a_running_drain(server: Server) -> None:
    first = server.begin_stuck()
    second = server.begin("drain", operationId="op2", fence="8", reclaim="true")
    assert ended(first)["outcome"] == "fenced_off"
    until(lambda: len(server.evicted()) == 2)
    assert server.annotations() == {"fence": "8", "operation": "op2", "draining": "op2"}
    server.cluster.remove("stuck")
    assert ended(second)["outcome"] == "succeeded"
    assert server.cordoned()
    assert server.annotations() == {"fence": "8", "operation": "op2"}


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_drain_that_takes_too_long_gives_the_node_back(server: Server) -> None:
    server.cluster.add(pod("quick"))
    result = ended(server.begin_stuck(timeoutSeconds="1"))
    assert (result["outcome"], result["evicted_pods"]) == ("timed_out", 1)
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}


def test_a_machine_that_goes_away_stays_cordoned_when_its_drain_fails(server: Server) -> None:
    result = ended(server.begin_stuck(timeoutSeconds="1", reclaim="true"))
    assert result["outcome"] == "timed_out"
    assert server.cordoned()
    assert server.annotations() == {"fence": "7", "operation": "op1"}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_undoes_the_cordon(server: Server, name: str) -> None:
    drain = server.begin_stuck()
    drain.send_signal(getattr(signal, name))
    assert ended(drain)["outcome"] == "api_unreachable", "no answer: again, and elsewhere"
    assert not server.cordoned()
    assert server.run("drain", timeoutSeconds="1")["outcome"] == "timed_out", "a crash is no result: it ran again"


def test_a_killed_script_takes_its_kubectl_along(server: Server) -> None:
    drain = server.begin_stuck()
    drain.kill()
    drain.communicate(timeout=20)
    until(lambda: not _processes_of(server))


def _processes_of(server: Server) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"--server=http://127.0.0.1:{server.api.port}".encode() in arguments and b"drain" in arguments:
            found.append(path.parent.name)
    return found


def test_a_drain_that_can_no_longer_see_its_fence_stops(server: Server) -> None:
    drain = server.begin_stuck()
    server.fault(f"GET /api/v1/nodes/{NODE}", refusal=status.STARTING, times=5)
    assert ended(drain)["outcome"] == "api_unreachable"
    assert not _processes_of(server)
    assert not server.cordoned()


def test_a_cordon_whose_answer_was_lost_is_undone(server: Server) -> None:
    server.fault(f"PATCH /api/v1/nodes/{NODE}[?]fieldManager", lost=True)
    assert server.run("drain")["outcome"] == "api_unreachable"
    assert server.evicted() == []
    assert not server.cordoned()


def test_an_api_server_that_hangs_is_unreachable(server: Server) -> None:
    server.environment["NODE_COMMAND_CALL_S"] = "1"
    server.fault(f"GET /api/v1/nodes/{NODE}", hang_s=3)
    assert server.run("preflight")["outcome"] == "api_unreachable"


@pytest.mark.parametrize("verb", ["preflight", "drain", "uncordon", "status"])
def test_a_node_that_is_not_there(server: Server, verb: str) -> None:
    server.cluster.nodes.clear()
    assert server.run(verb)["outcome"] == "no_such_node"


def test_a_missing_kubectl_says_so_and_is_tried_on_another_server(server: Server) -> None:
    server.environment["NODE_COMMAND_KUBECTL"] = "/nowhere/k3s kubectl"
    result = server.run("status")
    assert result["outcome"] == "api_unreachable"
    assert "/nowhere/k3s" in result["message"]


def test_a_success_whose_last_answer_was_lost_is_one(server: Server) -> None:
    server.cluster.add(pod("api"))
    server.cluster.after_eviction = lambda _: server.fault(f"PATCH /api/v1/nodes/{NODE}[?]fieldManager", lost=True)
    result = server.run("drain")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 1)
    assert server.annotations() == {"fence": "7", "operation": "op1"}

"""The emulator alone: AWS calls over HTTP, and the simulated cluster that answers behind them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import requests
from botocore.exceptions import ClientError

from autoscaler.simulator.emulator.emulator import Ready
from autoscaler.simulator.stack.cloud import Account, plain_environment
from autoscaler.simulator.stack.cluster import ClusterClient
from autoscaler.simulator.stack.processes import StackError, repository_root
from autoscaler.simulator.world.workload import Workload

WAIT_S = 30
CLUSTER = "lab"


class Lab:
    """A running emulator with one static worker."""

    def __init__(self, ready: Ready) -> None:
        self.ready = ready
        self.account = Account(ready, CLUSTER)
        self.cluster = ClusterClient(ready.cluster_url)

    def launch(self, count: int, **tags: str) -> list[str]:
        everything = {"k3s-autoscaler/cluster": CLUSTER, "ManagedBy": "autoscaler", **tags}
        answer = self.account.client("ec2").run_instances(
            ImageId="ami-12c6146b",
            InstanceType="t3.small",
            MinCount=count,
            MaxCount=count,
            SubnetId=self.ready.subnet_ids[0],
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in everything.items()]}
            ],
        )
        return [row["InstanceId"] for row in answer["Instances"]]

    def ready_nodes(self) -> set[str]:
        return {node.instance_id for node in self.cluster.state().nodes if node.ready}

    def send(self, server_id: str, **parameters: str) -> str:
        given = {
            "verb": "status",
            "operationId": "op1",
            "fence": "1",
            "notAfter": str(int(time.time()) + 60),
            **parameters,
        }
        answer = self.account.client("ssm").send_command(
            InstanceIds=[server_id],
            DocumentName="AWS-RunShellScript",
            Parameters={name: [value] for name, value in given.items()},
        )
        command_id: str = answer["Command"]["CommandId"]
        return command_id

    def result(self, command_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.account.client("ssm").get_command_invocation(
            CommandId=command_id, InstanceId=self.ready.server_instance_id
        )
        return answer


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    command = [
        sys.executable,
        "-m",
        "autoscaler.simulator.emulator.emulator",
        "--cluster",
        CLUSTER,
        "--static-workers",
        "1",
    ]
    command += ["--boot-s", "0.5", "--ready-s", "0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=repository_root(), env=plain_environment())
    try:
        assert process.stdout is not None
        yield Lab(msgspec.json.decode(process.stdout.readline(), type=Ready))
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_the_cluster_begins_with_its_server_and_static_workers(lab: Lab) -> None:
    nodes = lab.cluster.state().nodes
    assert [(node.server, node.managed, node.ready) for node in nodes] == [(True, False, True), (False, False, True)]
    assert nodes[0].instance_id == lab.ready.server_instance_id


def test_a_launched_worker_joins_and_a_terminated_one_leaves_its_node_behind(lab: Lab) -> None:
    (instance_id,) = lab.launch(1)
    wait(lambda: instance_id in lab.ready_nodes())
    lab.account.client("ec2").terminate_instances(InstanceIds=[instance_id])
    wait(lambda: any(node.instance_id == instance_id and not node.alive for node in lab.cluster.state().nodes))


def test_machines_of_another_cluster_do_not_join(lab: Lab) -> None:
    (stranger,) = lab.launch(1, **{"k3s-autoscaler/cluster": "another"})
    (ours,) = lab.launch(1)
    wait(lambda: ours in lab.ready_nodes())
    assert stranger not in {node.instance_id for node in lab.cluster.state().nodes}


def test_a_node_command_runs_on_the_server_and_its_result_comes_back(lab: Lab) -> None:
    node = next(node for node in lab.cluster.state().nodes if not node.server)
    command_id = lab.send(
        lab.ready.server_instance_id, node=node.name, providerId=f"aws:///{node.zone}/{node.instance_id}"
    )
    first = lab.result(command_id)
    assert (first["Status"], first["ResponseCode"]) == ("InProgress", -1)
    wait(lambda: lab.result(command_id)["Status"] == "Success")
    done = lab.result(command_id)
    assert done["ResponseCode"] == 0
    assert json.loads(done["StandardOutputContent"])["outcome"] == "succeeded"


def test_a_refused_command_fails_with_the_scripts_exit_code(lab: Lab) -> None:
    node = next(node for node in lab.cluster.state().nodes if not node.server)
    command_id = lab.send(
        lab.ready.server_instance_id, verb="drain", operationId="op2", node=node.name, providerId="aws:///z/i-other"
    )
    wait(lambda: lab.result(command_id)["Status"] == "Failed")
    assert lab.result(command_id)["ResponseCode"] == 10


def test_only_servers_take_commands(lab: Lab) -> None:
    node = next(node for node in lab.cluster.state().nodes if not node.server)
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        lab.send(node.instance_id, node=node.name, providerId="aws:///z/i-1")


def test_calls_are_noted_with_their_time_and_the_emulators_own_are_not(lab: Lab) -> None:
    before_s = time.time()
    time.sleep(1.0)  # the emulator looks at its instances meanwhile
    assert lab.cluster.calls(before_s) == []
    lab.account.instances()
    (call,) = lab.cluster.calls(before_s)
    assert (call.service, call.operation) == ("ec2", "DescribeInstances")
    assert before_s <= call.at_s <= time.time()


def test_prometheus_finds_a_node_exporter_for_each_node(lab: Lab) -> None:
    groups = requests.get(f"{lab.ready.cluster_url}/targets/node-exporter", timeout=5).json()
    assert len(groups) == len(lab.cluster.state().nodes)
    for group in groups:
        assert group["labels"]["instance"].endswith(":9100")
        text = requests.get(f"http://{group['targets'][0]}{group['labels']['__metrics_path__']}", timeout=5)
        assert text.status_code in {200, 404}  # 404: a machine that is gone
    text = requests.get(f"http://{groups[0]['targets'][0]}{groups[0]['labels']['__metrics_path__']}", timeout=5)
    assert "node_cpu_seconds_total" in text.text


@pytest.mark.parametrize(
    ("request_line", "body", "status", "words"),
    [
        ("POST /workloads", b'{"namespace": "x"}', 400, "name"),
        ("POST /workloads", b"{", 400, "the body does not read"),
        ("POST /workloads/shop/none/scale", b'{"replicas": 1}', 404, "no workload shop/none"),
        ("POST /workloads/shop/none/scale", b'{"replicas": -1}', 400, "0 is the least"),
        ("DELETE /workloads/shop/none", b"", 404, "no workload shop/none"),
        ("GET /nothing", b"", 404, "there is no /nothing"),
        ("GET /recorded", b"", 404, "--policy"),
        ("POST /workloads", b"x" * 1_000_001, 413, "1000000"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence(
    lab: Lab, request_line: str, body: bytes, status: int, words: str
) -> None:
    before = lab.cluster.state().pods
    method, _, path = request_line.partition(" ")
    answer = requests.request(method, lab.ready.cluster_url + path, data=body, timeout=5)
    assert answer.status_code == status
    assert words in answer.text
    assert {pod.name for pod in lab.cluster.state().pods} == {pod.name for pod in before}


def test_the_client_tells_what_was_refused(lab: Lab) -> None:
    with pytest.raises(StackError, match="there is no workload shop/none"):
        lab.cluster.delete("shop/none")


def test_a_workload_is_applied_scaled_and_deleted(lab: Lab) -> None:
    lab.cluster.apply(Workload(namespace="shop", name="web", replicas=1))
    lab.cluster.scale("shop/web", 2)
    assert sum(1 for pod in lab.cluster.state().pods if pod.owner == "shop/web") == 2
    lab.cluster.delete("shop/web")
    # A pod on a machine that died in another test ends for ever: its kubelet cannot say that it has ended.
    assert all(pod.terminating for pod in lab.cluster.state().pods if pod.owner == "shop/web")

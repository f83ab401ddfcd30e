"""`simulate removal` and `simulate pods`: what would be, told by what would do it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.aws.clients import Clients
from autoscaler.policy import Policy, Workers
from autoscaler.pools import WorkerPool
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.table import StateItem
from tests.ask.asked import Asked
from tests.cli.oncall import OnCall, on_call
from tests.simulator.worlds import database, deployment

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  replicas: 9
  template:
    metadata: {labels: {app: checkout}}
    spec:
      containers:
        - name: app
          resources: {requests: {cpu: 0.7, memory: 200Mi}}
"""


@pytest.fixture(scope="module")
def fleet() -> SimCluster:
    """Three workers: the database's, and two that share six pods."""
    cluster = SimCluster(Policy(version=1, workers=Workers(max=4)), workers=3)
    cluster.apply(database())
    cluster.apply(deployment(replicas=6, cpu=400))
    cluster.run(900)
    return cluster


@pytest.fixture
def person(fleet: SimCluster, clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCall]:
    fleet.item = StateItem()
    with on_call(fleet, clients, monkeypatch) as found:
        yield found


def holder(cluster: SimCluster, name: str) -> str:
    return next(pod.node for pod in cluster.world.pods if pod.name.startswith(name))


# --------------------------------------------------------------------------------------------------------- removal


def test_a_worker_with_a_volume_is_held_by_it_and_its_pods_are_placed_all_the_same(person: OnCall) -> None:
    name = holder(person.cluster, "db")
    lines = person.lines("simulate", "removal", name)
    assert lines[1].startswith(f"{name}: t3.small, on-demand, us-east-1")
    assert [line for line in lines if line.startswith("    shop/") and " -> " in line]
    held = lines[lines.index("holds it:") :]
    assert [line for line in held if "local_volume: 1 node-local volumes live on it [no field: " in line]


def test_programs_get_the_moves_and_the_verdict(person: OnCall) -> None:
    others = [name for name in person.cluster.ready_workers() if name != holder(person.cluster, "db")]
    found = person.json("simulate", "removal", others[0])
    assert found["fits"] is (found["why_not"] == "")
    assert all(set(move) == {"pod", "to"} for move in found["moves"])


def test_pods_that_have_no_place_are_named_with_the_filter() -> None:
    """On a fleet that is full there is none."""
    cluster = SimCluster(Policy(version=1), workers=2)
    cluster.apply(deployment(replicas=4, cpu=900))
    cluster.run(900)
    found = Asked(cluster).ask("removal", node=cluster.ready_workers()[0])
    assert found["fits"] is False
    assert found["why_not"].startswith("no_room: shop/web-")
    assert "NodeResourcesFit" in found["why_not"]
    assert "" in {move["to"] for move in found["moves"]}
    assert found["held"] is True


def test_an_unknown_worker_is_one_sentence(person: OnCall) -> None:
    assert person.refused("simulate", "removal", "worker-x").startswith(
        "There is no worker worker-x; there are worker-"
    )


# ------------------------------------------------------------------------------------------------------------ pods


def test_a_deployment_that_does_not_fit_costs_workers_up_to_max(person: OnCall, tmp_path: Path) -> None:
    file = tmp_path / "checkout.yaml"
    file.write_text(WEB)
    lines = person.lines("simulate", "pods", str(file))
    assert lines[1] == "  Deployment shop/checkout: 9 pods"
    assert lines[2:5] == [
        "new workers: 1",
        "  1 x t3.small (on-demand, pool general): $0.0208 an hour each",
        "  together $0.0208 an hour, $15.18 a month",
    ]
    limits = lines[lines.index("limits:") :]
    assert limits[1].startswith("  at_max: ")
    assert limits[1].endswith("[workers.max]")


def test_what_is_simulated_is_what_a_look_would_launch() -> None:
    """The same pods, applied for real: as many workers."""
    policy = Policy(version=1)
    cluster = SimCluster(policy, workers=2)
    manifest = {
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": 8,
            "template": {"spec": {"containers": [{"resources": {"requests": {"cpu": "900m", "memory": "64Mi"}}}]}},
        },
    }
    foretold = Asked(cluster).ask("pods", manifests=[manifest])
    cluster.apply(deployment(replicas=8, cpu=900))
    cluster.run(45)
    document = cluster.sweep()
    assert document["action"] == "scale_up"
    assert sum(one["count"] for one in foretold["workers"]) == sum(op["count"] for op in document["operations"])


def test_pods_that_fit_cost_nothing_and_what_runs_no_pods_is_named(person: OnCall) -> None:
    small = WEB.replace("replicas: 9", "replicas: 1").replace("cpu: 0.7", "cpu: 10m")
    lines = person.lines("simulate", "pods", "-", stdin=f"{small}---\nkind: Service\nmetadata: {{name: checkout}}\n")
    assert "  passed over, as they run no pods: Service default/checkout" in lines
    assert "new workers: none; these pods fit on what is there" in lines


def test_a_pod_that_no_worker_takes_is_told_with_its_filter(person: OnCall) -> None:
    huge = WEB.replace("replicas: 9", "replicas: 1").replace("cpu: 0.7", "cpu: 64")
    lines = person.lines("simulate", "pods", "-", stdin=huge)
    told = lines[lines.index("pods that no new worker helps:") + 1]
    assert told.strip().startswith("shop/checkout-0: unfittable: asks 64 CPU and 200 MiB")
    assert told.endswith("[workers.instance_types, workers.pools]")


def test_a_pool_is_chosen_by_what_the_pods_select() -> None:
    pools = (
        WorkerPool(name="general", instance_types=("t3.small",)),
        WorkerPool(name="big", instance_types=("m6i.xlarge",), labels={"size": "big"}),
    )
    cluster = SimCluster(Policy(version=1, workers=Workers(pools=pools)), workers=2)
    manifest = {
        "kind": "Job",
        "metadata": {"name": "report"},
        "spec": {
            "parallelism": 5,
            "completions": 2,
            "template": {
                "spec": {
                    "nodeSelector": {"size": "big"},
                    "containers": [{"resources": {"limits": {"cpu": 3, "memory": "1Gi"}}}],
                }
            },
        },
    }
    (worker,) = Asked(cluster).ask("pods", manifests=[manifest])["workers"]
    assert (worker["pool"], worker["instance_type"], worker["count"]) == ("big", "m6i.xlarge", 2)


def test_a_daemonset_is_told_by_the_workers_that_there_are(person: OnCall) -> None:
    daemon = WEB.replace("kind: Deployment", "kind: DaemonSet").replace("  replicas: 9\n", "")
    found = person.json("simulate", "pods", "-", stdin=daemon)
    (told,) = found["daemons"]
    assert told["fits_on"] + sum(told["refused_by"].values()) == 3
    assert found["workers"] == []


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("a: [1, 2", 2, "standard input is not valid YAML: line "),
        ("kind: Deployment\nmetadata: {name: a}\n  bad: 1\n", 2, "standard input is not valid YAML: line 3: "),
        ("", 2, "standard input holds no manifest."),
        ("kind: Service\nmetadata: {name: a}\n", 1, "No object runs pods: "),
        ("just text", 1, "Object 1 is no Kubernetes object: it has no `kind`."),
        ("kind: Deployment\nmetadata: {name: a}\n", 1, "Deployment default/a (object 1) is not understood"),
        (WEB.replace("9", "many"), 1, "Deployment shop/checkout (object 1) is not understood: `replicas` is 'many'"),
        (WEB.replace("200Mi", "200MB"), 1, "'200MB' is no quantity of memory"),
        (WEB.replace("9", "50000"), 1, "These are 50000 pods; up to 5000"),
        ("when: 2026-01-01\nkind: Pod\n", 2, "standard input holds a value that JSON does not know"),
    ],
    ids=["list", "indent", "empty", "no pods", "text", "no spec", "replicas", "quantity", "too many", "date"],
)  # fmt: skip
def test_bad_manifests_are_one_sentence(person: OnCall, text: str, code: int, said: str) -> None:
    assert said in person.refused("simulate", "pods", "-", code=code, stdin=text)


def test_a_file_that_is_not_there(person: OnCall) -> None:
    told = person.refused("simulate", "pods", "none.yaml", code=2)
    assert told == "none.yaml cannot be read: No such file or directory."

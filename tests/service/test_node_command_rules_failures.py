"""The verb `rules` where objects are odd or hostile, and where the API server gives no whole answer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.model.rules import MissingClaim, SchedulingRules
from tests.service.crowd import put_crowd
from tests.service.k3s_server import Server, serving
from tests.service.kube import status
from tests.service.told_rules import NOW_S, asked, owned, told

POD_NAME = "statefulset.kubernetes.io/pod-name"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------ bad input


def test_an_empty_cluster(server: Server) -> None:
    server.cluster.nodes.clear()
    server.cluster.namespaces.clear()
    assert told(server) == SchedulingRules(answered_at_s=NOW_S)


def test_labels_as_long_and_odd_as_they_may_be(server: Server) -> None:
    key = f"{'e' * 249}.com/{'k' * 63}"
    labels = {key: "v" * 63, "empty": "", "odd": "a_b.C-1", POD_NAME: "only"}
    server.cluster.add(owned("web-1", metadata={"labels": labels}))
    (owner,) = told(server).owners
    assert dict(owner.rules.labels) == {"app": "web", key: "v" * 63, "empty": "", "odd": "a_b.C-1"}


def test_an_owner_of_any_kind_and_name_keeps_its_name(server: Server) -> None:
    server.cluster.add(owned("odd-1", 'Wörk\n"load"\t\\', 'a "name", größer\x1f<&>'))
    (owner,) = told(server).owners
    assert owner.owner == 'shop/Wörk\n"load"\t\\/a "name", größer\x1f<&>'


@pytest.mark.parametrize("name", ["a\nb", "a\x1fb", "a\x1f\n", "\n\n"])
def test_a_field_that_tears_its_record_makes_that_owner_unknown_and_no_other(server: Server, name: str) -> None:
    torn = owned("web-1", owner="torn", spec={"schedulerName": name})
    whole = owned("web-2", owner="torn")
    server.cluster.add(torn, whole, owned("api-1", owner="api"))
    rules = told(server)
    assert [owner.owner for owner in rules.owners] == ["shop/ReplicaSet/api"]
    assert rules.malformed == (("shop/ReplicaSet/torn", "a field holds a line break or a control character"),)


def test_no_pod_speaks_for_another(server: Server) -> None:
    """A pod may hold any text in its scheduler's name; what it cannot know is the word that parts records."""
    forged = owned("web-1", owner="victim", spec={"priority": 1000})
    server.cluster.add(owned("api-1", owner="victim"))
    record = "\x1f".join(["0" * 32, "pod", "shop", "x", json.dumps(forged["metadata"]["ownerReferences"][0])])
    server.cluster.add(owned("evil", owner="evil", spec={"schedulerName": f"mine\n{record}"}))
    rules = told(server)
    assert [(owner.owner, owner.rules.priority) for owner in rules.owners] == [("shop/ReplicaSet/victim", 0)]
    assert [name for name, _ in rules.malformed] == ["shop/ReplicaSet/evil"]


def test_claims_of_any_name_are_missing_not_torn(server: Server) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": 'a "b"\n\tc\x1e'}}]
    server.cluster.add(owned("web-1", spec={"volumes": volumes}))
    (owner,) = told(server).owners
    assert owner.rules.claims == (MissingClaim(name='a "b"\n\tc\x1e'),)


def test_an_owner_whose_rules_are_not_understood_is_unknown_and_named(server: Server) -> None:
    tolerations = [{"key": "gen", "operator": "Gt", "value": "3"}]
    server.cluster.add(owned("new-1", owner="new", spec={"tolerations": tolerations}), owned("web-1"))
    rules = told(server)
    assert [owner.owner for owner in rules.owners] == ["shop/ReplicaSet/web"]
    ((named, why),) = rules.malformed
    assert named == "shop/ReplicaSet/new"
    assert "operator Gt" in why


# --------------------------------------------------------------------------------------------------------- no answer


@pytest.mark.parametrize(
    "call",
    [
        "api/v1/pods",
        "api/v1/nodes",
        "api/v1/namespaces",
        "apis/apps/v1/daemonsets",
        "apis/policy/v1/poddisruptionbudgets",
        "api/v1/persistentvolumeclaims",
        "api/v1/persistentvolumes",
        "apis/storage.k8s.io/v1/storageclasses",
    ],
)
def test_what_cannot_be_listed_is_no_answer(server: Server, call: str) -> None:
    server.cluster.add(owned("web-1", spec={"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]}))
    server.fault(f"GET /{call}", refusal=status.SHUTTING_DOWN)
    assert asked(server)["outcome"] == "api_unreachable"


def test_a_page_that_fails_is_no_answer(server: Server) -> None:
    put_crowd(server.cluster, owners=60, pods_each=10, nodes=5)
    server.fault(r"GET /api/v1/pods[?]continue=", refusal=status.LEADER_CHANGED)
    assert asked(server)["outcome"] == "api_unreachable"


def test_the_whole_verb_is_bounded(server: Server) -> None:
    server.environment["NODE_COMMAND_RULES_S"] = "2"
    server.fault("GET /api/v1/pods", hang_s=1.2)
    server.fault("GET /api/v1/nodes", hang_s=30)
    started = time.monotonic()
    assert asked(server)["outcome"] == "api_unreachable"
    assert time.monotonic() - started < 10

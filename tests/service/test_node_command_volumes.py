"""Which volumes are lost with a Node: by the terms of their affinity, whatever the key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.k3s_server import (
    HOSTNAME,
    NODE,
    PROVIDER_ID,
    Server,
    expression,
    node,
    serving,
    volume,
    zonal_volume,
)

OTHER = "worker-i-0fedcba9876543210"
ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Two workers in one zone, each with what the CSI drivers write on it."""
    with serving(tmp_path) as made:
        for rack, (name, provider_id) in enumerate(((NODE, PROVIDER_ID), (OTHER, "aws:///a/i-0fe")), start=1):
            labels = {"topology.topolvm.io/node": name, "openebs.io/nodename": name, "rack": str(rack), ZONE: "a"}
            made.cluster.nodes[name] = node(name, provider_id, **labels)
        made.cluster.nodes[OTHER]["metadata"]["labels"]["disk"] = "hdd"
        yield made


def wanted(*requirements: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(requirements)}


def named(operator: str, *values: str) -> dict[str, Any]:
    return {"matchFields": [expression("metadata.name", operator, *values)]}


LOCAL = {
    "local-path": [wanted(expression(HOSTNAME, "In", NODE))],
    "topolvm": [wanted(expression("topology.topolvm.io/node", "In", NODE))],
    "openebs": [wanted(expression("openebs.io/nodename", "In", NODE))],
    "its name as a field": [named("In", NODE)],
    "not the other one": [wanted(expression(HOSTNAME, "NotIn", OTHER))],
    "not the other one, by name": [named("NotIn", OTHER)],
    "one of many that are no more": [wanted(expression(HOSTNAME, "In", "gone-1", NODE, "gone-2"))],
    "not what the other one has, and this one lacks": [wanted(expression("disk", "NotIn", "hdd"))],
    "what the other one has does not exist": [wanted(expression("disk", "DoesNotExist"))],
    "a label of its own": [wanted(expression("rack", "Lt", "2"))],
    "a zone, and in it this one": [wanted(expression(ZONE, "In", "a"), expression(HOSTNAME, "In", NODE))],
    "two terms, of which one is met": [
        wanted(expression(HOSTNAME, "In", "gone")),
        wanted(expression("rack", "In", "1")),
    ],
    "an empty term, which nobody meets, beside it": [{}, wanted(expression(HOSTNAME, "In", NODE))],
    "an expression and a field": [wanted(expression(ZONE, "Exists")) | named("In", NODE)],
}
FREE: dict[str, list[dict[str, Any]]] = {
    "no affinity": [],
    "the other one": [wanted(expression(HOSTNAME, "In", OTHER))],
    "every one but this": [wanted(expression(HOSTNAME, "NotIn", NODE))],
    "every one but this, by name": [named("NotIn", NODE)],
    "both": [wanted(expression(HOSTNAME, "In", NODE, OTHER))],
    "a zone of both": [wanted(expression(ZONE, "In", "a"))],
    "any rack": [wanted(expression("rack", "Exists"))],
    "racks above zero": [wanted(expression("rack", "Gt", "0"))],
    "what the other one has": [wanted(expression("disk", "Exists"))],
    "a label that nobody has": [wanted(expression("gpu", "Exists"))],
    "nobody with that label": [wanted(expression("gpu", "DoesNotExist"))],
    "a label that is no number": [wanted(expression(HOSTNAME, "Gt", "0"))],
    "two terms, one of them of the other": [
        wanted(expression(HOSTNAME, "In", NODE)),
        wanted(expression(HOSTNAME, "In", OTHER)),
    ],
    "an empty term": [{}],
    "a name that begins like this one": [named("In", NODE + "1"), wanted(expression(HOSTNAME, "In", NODE[:-1]))],
    "another key that ends like one": [wanted(expression("io/hostname", "In", NODE))],
}


def test_every_way_to_name_one_node_is_local(server: Server) -> None:
    server.cluster.volumes += [volume(f"here-{n}", *terms) for n, terms in enumerate(LOCAL.values())]
    server.cluster.volumes += [volume(f"free-{n}", *terms) for n, terms in enumerate(FREE.values())]
    found = server.run("inspect")["inspection"]["local_volumes"]
    assert found["count"] == len(LOCAL)
    assert found["names"] == [f"here-{n}" for n in range(10)]


@pytest.mark.parametrize("terms", LOCAL.values(), ids=LOCAL.keys())
def test_a_preflight_refuses_it_by_name(server: Server, terms: list[dict[str, Any]]) -> None:
    server.cluster.volumes.append(volume("pvc-1", *terms, phase="Released"))
    result = server.run("preflight")
    assert (result["outcome"], result["rule"]) == ("refused", "local-volume")
    assert "pvc-1" in result["message"]


def test_a_volume_that_another_node_can_have_refuses_nothing(server: Server) -> None:
    server.cluster.volumes += [volume(name.replace(" ", "-"), *terms) for name, terms in FREE.items()]
    result = server.run("preflight")
    assert result["outcome"] == "succeeded", result["message"]


def test_the_last_node_of_a_zone_is_kept_while_a_volume_there_is_in_use(server: Server) -> None:
    """It would not be lost: an inspection does not count it, and a volume that nobody claims holds nothing."""
    server.cluster.nodes[OTHER]["metadata"]["labels"][ZONE] = "b"
    server.cluster.volumes.append(zonal_volume("a"))
    assert server.run("preflight")["rule"] == "local-volume"
    assert server.run("inspect")["inspection"]["local_volumes"] == {"count": 0, "names": []}
    server.cluster.volumes[0]["status"]["phase"] = "Released"
    assert server.run("preflight")["outcome"] == "succeeded"

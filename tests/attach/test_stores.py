"""Each store that docs/attach.md names, asked by the class that the functions use, says what a plain Prometheus says.

The programs are real. Thanos and Mimir are not to be had here: behind their paths, headers and labels is a Prometheus
with two clusters and two replicas in it.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from autoscaler.observe.promql import Raw
from autoscaler.policy_text import parse_policy
from autoscaler.ports import MetricsUnavailable
from tests.attach.asking import Store, steady
from tests.attach.conftest import World
from tests.attach.document import snippet, snippets
from tests.attach.pages import LAB, SHOP, nodes
from tests.attach.proxy import Door, standing_before

pytestmark = pytest.mark.real_programs

NODES = nodes(SHOP)
MATCHERS = parse_policy(snippet("yaml", "# policy.yml"), source="docs/attach.md").metrics.matchers
BEARER, _, TENANT = snippets("json")
TOKEN = json.loads(BEARER)["bearer"]
BASIC = base64.b64encode("{username}:{password}".format(**json.loads(TENANT)).encode()).decode()


@contextmanager
def thanos(world: World) -> Iterator[tuple[Door, Store]]:
    """Query behind an ingress with a bearer token and a private CA."""
    door = Door(world.shared, wanted={"Authorization": f"Bearer {TOKEN}"}, tls=world.authority.context())
    with standing_before(door) as url:
        yield door, Store(url, MATCHERS, auth=BEARER, ca=world.authority.ca)


@contextmanager
def mimir(world: World) -> Iterator[tuple[Door, Store]]:
    """A path, and a tenant beside basic authentication."""
    wanted = {"X-Scope-OrgID": "shop", "Authorization": f"Basic {BASIC}"}
    door = Door(world.shared, prefix="/prometheus", wanted=wanted, says="no org id")
    with standing_before(door) as url:
        yield door, Store(url, MATCHERS, auth=TENANT)


@contextmanager
def victoria_cluster(world: World) -> Iterator[tuple[Door, Store]]:
    """The path of vmselect."""
    door = Door(world.victoria, prefix="/select/0/prometheus")
    with standing_before(door) as url:
        yield door, Store(url, MATCHERS)


def test_kube_prometheus_stack(world: World) -> None:
    expected = steady(world.plain.rows(NODES))
    assert len(expected) > 15
    assert steady(world.stack.rows(NODES)) == expected


@pytest.mark.parametrize("behind", [thanos, mimir])
def test_one_cluster_of_several_in_thanos_and_mimir(world: World, behind: object) -> None:
    assert behind in (thanos, mimir)
    with (thanos if behind is thanos else mimir)(world) as (door, store):
        assert steady(store.rows(NODES)) == steady(world.plain.rows(NODES))
    assert door.encodings == ["gzip"] * 3


def test_victoria_metrics(world: World) -> None:
    expected = steady(world.plain.rows(NODES))
    assert steady(Store(f"http://{world.victoria}/prometheus", MATCHERS).rows(NODES)) == expected
    with victoria_cluster(world) as (_, store):
        assert steady(store.rows(NODES)) == expected


def test_labels_and_selectors_stand_beside_what_targets_and_stores_add(world: World) -> None:
    """The other cluster's kube-state-metrics has the allow-lists."""
    found = []
    for address in (world.shared, world.victoria):
        rooms = Store(f"http://{address}", {"cluster": LAB}).rows(nodes(LAB))["rooms"]
        assert sorted(dict(row)["node"] for row in rooms["node_labels"]) == nodes(LAB)
        assert any(name.startswith("nodeselector_") for row in rooms["pod_selector"] for name, _ in row)
        found.append((rooms["node_labels"], rooms["pod_selector"]))
    assert found[0] == found[1]


def test_without_the_matchers_two_clusters_are_mixed(world: World) -> None:
    for address in (world.shared, world.victoria):
        mixed = Store(f"http://{address}").rows(NODES)["sight"]["node"]
        assert len(mixed) == len(nodes(SHOP)) + len(nodes(LAB))


def test_each_machine_finds_its_node(world: World) -> None:
    """The rules' expression: by the machine's name on a plain Prometheus, by `instance` where that is the Node's."""
    several = [Store(f"http://{address}", MATCHERS) for address in (world.shared, world.victoria)]
    for store in (world.plain, world.stack, *several):
        rows = store.client().query(f"group by (node) ({Raw(store.matchers)._node_of_instance()})")
        assert sorted(row.metric["node"] for row in rows) == NODES, store.url


def test_what_is_missing_is_told(world: World) -> None:
    def told(store: Store) -> str:
        with pytest.raises(MetricsUnavailable) as caught:
            store.client().query("up")
        return str(caught.value)

    stack = world.stack
    assert "CERTIFICATE_VERIFY_FAILED" in told(Store(stack.url, auth=stack.auth))
    assert "HTTP status 401" in told(Store(stack.url, ca=stack.ca))
    assert "HTTP status 404: 404 page not found" in told(
        Store(stack.url.removesuffix("/prometheus"), auth=stack.auth, ca=stack.ca)
    )
    with mimir(world) as (_, store):
        assert "HTTP status 401: no org id" in told(Store(store.url, auth=f"basic {base64.b64decode(BASIC).decode()}"))
    too_long = Store(f"http://{world.victoria}", {"cluster": "x" * 1000})
    with pytest.raises(MetricsUnavailable, match=r"too long query; .* `-search.maxQueryLen=65536`"):
        too_long.rows(NODES)

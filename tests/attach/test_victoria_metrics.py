"""VictoriaMetrics evaluates MetricsQL, which is not quite PromQL: windows, offsets and "now" have to mean the same."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from autoscaler.observe.promql import Raw
from tests.attach.asking import Rows, Store
from tests.attach.conftest import World
from tests.attach.history import PAST, into_prometheus, into_victoria, moments
from tests.attach.pages import SHOP, nodes
from tests.monitoring.programs import daemon, free_port, wait_until

pytestmark = pytest.mark.real_programs

NODES = nodes(SHOP)
OF_NOW = frozenset({"evaluated_at", "scraped_at"})
"""They move between two questions; their labels must agree."""


@dataclass(frozen=True)
class Both:
    prometheus: Store
    victoria: Store


@pytest.fixture(scope="module")
def both(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("history")
    found = moments()
    into_prometheus(found, folder / "data")
    into_victoria(found, world.victoria)
    (folder / "prometheus.yml").write_text("{}", encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    arguments = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    )
    one = {"cluster": PAST}
    with daemon("prometheus", *arguments, log=folder / "prometheus.log"):
        made = Both(Store(f"http://{address}", one), Store(f"http://{world.victoria}", one))
        for store in (made.prometheus, made.victoria):
            wait_until(lambda store=store: _there(store), within_s=20, what=f"{store.url} holds the past")  # type: ignore[misc]  # binds this turn's store
        yield made


def _there(store: Store) -> bool:
    with urllib.request.urlopen(f"{store.url}/api/v1/query?query={quote(_COUNT)}&nocache=1", timeout=5) as answer:  # noqa: S310 - loopback
        return bool(json.load(answer)["data"]["result"])


_COUNT = f'count(kube_pod_info{{cluster="{PAST}"}}) and count(kube_pod_info{{cluster="{PAST}"}} offset 10m)'


def _comparable(answers: dict[str, Rows]) -> dict[str, object]:
    return {
        f"{question} {family}": set(rows) if family in OF_NOW else rows
        for question, families in answers.items()
        for family, rows in families.items()
    }


def test_every_family_is_the_same_windows_and_offsets_too(both: Both) -> None:
    expected = _comparable(both.prometheus.rows(NODES))
    windows = {
        "use_grow_min",
        "use_grow_count",
        "use_shrink_max",
        "use_shrink_count",
        "scrape_interval",
        "pod_unbound_long",
    }
    assert {f"sight {family}" for family in windows} <= expected.keys()
    assert _comparable(both.victoria.rows(NODES)) == expected


def test_the_rules_own_window_is_the_same(both: Both) -> None:
    idle = Raw({"cluster": PAST}).machine("node_cpu_seconds_total", 'mode="idle"')
    promql = f"avg by (instance) (rate({idle}[60s]) and {idle} offset 60s)"
    found = []
    for store in (both.prometheus, both.victoria):
        rows = store.client().query(promql)
        found.append({row.metric["instance"]: round(float(row.value[1]), 3) for row in rows})
    assert found[0] == found[1]
    assert set(found[0].values()) == {0.5}


def test_what_was_written_just_now_is_seen_at_once(world: World) -> None:
    """Whoever asks VictoriaMetrics plainly gets the answer of 30 s ago."""
    for path, data in (("/api/v1/import/prometheus", b"written_just_now 1\n"), ("/internal/force_flush", b"")):
        urllib.request.urlopen(f"http://{world.victoria}{path}", data=data, timeout=10).close()
    client = Store(f"http://{world.victoria}").client()
    wait_until(lambda: len(client.query("written_just_now")) == 1, within_s=10, what="our question sees it")
    with urllib.request.urlopen(f"http://{world.victoria}/api/v1/query?query=written_just_now*1", timeout=5) as answer:
        assert json.load(answer)["data"]["result"] == []

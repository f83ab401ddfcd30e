"""Our rules, evaluated by vmalert over VictoriaMetrics, record what Prometheus records of the same scrapes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.request import urlopen

import pytest

from autoscaler.deploy.rules import Settings, render, write
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.observe.series import PREFIX
from autoscaler.policy import Policy, ScaleUp
from tests.attach import scrapes
from tests.attach.asking import Labels, Store
from tests.attach.conftest import World
from tests.attach.document import configuration
from tests.attach.pages import SHOP, nodes
from tests.monitoring.programs import daemon, free_port, get_json, wait_until

pytestmark = pytest.mark.real_programs

POLICY = Policy(
    version=1,
    scale_up=ScaleUp(pending_for_s=2),
    metrics=MetricsPolicy(cluster_interval_s=1, utilisation_interval_s=1, cpu_rate_window_s=3, max_age_s=5),
)
CLUSTER = "cluster"
PLACES = {
    "-datasource.url": "victoria",
    "-remoteWrite.url": "victoria",
    "-remoteRead.url": "victoria",
    "-notifier.url": "notifier",
}
"""Flags of the document whose addresses are other ones here."""


@dataclass(frozen=True)
class Both:
    prometheus: Store
    victoria: Store
    vmalert: str


@pytest.fixture(scope="module")
def both(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("vmalert")
    write(render(POLICY, Settings(cluster_id=SHOP)), folder)
    rules = f"{folder}/rules/*.yml"
    scraped = scrapes.without_rules(scrapes.stack(world.pages))
    (folder / "victoria.yml").write_text(json.dumps(scraped), encoding="utf-8")
    (folder / "scrapes.yml").write_text(json.dumps({**scraped, "rule_files": [rules]}), encoding="utf-8")
    prometheus, victoria, vmalert = (f"127.0.0.1:{free_port()}" for _ in range(3))
    addresses = {"victoria": f"http://{victoria}", "notifier": f"http://127.0.0.1:{free_port()}"}
    with ExitStack() as running:
        flags = {
            "prometheus": (
                f"--config.file={folder / 'scrapes.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={prometheus}",
            ),
            "victoria-metrics": (
                f"-storageDataPath={folder / 'victoria'}",
                f"-httpListenAddr={victoria}",
                f"-promscrape.config={folder / 'victoria.yml'}",
                *configuration("# victoria-metrics")["args"],
            ),
            "vmalert": (f"-rule={rules}", f"-httpListenAddr={vmalert}", *_of_the_document(addresses)),
        }
        ready = {"prometheus": f"http://{prometheus}/-/ready", "victoria-metrics": f"http://{victoria}/health"}
        for name, arguments in flags.items():
            running.enter_context(daemon(name, *arguments, log=folder / f"{name}.log"))
            if name in ready:
                url = ready[name]
                wait_until(lambda url=url: _answers(url), within_s=20, what=f"{name} is ready")  # type: ignore[misc]  # binds this turn's address
        yield Both(Store(f"http://{prometheus}"), Store(f"http://{victoria}"), vmalert)


def _answers(url: str) -> bool:
    with urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
        return bool(answer.status == 200)


def _of_the_document(addresses: dict[str, str]) -> Iterator[str]:
    """vmalert's flags as the document shows them. 1.79 evaluates without delay and does not know -rule.evalDelay."""
    for flag in configuration("# vmalert")["args"]:
        name, _, value = str(flag).partition("=")
        if name not in {"-rule", "-rule.evalDelay"}:
            yield f"{name}={addresses[PLACES[name]] if name in PLACES else value}"


def _recorded(store: Store) -> dict[Labels, float]:
    """Without `cluster`, which vmalert puts on what it records and Prometheus on what leaves it."""
    client = store.client()
    rows = client.query(f'{{__name__=~"{PREFIX}.+",__name__!="{PREFIX}evaluated_at"}}')
    assert rows, "nothing is recorded yet"
    assert client.query(f"time() - {PREFIX}evaluated_at < {POLICY.metrics.max_age_s}"), "recorded too long ago"
    return {
        frozenset((name, value) for name, value in row.metric.items() if name != CLUSTER): round(float(row.value[1]), 1)
        for row in rows
    }


def _measured(store: Store) -> bool:
    rows = store.client().query(f'{PREFIX}node_utilisation{{resource="cpu"}}')
    return {row.metric.get("node") for row in rows} == set(nodes(SHOP))


def test_it_records_the_same(both: Both) -> None:
    for store in (both.prometheus, both.victoria):
        wait_until(lambda store=store: _measured(store), within_s=30, what=f"{store.url} measures each machine")  # type: ignore[misc]  # binds this turn's store
    # Half busy machines are so within some percent: both round to one digit once the window holds.
    wait_until(lambda: _recorded(both.victoria) == _recorded(both.prometheus), within_s=15, what="both record the same")
    clusters = {row.metric.get(CLUSTER) for row in both.victoria.client().query(f"{PREFIX}node_ready")}
    assert clusters == {SHOP}, "metrics.matchers find it"


def test_no_rule_fails(both: Both) -> None:
    wait_until(lambda: bool(_rules(both.vmalert)), within_s=10, what="vmalert has groups")
    failed = [rule for rule in _rules(both.vmalert) if rule["health"] != "ok"]
    # Nobody listens where alerts would go.
    assert [rule["lastError"] for rule in failed if "failed to send alerts" not in rule["lastError"]] == []


def _rules(vmalert: str) -> list[dict[str, str]]:
    groups = get_json(f"http://{vmalert}/api/v1/rules")["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]

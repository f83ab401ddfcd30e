"""The stores, each started once for all tests of this folder, and stopped after the last of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from autoscaler.ports import MetricsUnavailable
from tests.attach import scrapes
from tests.attach.asking import Store
from tests.attach.document import configuration
from tests.attach.pages import LAB, SHOP, nodes, pages
from tests.attach.proxy import Authority, authority
from tests.monitoring.programs import daemon, free_port, wait_until

PASSWORD = "scraper-password"
HASHED = "$2b$04$cv4xOzxHRb3X8q4bV.sc5eNPkVZNweaJf1q8iRDl9Ctkk2bw5EIx6"
"""bcrypt of it, as Prometheus' `basic_auth_users` wants it."""


@dataclass(frozen=True)
class World:
    """Addresses, each `host:port`."""

    pages: str
    """What they scrape."""
    plain: Store
    stack: Store
    """TLS by a private CA, basic authentication and a path, all by Prometheus itself."""
    shared: str
    """A Prometheus with two clusters and replicas: what lies behind Thanos or Mimir."""
    victoria: str
    """VictoriaMetrics, with the same scrapes as `shared`."""
    authority: Authority


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("attach")
    trusted = authority(folder)
    with ExitStack() as open_until_the_end:
        target = open_until_the_end.enter_context(pages())

        def prometheus(name: str, configuration: scrapes.Scrapes, *flags: str) -> str:
            # Prometheus reads YAML, which JSON is.
            (folder / f"{name}.yml").write_text(json.dumps(configuration), encoding="utf-8")
            address = f"127.0.0.1:{free_port()}"
            arguments = (
                f"--config.file={folder / name}.yml",
                f"--storage.tsdb.path={folder / name}",
                f"--web.listen-address={address}",
            )
            open_until_the_end.enter_context(daemon("prometheus", *arguments, *flags, log=folder / f"{name}.log"))
            return address

        plain = prometheus("plain", scrapes.plain(target))
        shared = prometheus("shared", scrapes.shared(target))
        (folder / "web.yml").write_text(
            json.dumps(
                {
                    "tls_server_config": {"cert_file": str(trusted.certificate), "key_file": str(trusted.key)},
                    "basic_auth_users": {"scraper": HASHED},
                }
            ),
            encoding="utf-8",
        )
        stack = prometheus(
            "stack", scrapes.stack(target), f"--web.config.file={folder / 'web.yml'}", "--web.route-prefix=/prometheus"
        )
        (folder / "victoria.yml").write_text(json.dumps(scrapes.shared(target)), encoding="utf-8")
        # What our questions see must not hang on the offset that vmalert needs.
        flags = configuration("# victoria-metrics")["args"]
        victoria = f"127.0.0.1:{free_port()}"
        open_until_the_end.enter_context(
            daemon(
                "victoria-metrics",
                f"-storageDataPath={folder / 'victoria'}",
                f"-httpListenAddr={victoria}",
                f"-promscrape.config={folder / 'victoria.yml'}",
                *(flag for flag in flags if not flag.startswith("-search.latencyOffset")),
                log=folder / "victoria.log",
            )
        )
        made = World(
            pages=target,
            plain=Store(f"http://{plain}"),
            stack=Store(
                f"https://{stack}/prometheus",
                auth=json.dumps({"username": "scraper", "password": PASSWORD}),
                ca=trusted.ca,
            ),
            shared=shared,
            victoria=victoria,
            authority=trusted,
        )
        in_one = {"cluster": SHOP}
        for store in (made.plain, made.stack, Store(f"http://{shared}", in_one), Store(f"http://{victoria}", in_one)):
            wait_until(lambda store=store: _filled(store), within_s=30, what=f"{store.url} has scraped everything")  # type: ignore[misc]  # binds this turn's store
        for address in (shared, victoria):
            lab = Store(f"http://{address}", {"cluster": LAB})
            wait_until(lambda lab=lab: _shows_nodes(lab, LAB), within_s=30, what=f"{lab.url} has scraped the lab")  # type: ignore[misc]  # binds this turn's store
        yield made


def _shows_nodes(store: Store, cluster: str) -> bool:
    try:
        return len(store.rows(nodes(cluster))["sight"].get("node", ())) == len(nodes(cluster))
    except MetricsUnavailable as error:
        raise AssertionError(str(error)) from error


def _filled(store: Store) -> bool:
    try:
        sight = store.rows(nodes(SHOP))["sight"]
    except MetricsUnavailable as error:
        raise AssertionError(str(error)) from error
    sources = {dict(labels).get("source") for labels in sight.get("scraped_at", {})}
    return (
        len(sight.get("node", ())) == len(nodes(SHOP))
        and sources == {"kube-state-metrics", "node-exporter"}
        and {"use", "version", "evaluated_at"} <= sight.keys()
        and "targets_down" not in sight
    )

"""What there is to scrape: two clusters, each with kube-state-metrics, machines, and what the rules record."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from autoscaler.observe.series import PREFIX, UTILISATION_GROUP
from tests.monitoring.programs import QuietHandler, serving
from tests.monitoring.scrape import DATA

SHOP, LAB = "shop", "lab"
SAMPLES: Final = {SHOP: "kube-state-metrics-2.20-no-allow-lists.prom", LAB: "kube-state-metrics.prom"}
STARTED: Final = time.time()


def kube_state_metrics(cluster: str) -> str:
    return (DATA / SAMPLES[cluster]).read_text(encoding="utf-8")


def nodes(cluster: str) -> list[str]:
    return sorted(set(re.findall(r'^kube_node_info\{node="([^"]+)"', kube_state_metrics(cluster), re.MULTILINE)))


def machine(node: str, now_s: float) -> str:
    """node-exporter on a Node, each of its CPUs idle for half of the time."""
    lines = []
    for line in (DATA / "node-exporter.prom").read_text(encoding="utf-8").splitlines():
        if 'mode="idle"' in line:
            name, value = line.split()
            lines.append(f"{name} {float(value) + (now_s - STARTED) / 2}")
        else:
            lines.append(line.replace('nodename="vm"', f'nodename="{node}"'))
    return "\n".join(lines) + "\n"


def recorded(cluster: str, now_s: float) -> str:
    """The series that our rules record, of machines that are half busy; one of them is not measured."""
    measured = nodes(cluster)[1:]
    rows = [f'node_ready{{node="{node}"}} 1' for node in nodes(cluster)]
    for resource in ("cpu", "memory"):
        rows += [f'node_utilisation{{node="{node}",resource="{resource}"}} 0.5' for node in measured]
        rows += [f'workers_utilisation{{resource="{resource}",bound="{bound}"}} 0.5' for bound in ("low", "high")]
    rows.append(f'evaluated_at{{group="{UTILISATION_GROUP}",interval_s="15"}} {now_s}')
    return "".join(f"{PREFIX}{row}\n" for row in rows)


def telemetry() -> str:
    return 'kube_state_metrics_build_info{branch="",goversion="go1.25",version="v2.20.0"} 1\n'


@contextmanager
def pages() -> Iterator[str]:
    """Serve them all; gives `host:port`. Paths: /<cluster>/ksm, /telemetry, /recorded, /machine/<node>."""
    texts: dict[str, Callable[[], str]] = {}
    for cluster in SAMPLES:
        whole = kube_state_metrics(cluster)
        texts[f"/{cluster}/ksm"] = lambda whole=whole: whole  # type: ignore[misc]  # binds this turn's text
        texts[f"/{cluster}/telemetry"] = telemetry
        texts[f"/{cluster}/recorded"] = lambda cluster=cluster: recorded(cluster, time.time())  # type: ignore[misc]  # as above
        for node in nodes(cluster):
            texts[f"/{cluster}/machine/{node}"] = lambda node=node: machine(node, time.time())  # type: ignore[misc]  # as above

    class Handler(QuietHandler):
        def reply(self) -> None:
            self.answer(200, texts[self.path]().encode())

    with serving(Handler) as target:
        yield target

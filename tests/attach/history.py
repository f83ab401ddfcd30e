"""Some minutes written at once into Prometheus and into VictoriaMetrics: no test waits for a window to fill."""

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.attach.pages import SHOP, kube_state_metrics, machine, nodes, recorded, telemetry
from tests.monitoring.programs import run
from tests.monitoring.scrape import _LABEL, _LINE, series_text

PAST: Final = "past"
"""The label `cluster` of all of it: VictoriaMetrics holds other clusters too."""
STEP_S: Final = 15
BACK_S: Final = 750
AHEAD_S: Final = 120
"""It goes on for a while: whoever asks late sees it all the same."""


def _series(page: str, **labels: str) -> Iterator[tuple[str, str]]:
    """(series, value) as a target with these labels would store them with `honor_labels`."""
    for line in page.splitlines():
        match = None if line.startswith("#") else _LINE.fullmatch(line)
        if match:
            own = {label["key"]: label["value"] for label in _LABEL.finditer(match["labels"] or "")}
            yield series_text(match["name"], {**labels, **own, "cluster": PAST}), match["value"]


def _moment(at_s: int) -> Iterator[tuple[str, str]]:
    ksm = {"job": "kube-state-metrics", "instance": "10.42.0.5:8080", "namespace": "monitoring", "pod": "ksm"}
    yield from _series(kube_state_metrics(SHOP) + "up 1\n", **ksm)
    yield from _series(telemetry(), **ksm)
    yield from _series(recorded(SHOP, at_s))
    for number, node in enumerate(nodes(SHOP)):
        # The last one was away for a minute, three minutes ago.
        up = int(number > 0 or not 180 <= time.time() - at_s < 240)
        yield from _series(machine(node, at_s) + f"up {up}\n", job="node-exporter", instance=f"10.0.9.{number}:9100")


def moments() -> dict[str, list[tuple[int, str]]]:
    """Each series with its samples."""
    now_s = int(time.time())
    found: dict[str, list[tuple[int, str]]] = {}
    for at_s in range(now_s - BACK_S, now_s + AHEAD_S, STEP_S):
        for series, value in _moment(at_s):
            found.setdefault(series, []).append((at_s, value))
    return found


def into_prometheus(found: dict[str, list[tuple[int, str]]], data: Path) -> None:
    """Make the blocks that a Prometheus which starts there finds."""
    text = data.with_suffix(".om")
    with text.open("w", encoding="utf-8") as file:
        for series, samples in sorted(found.items(), key=lambda item: item[0].partition("{")[0]):
            file.writelines(f"{series} {value} {at_s}\n" for at_s, value in samples)
        file.write("# EOF\n")
    made = run("promtool", "tsdb", "create-blocks-from", "openmetrics", text, data)
    assert made.returncode == 0, made.stderr


def into_victoria(found: dict[str, list[tuple[int, str]]], address: str) -> None:
    lines = (f"{series} {value} {at_s}000\n" for series, samples in found.items() for at_s, value in samples)
    body = "".join(lines).encode()
    for path, data in (("/api/v1/import/prometheus", body), ("/internal/force_flush", b"")):
        with urllib.request.urlopen(f"http://{address}{path}", data=data, timeout=30) as answer:
            assert answer.status < 300

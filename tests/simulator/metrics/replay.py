"""A real Prometheus that holds what its jobs would have scraped of simulated worlds, and what its rules would record.

Samples are written with their own times by remote write, so that an hour takes seconds and every time is exact. A
series that a scrape does not show any more is marked as stale, as Prometheus does it.
"""

import json
import math
import struct
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from tests.monitoring.programs import daemon, free_port, get_json, wait_until
from tests.simulator.metrics.test_exposition import _LABEL, _LINE

Labels = frozenset[tuple[str, str]]
Rows = dict[Labels, float]
STALE = struct.pack("<Q", 0x7FF0000000000002)
"""The NaN by which Prometheus marks the end of a series."""


@dataclass
class Replay:
    """Series in memory, until `push`."""

    url: str
    _samples: dict[Labels, list[bytes]] = field(default_factory=dict)
    _shown: dict[str, set[Labels]] = field(default_factory=dict)

    def see(self, source: str, series: Mapping[Labels, float], at_s: float) -> None:
        """One scrape of one target, or one evaluation of one rule; `source` tells them apart."""
        for labels, value in series.items():
            self._samples.setdefault(labels, []).append(_sample(struct.pack("<d", value), at_s))
        for labels in self._shown.get(source, set()) - series.keys():
            self._samples[labels].append(_sample(STALE, at_s))
        self._shown[source] = set(series)

    def push(self) -> None:
        """Write what was seen."""
        body = b"".join(
            _field(1, b"".join((*(_label(name, value) for name, value in sorted(labels)), *samples)))
            for labels, samples in self._samples.items()
        )
        self._samples.clear()
        # Snappy's block format: the length, then all of it as one literal.
        block = _varint(len(body)) + b"\xfc" + struct.pack("<I", len(body) - 1) + body
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        with urlopen(Request(f"{self.url}/api/v1/write", block, headers), timeout=30) as answer:  # noqa: S310 - loopback
            assert answer.status == 204

    def ask(self, promql: str, at_s: float) -> Rows:
        """An instant query: values by labels."""
        body = urllib.parse.urlencode({"query": promql, "time": repr(at_s)}).encode()
        with urlopen(f"{self.url}/api/v1/query", body, timeout=30) as answer:  # noqa: S310 - loopback
            vector = json.load(answer)["data"]["result"]
        rows = {frozenset(one["metric"].items()): float(one["value"][1]) for one in vector}
        assert len(rows) == len(vector)
        return rows

    def record(self, name: str, promql: str, moments: Iterable[float], **labels: str) -> None:
        """Evaluate a rule at each of the moments, which are evenly spaced, and write what it records."""
        moments = list(moments)
        query = {"query": promql, "start": repr(moments[0]), "end": repr(moments[-1]), "step": moments[1] - moments[0]}
        body = urllib.parse.urlencode(query).encode()
        with urlopen(f"{self.url}/api/v1/query_range", body, timeout=30) as answer:  # noqa: S310 - loopback
            matrix = json.load(answer)["data"]["result"]
        by_moment: dict[float, dict[Labels, float]] = {moment: {} for moment in moments}
        for one in matrix:
            key = frozenset({**one["metric"], **labels, "__name__": name}.items())
            for at_s, text in one["values"]:
                by_moment[at_s][key] = float(text)
        for at_s, series in by_moment.items():
            self.see(f"{name} {sorted(labels.items())}", series, at_s)
        self.push()


def read(page: str, **target: str) -> dict[Labels, float]:
    """A page as the series that Prometheus keeps of it, with `honor_labels`."""
    found: dict[Labels, float] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match, line
        labels = {**target, **{key: value for key, value in _LABEL.findall(match[2] or "") if value}}
        key = frozenset({**labels, "__name__": match[1]}.items())
        assert key not in found, line
        found[key] = float(match[3])
    return found


@contextmanager
def replay(folder: Path) -> Iterator[Replay]:
    """A Prometheus without jobs of its own."""
    config = folder / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1h}\n")
    address = f"127.0.0.1:{free_port()}"
    flags = (
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--web.enable-remote-write-receiver",
    )
    with daemon("prometheus", *flags, log=folder / "prometheus.log"):
        url = f"http://{address}"
        wait_until(lambda: get_json(f"{url}/api/v1/status/runtimeinfo")["status"] == "success", within_s=15, what=url)
        yield Replay(url)


# --------------------------------------------------------------------------------------- prometheus.WriteRequest, bytes


def _sample(value: bytes, at_s: float) -> bytes:
    return _field(2, b"\x09" + value + b"\x10" + _varint(math.floor(at_s * 1000)))


def _label(name: str, value: str) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value.encode()))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

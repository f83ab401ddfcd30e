"""What the verb `rules` costs a server and a look: `python -m bench.server_rules --owners 300 --pods 3000`.

The script itself, the real kubectl and the small API server of the tests, whose own work is not counted.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from autoscaler.observe.rules import pack_kept, parse_rules
from tests.service.crowd import put_crowd
from tests.service.k3s_server import Server, serving


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """One question."""

    owners: int
    """That were told; the rest did not fit."""
    left_out: int
    answer_chars: int
    server_cpu_s: float
    """Of the script with kubectl, awk and gzip."""
    server_mb: float
    """The most that one of them held."""
    seconds: float
    parse_ms: float
    kept_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.server_rules", description=__doc__)
    parser.add_argument("--owners", type=int, default=300)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print only JSON on standard output")
    options = parser.parse_args(arguments)
    if not 0 < options.owners <= options.pods:
        parser.error("--owners must be from 1 to the number of pods")
    each = options.pods // options.owners
    with tempfile.TemporaryDirectory() as folder:
        try:
            cost = _cost(Path(folder), options, each)
        except pytest.skip.Exception as reason:
            print(f"Not measured: {reason}.")
            return 0
    if options.json:
        print(msgspec.json.encode(cost).decode())
        return 0
    print(f"The rules of {options.owners} owners with {each} pods each, on {options.nodes} Nodes\n")
    for name, value in msgspec.to_builtins(cost).items():
        print(f"{name:<14} {value:>10,}")
    return 0


def _cost(folder: Path, options: argparse.Namespace, pods_each: int) -> Cost:
    """Raises pytest's Skipped where there is no kubectl for this processor."""
    with serving(folder) as server:
        waiting = options.owners // 15
        put_crowd(
            server.cluster, owners=options.owners, pods_each=pods_each, nodes=options.nodes, waiting_owners=waiting
        )
        return _asked(server)


def _asked(server: Server) -> Cost:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    output, _ = server.begin("rules", node="", providerId="").communicate()
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(output)["rules"]
    started = time.monotonic()
    rules = parse_rules(told, answered_at_s=0)
    parse_s = time.monotonic() - started
    return Cost(
        owners=len(rules.owners),
        left_out=rules.left_out,
        answer_chars=len(output),
        server_cpu_s=round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        server_mb=round(after.ru_maxrss / 1024),
        seconds=round(seconds, 1),
        parse_ms=round(parse_s * 1000),
        kept_bytes=len(pack_kept(rules)),
    )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.policy`: what policies cost under named workloads, and whether the default is as expected."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.decide.capacity.catalogue import CATALOGUE, UnknownInstanceType, check_instance_types
from autoscaler.policy import Policy
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.presets import NAMES, preset
from bench.policy.bound import TooSmall
from bench.policy.expectations import decides
from bench.policy.picture import draw
from bench.policy.results import DEFAULT, OTHERS, SPOT, Results, in_document, judged_table, table
from bench.policy.run import run

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RESULTS: Final = ROOT / "bench" / "results"
ON_SPOT: Final = ROOT / "bench" / "policy" / "spot.yml"
DOCUMENT: Final = ROOT / "docs" / "policy" / "bench.md"
"""Tells of the committed results."""
APART: Final = ROOT / "build" / "bench-policy"
"""Where a comparison goes: the committed results are those of the default under every workload."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, write; returns 1 where an expectation that decides fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="another policy beside; may be repeated",
    )
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        choices=[name for name in NAMES if name != DEFAULT],
        help="a preset beside; may be repeated",
    )
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        choices=WORKLOADS,
        metavar="NAME",
        help=f"only {', '.join(WORKLOADS)}",
    )
    parser.add_argument("--out", type=Path, help="folder of policy.json and policy.svg")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    try:
        policies = read_policies(options.policy, options.preset)
    except (PolicyError, UnknownInstanceType) as error:
        parser.error(str(error))
    began_s = time.monotonic()
    plans = [make() for name, make in WORKLOADS.items() if not options.workload or name in options.workload]
    try:
        results, series = run(plans, policies, processes=options.processes)
    except TooSmall as error:
        parser.error(str(error))
    folder = options.out or (APART if options.policy or options.preset or options.workload else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_bytes(encode(results))
    draw(results.workloads, series, folder / "policy.svg")
    if folder == RESULTS:
        DOCUMENT.write_text(in_document(DOCUMENT.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(table(results.workloads))
    print()
    print(judged_table(results.expectations))
    print(f"\n{time.monotonic() - began_s:.0f} s. Written: policy.json and policy.svg in {folder}")
    failed = sum(not judged.met for judged in results.expectations if decides(judged))
    if failed:
        print(f"{failed} of what is expected of the default and on Spot FAILED.", file=sys.stderr)
    return int(failed > 0)


def read_policies(files: Sequence[Path], presets: Sequence[str] = ()) -> dict[str, Policy]:
    """The default, the bench's own on Spot, presets, then the files by their names.

    Raises PolicyError, UnknownInstanceType.
    """
    own = ((DEFAULT, ROOT / "policy.yml"), (SPOT, ON_SPOT))
    policies = {name: load_policy(file, named_by="with --policy") for name, file in own}
    # The table knows a `brief` that is no policy of ours.
    policies |= {f"{name}-preset" if name in OTHERS else name: parse_policy(preset(name)) for name in presets}
    for file in files:
        if file.stem in policies or file.stem in OTHERS:
            raise PolicyError(f"{file} would be called {file.stem}, as another fleet of the table is: rename the file.")
        policies[file.stem] = load_policy(file, named_by="with --policy")
    for name, policy in policies.items():
        check_instance_types(policy)
        if unknown := [kind for kind in policy.instance_types if kind not in CATALOGUE]:
            raise PolicyError(f"{name} names {unknown[0]}, whose price nobody knows: the bench plays catalogued types.")
    return policies


def encode(results: Results) -> bytes:
    """The JSON as it is committed."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.invocation`: cold starts, warm looks, calls, bytes, memory and size, from the package itself."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from autoscaler.policy_files import load_policy
from bench.figures import median
from bench.invocation import cold
from bench.invocation.answers import Answers, served
from bench.invocation.artifact import ROOT, RUNTIME, Artifact, unpacked
from bench.invocation.memory import curve, provisioned_usd
from bench.results import path_of, write

NAME: Final = "invocation"
ZIP_LIMIT_BYTES: Final = 4_000_000
THEIRS: Final = {"import, over bare boto3": 1.08, "memory, MB": 69, "calls of a calm sweep": 5}
"""What the implementation that the project began from publishes of itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.invocation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="fresh processes of each kind (15)")
    parser.add_argument("--json", action="store_true", help=f"write {path_of(NAME).relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if options.rounds < 3:
        parser.error("--rounds must be at least 3: a median needs some")
    with unpacked() as artifact:
        if artifact.minor != RUNTIME:
            print(f"Python {RUNTIME} was not found: these are Python {artifact.minor}'s, compare them with no others.")
        found = measured(artifact, options.rounds)
    show(found)
    if options.json:
        write(NAME, found)
        print(f"\nThe tables of docs/performance.md:\n\n{tables(found)}")
    return 0


def measured(artifact: Artifact, rounds: int) -> dict[str, Any]:
    """Everything, in the form of bench/results.py."""
    starts = cold.measure(artifact, rounds)
    answers = Answers(load_policy(ROOT / "policy.yml"))
    with served(answers) as url:
        warm = cold.run_child(artifact, "warm", url, str(ROOT), str(4 * rounds), url=url)
    looks: dict[str, list[float]] = warm["looks"]
    document: Mapping[str, Any] = warm["document"]
    if document["action"] != "none" or document["metrics_status"] != "ok":
        raise SystemExit(f"The look was not calm: {document['message']}")
    floor, bare = starts[cold.FLOOR], starts[cold.BOTO3]
    look_floor_s = min(looks["floor"])  # of many in one process the least: other work on the machine only adds
    handlers = ("sweep", "lifecycle", "alerts", "alerts and its first webhook")
    return {
        "python": artifact.minor,
        "ratios": {
            **{f"cold start, {kind}": round(median(starts[kind].over(floor)), 3) for kind in handlers},
            "import of the sweep, over bare boto3": round(median(starts["import handlers.sweep"].over(bare)), 3),
            "memory of the sweep": round(starts["sweep"].peak_mb / floor.peak_mb, 3),
            "calm look, over its bare calls": round(min(looks["calm"]) / look_floor_s, 3),
            **{f"{name}, over a calm look's bare calls": round(min(looks[name]) / look_floor_s, 3) for name in ACTS},
            "package, of its limit": round(artifact.zip_bytes / ZIP_LIMIT_BYTES, 3),
        },
        "exact": {
            "calls of a calm look": document["calls"],
            "requests of a calm look": sorted(answers.asked),
            **{f"calls of a {name}": warm["calls"][name] for name in ACTS},
        },
        "seconds": {
            **{f"cold start, {kind}": _spread(one.cpu_s, one.wall_s) for kind, one in starts.items()},
            "calm look": _spread(looks["calm"], looks["calm wall"]),
            "bare calls": _spread(looks["floor"]),
            **{name: _spread(looks[name]) for name in ACTS},
        },
        "sizes": {
            "package_bytes": artifact.zip_bytes,
            "unpacked_bytes": artifact.unpacked_bytes,
            "peak_mb": {kind: round(one.peak_mb, 1) for kind, one in starts.items()},
            "warm_peak_mb": round(warm["peak_mb"], 1),
            "modules": {kind: one.modules for kind, one in starts.items()},
            "bytes_of_a_calm_look": {
                name: {"sent": answers.got_bytes[name] // asked, "received": answers.sent_bytes[name] // asked}
                for name, asked in sorted(answers.asked.items())
            },
        },
        "warm_look_ms": round(1000 * median(looks["calm"]), 2),
        "cold_ms": round(1000 * median(starts["sweep"].cpu_s), 1),
        "calls": document["calls"],
    }


ACTS: Final = ("scale_up", "scale_down")
"""Looks at a simulated cluster that begin something: the simulator's own time, and the SDK's, is not in them."""


def _spread(cpu_s: Sequence[float], wall_s: Sequence[float] = ()) -> dict[str, float]:
    found = {"cpu": median(cpu_s), "least": min(cpu_s), "most": max(cpu_s)}
    return {name: round(value, 4) for name, value in (found | ({"wall": median(wall_s)} if wall_s else {})).items()}


def tables(found: Mapping[str, Any]) -> str:
    """The committed figures in Markdown: docs/performance.md holds these lines (tests/bench/test_check.py)."""
    lines = ["| a process that begins | CPU | over the floor | memory |", "|---|---:|---:|---:|"]
    for kind in cold.KINDS:
        ratio = found["ratios"].get(f"cold start, {kind}", "")
        cpu_ms = 1000 * found["seconds"][f"cold start, {kind}"]["cpu"]
        lines.append(
            f"| {kind} | {cpu_ms:.0f} ms | {ratio and f'{ratio:.2f}'} | {found['sizes']['peak_mb'][kind]:.0f} MB |"
        )
    lines += ["", "| a warm process | CPU | calls |", "|---|---:|---|"]
    for name, calls in (("calm look", found["calls"]), *((act, found["exact"][f"calls of a {act}"]) for act in ACTS)):
        told = ", ".join(f"{service} {count}" for service, count in calls.items())
        lines.append(f"| {name} | {1000 * found['seconds'][name]['cpu']:.1f} ms | {told} |")
    lines += [
        "",
        "| memory | a calm look | a cold start and a look | sweeps a month | one kept ready |",
        "|---|---:|---:|---:|---:|",
    ]
    for size in curve(found["warm_look_ms"] / 1000, found["cold_ms"] / 1000):
        times = f"{1000 * size.look_s:.0f} ms | {1000 * size.cold_s:.0f} ms"
        lines.append(f"| {size.mb} MB | {times} | ${size.month_usd:.3f} | ${provisioned_usd(size.mb):.2f} |")
    return "\n".join(lines)


def show(found: Mapping[str, Any]) -> None:
    """The figures as tables."""
    print(f"\n{'CPU ms, Python ' + found['python']:<44}{'median':>8}{'least':>8}{'most':>8}{'wall':>8}{'peak':>8}")
    peaks = found["sizes"]["peak_mb"]
    for name, one in found["seconds"].items():
        times = "".join(
            f"{1000 * one[key]:>8.1f}" if key in one else f"{'':>8}" for key in ("cpu", "least", "most", "wall")
        )
        peak = peaks.get(name.removeprefix("cold start, "))
        print(f"{name:<44}{times}{f'{peak:>5.0f} MB' if peak else ''}")
    print()
    for name, ratio in found["ratios"].items():
        print(f"{name:<52}{ratio:>6.2f}")
    print(f"\npackage {found['sizes']['package_bytes']:,} bytes, {found['sizes']['unpacked_bytes']:,} unpacked")
    print(f"a calm look: {found['calls']}, {sum(found['calls'].values())} calls; the one we began from: {THEIRS}")
    print(f"\n{'memory':>8}{'look':>9}{'cold':>9}{'sweeps a month':>17}{'one kept ready':>17}")
    for size in curve(found["warm_look_ms"] / 1000, found["cold_ms"] / 1000):
        times = f"{1000 * size.look_s:>6.0f} ms{1000 * size.cold_s:>6.0f} ms"
        print(f"{size.mb:>5} MB{times}{size.month_usd:>15.3f} ${provisioned_usd(size.mb):>15.2f} $")


if __name__ == "__main__":
    sys.exit(main())

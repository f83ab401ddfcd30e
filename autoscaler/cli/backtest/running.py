"""What `backtest` and `simulate policy` do, once typer has read their options."""

from dataclasses import dataclass
from pathlib import Path

from autoscaler.backtest.recording import write_recording
from autoscaler.cli.backtest.history import of_prometheus
from autoscaler.cli.backtest.playing import finish, play_all, tell, write
from autoscaler.cli.backtest.sources import Source, check_writable, of_file, of_workload, policies_of
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end
from autoscaler.policy import Policy, policy_hash


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be played, as it was typed; exactly one of three has to be."""

    prometheus: str
    days: int
    """With `prometheus`."""
    recorded: Path | None
    workload: str
    auth_file: Path | None


def run_backtest(
    wanted: Wanted,
    files: list[Path],
    presets: list[str],
    *,
    default: Path,
    record: Path | None,
    html: Path | None,
    json: Path | None,
) -> None:
    """Play it under all of the policies, or under `default` where none is named; ends as the command does."""
    if record is not None and not wanted.prometheus:
        end("--record keeps what --prometheus tells: give that as well.", WRONG_INPUT)
    check_writable(record, html, json)
    policies = policies_of(files, presets, default=default)
    # The first policy's metrics.matchers tell one cluster of a shared Prometheus from the others.
    source = _source(wanted, next(iter(policies.values())))
    if record is not None and source.recording is not None:
        try:
            write_recording(source.recording, record)
        except OSError as error:
            end(f"{record} could not be written: {error.strerror}.", FAILED)
    _play(source, policies, html=html, json=json)


def run_comparison(wanted: Wanted, present: Path, changed: Path, *, html: Path | None, json: Path | None) -> None:
    """Play it under the present policy and a changed one; ends as the command does."""
    check_writable(html, json)
    policies = policies_of([present, changed], [], default=None)
    before, after = policies.values()
    if policy_hash(before) == policy_hash(after):
        end(f"{changed} and {present} mean the same: there is nothing to compare.", WRONG_INPUT)
    _play(_source(wanted, before), policies, html=html, json=json)


def _play(source: Source, policies: dict[str, Policy], *, html: Path | None, json: Path | None) -> None:
    report = play_all(source, policies)
    tell(report)
    write(report, html=html, json=json)
    finish(report)


def _source(wanted: Wanted, policy: Policy) -> Source:
    """The one that was named, or an end with WRONG_INPUT."""
    if sum((bool(wanted.prometheus), wanted.recorded is not None, bool(wanted.workload))) != 1:
        end("Give one of --prometheus URL, --recorded FILE and --workload NAME: what is to be played.", WRONG_INPUT)
    if wanted.auth_file is not None and not wanted.prometheus:
        end("--auth-file is for --prometheus: give that as well.", WRONG_INPUT)
    if wanted.workload:
        return of_workload(wanted.workload)
    if wanted.recorded is not None:
        return of_file(wanted.recorded)
    return of_prometheus(wanted.prometheus, days=wanted.days, policy=policy, auth_file=wanted.auth_file)

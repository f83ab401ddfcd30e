"""`k3s-autoscaler backtest`: what policies would have done and cost, played through the real decision core."""

from pathlib import Path
from typing import Annotated

import typer

from autoscaler.backtest.recording import write_recording
from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.cli.backtest.history import MOST_DAYS, of_prometheus
from autoscaler.cli.backtest.playing import finish, play_all, tell, write
from autoscaler.cli.backtest.sources import Source, check_writable, of_file, of_workload, policies_of
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end
from autoscaler.policy import Policy

Address = Annotated[str, typer.Option("--prometheus", metavar="URL", help="Play what this Prometheus has recorded.")]
Days = Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="How far back, with --prometheus.")]
Recorded = Annotated[Path | None, typer.Option("--recorded", metavar="FILE", help="Play what --record wrote.")]
Named = Annotated[str, typer.Option("--workload", metavar="NAME", help=f"Play one of {', '.join(WORKLOADS)}.")]
Auth = Annotated[
    Path | None,
    typer.Option(
        "--auth-file", metavar="FILE", help="Credentials of --prometheus, as the deployed parameter has them."
    ),
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the pictures.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything for programs.")]
DEPLOYED = Path("policy.yml")


def backtest(
    *,
    prometheus: Address = "",
    days: Days = 14,
    recorded: Recorded = None,
    workload: Named = "",
    policy: Annotated[
        list[Path] | None,
        typer.Option("--policy", metavar="FILE", help="A policy; may be repeated. Without any: policy.yml."),
    ] = None,
    preset: Annotated[
        list[str] | None, typer.Option("--preset", metavar="NAME", help="A preset; may be repeated.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Keep what Prometheus told; a name in .gz packs it."),
    ] = None,
    auth_file: Auth = None,
    html: Html = None,
    json: Json = None,
) -> None:
    """Play a history through the decision core under one or several policies.

    Nothing is launched and no AWS account is asked. The first policy is the one that others are held against.
    """
    if record is not None and not prometheus:
        end("--record keeps what --prometheus tells: give that as well.", WRONG_INPUT)
    check_writable(record, html, json)
    policies = policies_of(policy or [], preset or [], default=DEPLOYED)
    # The first policy's metrics.matchers tell one cluster of a shared Prometheus from the others.
    source = chosen(
        prometheus=prometheus,
        days=days,
        recorded=recorded,
        workload=workload,
        auth_file=auth_file,
        policy=next(iter(policies.values())),
    )
    if record is not None and source.recording is not None:
        try:
            write_recording(source.recording, record)
        except OSError as error:
            end(f"{record} could not be written: {error.strerror}.", FAILED)
    report = play_all(source, policies)
    tell(report)
    write(report, html=html, json=json)
    finish(report)


def chosen(
    *, prometheus: str, days: int, recorded: Path | None, workload: str, auth_file: Path | None, policy: Policy
) -> Source:
    """The one source that was named, or an end with WRONG_INPUT."""
    if sum((bool(prometheus), recorded is not None, bool(workload))) != 1:
        end("Give one of --prometheus URL, --recorded FILE and --workload NAME: what is to be played.", WRONG_INPUT)
    if auth_file is not None and not prometheus:
        end("--auth-file is for --prometheus: give that as well.", WRONG_INPUT)
    if workload:
        return of_workload(workload)
    if recorded is not None:
        return of_file(recorded)
    return of_prometheus(prometheus, days=days, policy=policy, auth_file=auth_file)

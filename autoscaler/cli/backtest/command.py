"""`k3s-autoscaler backtest`: what policies would have done and cost, played through the real decision core."""

from pathlib import Path
from typing import Annotated

import typer

MOST_DAYS = 90
Address = Annotated[str, typer.Option("--prometheus", metavar="URL", help="Play what this Prometheus has recorded.")]
Days = Annotated[int, typer.Option("--days", min=1, max=MOST_DAYS, help="How far back, with --prometheus.")]
Recorded = Annotated[Path | None, typer.Option("--recorded", metavar="FILE", help="Play what --record wrote.")]
Named = Annotated[
    str, typer.Option("--workload", metavar="NAME", help="Play a workload of the bench, such as ecommerce-day.")
]
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
    # The simulator takes half a second to load, and no other command needs it.
    from autoscaler.cli.backtest.running import Wanted, run_backtest  # noqa: PLC0415

    wanted = Wanted(prometheus=prometheus, days=days, recorded=recorded, workload=workload, auth_file=auth_file)
    run_backtest(wanted, policy or [], preset or [], default=DEPLOYED, record=record, html=html, json=json)

"""`k3s-autoscaler simulate policy`: what a changed policy would have done beside the present one."""

from pathlib import Path
from typing import Annotated

import typer

from autoscaler.cli.backtest.command import DEPLOYED, Address, Auth, Days, Html, Json, Named, Recorded


def simulate_policy(
    changed: Annotated[Path, typer.Argument(metavar="FILE", help="The policy with your changes.")],
    *,
    against: Annotated[
        Path, typer.Option("--against", metavar="FILE", envvar="POLICY_FILE", help="The present policy.")
    ] = DEPLOYED,
    prometheus: Address = "",
    days: Days = 1,
    recorded: Recorded = None,
    workload: Named = "",
    auth_file: Auth = None,
    html: Html = None,
    json: Json = None,
) -> None:
    """Play a history under the present policy and a changed one, and say the difference.

    Nothing is launched and nothing is changed: `policy set` or a deployment does that. Live changes of the deployed
    policy (`policy show`) are no part of its file.
    """
    # The simulator takes half a second to load, and no other command needs it.
    from autoscaler.cli.backtest.running import Wanted, run_comparison  # noqa: PLC0415

    wanted = Wanted(prometheus=prometheus, days=days, recorded=recorded, workload=workload, auth_file=auth_file)
    run_comparison(wanted, against, changed, html=html, json=json)

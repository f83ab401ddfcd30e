"""`k3s-autoscaler simulate policy`: what a changed policy would have done beside the present one."""

from pathlib import Path
from typing import Annotated

import typer

from autoscaler.cli.backtest.command import DEPLOYED, Address, Auth, Days, Html, Json, Named, Recorded, chosen
from autoscaler.cli.backtest.playing import finish, play_all, tell, write
from autoscaler.cli.backtest.sources import check_writable, policies_of
from autoscaler.cli.ending import WRONG_INPUT, end
from autoscaler.policy import policy_hash


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
    check_writable(html, json)
    policies = policies_of([against, changed], [], default=None)
    before, after = policies.values()
    if policy_hash(before) == policy_hash(after):
        end(f"{changed} and {against} mean the same: there is nothing to compare.", WRONG_INPUT)
    source = chosen(
        prometheus=prometheus, days=days, recorded=recorded, workload=workload, auth_file=auth_file, policy=before
    )
    report = play_all(source, policies)
    tell(report)
    write(report, html=html, json=json)
    finish(report)

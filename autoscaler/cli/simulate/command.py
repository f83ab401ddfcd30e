"""The group `k3s-autoscaler simulate`."""

import typer

from autoscaler.cli.simulate.policy import simulate_policy

simulate = typer.Typer(help="What would be if: nothing is done.", no_args_is_help=True)
simulate.command("policy")(simulate_policy)

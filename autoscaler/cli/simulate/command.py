"""The group `k3s-autoscaler simulate`."""

import typer

from autoscaler.cli.simulate.pods import simulate_pods
from autoscaler.cli.simulate.removal import simulate_removal

simulate = typer.Typer(help="What would be if: nothing is done.", no_args_is_help=True)
simulate.command("removal")(simulate_removal)
simulate.command("pods")(simulate_pods)

"""The group `k3s-autoscaler simulate`."""

import typer

from autoscaler.cli.options import examples
from autoscaler.cli.simulate.policy import simulate_policy

simulate = typer.Typer(help="What would be if: nothing is done.", no_args_is_help=True)
simulate.command(
    "policy",
    epilog=examples(
        "simulate policy changed.yml --prometheus http://127.0.0.1:9090",
        "simulate policy changed.yml --workload sawtooth",
    ),
)(simulate_policy)

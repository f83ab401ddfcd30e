"""The group `k3s-autoscaler simulate`."""

import typer

from autoscaler.cli.options import examples
from autoscaler.cli.simulate.pods import simulate_pods
from autoscaler.cli.simulate.policy import simulate_policy
from autoscaler.cli.simulate.removal import simulate_removal

simulate = typer.Typer(help="What would be if: nothing is done.", no_args_is_help=True)
simulate.command("removal", epilog=examples("simulate removal worker-i-0a1b2c3d4e5f60718"))(simulate_removal)
simulate.command(
    "pods",
    epilog=examples("simulate pods checkout.yaml", "simulate pods - < checkout.yaml"),
)(simulate_pods)
simulate.command(
    "policy",
    epilog=examples(
        "simulate policy new.yml --prometheus http://127.0.0.1:9090",
        "simulate policy new.yml --workload sawtooth",
    ),
)(simulate_policy)
